"""What goes next: what failed and is due, else something new."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from math import inf
from typing import Final

from .intake import Intake, Rejected
from .item import Item
from .prefix import PrefixPlan
from .source import Row, Source

_ROWS_AT_ONCE: Final = 256
_LEFT: Final = 64


class Retries:
    """Requests that wait for their time."""

    __slots__ = ("_by_deadline", "_by_time", "_serial", "_waiting")

    def __init__(self) -> None:
        self._by_time: list[tuple[float, int, Item]] = []
        self._by_deadline: list[tuple[float, int, Item]] = []
        self._waiting: set[int] = set()
        self._serial = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item, at: float) -> None:
        """Queue a request for a loop time."""
        self._serial += 1
        self._waiting.add(self._serial)
        heapq.heappush(self._by_time, (at, self._serial, item))
        if item.deadline is not None:
            heapq.heappush(self._by_deadline, (item.deadline, self._serial, item))
            if len(self._by_deadline) > 2 * len(self._waiting) + _LEFT:
                self._forget_those_that_left()

    def _forget_those_that_left(self) -> None:
        """Of what left by its time, the heap of deadlines has not heard."""
        kept = [entry for entry in self._by_deadline if entry[1] in self._waiting]
        heapq.heapify(kept)
        self._by_deadline = kept

    def due(self, now: float) -> Item | None:
        """The request that is longest due, if one is."""
        return self._take(self._by_time, now)

    def expired(self, now: float) -> Item | None:
        """A request whose deadline has passed, if there is one."""
        return self._take(self._by_deadline, now)

    def _take(self, heap: list[tuple[float, int, Item]], now: float) -> Item | None:
        while heap and heap[0][0] <= now:
            _, serial, item = heapq.heappop(heap)
            if serial in self._waiting:  # or it has left by the other heap
                self._waiting.remove(serial)
                return item
        return None

    def next_after(self, now: float) -> float:
        """Seconds until the next one is due."""
        return self._first(self._by_time, now)

    def expires_after(self, now: float) -> float:
        """Seconds until the next deadline."""
        return self._first(self._by_deadline, now)

    def _first(self, heap: list[tuple[float, int, Item]], now: float) -> float:
        while heap and heap[0][1] not in self._waiting:
            heapq.heappop(heap)
        return max(0.0, heap[0][0] - now) if heap else inf

    def remove(self, item: Item) -> None:
        """Take one request out, if it is there."""
        self._waiting -= {serial for _, serial, one in self._by_time if one is item}


class Fresh:
    """New requests, read from the source no further ahead than needed.

    Args:
        source: The rows.
        intake: Makes requests of them.
        plan: Puts them in an order that the cache likes.
        reject: Takes rows that make no request.
        skip: Takes the numbers of rows with nothing to do.
        wake: Called when the source has rows again.
    """

    def __init__(
        self,
        source: Source,
        intake: Intake,
        plan: PrefixPlan,
        *,
        reject: Callable[[Rejected], None],
        skip: Callable[[int], None],
        wake: Callable[[], None],
    ) -> None:
        self._source = source
        self._intake = intake
        self._plan = plan
        self._reject = reject
        self._skip = skip
        self._wake = wake
        self._filling: asyncio.Task[None] | None = None
        #: Whether the last look ended early, with rows still at hand.
        self.is_looking = False

    @property
    def is_over(self) -> bool:
        """Whether nothing new will come."""
        return not (self._plan.size or self._source.has_rows)

    def take(self, now: float) -> Item | None:
        """The next new request, if one is at hand."""
        self.is_looking = False
        plan = self._plan
        for _ in range(_ROWS_AT_ONCE):
            row = self._read() if plan.wants_rows() else None
            if row is None:
                plan.sort(now, is_short_of_rows=True)
                return plan.take(now)
            made = self._intake.take(row)
            if made is None:
                self._skip(row.index)
            elif isinstance(made, Rejected):
                self._reject(made)
            elif not (plan.size or made.prefixes):
                return made  # nothing that it could wait for
            else:
                plan.add(made)
                plan.sort(now, is_short_of_rows=False)
        self.is_looking = True
        return plan.take(now)

    def _read(self) -> Row | None:
        """The next row, if one is at hand."""
        row = self._source.take()
        if row is None and self._filling is None and self._source.has_rows:
            self._filling = asyncio.create_task(self._fill())
        return row

    async def _fill(self) -> None:
        try:
            await self._source.fill()
        finally:
            self._filling = None
            self._wake()

    def opens_after(self, now: float) -> float:
        """Seconds until a held request may go by the clock."""
        return self._plan.opens_after(now)

    async def aclose(self) -> None:
        """Stop reading."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        await self._source.aclose()
