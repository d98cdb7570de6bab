"""One timer for everything an event loop waits for.

A timer per request or per chunk costs more than decoding the chunk. Here each wait
only says when it would run out; a single timer looks at all of them, and again when
the next one could have run out. In between, nothing is scheduled or cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .timeouts import NEVER


class Watched(Protocol):
    """A wait with a limit."""

    @property
    def step(self) -> float:
        """The shortest limit a wait that has yet to begin could have, in seconds."""
        ...

    def due(self) -> float:
        """The loop time at which the present wait runs out, infinity for never."""
        ...

    def expire(self) -> None:
        """Called once, when it has run out; it is watched no longer."""
        ...


class Watch:
    """Ends overdue waits of one loop, to the precision of its timers.

    Args:
        loop: The loop, whose clock counts.
    """

    __slots__ = ("_at", "_items", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at = NEVER

    def add(self, item: Watched, earliest: float) -> None:
        """Watch an item.

        Args:
            item: What to watch.
            earliest: No wait of it can run out before this loop time.
        """
        self._items.add(item)
        if earliest < self._at:
            self._arm(earliest)

    def discard(self, item: Watched) -> None:
        """Watch an item no longer."""
        self._items.discard(item)

    def close(self) -> None:
        """Stop the timer."""
        self._items.clear()
        self._arm(NEVER)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = at
        if at != NEVER:
            self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer, self._at = None, NEVER
        now = self._loop.time()
        nearest = NEVER
        for item in list(self._items):
            due = item.due()
            if due <= now:
                self._items.discard(item)
                item.expire()
            else:
                nearest = min(nearest, due, now + item.step)
        if nearest < self._at:  # an item may have been added by an expiry
            self._arm(nearest)
