"""Results on their way to the reader: as they come, or in input order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from .results import BatchResult

_GAP: Final = None


class Delivery:
    """A queue of results with one reader.

    Args:
        in_order: Whether to hand them out in the order of the source.

    Attributes:
        next_index: The row the reader gets next, in input order.
        is_closed: Whether nothing more will come.
    """

    def __init__(self, *, in_order: bool) -> None:
        self.next_index = 0
        self.is_closed = False
        self._in_order = in_order
        self._ready: deque[BatchResult] = deque()
        self._held: dict[int, BatchResult | None] = {}
        self._arrival = asyncio.Event()

    def unread(self) -> int:
        """Results that wait for the reader, and not for another one before them."""
        return len(self._ready)

    def put(self, results: Sequence[BatchResult]) -> None:
        """Add results."""
        if self._in_order:
            self._held.update((result.index, result) for result in results)
            self._advance()
        else:
            self._ready.extend(results)
        self._arrival.set()

    def skip(self, index: int) -> None:
        """There will be no result for a row."""
        if self._in_order:
            self._held[index] = _GAP
            self._advance()
            self._arrival.set()

    def _advance(self) -> None:
        while self.next_index in self._held:
            found = self._held.pop(self.next_index)
            self.next_index += 1
            if found is not None:
                self._ready.append(found)

    def close(self) -> None:
        """Nothing more will come; rows that are missing are passed over."""
        rest = sorted(self._held)
        found = (self._held[index] for index in rest)
        self._ready.extend(result for result in found if result is not None)
        self._held.clear()
        self.is_closed = True
        self._arrival.set()

    def take(self) -> BatchResult | None:
        """The next result, if one is there."""
        return self._ready.popleft() if self._ready else None

    async def arrival(self) -> None:
        """Wait until something was added or closed."""
        self._arrival.clear()
        if not self._ready and not self.is_closed:
            await self._arrival.wait()
