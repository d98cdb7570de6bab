"""How many requests may be on the wire at once: the slots, and who waits for one.

DeepSeek limits the requests of an account that run at the same time, all keys and
programs together, and refuses the rest at once with 429. Here the limit is a given
number; `adaptive` finds it out.

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

OUTAGE_STREAK: Final = 8
"""Failures one after the other, of as many requests, that make an outage at least."""

_OUTAGE_PROBE: Final = 1.0
_LONGEST_STARVING: Final = 0.25
_STARVING_AGO: Final = 1.0
"""After so long without a look, starving begins anew."""


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
        listeners: Called when a slot has become free; who was served last comes last.
        hungry: Those of them that could have used a slot when they last looked.
        served_until: When the newest request was sent that has been answered.
        streak: The number of the present row of failures, if there is one.
    """

    def __init__(self, level: float) -> None:
        self._level = level
        self.in_flight = 0
        self.refused = 0
        self.history: deque[LimitChange] = deque(maxlen=1000)
        self.listeners: list[Callable[[], None]] = []
        self.hungry: set[Callable[[], None]] = set()
        self.served_until = -inf
        self.streak = 0
        self._failures = 0
        self._widest = 0
        self._refusals = 0
        self._unanswered_since = inf
        self._probe_at = 0.0
        self._starves_since = self._starved_at = -inf

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
        return self._failures >= self.outage_streak

    @property
    def outage_streak(self) -> int:
        """How many requests must fail for an outage: half of those on the wire."""
        return max(OUTAGE_STREAK, self._widest // 2)

    @property
    def is_refusing(self) -> bool:
        """Whether the latest outcomes were refusals, one after the other."""
        return self._refusals >= OUTAGE_STREAK

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

        Other calls go first, but batches go on: if for a moment those have left them
        no slot, one request is sent all the same.

        Args:
            now: The loop time.
            others: Requests on the wire, or waiting, that are not of a batch.
        """
        if self.in_flight + others >= self.capacity and not self._has_starved(now):
            return False
        if self._failures < OUTAGE_STREAK:
            return True
        return not self.in_outage or now >= self._probe_at

    def _has_starved(self, now: float) -> bool:
        if self.in_flight:
            return False
        if now > self._starved_at + _STARVING_AGO:
            self._starves_since = now
        self._starved_at = now
        return now >= self._starves_since + _LONGEST_STARVING

    def recheck_after(self, now: float) -> float:
        """Seconds after which a refused `admits` may say something else by itself."""
        if self.in_outage:
            return max(0.0, self._probe_at - now)
        return inf

    def sent(self, now: float) -> None:
        """A request goes on the wire."""
        self.in_flight += 1
        if self.in_flight > self._widest:
            self._widest = self.in_flight  # since the last answer
        self._probe_at = now + _OUTAGE_PROBE
        self._starved_at = -inf

    def answered(self, now: float, sent_at: float = -inf) -> None:
        """The server answered a request, well or with an error of the request's.

        Args:
            now: The loop time.
            sent_at: When it had been sent.
        """
        del now
        self.in_flight -= 1
        if sent_at > self.served_until:
            self.served_until = sent_at
        if self._failures:
            self._end_streak()
        self._refusals = 0
        self._widest = self.in_flight
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
        self._end_streak()

    def failed(self, now: float, *, is_new: bool = True) -> None:
        """The server did not cope: 5xx, an empty answer, no connection, silence.

        Args:
            now: The loop time.
            is_new: Whether this request is not in the present streak yet; one that
                can never succeed makes no outage.
        """
        self._unanswered_since = min(self._unanswered_since, now)
        self.in_flight -= 1
        self._failures += is_new

    def _end_streak(self) -> None:
        self._failures = 0
        self.streak += 1

    def freed(self) -> None:
        """Tell those who wait for a slot."""
        for listener in self.listeners:
            listener()

    def owes(self, used: int, user: Callable[[], None], others: int = 0) -> bool:
        """Whether a batch has its share and another one waits for its own.

        A place that makes no share for each goes to whoever was served longest ago.

        Args:
            used: How many slots the batch has.
            user: Its listener.
            others: Requests that are not of a batch.
        """
        if not self.hungry or self.hungry == {user}:
            return False
        share, rest = divmod(max(1, self.capacity - others), len(self.listeners))
        if used != share or not rest:
            return used >= share
        first = next(batch for batch in self.listeners if batch in self.hungry | {user})
        return first is not user

    def served(self, user: Callable[[], None]) -> None:
        """A batch has used a slot: those it shares them with go before it now."""
        self.listeners.remove(user)
        self.listeners.append(user)

    def withdrawn(self) -> None:
        """A request was given up by its sender, which says nothing about the server."""
        self.in_flight -= 1

    def _changed(self, now: float, reason: str) -> None:
        self.history.append(LimitChange(now, self.capacity, reason))


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
