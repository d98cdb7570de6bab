"""Leaving a batch after n loop steps, for every n: nothing is lost, nothing is held."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from faults.answers import GOOD_ANSWER, error_body, good, whole
from faults.harness import (
    LOOPS,
    REQUEST,
    clean_client,
    pool_empty,
    run_on,
    within,
)
from faults.wire import FaultServer, Reply, Request, send, stall

from deepseek_async import AsyncDeepSeek, BatchOk, RetryPolicy
from deepseek_async.batch import Limit, journal as journal_module
from deepseek_async.batch.catalogue import read_results
from deepseek_async.batch.storage import locked

ROWS = 5
STEPS = 40
BUSY: Reply = (send(whole(error_body("busy"), "503 Busy")),)
REFUSED: Reply = (send(whole(error_body("too many"), "429 x", Retry_After="9")),)


class Job:
    """One batch of a few rows, and what its reader got.

    Args:
        client: Who sends it.
        directory: Its journal, if it has one.
    """

    def __init__(self, client: AsyncDeepSeek, directory: Path | None = None) -> None:
        self.client = client
        self.directory = directory
        self.limit = Limit.fixed(2)
        self.rows: list[int] = []

    async def run(self) -> None:
        requests = [REQUEST] * ROWS
        options: dict[str, Any] = {"journal": self.directory, "concurrency": self.limit}
        async with self.client.batch(requests, **options) as results:
            async for result in results:
                assert isinstance(result, BatchOk)
                self.rows.append(result.index)


async def cancelled(task: asyncio.Task[None]) -> bool:
    """Cancel; whether the task was running, in which case it must end cancelled."""
    was_running = task.cancel()
    await asyncio.wait([task], timeout=2.0)
    assert task.done()
    assert task.cancelled() == was_running, "a cancellation was swallowed"
    return was_running


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("admission", (stall(),)),
        ("retry sleep", BUSY),
        ("refusal", REFUSED),
        ("answers", GOOD_ANSWER),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cancel_after_every_step(phase: str, reply: Reply, loop: str) -> None:
    """Cancelled after n steps, a batch gives back its slots and ends its requests."""
    is_broken = True
    ends: Counter[bool] = Counter()

    def answer(request: Request) -> Reply:
        return reply if is_broken else good(request)

    async def cancel_after(client: AsyncDeepSeek, count: int) -> None:
        job = Job(client)
        task = asyncio.create_task(job.run())
        for _ in range(count):
            await asyncio.sleep(0)
        ends[await cancelled(task)] += 1
        assert job.limit.in_flight == 0
        assert job.limit.admission.listeners == []
        await pool_empty(client)

    async def sweep() -> None:
        nonlocal is_broken
        policy = RetryPolicy(attempts=3, base=5.0, cap=5.0)
        async with (
            FaultServer(answer) as server,
            clean_client(server, retry=policy, max_connections=2) as client,
        ):
            for count in range(2 * STEPS):
                await cancel_after(client, count)
            is_broken = False
            job = Job(client)
            await within(2.0, job.run())
            assert sorted(job.rows) == [*range(ROWS)]

    run_on(loop, sweep(), limit=8.0)
    assert ends[True] == 2 * STEPS if phase != "answers" else ends[True] > 5


class SlowDisk:
    """Tells when a journal is opened and written, and takes its time over it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.opening = asyncio.Event()
        self.commit = asyncio.Event()
        self.seconds = seconds
        self.threads: set[int] = set()
        sync = journal_module._sync

        def slowly_locked(path: Path) -> int:
            file = locked(path)
            self._tell(self.opening)
            return file

        def slowly_synced(file: int) -> None:
            self._tell(self.commit)
            sync(file)

        monkeypatch.setattr(journal_module, "locked", slowly_locked)
        monkeypatch.setattr(journal_module, "_sync", slowly_synced)

    def _tell(self, event: asyncio.Event) -> None:
        self.threads.add(threading.get_ident())
        assert self.loop is not None
        self.loop.call_soon_threadsafe(event.set)
        time.sleep(self.seconds)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("phase", ["start", "opening", "commit"])
def test_cancel_around_the_journal(
    phase: str, loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the journal is opened or written, a job goes on where it was."""
    disk = SlowDisk(monkeypatch, 0.002)
    ends: Counter[bool] = Counter()

    async def cancel_after(client: AsyncDeepSeek, count: int) -> None:
        directory = tmp_path / str(count)
        job = Job(client, directory)
        disk.loop = asyncio.get_running_loop()
        disk.opening.clear()
        disk.commit.clear()
        task = asyncio.create_task(job.run())
        if phase != "start":
            await within(1.0, getattr(disk, phase).wait())
        for _ in range(count):
            await asyncio.sleep(0)
        ends[await cancelled(task)] += 1
        assert job.limit.in_flight == 0
        recorded = [r.index for r in read_results(directory)] if job.rows else []
        assert set(job.rows) <= set(recorded), "handed out, but not durable"
        again = Job(client, directory)
        await within(2.0, again.run())
        assert not set(again.rows) & set(job.rows), "handed out twice"
        assert [r.index for r in read_results(directory)] == [*range(ROWS)]

    async def sweep() -> None:
        async with (
            FaultServer(good) as server,
            clean_client(server, max_connections=2) as client,
        ):
            for count in range(STEPS):
                await cancel_after(client, count)

    run_on(loop, sweep(), limit=20.0)
    assert ends[True] > 5
    assert threading.get_ident() not in disk.threads
