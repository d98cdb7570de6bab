"""Outages of a real server, and what becomes of the rows of a batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batch.fakes import asks
from deepseek_async import (
    AsyncDeepSeek,
    BatchOk,
    DeadlineExceededError,
    RetryPolicy,
    ServiceUnavailableError,
)
from deepseek_async.batch import Batch, BatchResult, BatchStoppedError, Limit
from deepseek_async.testing import DeepSeekEmulator, Pace, Recorded, Status

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


async def test_a_server_that_stays_away_from_the_last_row_ends_the_batch() -> None:
    """It costs the row no attempt, and the batch no more than `patience`."""
    done: list[BatchResult] = []
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.fault = Outage(first=1, seconds=60)
        with pytest.raises(BatchStoppedError, match="503") as caught:
            await _read(client.batch(asks(2), concurrency=1, patience=0.5), done)

    assert caught.value.reason == "stalled"
    assert [result.ok for result in done] == [True]


async def _read(batch: Batch, done: list[BatchResult]) -> None:
    async with batch:
        async for result in batch:
            done.append(result)  # noqa: PERF401 - what came before an error stays


async def test_a_row_that_the_server_never_takes_fails_beside_others() -> None:
    """As long as others are answered, its failures are its own."""

    def fault(request: Recorded) -> Status | None:
        asked = request.body["messages"][-1]["content"]
        return Status(status=503) if asked == "question 3" else None

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
    assert len(failed.error.attempts) == QUICK.attempts
