"""Runs the rows of a batch: results to a file, progress to a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import BinaryIO

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from ..batch import BatchStoppedError
from ..client import AsyncDeepSeek
from .console import err, note
from .exits import ExitCode
from .results import write_line
from .rows import Params
from .tally import Tally

Request = tuple[str, Params]

#: Reasons to stop that lie with the key or the account.
_REFUSED = frozenset({"authentication", "balance"})


class BatchRun:
    """One run over the rows of a batch.

    Args:
        client: Whom to ask.
        file: Where the results go, each as soon as it is there.
        total: The number of rows.
        concurrency: The most requests at once.

    Attributes:
        tally: The numbers so far; they stay readable after an interruption.
        stop: Why the batch ended before its input did, such as a bad key or an empty
            account; `None` if it did not.
    """

    def __init__(
        self, client: AsyncDeepSeek, file: BinaryIO, *, total: int, concurrency: int
    ) -> None:
        self.tally = Tally()
        self.stop: BatchStoppedError | None = None
        self._client = client
        self._file = file
        self._total = total
        self._concurrency = concurrency

    async def run(self, requests: Iterable[Request]) -> None:
        """Ask for every row.

        Args:
            requests: Keys and parameters of `create`.

        Raises:
            OSError: The file cannot be written.
        """
        with self._bar() as bar:
            task = bar.add_task("batch", total=self._total, note="")
            try:
                await self._ask(requests, bar, task)
            except BatchStoppedError as stop:
                self.stop = stop
            except asyncio.CancelledError:
                bar.stop()
                note(f"stopped with {self.tally.done} of {self._total} rows written")
                raise
            finally:
                self.tally.stop()

    async def _ask(self, rows: Iterable[Request], bar: Progress, task: TaskID) -> None:
        batch = self._client.batch(rows, concurrency=self._concurrency)
        async with batch as results:
            async for result in results:
                write_line(self._file, result)
                self.tally.add(result)
                bar.update(task, completed=self.tally.done, note=self._note())

    @property
    def code(self) -> ExitCode:
        """How the command ends after this run."""
        if self.stop is not None and self.stop.reason in _REFUSED:
            return ExitCode.FATAL
        return ExitCode.FAILED if self.stop or self.tally.failed else ExitCode.OK

    def _note(self) -> str:
        tally = self.tally
        failed = f"  {tally.failed} failed" if tally.failed else ""
        return f"{tally.rate:.1f} req/s  ${tally.cost:.4f}{failed}"

    def _bar(self) -> Progress:
        console = err()
        return Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
