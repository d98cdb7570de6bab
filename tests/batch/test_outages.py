"""Outages of a real server, and what becomes of the rows of a batch."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from batch.fakes import ask, asks
from deepseek_async import (
    AsyncDeepSeek,
    BatchOk,
    DeadlineExceededError,
    RetryPolicy,
    ServiceUnavailableError,
    Timeouts,
)
from deepseek_async.batch import BatchResult, Budget, Limit
from deepseek_async.batch.item import Item
from deepseek_async.batch.queueing import Retries
from deepseek_async.request import WireRequest
from deepseek_async.testing import Cut, DeepSeekEmulator, Delay, Pace, Recorded, Status

QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.02)
SHARED = "Judge the text below. " * 250


class Outage:
    """Answers some requests, refuses all for a while, and answers again.

    Attributes:
        first: How many requests are answered first.
        status: The status of the refusals.
        seconds: How long it lasts.
        refused: How many were refused.
        over: Set by the first request after it.
    """

    def __init__(self, first: int, status: int = 503, seconds: float = 0.6) -> None:
        self.first = first
        self.status = status
        self.seconds = seconds
        self.refused = 0
        self.over = asyncio.Event()
        self._seen = 0
        self._ends: float | None = None

    def __call__(self, _: Recorded) -> Status | None:
        now = asyncio.get_running_loop().time()
        self._seen += 1
        if self._seen <= self.first:
            return None
        self._ends = self._ends or now + self.seconds
        if now > self._ends:
            self.over.set()
            return None
        self.refused += 1
        return Status(status=self.status)


def _asked(request: Recorded) -> str:
    said: str = request.body["messages"][-1]["content"]
    return said


def client_of(emulator: DeepSeekEmulator) -> AsyncDeepSeek:
    return AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, retry=QUICK
    )


@pytest.mark.parametrize(
    ("count", "limit", "first", "status", "options"),
    [
        (5, 2, 2, 503, {}),
        (1, 1, 0, 503, {}),
        (12, 100, 2, 500, {}),
        (30, 2, 4, 503, {"dedupe": True}),
        (12, 4, 0, 503, {"defaults": {"system": SHARED}}),
    ],
    ids=["few rows", "one row", "the tail", "doubles", "a common beginning"],
)
async def test_no_row_fails_however_few_there_are(
    count: int, limit: int, first: int, status: int, options: dict[str, Any]
) -> None:
    """A server that is away costs no row an attempt, also where few can be tried."""
    rows = asks(count, temperature=0)
    if "defaults" in options:
        beginning = {"role": "system", "content": options.pop("defaults")["system"]}
        for row in rows:
            row["messages"].insert(0, beginning)
    if options:
        rows = [rows[number // 2] for number in range(count)]
    outage = Outage(first, status)
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = outage
        async with client.batch(rows, concurrency=limit, **options) as batch:
            done = [result async for result in batch]

    assert outage.refused > 0
    assert [result for result in done if not result.ok] == []
    assert len(done) == count


async def test_no_row_fails_while_the_reader_is_slow() -> None:
    """Rows enough for an outage are tried though many results are still unread."""
    outage = Outage(first=110, status=500)
    done: list[BatchResult] = []
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = outage
        async with client.batch(asks(180), concurrency=64) as batch:
            async for result in batch:
                done.append(result)
                if len(done) == 1:
                    await outage.over.wait()

    assert [result for result in done if not result.ok] == []
    assert len(done) == 180


async def test_no_row_fails_where_connections_are_fewer_than_the_limit() -> None:
    """What can be on the wire decides what an outage is, not what would be allowed."""
    outage = Outage(first=20, status=500)
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        emulator.fault = outage
        async with AsyncDeepSeek(
            api_key=emulator.api_key,
            base_url=emulator.base_url,
            retry=QUICK,
            max_connections=8,
        ) as client:
            rows = client.batch(asks(120), concurrency=Limit.fixed(200))
            async with rows as batch:
                done = [result async for result in batch]

    assert [result for result in done if not result.ok] == []


async def test_rows_whose_deadline_passes_in_an_outage_are_not_sent() -> None:
    """They end at their deadline, and the rest goes on when the server is back."""
    outage = Outage(first=20, seconds=1.5)
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = outage
        rows = client.batch(asks(400), concurrency=16, deadline=0.5, patience=5)
        async with rows as batch, asyncio.timeout(10):
            done = [result async for result in batch]

    late = [result for result in done if not isinstance(result, BatchOk)]
    assert len(done) == 400
    assert 0 < len(late) <= 100
    for result in late:
        assert isinstance(result.error, DeadlineExceededError)
        assert result.error.limit == pytest.approx(0.5)
        assert result.latency < 1.0
    assert len(emulator.requests) < 400 + 60


async def test_a_row_that_finds_no_server_is_tried_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone it makes no outage: after that it fails, as its policy says."""
    monkeypatch.setattr("deepseek_async.batch.attempts._GRACE", 1.0)
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = Outage(first=1, seconds=60)
        async with client.batch(asks(2), concurrency=1) as batch:
            done = [result async for result in batch]

    assert [result.ok for result in done] == [True, False]
    assert batch.report.attempts > 1 + QUICK.attempts
    assert done[1].latency > 1.0


@pytest.mark.parametrize("order", ["input", "completed"])
async def test_rows_that_the_server_never_takes_hold_nothing_up(
    order: Literal["input", "completed"],
) -> None:
    """Where others sent after them are answered, they fail as their policy says."""
    bad = {f"question {number}" for number in (0, 40, 41, 42, 43, 44, 45, 46, 47, 48)}

    def fault(request: Recorded) -> Status | None:
        return Status(status=503) if _asked(request) in bad else None

    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = fault
        rows = client.batch(asks(600), concurrency=16, order=order, patience=3)
        async with rows as batch, asyncio.timeout(10):
            done = [result async for result in batch]

    assert len(done) == 600
    assert sum(not result.ok for result in done) == len(bad)


async def test_answers_to_another_batch_count_too() -> None:
    """Of two batches that share a limit, one knows what the other one gets."""
    is_over = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in asks(10_000):
            if is_over.is_set():
                return
            yield row

    def fault(request: Recorded) -> Status | None:
        return Status(status=503) if _asked(request) == "bad" else None

    limit = Limit.fixed(8)
    async with (
        DeepSeekEmulator(pace=Pace(latency=0.01, tokens_per_second=0)) as emulator,
        client_of(emulator) as client,
        asyncio.TaskGroup() as group,
    ):
        emulator.fault = fault
        group.create_task(client.batch(rows(), concurrency=limit).run())
        async with client.batch([ask("bad")], concurrency=limit) as batch:
            (failed,) = [result async for result in batch]
        is_over.set()

    assert not failed.ok
    assert batch.report.attempts == QUICK.attempts


async def test_a_pause_after_a_failure_is_no_outage() -> None:
    """Nothing is answered while nothing is sent: that stops no batch."""
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = Outage(first=2, seconds=0.05)
        async with client.batch(asks(20), concurrency=1, patience=0.2) as batch:
            done: list[bool] = []
            async for result in batch:
                done.append(result.ok)
                if len(done) == 2:
                    batch.pause()
                    asyncio.get_running_loop().call_later(0.5, batch.resume)

    assert done == [True] * 20


async def test_a_row_that_the_server_never_takes_fails_beside_others() -> None:
    """As long as others are answered, its failures are its own."""

    def fault(request: Recorded) -> Status | None:
        return Status(status=503) if _asked(request) == "question 3" else None

    async with (
        DeepSeekEmulator(pace=Pace(latency=0.01, tokens_per_second=0)) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = fault
        async with client.batch(asks(300), concurrency=2) as batch:
            done = [result async for result in batch]

    (failed,) = (result for result in done if not isinstance(result, BatchOk))
    assert failed.key == "3"
    assert isinstance(failed.error, ServiceUnavailableError)
    # A few are free, before the first that was sent later has been answered.
    assert QUICK.attempts <= len(failed.error.attempts) < 20


async def test_a_row_that_waits_for_money_ends_at_its_deadline() -> None:
    """Also then: it is a retry, and the rest of the budget is on the wire."""

    def fault(request: Recorded) -> Cut | Delay:
        if _asked(request) == "question 0":
            return Delay(seconds=1.5)
        return Cut(head=True, ending="reset")  # and so it may have been billed

    rows = asks(2, max_tokens=1_000)
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = fault
        budget = Budget(max_tokens=2_600)
        rows = [rows[0], {**rows[1], "timeouts": Timeouts(deadline=0.5)}]
        async with client.batch(rows, concurrency=4, budget=budget) as batch:
            done = {result.key: result async for result in batch}

    assert done["0"].ok
    assert len(emulator.requests) == 2
    assert 0.4 < done["1"].latency < 1.2


def test_what_no_longer_waits_is_not_kept() -> None:
    """Not by its deadline either, though that is far away."""
    retries = Retries()
    first = _item(0)
    retries.add(first, 1000.0)
    for number in range(1, 1_000):
        retries.add(_item(number), 1.0)
        assert retries.due(2.0) is not None

    alive = [one for one in gc.get_objects() if isinstance(one, Item)]
    assert len(retries) == 1
    assert first in alive
    assert len(alive) < 200
    assert retries.next_after(2.0) == 998.0
    assert retries.expires_after(2.0) == 4998.0
    assert retries.expired(6000.0) is first
    assert retries.due(6000.0) is None


def _item(number: int) -> Item:
    wire = WireRequest("POST", "/chat/completions")
    return Item(
        index=number,
        key=str(number),
        digest="",
        wire=wire,
        policy=QUICK,
        max_tokens=None,
        deadline=5_000.0,
    )
