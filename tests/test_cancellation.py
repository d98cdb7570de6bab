"""Leaving after n loop steps, for every n: no leak, no swallowed cancellation."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from faults.answers import (
    EVENTS,
    FIRST,
    GOOD_STREAM,
    KEEP_ALIVE,
    LAST_CHUNK,
    STREAM_HEAD,
    TEXT,
    completion,
    error_body,
    framed,
    good,
    head,
    whole,
)
from faults.harness import (
    LOOPS,
    MODES,
    PROMPTLY,
    Mode,
    Taken,
    by_await,
    by_completion,
    by_events,
    clean_client,
    client_of,
    open_stream,
    pool_empty,
    run_on,
    served,
    slots_in_use,
    within,
)
from faults.wire import FaultServer, Reply, Request, fin, pause, send, stall

from deepseek_async import (
    APIError,
    AsyncDeepSeek,
    ClientClosedError,
    RetryBudget,
    RetryPolicy,
    StreamClosedError,
)

STEPS = 70
"""Loop steps within which every one of these exchanges is over or stalled."""

YIELD = pause(0)

PHASES: dict[str, tuple[str, Reply]] = {
    "head": ("await", (stall(),)),
    "body": ("await", (send(head(Content_Length="500") + completion()[:99]), stall())),
    "answer": ("await", (send(whole(completion())),)),
    "stream": ("chunks", (send(STREAM_HEAD + framed(FIRST)), stall())),
    "queue": ("events", (send(STREAM_HEAD + framed(KEEP_ALIVE)), stall())),
    "text": (
        "text",
        (
            send(STREAM_HEAD),
            *([YIELD] * 4),
            send(framed(FIRST)),
            *([YIELD] * 4),
            send(framed(EVENTS) + LAST_CHUNK),
        ),
    ),
    "drain": ("completion", (send(STREAM_HEAD + framed(EVENTS)), stall())),
    "error body": ("await", (send(head("503 x", Content_Length="99") + b"{"), stall())),
    "retry sleep": (
        "await",
        (send(whole(error_body("x"), "429 x", Retry_After="9")),),
    ),
    "stream retry": ("completion", (send(whole(b"", kind="text/event-stream")),)),
    "lost": ("completion", (send(STREAM_HEAD), fin())),
}


async def steps(count: int) -> None:
    """Let the loop take that many steps."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("phase", PHASES)
def test_cancel_after_every_step(phase: str, loop: str) -> None:
    """Cancelled after n steps, a call frees its slot and the client goes on."""
    mode, reply = PHASES[phase]
    policy = RetryPolicy(attempts=3, base=5.0, cap=5.0)

    async def cancel_after(client: AsyncDeepSeek, count: int) -> bool:
        task = asyncio.create_task(_quietly(MODES[mode], client))
        await steps(count)
        was_running = task.cancel()
        await asyncio.wait([task], timeout=1.0)
        assert task.done()
        assert task.cancelled() == was_running, "a cancellation was swallowed"
        await pool_empty(client)
        return was_running

    async def sweep() -> None:
        cancelled = 0
        async with served(reply, retry=policy, max_connections=1) as (server, client):
            client._manager.budget = RetryBudget(reserve=1e6, ceiling=1e6)
            for count in range(STEPS):
                cancelled += await cancel_after(client, count)
            server._replies = (good,)
            taken = Taken()
            await within(1.0, by_completion(client, taken))
            assert taken.text == TEXT
        assert cancelled >= 5

    run_on(loop, sweep(), limit=6.0)


async def _quietly(mode: Mode, client: AsyncDeepSeek) -> None:
    with suppress(APIError):
        await mode(client, Taken())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("phase", PHASES)
def test_close_the_client_after_every_step(phase: str, loop: str) -> None:
    """Closed after n steps, the client ends the call at once with its own error."""
    mode, reply = PHASES[phase]
    policy = RetryPolicy(attempts=3, base=5.0, cap=5.0)

    async def close_after(url: str, count: int) -> None:
        client = client_of(url, retry=policy, max_connections=1)
        calls = [asyncio.create_task(MODES[mode](client, Taken())) for _ in range(2)]
        await steps(count)
        await client.aclose()
        outcomes = await within(0.5, asyncio.gather(*calls, return_exceptions=True))
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, ClientClosedError), (
                f"{outcome!r} after {count} steps"
            )

    async def sweep() -> None:
        async with FaultServer(reply) as server:
            for count in range(0, STEPS, 2):
                await close_after(server.url, count)
            await server.all_gone()

    run_on(loop, sweep(), limit=6.0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("phase", ["stream", "queue", "text", "drain", "stream retry"])
def test_close_the_stream_after_every_step(phase: str, loop: str) -> None:
    """Closed by another task after n steps, a stream ends its reader and its slot."""
    _, reply = PHASES[phase]
    policy = RetryPolicy(attempts=3, base=5.0, cap=5.0)

    async def close_after(client: AsyncDeepSeek, count: int) -> None:
        stream = await open_stream(client)
        reader = asyncio.create_task(stream.completion())
        await steps(count)
        await stream.close()
        outcome = (await within(0.6, asyncio.gather(reader, return_exceptions=True)))[0]
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, StreamClosedError), repr(outcome)
            assert outcome.partial == stream.partial
        await pool_empty(client)

    async def sweep() -> None:
        async with served(reply, retry=policy, max_connections=1) as (_server, client):
            client._manager.budget = RetryBudget(reserve=1e6, ceiling=1e6)
            for count in range(0, 40, 1 if phase != "drain" else 20):
                await close_after(client, count)

    run_on(loop, sweep(), limit=8.0)


@pytest.mark.parametrize("loop", LOOPS)
def test_close_the_stream_while_it_is_opened_again(loop: str) -> None:
    """Closed during the attempt that replaces an empty one, a stream leaks nothing."""

    async def scenario() -> None:
        empty = (send(whole(b"", kind="text/event-stream")),)
        late = (pause(0.3), send(STREAM_HEAD), stall())
        async with served(empty, late, retry=PROMPTLY) as (server, client):
            stream = await open_stream(client)
            reader = asyncio.create_task(stream.completion())
            await server.requested(2)
            await stream.close()
            with pytest.raises(StreamClosedError):
                await within(0.2, reader)
            await asyncio.sleep(0.35)
            await pool_empty(client)

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_cancel_while_draining(loop: str) -> None:
    """Cancelled in the drain after [DONE], a stream that is still held has no slot."""

    async def scenario() -> None:
        reply = (send(STREAM_HEAD + framed(EVENTS)), stall())
        async with served(reply, max_connections=1) as (server, client):
            stream = await open_stream(client)
            reader = asyncio.create_task(stream.completion())
            await asyncio.sleep(0.1)
            reader.cancel()
            await asyncio.wait([reader])
            assert reader.cancelled()
            assert slots_in_use(client) == 0
            assert stream.partial.text == TEXT
            await server.all_gone()

    run_on(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_cancel_storm(loop: str) -> None:
    """After hundreds of cancellations on five slots the next requests succeed."""

    def reply(request: Request) -> Reply:
        slow = (pause(0.01 * (len(server.requests) % 4)), *good(request))
        return (stall(),) if len(server.requests) % 7 == 3 and storm else slow

    server = FaultServer(reply)
    storm = True

    async def scenario() -> None:
        nonlocal storm
        chance = random.Random(7)  # noqa: S311 - reproducible
        async with server, clean_client(server.url, max_connections=5) as client:
            modes = list(MODES.values())
            calls = [
                asyncio.create_task(_quietly(chance.choice(modes), client))
                for _ in range(300)
            ]
            for call in chance.sample(calls, len(calls)):
                await steps(chance.randint(0, 3))
                call.cancel()
            await asyncio.wait(calls)
            await pool_empty(client)
            storm = False
            taken = [Taken() for _ in range(20)]
            await within(
                2.0, asyncio.gather(*(by_await(client, each) for each in taken))
            )
            assert [each.text for each in taken] == [TEXT] * 20

    run_on(loop, scenario(), limit=6.0)


async def test_cancelled_answer_does_not_go_to_the_next_request() -> None:
    """After a cancellation in mid-answer, the next request gets its own answer."""

    def reply(_: Request) -> Reply:
        number = len(server.requests)
        text = f"answer {number}"
        data = whole(completion(text))
        if number % 2:
            return (send(data[:-20]), pause(0.05), send(data[-20:]))
        return (send(data),)

    server = FaultServer(reply)
    async with server, clean_client(server.url, max_connections=1) as client:
        for number in range(1, 11):
            taken = Taken()
            if number % 2:
                call = asyncio.create_task(by_await(client, taken))
                await server.requested(number)
                await asyncio.sleep(0.005)
                call.cancel()
                await asyncio.wait([call])
                continue
            await by_await(client, taken)
            assert taken.text == f"answer {number}"


async def test_timeout_of_the_caller_is_the_callers() -> None:
    """`asyncio.timeout` around a call raises its own error and frees the slot."""
    async with served((stall(),)) as (_server, client):
        for mode in (by_await, by_events):
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.1):
                    await mode(client, Taken())
            assert type(caught.value) is TimeoutError
            await pool_empty(client)


async def test_cancelled_reader_keeps_the_partial() -> None:
    """A cancelled read closes the stream; what had arrived stays readable."""
    reply = (send(STREAM_HEAD + framed(FIRST)), stall())
    async with served(reply, GOOD_STREAM, max_connections=1) as (server, client):
        stream = await open_stream(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.completion(), 0.1)
        assert stream.partial.text == "one "
        with pytest.raises(StreamClosedError) as caught:
            await anext(stream)
        assert caught.value.partial == stream.partial
        await server.all_gone()
        assert (await (await open_stream(client)).completion()).text == TEXT
