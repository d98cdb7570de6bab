"""Requests and tokens per minute, for endpoints that count those.

DeepSeek itself does not. Arithmetic only, on times handed in by the caller.
"""

from __future__ import annotations

from msgspec import Struct

from ..errors import ConfigurationError

_MINUTE = 60.0


class Rates(Struct, kw_only=True, frozen=True):
    """The most of each in a minute; `None` means no limit.

    Attributes:
        requests_per_minute: Requests.
        tokens_per_minute: Tokens, estimated as a quarter of the request's bytes plus
            `max_tokens`.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                message = f"Rates.{name} must be a positive number"
                raise ConfigurationError(message)


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value > 0


class Pacer:
    """Says when the next request may go (generic cell rate algorithm).

    A second's worth may go at once.

    Args:
        rates: The limits.
    """

    __slots__ = ("_next_request", "_next_token", "_rates")

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._next_request = 0.0
        self._next_token = 0.0

    def wait(self, now: float) -> float:
        """Seconds until another request may go."""
        return max(0.0, self._next_request - now - 1.0, self._next_token - now - 1.0)

    def sent(self, now: float, tokens: int) -> None:
        """A request went."""
        if self._rates.requests_per_minute:
            step = _MINUTE / self._rates.requests_per_minute
            self._next_request = max(now, self._next_request) + step
        if self._rates.tokens_per_minute:
            step = tokens * _MINUTE / self._rates.tokens_per_minute
            self._next_token = max(now, self._next_token) + step
