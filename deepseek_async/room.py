"""Room on the account: a batch leaves its next free place to a call that was refused.

DeepSeek counts the requests of an account that run at the same time. While a batch
uses all it may have, any other call is refused, and would be again, until a request of
the batch has ended and the batch does not send another one in its place.

https://api-docs.deepseek.com/quick_start/rate_limit
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import RateLimitError

T = TypeVar("T")


class Room:
    """The requests of batches on the wire, and the calls that wait for one to end.

    Attributes:
        taken: Requests of batches on the wire.
        waiting: What wakes the calls that were refused, first come first served. They
            are in here until they go on, so that the batch does not take the place.
    """

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken = 0
        self.waiting: list[asyncio.Event] = []

    async def take(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send a request of a batch, and make room when it has ended.

        Args:
            send: Sends it.

        Raises:
            DeepSeekError: That of the sending. A refusal makes no room.
        """
        self.taken += 1
        places = 1
        try:
            return await send()
        except RateLimitError:
            places = 0
            raise
        finally:
            self.taken -= 1
            if self.waiting:
                self._make(places)

    def _make(self, places: int) -> None:
        """Wake so many calls, or all if no batch is on the wire any more."""
        asleep = [wake for wake in self.waiting if not wake.is_set()]
        for wake in asleep[: places if self.taken else None]:
            wake.set()
