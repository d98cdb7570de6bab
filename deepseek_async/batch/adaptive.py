"""A limit that is found out, and followed: decided by what the server admits.

The limit is found by counting. When refusals begin, nothing more is sent for a moment,
the refusals of what had been sent are counted, and what remains is what the server
admitted. Where the 429 states the limit, no more than that is sent from then on.
Afterwards a probe goes one above from time to time, paid from a share of the successes.
At the very start, a few requests go ahead of the rest for a moment, in case little is
left of the account.

https://api-docs.deepseek.com/quick_start/rate_limit
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from .admission import Admission

_OVERLOAD_SAMPLE: Final = 50
_OVERLOAD_SHARE: Final = 0.2
_OVERLOAD_PAUSE: Final = 5.0
_OVERLOAD_FACTOR: Final = 0.7
_TICK: Final = 0.05


class _Episode:
    """The refusals of what had been sent when refusals began."""

    __slots__ = ("began", "held", "is_felt", "refused", "stated", "until")

    def __init__(self, began: float, held: int, until: float) -> None:
        self.began = began
        self.held = held
        self.until = until
        self.refused = 0
        self.stated: int | None = None
        #: Whether no more had been sent because the first few go ahead.
        self.is_felt = False


class Adaptive(Admission):
    """Follows what the server admits.

    Args:
        start: The limit to begin with.
        most: Never more than this.
        least: Never fewer than this.
    """

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
        """Change the limit, which is followed from there on."""
        super().set(count, now)
        self._most = max(self._most, count)
        self._feels_until = -inf

    def admits(self, now: float, others: int = 0) -> bool:
        """See `Admission.admits`."""
        self._advance(now, others)
        if self._episode is not None:
            return False
        if now < self._feels_until and self.in_flight >= self.FEELERS:
            return False
        return super().admits(now, others)

    def recheck_after(self, now: float) -> float:
        """See `Admission.recheck_after`."""
        if self._episode is not None:
            return max(0.0, self._episode.until - now)
        return min(super().recheck_after(now), _TICK)

    def sent(self, now: float) -> None:
        """See `Admission.sent`."""
        self._advance(now)
        super().sent(now)
        if self._feels_until == inf:
            self._feels_until = now + self.FEEL_FOR

    def answered(self, now: float, sent_at: float = -inf) -> None:
        """Count an answer, which pays for a part of a probe."""
        self._advance(now)
        super().answered(now, sent_at)
        self._feels_until = -inf
        self._credit = min(3.0, self._credit + self.PROBE_SHARE)
        self._note(is_bad=False)

    def failed(self, now: float, *, is_new: bool = True) -> None:
        """Count a failure; many of them lower the limit."""
        self._advance(now)
        super().failed(now, is_new=is_new)
        self._feels_until = -inf  # this says nothing of how much room there is
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
        """Count a refusal, and obey the limit that it states."""
        self._advance(now)
        held, is_feeler = self.in_flight, now < self._feels_until
        super().rejected(now, sent_at, stated)
        self._is_ramping = False
        self._recover_to = 0.0
        self._credit = max(0.0, self._credit - 1.0)
        episode = self._episode
        if episode is None and sent_at >= self._cut_at:
            self._round_trip = min(now - sent_at, self.LONGEST_FREEZE)
            until = now + self.FREEZE * self._round_trip
            episode = self._episode = _Episode(now, held, until)
            episode.is_felt = is_feeler
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
        if episode.is_felt:
            self._credit = 1.0  # there may be room for far more than were sent
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
