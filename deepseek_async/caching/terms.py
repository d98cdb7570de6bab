"""On what terms a call is made, and how long each of those who share it will wait."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from msgspec import Struct, structs

from ..retry import RetryPolicy
from ..timeouts import Timeouts


class Terms(Struct, frozen=True, kw_only=True):
    """How a call is made. Only calls on the same terms share one, deadlines apart.

    Attributes:
        timeouts: Its clocks.
        retry: How it is repeated.
        resume: How its stream survives a break.
    """

    timeouts: Timeouts
    retry: RetryPolicy
    resume: Hashable = None

    def without_deadline(self) -> Terms:
        """The same terms, as far as they must be the same."""
        timeouts = structs.replace(self.timeouts, deadline=None)
        return structs.replace(self, timeouts=timeouts)


class Deadline:
    """How long one of those who share a call will wait."""

    __slots__ = ("_at", "limit")

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._at = 0.0 if limit is None else _now() + limit

    def left(self) -> float | None:
        """Seconds, `None` without a limit."""
        return None if self.limit is None else max(0.0, self._at - _now())


ENDLESS: Final = Deadline(None)
"""No deadline of one's own."""


def _now() -> float:
    return asyncio.get_running_loop().time()
