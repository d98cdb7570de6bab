"""Whether to try again, and after how long. Decides only; never sleeps.

A call is repeated when the server certainly or probably did not answer it: 408,
429, 5xx, a failed connection, an empty 200. The API has no idempotency key, so a
repeated request may be billed twice when the first died after it had been sent;
every attempt is therefore listed in the result.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from .errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    DeadlineExceededError,
    DeepSeekError,
    EmptyResponseError,
    TruncatedResponseError,
)

RETRIED_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


class RetryPolicy(Struct, kw_only=True, frozen=True):
    """How often and how patiently to try again.

    Waits grow exponentially with full jitter: before retry n, a random time between
    0 and `min(cap, base * 2 ** (n - 1))`. A `Retry-After` of the server sets the
    least wait; one above `retry_after_cap` means not to try again at all.

    Attributes:
        attempts: The most attempts, the first included; 1 means no retry.
        base: Seconds.
        cap: Seconds.
        retry_after_cap: Seconds.
        timeouts: Whether to repeat after a clock ran out. Off, because every attempt
            would wait as long again, and the server may have been at work by then: a
            repeated request may be billed twice.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 8.0
    retry_after_cap: float = 60.0
    timeouts: bool = False

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            message = "RetryPolicy.attempts must be at least 1"
            raise ConfigurationError(message)
        for name in ("base", "cap", "retry_after_cap"):
            value = getattr(self, name)
            if type(value) not in {int, float} or not 0 <= value < math.inf:
                message = f"RetryPolicy.{name} must be a finite number of at least 0"
                raise ConfigurationError(message)

    def allows(self, error: DeepSeekError) -> bool:
        """Whether an error of this kind is worth another attempt."""
        if isinstance(error, DeadlineExceededError):
            return False
        if isinstance(error, APITimeoutError):
            return self.timeouts
        if isinstance(error, APIStatusError):
            return error.status in RETRIED_STATUS
        lost = APIConnectionError, EmptyResponseError, TruncatedResponseError
        return isinstance(error, lost)

    def wait(
        self,
        number: int,
        error: DeepSeekError,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> float | None:
        """Seconds to wait after failed attempt `number`, or `None` to give up.

        Args:
            number: The attempt that failed, 1 for the first.
            error: How it failed.
            uniform: The source of jitter.
        """
        if number >= self.attempts or not self.allows(error):
            return None
        wait = uniform(0.0, min(self.cap, self.base * 2.0 ** min(number - 1, 60)))
        asked = getattr(error, "retry_after", None)
        if asked is None:
            return wait
        return None if asked > self.retry_after_cap else max(wait, asked)


class RetryBudget:
    """Keeps an outage from being amplified: retries must be earned.

    Every call earns `ratio` of a retry and time earns `per_second`; a retry spends
    one. `reserve` is what a fresh or idle client holds. With the defaults a total
    outage costs at most 1.1 attempts a call, plus the reserve.

    Args:
        ratio: Retries earned by a call.
        reserve: The most retries time can earn, and the balance at the start.
        per_second: Retries earned by a second.
        ceiling: The most retries that can be held at all.
    """

    __slots__ = ("_at", "_balance", "ceiling", "per_second", "ratio", "reserve")

    def __init__(
        self,
        *,
        ratio: float = 0.1,
        reserve: float = 10.0,
        per_second: float = 0.05,
        ceiling: float = 100.0,
    ) -> None:
        self.ratio = ratio
        self.reserve = reserve
        self.per_second = per_second
        self.ceiling = ceiling
        self._balance = reserve
        self._at: float | None = None

    def __repr__(self) -> str:
        return f"RetryBudget(balance={self._balance:.1f})"

    @property
    def balance(self) -> float:
        """Retries in hand."""
        return self._balance

    def earn(self) -> None:
        """Count one call."""
        if self._balance < self.ceiling:
            self._balance += self.ratio

    def spend(self, now: float) -> bool:
        """Pay for one retry.

        Args:
            now: A monotonic time in seconds.

        Returns:
            Whether there was one to pay with; `False` means not to retry.
        """
        if self._at is not None and self._balance < self.reserve:
            earned = max(0.0, now - self._at) * self.per_second
            self._balance = min(self.reserve, self._balance + earned)
        self._at = now
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
