"""Room on the account: a batch leaves its next free place to a call that was refused.

DeepSeek counts the requests of an account that run at the same time. While a batch
uses all it may have, any other call is refused, and would be again, until a request
has ended and the batch does not send another one in its place.

https://api-docs.deepseek.com/quick_start/rate_limit
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
        """Send a request of a batch.

        Args:
            send: Sends it.

        Raises:
            DeepSeekError: That of the sending.
        """
        self.taken += 1
        try:
            return await send()
        finally:
            self.taken -= 1

    def make(self) -> None:
        """A request has ended, and was not refused: the next call may try."""
        for wake in self.waiting:
            if not wake.is_set():
                wake.set()
                return
