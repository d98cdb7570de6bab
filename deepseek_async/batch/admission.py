"""How many requests may be on the wire at once: decided by what the server admits.

DeepSeek limits the requests of an account that run at the same time, all keys and
programs together, and refuses the rest at once with 429. So the limit is found by
counting: when refusals begin, nothing more is sent for a moment, the refusals of what
had been sent are counted, and what remains is what the server admitted. Where the
429 states the limit, no more than that is sent from then on. Afterwards a probe goes
one above from time to time, paid from a share of the successes. At the very start, a
few requests go ahead of the rest for a moment, in case little is left of the account.

Everything here is arithmetic on times handed in by the caller; nothing sleeps.

https://api-docs.deepseek.com/quick_start/rate_limit
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from msgspec import Struct

from ..errors import ConfigurationError

MOST: Final = 2500
"""The largest limit any model's account has by default."""

_OVERLOAD_SAMPLE: Final = 50
_OVERLOAD_SHARE: Final = 0.2
_OVERLOAD_PAUSE: Final = 5.0
_OVERLOAD_FACTOR: Final = 0.7
_OUTAGE_STREAK: Final = 8
_OUTAGE_PROBE: Final = 1.0
_TICK: Final = 0.05


class LimitChange(Struct, frozen=True):
    """One change of a limit.

    Attributes:
        at: The loop time in seconds.
        capacity: The limit from then on.
        reason: `start`, `set`, `stated`, `refused`, `overload`, `grew`; and `end` for
            what a report found it to be, its first steady growth being no change.
    """

    at: float
    capacity: int
    reason: str


class Admission:
    """A limit that stays as it is.

    Args:
        level: The limit to begin with, at least 1. It is a float because an adaptive
            limit grows by fractions; `capacity` is the rounded number.

    Attributes:
        capacity: The limit now, which only this class changes.
        in_flight: Requests of batches on the wire now.
        refused: 429 answers so far.
        history: The latest changes, oldest first.
        listeners: Called when a slot has become free, in turn.
        hungry: Those of them that could have used a slot when they last looked.
    """

    def __init__(self, level: float) -> None:
        self._level = level
        self.in_flight = 0
        self.refused = 0
        self.history: deque[LimitChange] = deque(maxlen=1000)
        self.listeners: list[Callable[[], None]] = []
        self.hungry: set[Callable[[], None]] = set()
        self._streak = 0
        self._refusals = 0
        self._unanswered_since = inf
        self._probe_at = 0.0

    @property
    def _level(self) -> float:
        """The limit with its fraction."""
        return self._exact

    @_level.setter
    def _level(self, level: float) -> None:
        # Looked at for every request, and changed much less often.
        self._exact = level
        self.capacity = max(1, int(level + 0.5))

    @property
    def in_outage(self) -> bool:
        """Whether the server answers nothing at all, so that one request probes it."""
        return self._streak >= _OUTAGE_STREAK and self._streak >= self.capacity // 2

    @property
    def is_refusing(self) -> bool:
        """Whether the latest outcomes were refusals, one after the other."""
        return self._refusals >= _OUTAGE_STREAK

    def unanswered_for(self, now: float) -> float:
        """Seconds since the first failure or refusal that no answer has followed."""
        return max(0.0, now - self._unanswered_since)

    @property
    def changes(self) -> list[LimitChange]:
        """The history; of a limit that never changed, what it is."""
        return list(self.history) or [LimitChange(0.0, self.capacity, "start")]

    def set(self, count: int, now: float = 0.0) -> None:
        """Change the limit while batches run.

        Raises:
            ConfigurationError: It is not a whole number of at least 1.
        """
        self._level = float(whole("a limit", count))
        self._changed(now, "set")

    def admits(self, now: float, others: int = 0) -> bool:
        """Whether one more request may be sent now.

        Args:
            now: The loop time.
            others: Requests on the wire, or waiting, that are not of a batch.
        """
        if self.in_flight + others >= self.capacity:
            return False
        return not self.in_outage or now >= self._probe_at

    def recheck_after(self, now: float) -> float:
        """Seconds after which a refused `admits` may say something else by itself."""
        if self.in_outage:
            return max(0.0, self._probe_at - now)
        return inf

    def sent(self, now: float) -> None:
        """A request goes on the wire."""
        self.in_flight += 1
        self._probe_at = now + _OUTAGE_PROBE

    def answered(self, now: float) -> None:
        """The server answered a request, well or with an error of the request's."""
        del now
        self.in_flight -= 1
        self._streak = self._refusals = 0
        self._unanswered_since = inf

    def rejected(self, now: float, sent_at: float, stated: int | None) -> None:
        """The server refused a request with 429.

        Args:
            now: The loop time.
            sent_at: When it had been sent.
            stated: The limit stated in the answer.
        """
        del sent_at, stated
        self._unanswered_since = min(self._unanswered_since, now)
        self.in_flight -= 1
        self.refused += 1
        self._refusals += 1
        self._streak = 0

    def failed(self, now: float, *, is_new: bool = True) -> None:
        """The server did not cope: 5xx, an empty answer, no connection, silence.

        Args:
            now: The loop time.
            is_new: Whether this request had not failed since the last answer; a
                request that can never succeed makes no outage.
        """
        self._unanswered_since = min(self._unanswered_since, now)
        self.in_flight -= 1
        self._streak += is_new

    def freed(self) -> None:
        """Tell those who wait for a slot."""
        for listener in self.listeners:
            listener()

    def owes(self, used: int, user: Callable[[], None]) -> bool:
        """Whether a batch has its share and another one waits for its own.

        Args:
            used: How many slots the batch has.
            user: Its listener.
        """
        if not self.hungry or self.hungry == {user}:
            return False
        return used >= -(-self.capacity // len(self.listeners))

    def withdrawn(self) -> None:
        """A request was given up by its sender, which says nothing about the server."""
        self.in_flight -= 1

    def _changed(self, now: float, reason: str) -> None:
        self.history.append(LimitChange(now, self.capacity, reason))


class _Episode:
    """The refusals of what had been sent when refusals began."""

    __slots__ = ("began", "held", "refused", "stated", "until")

    def __init__(self, began: float, held: int, until: float) -> None:
        self.began = began
        self.held = held
        self.until = until
        self.refused = 0
        self.stated: int | None = None


class _Adaptive(Admission):
    """Follows what the server admits."""

    BETA: Final = 0.95
    RAMP_SHARE: Final = 1.0
    RAMP_FLOOR: Final = 200.0
    SATURATED: Final = 0.9
    #: The share of a stated limit above which nobody else uses the account.
    SOLE: Final = 0.98
    FREEZE: Final = 1.2
    LONGEST_FREEZE: Final = 2.0
    PROBE_SHARE: Final = 0.006
    #: Seconds after which a probe is made even if successes did not pay for it.
    PROBE_SOLE: Final = 30.0
    PROBE_CONTENDED: Final = 2.0
    PROBE_BLIND: Final = 5.0
    #: A limit that moved lately is likely to move again.
    RESTLESS: Final = 120.0
    MOVED: Final = 0.85
    FIRST_LOOK: Final = 0.3
    #: The first requests, and for how long the rest waits to hear of them.
    FEELERS: Final = 4
    FEEL_FOR: Final = 0.15
    HOLD: Final = 0.5

    def __init__(self, start: float, most: int, least: int) -> None:
        super().__init__(float(start))
        self._most = most
        self._least = least
        self._at: float | None = None
        self._is_ramping = True
        self._stated: int | None = None
        self._episode: _Episode | None = None
        self._cut_at = -inf
        self._hold_until = -inf
        self._credit = 1.0
        self._step = 0.0
        self._step_until = -inf
        self._round_trip = 0.1
        self._outcomes: deque[bool] = deque(maxlen=_OVERLOAD_SAMPLE)
        self._bad = 0
        self._overload_at = -inf
        self._recover_to = 0.0
        self._moved_at = -inf
        self._feels_until = inf

    def set(self, count: int, now: float = 0.0) -> None:
        super().set(count, now)
        self._most = max(self._most, count)

    def admits(self, now: float, others: int = 0) -> bool:
        self._advance(now, others)
        if self._episode is not None:
            return False
        if now < self._feels_until and self.in_flight >= self.FEELERS:
            return False
        return super().admits(now, others)

    def recheck_after(self, now: float) -> float:
        if self._episode is not None:
            return max(0.0, self._episode.until - now)
        return min(super().recheck_after(now), _TICK)

    def sent(self, now: float) -> None:
        self._advance(now)
        super().sent(now)

    def answered(self, now: float) -> None:
        self._advance(now)
        super().answered(now)
        self._feels_until = -inf
        self._credit = min(3.0, self._credit + self.PROBE_SHARE)
        self._note(is_bad=False)

    def failed(self, now: float, *, is_new: bool = True) -> None:
        self._advance(now)
        super().failed(now, is_new=is_new)
        self._note(is_bad=True)
        enough = len(self._outcomes) >= _OVERLOAD_SAMPLE // 5
        if not enough or self._bad < _OVERLOAD_SHARE * len(self._outcomes):
            return
        if now >= self._overload_at + _OVERLOAD_PAUSE and not self.in_outage:
            self._overload_at = now
            self._recover_to = max(self._recover_to, self._level)
            self._level = max(float(self._least), self._level * _OVERLOAD_FACTOR)
            self._hold_until = now + 2 * self.HOLD
            self._changed(now, "overload")

    def _note(self, *, is_bad: bool) -> None:
        if len(self._outcomes) == _OVERLOAD_SAMPLE:
            self._bad -= self._outcomes[0]
        self._outcomes.append(is_bad)
        self._bad += is_bad

    def rejected(self, now: float, sent_at: float, stated: int | None) -> None:
        self._advance(now)
        held = self.in_flight
        super().rejected(now, sent_at, stated)
        self._is_ramping = False
        self._recover_to = 0.0
        self._credit = max(0.0, self._credit - 1.0)
        episode = self._episode
        if episode is None and sent_at >= self._cut_at:
            self._round_trip = min(now - sent_at, self.LONGEST_FREEZE)
            until = now + self.FREEZE * self._round_trip
            episode = self._episode = _Episode(now, held, until)
        if episode is not None and sent_at <= episode.began:
            episode.refused += 1
        if stated is not None:
            self._obey(now, max(stated, self._least), episode)

    def _obey(self, now: float, stated: int, episode: _Episode | None) -> None:
        if self._stated is not None and stated != self._stated:
            self._moved_at = now
        self._stated = stated
        if episode is not None:
            episode.stated = stated
        if self._level > stated:
            self._level = float(stated)
            self._changed(now, "stated")

    def _advance(self, now: float, others: int = 0) -> None:
        """Account for the time since the last event."""
        if self._at is None:
            self._changed(now, "start")
            self._hold_until = now + self.FIRST_LOOK
            self._feels_until = now + self.FEEL_FOR
        elapsed = now - max(self._at or now, self._hold_until)
        self._at = now
        self._step_until += max(0.0, elapsed - _TICK)  # stalled, one hears nothing
        if self._episode is not None:
            if now >= self._episode.until:
                self._settle(now, self._episode)
            return
        used = self.in_flight + others
        if now < self._hold_until or used < int(self.SATURATED * self.capacity):
            return
        if self._level < self._recover_to:
            self._level += max(10.0, 0.5 * self._level) * elapsed
        elif self._is_ramping:
            self._ramp(elapsed)
        else:
            self._probe(now)
        self._level = min(self._level, float(self._most))

    def _ramp(self, elapsed: float) -> None:
        self._level += max(self.RAMP_FLOOR, self.RAMP_SHARE * self._level) * elapsed

    def _settle(self, now: float, episode: _Episode) -> None:
        """All refusals are in: what was not refused had been admitted."""
        admitted = max(0, episode.held - episode.refused)
        stated = episode.stated
        if stated is not None and admitted >= self.SOLE * stated - 1:
            level = float(stated)
        else:
            level = self.BETA * admitted
            if (
                stated is None
                and self._cut_at > -inf
                and level < self.MOVED * self._level
            ):
                self._moved_at = now
        self._level = min(max(level, float(self._least)), self._level)
        self._episode = None
        self._cut_at = now
        self._hold_until = now + self.HOLD
        self._step = 0.0
        self._changed(now, "refused")

    def _probe(self, now: float) -> None:
        """Go a little higher from time to time; twice as far while it works."""
        if self._step:
            if now < self._step_until:
                return
            self._step *= 2
        elif self._credit >= 1.0 or now >= self._cut_at + self._patience(now):
            self._step = max(1.0, 0.004 * self._level)
        else:
            return
        before = self.capacity
        self._level += min(self._step, 0.5 * self._level + 1)
        if self._stated is not None and self._level > self._stated + 2 * self._step:
            self._stated = None
        self._step_until = now + max(0.1, 3 * self._round_trip)
        if self.capacity > 1.1 * before:
            self._changed(now, "grew")

    def _patience(self, now: float) -> float:
        if now < self._moved_at + self.RESTLESS:
            return self.PROBE_CONTENDED
        if self._stated is None:
            return self.PROBE_BLIND
        is_sole = self._level >= self.SOLE * self._stated - 1
        return self.PROBE_SOLE if is_sole else self.PROBE_CONTENDED


def adaptive(start: int, most: int, least: int) -> Admission:
    """A limit that follows what the server admits.

    Args:
        start: The limit to begin with.
        most: Never more than this.
        least: Never fewer than this.
    """
    return _Adaptive(start, most, least)


def whole(name: str, value: int) -> int:
    """Return a whole number of at least 1, or refuse it.

    Args:
        name: What it is, for the message.
        value: The number.

    Raises:
        ConfigurationError: It is none.
    """
    if type(value) is not int or value < 1:
        message = f"{name} must be a whole number of at least 1"
        raise ConfigurationError(message)
    return value
