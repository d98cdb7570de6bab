"""Group commit: results wait here until the journal has them for good.

While one group is being written, the next one gathers; nobody waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

import anyio

from ..errors import JournalError
from .journal import Journal
from .results import Finished

PATIENCE: Final = 60.0
"""Seconds to keep trying when the disk is full or fails."""

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


class Committer:
    """Makes results durable, then hands them on.

    Args:
        journal: Where to.
        deliver: Takes what a group finished once it is durable.
        patience: Seconds to keep trying when the disk is full or fails.

    Attributes:
        failure: Why the journal could not be written, once it is given up.
        is_stuck: Whether the last write failed and is being tried again.
    """

    def __init__(
        self,
        journal: Journal,
        deliver: Callable[[list[Finished]], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.failure: JournalError | None = None
        self.is_stuck = False
        self._journal = journal
        self._deliver = deliver
        self._patience = patience
        self._lines: list[bytes] = []
        self._finished: list[Finished] = []
        self._told: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_closing = False

    def add(self, line: bytes, finished: Finished) -> None:
        """Queue a record and the result that waits for it."""
        if not self._lines:
            self._wake.set()
        self._lines.append(line)
        self._finished.append(finished)

    def write(self, line: bytes, then: Callable[[], None]) -> None:
        """Queue a line that is no record.

        Args:
            line: The line.
            then: Called once it is durable, or given up.
        """
        self._lines.append(line)
        self._told.append(then)
        self._wake.set()

    async def run(self) -> None:
        """Commit until `close` was called and nothing is left."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._lines:
                lines, finished, told = self._lines, self._finished, self._told
                self._lines, self._finished, self._told = [], [], []
                await self._commit(b"".join(lines))
                for then in told:
                    then()
                self._deliver(finished)
            if self._is_closing:
                return

    def hurry(self) -> None:
        """Try no longer when the disk is full or fails."""
        self._hurry.set()

    def close(self) -> None:
        """Let `run` end once all is committed."""
        self._is_closing = True
        self._wake.set()

    async def _commit(self, data: bytes) -> None:
        wait, give_up_at = _FIRST_WAIT, monotonic() + self._patience
        while self.failure is None:
            try:
                await anyio.to_thread.run_sync(self._journal.commit, data)
            except JournalError as error:
                self.failure = error
                return
            except OSError as error:
                cause = error
            else:
                self.is_stuck = False
                return
            self.is_stuck = True
            if monotonic() >= give_up_at or self._hurry.is_set():
                self._give_up(cause)
                return
            await anyio.to_thread.run_sync(self._journal.recover_from, cause)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._hurry.wait()
            wait = min(_LONGEST_WAIT, 2 * wait)

    def _give_up(self, cause: OSError) -> None:
        message = (
            f"the journal cannot be written ({self._journal.position}): "
            f"{cause.strerror or cause}; the results that came last are handed out "
            "without a record, and a resumed run would ask for them again"
        )
        self.failure = JournalError(message)
        self.failure.__cause__ = cause
