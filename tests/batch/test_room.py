"""Calls of a client while a batch of the same client fills the account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from faults.harness import limited

from batch.fakes import asks
from deepseek_async import AsyncDeepSeek, ChatCompletion, RateLimitError, RetryPolicy
from deepseek_async.batch import Batch, BatchReport, Limit
from deepseek_async.testing import (
    DeepSeekEmulator,
    Delay,
    Fault,
    Pace,
    Recorded,
    Status,
)

Filled = tuple[AsyncDeepSeek, asyncio.Task[BatchReport]]
PACE = Pace(latency=0.2, tokens_per_second=0)


def client_of(emulator: DeepSeekEmulator) -> AsyncDeepSeek:
    return AsyncDeepSeek(api_key=emulator.api_key, base_url=emulator.base_url)


async def call(
    client: AsyncDeepSeek, text: str, retry: RetryPolicy | None = None
) -> ChatCompletion:
    return await client.chat.completions.create(
        model="deepseek-flash",
        messages=[{"role": "user", "content": text}],
        stream=False,
        retry=retry,
    )


async def _call_on(client: AsyncDeepSeek) -> None:
    while True:
        await call(client, "and on")


async def _until_full(limit: Limit, count: int) -> None:
    """Wait until the batch has all places, and knows that there are no more."""
    # Nothing tells of it.
    while (limit.in_flight, limit.capacity) != (count, count):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@asynccontextmanager
async def _filled(limit: Limit, count: int, rows: int) -> AsyncGenerator[Filled]:
    """A client, and its batch that has all of an account with `count` places."""
    async with (
        DeepSeekEmulator(pace=PACE, concurrency_limit=count) as emulator,
        client_of(emulator) as client,
    ):
        batch = client.batch(asks(rows), concurrency=limit)
        running = asyncio.create_task(batch.run())
        await _until_full(limit, count)
        yield client, running


@limited(20.0)
@pytest.mark.parametrize("kind", ["fixed", "adaptive"])
async def test_a_refused_call_takes_the_next_free_place(kind: str) -> None:
    """The batch leaves it to the call, which needs no more than one retry."""
    limit = Limit.fixed(5) if kind == "fixed" else Limit.adaptive()
    async with _filled(limit, 5, 60) as (client, running):
        answers = [await call(client, f"at once {number}") for number in range(5)]
        report = await running

    assert report.ok == 60
    assert max(len(answer.meta.attempts) for answer in answers) <= 2


@limited(20.0)
async def test_two_batches_do_not_wait_for_each_other() -> None:
    """Each has its own limit, and neither takes the other for calls that go first."""
    async with (
        DeepSeekEmulator(pace=PACE, concurrency_limit=6) as emulator,
        client_of(emulator) as client,
    ):
        first = asyncio.create_task(client.batch(asks(9), concurrency=3).run())
        await emulator.busy(3)
        second = asyncio.create_task(client.batch(asks(9), concurrency=3).run())
        await emulator.busy(6)
        reports = await asyncio.gather(first, second)

    assert [report.ok for report in reports] == [9, 9]


@limited(20.0)
async def test_steady_calls_starve_no_batch() -> None:
    """A batch with fewer places than there are calls goes on beside them."""
    async with (
        DeepSeekEmulator(pace=PACE) as emulator,
        client_of(emulator) as client,
        asyncio.TaskGroup() as calls,
    ):
        steady = [calls.create_task(_call_on(client)) for _ in range(4)]
        await emulator.busy(4)
        report = await client.batch(asks(2), concurrency=2).run()
        for task in steady:
            task.cancel()

    assert report.ok == 2


@limited(20.0)
@pytest.mark.parametrize(("places", "calls"), [(1, 0), (4, 2), (4, 5)])
async def test_batches_share_what_calls_leave_of_a_limit(
    places: int, calls: int
) -> None:
    """A long batch that was there first does not keep it all to itself."""
    async with (
        DeepSeekEmulator(pace=PACE) as emulator,
        client_of(emulator) as client,
        asyncio.TaskGroup() as steady,
    ):
        callers = [steady.create_task(_call_on(client)) for _ in range(calls)]
        limit = Limit.fixed(places)
        long = asyncio.create_task(client.batch(asks(1000), concurrency=limit).run())
        await emulator.busy(calls + 1)
        short = await client.batch(asks(4), concurrency=limit).run()
        for task in (long, *callers):
            task.cancel()
        await asyncio.wait([long])

    assert short.ok == 4


@limited(20.0)
async def test_who_wants_no_retry_gets_none() -> None:
    """A policy of one attempt is refused at once."""
    async with _filled(Limit.fixed(3), 3, 9) as (client, running):
        with pytest.raises(RateLimitError):
            await call(client, "now", RetryPolicy(attempts=1))
        report = await running

    assert (report.ok, report.refused) == (9, 0)


@limited(20.0)
async def test_a_call_does_not_wait_for_a_batch_that_has_ended() -> None:
    """When nothing of the batch is on the wire any more, the call tries again."""
    async with (
        DeepSeekEmulator(pace=PACE, concurrency_limit=1) as emulator,
        client_of(emulator) as client,
    ):
        limit = Limit.fixed(1)
        async with client.batch(asks(1), concurrency=limit) as batch:
            await _until_full(limit, 1)
            calling = asyncio.create_task(call(client, "after it"))
            assert [result.ok async for result in batch] == [True]
        answer = await calling
        assert answer.choices[0].message.content


@limited(20.0)
async def test_a_call_that_is_told_to_wait_holds_nothing_up() -> None:
    """With `Retry-After` it waits by itself, and the batch has all of its limit."""
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        client_of(emulator) as client,
    ):
        emulator.script(Status(status=429, retry_after=3))
        calling = asyncio.create_task(call(client, "later"))
        while not emulator.requests:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        report = await client.batch(asks(5), concurrency=Limit.fixed(1)).run()
        assert report.ok == 5
        assert not calling.done()
        assert (await calling).choices


@limited(20.0)
async def test_a_place_goes_from_one_call_to_the_next_and_back() -> None:
    """What a call leaves is used, though the batch's other request goes on for long."""
    slow = asyncio.Event()

    def fault(request: Recorded) -> Fault | None:
        text = request.body["messages"][-1]["content"]
        return Delay(seconds=8) if text == "question 1" else None

    async with (
        DeepSeekEmulator(pace=PACE, fault=fault, concurrency_limit=2) as emulator,
        client_of(emulator) as client,
    ):
        limit = Limit.fixed(2)
        batch = client.batch(asks(8), concurrency=limit)
        running = asyncio.create_task(_rest_of(batch, slow))
        await _until_full(limit, 2)
        calls = [asyncio.create_task(call(client, str(n))) for n in range(3)]
        answers = await asyncio.gather(*calls)
        await slow.wait()  # all rows but the slow one are answered meanwhile
        assert limit.in_flight == 1
        running.cancel()
        await asyncio.wait([running])

    assert all(len(answer.meta.attempts) <= 2 for answer in answers)


async def _rest_of(batch: Batch, seven: asyncio.Event) -> None:
    count = 0
    async with batch:
        async for _ in batch:
            count += 1
            if count == 7:
                seven.set()


@limited(5.0)
async def test_a_call_that_is_cancelled_passes_its_place_on() -> None:
    """Though it had been woken already."""
    async with AsyncDeepSeek(api_key="k", base_url="http://127.0.0.1:9") as client:
        manager = client._manager
        room = await manager.room()
        room.taken = 1  # a batch is on the wire
        first, second = (
            asyncio.create_task(manager.sleep(0.0, asyncio.Event(), 4.0))
            for _ in range(2)
        )
        await asyncio.sleep(0)
        room.make()
        first.cancel()
        await asyncio.wait([second], timeout=1)

        assert first.cancelled()
        assert second.done()
        assert not room.waiting
