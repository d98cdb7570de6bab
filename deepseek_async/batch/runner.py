"""The batch as its user sees it: a context manager, an iterator, and a few controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any, Final, Self

import anyio

from ..errors import (
    DeepSeekError,
    InvalidRequestError,
    JournalError,
    JournalMismatchError,
)
from .admission import OUTAGE_STREAK
from .attempts import Attempts
from .budget import Amount, Budget, Ledger, Tariff
from .commit import PATIENCE, Committer
from .cover import Cover
from .dedupe import Twins
from .delivery import Delivery
from .engine import Engine
from .figures import Figures
from .intake import Intake, Rejected
from .interrupt import Interrupt
from .journal import Journal
from .limit import Limit
from .options import Settings
from .prefix import SETTLE, PrefixPlan
from .progress import Progress, Telling
from .queueing import Fresh
from .record import to_line
from .report import BatchReport, Tally
from .results import BatchFailed, BatchResult, Finished
from .source import BatchSource, Source
from .stops import REQUESTED, Watch, stopped
from .wire import Wire

_LOOK_AHEAD: Final = 2_000


class Batch:
    """The results of a batch, as an async context manager and iterator.

    Results come as they are there, or in input order; with a journal, once they are
    durable. Leaving the block early gives up what is on the wire; what was answered
    by then is still recorded.

    Args:
        wire: Sends the requests.
        requests: The source.
        limit: How many may be on the wire.
        settings: The options.

    Attributes:
        limit: How many may be on the wire.
    """

    def __init__(
        self, wire: Wire, requests: BatchSource, limit: Limit, settings: Settings
    ) -> None:
        self.limit = limit
        self._wire = wire
        self._requests = requests
        self._settings = settings
        self._tally = tally = Tally()
        self._tariff = Tariff(settings.price_table, settings.now)
        self._ledger = Ledger(settings.budget or Budget(), self._tariff)
        self._watch = Watch(settings.budget or Budget(), self._tally)
        self._plan = PrefixPlan(_LOOK_AHEAD, SETTLE)
        self._figures = Figures(
            tally, self._ledger, limit.admission, self._plan, settings.shard[1]
        )
        self._delivery = Delivery(in_order=settings.order == "input")
        self._twins = Twins() if settings.dedupe else None
        # What reading may raise is raised here, where the caller wrote it.
        settings.reading()
        self._journal: Journal | None = None
        self._committer: Committer | None = None
        self._cover: Cover | None = None
        self._engine: Engine | None = None
        self._source: Source | None = None
        self._main: asyncio.Task[None] | None = None
        self._interrupt: Interrupt | None = None
        self._telling: Telling | None = None

    def __repr__(self) -> str:
        return f"Batch({self._tally.done} done, {self.limit!r})"

    # Life

    async def __aenter__(self) -> Self:
        """Open the journal and begin.

        Raises:
            JournalError: It cannot be used.
            SourceError: The input is of no known kind.
            InvalidRequestError: The batch has run already.
        """
        if self._source is not None:
            message = "a batch runs once: call client.batch(...) again"
            raise InvalidRequestError(message)
        self._source = source = Source(self._requests, self._settings.total)
        if self._settings.progress:
            await source.look_ahead()
        intake_index = None
        if self._settings.journal is not None:
            self._journal = await self._open_journal(Path(self._settings.journal))
            intake_index = self._journal.index
            self._ledger.resume(
                Amount(intake_index.cost, intake_index.tokens),
                Amount(intake_index.held_cost, intake_index.held_tokens),
            )
        intake = Intake(
            self._settings,
            self._settings.retry or self._wire.retry,
            intake_index,
            self._tariff,
            self._tally,
        )
        self._figures.start(source, self._journal)
        self._engine = engine = self._make_engine()
        fresh = Fresh(
            source,
            intake,
            self._plan,
            reject=self._rejected,
            skip=self._delivery.skip,
            wake=engine.wake,
        )
        if self._settings.signals:
            self._interrupt = Interrupt(self._signalled)
        self._main = asyncio.create_task(self._run(engine, fresh))
        if self._settings.progress:
            self._telling = Telling(self._settings.progress, lambda: self.progress)
        return self

    async def _open_journal(self, directory: Path) -> Journal:
        settings = self._settings
        reading = settings.reading()
        job = {"endpoint": self._wire.endpoint, **reading.fingerprint()}
        part, parts = settings.shard
        opening = asyncio.create_task(
            anyio.to_thread.run_sync(lambda: Journal(directory, job, f"{part}/{parts}"))
        )
        try:
            await _finish_despite_cancelling(opening)
        except asyncio.CancelledError:
            if opening.exception() is None:  # the thread took the lock all the same
                opening.result().close()
            raise
        return opening.result()

    def _make_engine(self) -> Engine:
        attempts = Attempts(
            send=self._wire.send,
            limit=self.limit.admission,
            ledger=self._ledger,
            tally=self._tally,
            plan=self._plan,
            twins=self._twins,
            finish=self._finished,
            stop=self._stop_for,
        )
        if self._journal is not None:
            self._committer = Committer(self._journal, self._durable, patience=PATIENCE)
            self._cover = Cover(self._ledger, self._committer.write)
        return Engine(
            attempts=attempts,
            limit=self.limit.admission,
            settings=self._settings,
            ledger=self._ledger,
            cover=self._cover,
            twins=self._twins,
            timeouts=self._wire.timeouts,
            others=self._wire.other_calls,
            most=self._wire.most,
            unread=self._delivery.unread,
            is_ahead=self._is_ahead if self._settings.order == "input" else None,
            is_stuck=self._is_stuck,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._engine is None or self._main is None:
            return
        if not self._main.done():
            self._engine.stop("left", drain=False)
        try:
            await _finish_despite_cancelling(self._main)
        finally:
            if self._telling is not None:
                await self._telling.aclose()

    async def _run(self, engine: Engine, fresh: Fresh) -> None:
        """Everything from the first request to the closed journal."""
        async with AsyncExitStack() as stack:  # each is closed, whatever others raise
            stack.callback(self._delivery.close)
            stack.callback(self._figures.end)
            if self._interrupt is not None:
                stack.callback(self._interrupt.close)
            if self._journal is not None:
                stack.push_async_callback(self._close_journal, self._journal)
            if self._committer is not None:
                committing = asyncio.create_task(self._committer.run())
                stack.push_async_callback(_finish_despite_cancelling, committing)
                stack.callback(self._committer.close)
            stack.push_async_callback(fresh.aclose)
            await self._send_all(engine, fresh)

    async def _send_all(self, engine: Engine, fresh: Fresh) -> None:
        try:
            await engine.run(fresh)
            self._compare_length(engine)
        except DeepSeekError as error:  # the journal is of another job
            engine.last_error = error
            engine.stop("mismatch", drain=False)
            await engine.run(fresh)
        if engine.fatal is not None and not self._tally.ok:
            # So few rows that not enough of them were refused to stop the batch.
            self._stop_for(*engine.fatal)

    def _compare_length(self, engine: Engine) -> None:
        """See that the input still has the rows that the journal has results of."""
        source, journal = self._source, self._journal
        if source is None or journal is None or engine.stop_reason is not None:
            return
        known = journal.index.rows
        if source.failure is None and source.count < known:
            message = (
                f"the input has {source.count} rows, but the journal "
                f"{journal.directory} has results up to row {known}: it was shortened. "
                "Take another directory, or the old input"
            )
            raise JournalMismatchError(message)

    async def _close_journal(self, journal: Journal) -> None:
        line = self._cover.last_line() if self._cover is not None else None
        try:
            if line is not None and not self._is_stuck():
                # If the disk fails, the more generous line before it stands.
                with suppress(OSError):
                    await anyio.to_thread.run_sync(journal.commit, line)
        except JournalError as error:  # somebody has removed it: told to the reader
            if self._committer is not None:
                self._committer.failure = self._committer.failure or error
        finally:
            journal.close()

    # Results

    def __aiter__(self) -> AsyncIterator[BatchResult]:
        return self

    async def __anext__(self) -> BatchResult:
        """The next result.

        Raises:
            BatchStoppedError: The batch ended before its input did.
            JournalError: The journal cannot be written, or is of another job.
            Exception: Whatever the source of requests raised, after the results of
                everything before it.
        """
        if self._engine is None:
            message = "use the batch in `async with`"
            raise InvalidRequestError(message)
        while True:
            result = self._delivery.take()
            if result is not None:
                self._engine.wake()
                return result
            if self._delivery.is_closed:
                self._raise_failure(self._engine)
                raise StopAsyncIteration
            await self._delivery.arrival()

    def _raise_failure(self, engine: Engine) -> None:
        if engine.crash is not None:
            raise engine.crash
        if engine.stop_reason == "mismatch" and engine.last_error is not None:
            raise engine.last_error
        if self._committer is not None and self._committer.failure is not None:
            raise self._committer.failure
        if self._source is not None and self._source.failure is not None:
            raise self._source.failure
        reason = engine.stop_reason
        if reason is not None and reason not in REQUESTED:
            raise stopped(reason, engine.last_error)

    async def run(self) -> BatchReport:
        """Run to the end without looking at the results; they are in the journal.

        Returns:
            The report.

        Raises:
            BatchStoppedError: As `__anext__`, like everything else.
        """
        async with self:
            async for _ in self:
                pass
        return self.report

    def _finished(self, finished: Finished) -> None:
        result = finished.result
        if isinstance(result, BatchFailed):
            self._tally.fail(result)
            reason = self._watch.judge(
                result.error, is_news=finished.was_sent and not self._had_failed(result)
            )
            if reason is not None:
                self._stop_for(reason, result.error)
        else:
            self._tally.ok += 1
        if self._committer is None or not finished.is_durable:
            self._delivery.put((result,))
            return
        assert self._engine is not None  # noqa: S101 - it runs
        self._engine.uncommitted += 1
        line = to_line(finished, time())
        self._committer.add(line, finished)

    def _rejected(self, rejected: Rejected) -> None:
        self._finished(Finished(rejected.result, rejected.digest, 0, was_sent=False))

    def _had_failed(self, result: BatchFailed) -> bool:
        """Whether the row has failed in an earlier run already."""
        journal = self._journal
        return journal is not None and journal.index.status(result.index) != 0

    def _durable(self, group: list[Finished]) -> None:
        assert self._engine is not None  # noqa: S101 - it runs
        self._engine.uncommitted -= len(group)
        self._ledger.record(group)
        self._delivery.put([finished.result for finished in group])
        if self._committer is not None and self._committer.failure is not None:
            self._engine.stop("journal")
        self._engine.wake()

    # Control

    def pause(self) -> None:
        """Send nothing more until `resume`; what is on the wire comes in."""
        if self._engine is not None:
            self._engine.pause(on=True)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._engine is not None:
            self._engine.pause(on=False)

    def set_limit(self, count: int) -> None:
        """Change how many may be on the wire.

        Raises:
            ConfigurationError: It is not a whole number of at least 1.
        """
        self.limit.set(count)

    def cancel(self, key: str) -> bool:
        """Give up one request that has begun; it ends with `CancelledItemError`.

        Args:
            key: Its key.

        Returns:
            Whether there was such a request.
        """
        return self._engine is not None and self._engine.cancel(key)

    def stop(self, *, drain: bool = True) -> None:
        """Send nothing more; the iteration ends with what is on the wire.

        Args:
            drain: Whether to wait for that, rather than give it up.
        """
        if self._engine is not None:
            self._engine.stop("stopped", drain=drain)

    def _stop_for(self, reason: str, error: DeepSeekError) -> None:
        if self._engine is not None and self._engine.stop_reason is None:
            self._engine.last_error = error
            self._engine.stop(reason)

    def _signalled(self, count: int) -> None:
        if self._engine is not None:
            self._engine.stop("interrupted", drain=count == 1)
        if self._committer is not None and count > 1:
            self._committer.hurry()

    # What the engine asks

    def _is_ahead(self) -> bool:
        if self._source is None:
            return False
        window = 4 * min(self.limit.capacity, self._wire.most)
        window = max(window, 2 * OUTAGE_STREAK)  # or it would see no outage
        return self._source.count >= self._delivery.next_index + window

    def _is_stuck(self) -> bool:
        return self._committer is not None and self._committer.is_stuck

    # Figures

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._figures.progress(self._engine)

    @property
    def report(self) -> BatchReport:
        """The sums, final once the block is left."""
        return self._figures.report(self._engine)


async def _finish_despite_cancelling(task: asyncio.Task[Any]) -> None:
    """Wait for a task that is about to end, however impatient the caller."""
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001 - raised below, once
            break
    if cancelled is not None:
        with suppress(Exception):
            task.result()
        raise cancelled
    task.result()
