"""A reader goes on in the callback that brought its bytes, and nothing else changes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler
from faults.answers import (
    DONE,
    GOOD_STREAM,
    LAST_CHUNK,
    STREAM_HEAD,
    chunk,
    event,
    framed,
)
from faults.harness import limited, open_stream, served
from faults.wire import send, until

from deepseek_async import inside, sending
from deepseek_async.inside import PromptProtocol, write
from deepseek_async.waking import wake

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


async def _waiting(waiter: asyncio.Future[None], told: list[object]) -> None:
    NAME.set("the task")
    try:
        await waiter
    except asyncio.CancelledError:
        told.append("cancelled")
        raise
    told.append((NAME.get(), asyncio.current_task()))


async def _at_a_wait() -> tuple[asyncio.Future[None], asyncio.Task[None], list[object]]:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    told: list[object] = []
    task = asyncio.create_task(_waiting(waiter, told))
    await asyncio.sleep(0)
    return waiter, task, told


def _from_the_loop(waiter: asyncio.Future[None], told: list[object]) -> None:
    wake(waiter)
    told.append("woken")


async def test_the_task_goes_on_before_the_callback_ends() -> None:
    """It runs at once, as itself, in its own context."""
    waiter, task, told = await _at_a_wait()
    asyncio.get_running_loop().call_soon(_from_the_loop, waiter, told)
    await task

    assert told == [("the task", task), "woken"]
    assert NAME.get() == "nobody"


async def test_a_task_is_never_run_inside_another() -> None:
    """Called from a task, it leaves the waking to the loop."""
    waiter, task, told = await _at_a_wait()
    _from_the_loop(waiter, told)
    assert told == ["woken"]
    await task

    assert told == ["woken", ("the task", task)]


async def test_every_one_who_waits_is_told() -> None:
    """Two callbacks are the loop's affair."""
    waiter, task, told = await _at_a_wait()
    waiter.add_done_callback(lambda _: told.append("another"))
    asyncio.get_running_loop().call_soon(_from_the_loop, waiter, told)
    await task
    assert told == ["woken", ("the task", task), "another"]

    alone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(wake, alone)
    await asyncio.sleep(0)
    assert alone.done()


async def test_a_cancelled_wait_stays_cancelled() -> None:
    """What comes after the cancellation changes nothing."""
    waiter, task, told = await _at_a_wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(_from_the_loop, waiter, told)
    await asyncio.wait([task])

    assert task.cancelled()
    assert told == ["cancelled", "woken"]


async def test_a_context_that_is_in_use() -> None:
    """A task whose context somebody is in goes on when it is free."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    told: list[object] = []
    context = copy_context()
    task = loop.create_task(_waiting(waiter, told), context=context)
    await asyncio.sleep(0)
    loop.call_soon(_from_the_loop, waiter, told, context=context)
    await task

    assert told == ["woken", ("the task", task)]


async def test_a_future_of_another_kind() -> None:
    """One that does not show who waits is treated as any future."""

    class Hidden(asyncio.Future[None]):
        _callbacks: Any = None

    waiter, told = Hidden(), list[object]()
    task = asyncio.create_task(_waiting(waiter, told))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(_from_the_loop, waiter, told)
    await task

    assert told == ["woken", ("the task", task)]


EXITING = """
import asyncio, sys
from deepseek_async import AsyncDeepSeek
from deepseek_async.testing import DeepSeekEmulator, Pace

ASKED = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "x"}]}

async def main(stream):
    pace = Pace(latency=0.01, tokens_per_second=500)
    emulator = await DeepSeekEmulator(pace=pace).__aenter__()
    client = AsyncDeepSeek(api_key=emulator.api_key, base_url=emulator.base_url)
    if not stream:
        await client.chat.completions.create(**ASKED)
        sys.exit(7)
    chunks = await client.chat.completions.create(**ASKED, stream=True)
    await anext(chunks)
    await anext(chunks)
    sys.exit(7)  # nothing that waits is in between

if sys.argv[1] == "uvloop":
    import uvloop
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
else:
    runner = asyncio.Runner()
with runner:
    runner.run(main(sys.argv[2] == "stream"))
"""


@pytest.mark.parametrize("call", ["stream", "await"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_may_end_in_the_midst(loop: str, call: str) -> None:
    """`sys.exit` in a loop over chunks ends the program, on either loop."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", EXITING, loop, call],
        check=False,
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (7, "")


LEAVING = """
import asyncio, sys
from deepseek_async.waking import wake

async def bystander():
    try:
        await asyncio.sleep(100)
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up")

async def child(waiter):
    await waiter
    sys.exit(7)

async def main():
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    other = asyncio.create_task(bystander())
    task = asyncio.create_task(child(waiter))
    await asyncio.sleep(0)
    loop.call_soon(wake, waiter)
    await task

asyncio.run(main())
"""


def test_the_others_are_cleaned_up() -> None:
    """A task that ends the program does so before anybody hears of it."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", LEAVING],
        check=False,
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "cleaned up\n", "")


@limited(5.0)
async def test_bytes_are_with_the_user_when_the_transport_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head, and each chunk alone in its packet, is read within `data_received`."""
    got: list[object] = []
    read_at_once: list[bool] = []

    def watched(waiter: asyncio.Future[None]) -> None:
        before = len(got)
        wake(waiter)
        read_at_once.append(len(got) > before)

    monkeypatch.setattr(inside, "wake", watched)
    gates = [asyncio.Event() for _ in range(4)]
    steps = [send(STREAM_HEAD)]
    for gate, text in zip(gates, "abcd", strict=True):
        steps += [until(gate), send(framed(event(chunk(text))))]
    async with served((*steps, send(framed(DONE) + LAST_CHUNK))) as (_server, client):
        stream = await open_stream(client)
        got.append("head")
        for gate in gates:
            gate.set()
            got.append(await anext(stream))
        assert [one async for one in stream] == []

    assert len(got) == 1 + len(gates)
    assert read_at_once[1 : len(got)] == [True] * len(gates)


async def test_what_the_end_of_a_connection_brings_is_told() -> None:
    """A decompressor may hand something out when there is no more to come."""
    loop = asyncio.get_running_loop()
    protocol = PromptProtocol(loop)
    protocol.waiter = waiter = loop.create_future()
    protocol.connection_lost(None)

    assert waiter.done()
    assert vars(protocol)["waiter"] is None


@limited(5.0)
async def test_an_aiohttp_that_is_not_known_keeps_its_protocol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then nothing of it is replaced, and readers wait as they do there."""
    monkeypatch.setattr(inside, "KNOWN", False)
    made: list[type] = []

    def noted(protocol: ResponseHandler | None, sent: bytes) -> ResponseHandler:
        made.append(type(protocol))
        return write(protocol, sent)

    monkeypatch.setattr(sending, "write", noted)
    async with served(GOOD_STREAM) as (_server, client):
        stream = await open_stream(client)
        assert [one async for one in stream]

    assert made == [ResponseHandler]
