"""Connections that calls share: whose answer comes, and what is left of them."""

# Scripts of these tests are run as a user runs them.
# ruff: noqa: S603

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
from faults.answers import completion, whole
from faults.harness import KEY, ask, client_of, limited, open_stream

from deepseek_async import (
    AsyncDeepSeek,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    DeadlineExceededError,
    RetryPolicy,
    Timeouts,
    sending,
    transport,
)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@pytest.fixture(params=["direct", "ordinary"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that a request may take; see `sending`."""
    if request.param == "ordinary":
        monkeypatch.setattr(sending, "KNOWN", False)
        monkeypatch.setattr(transport, "KNOWN", False)
    return str(request.param)


@asynccontextmanager
async def talking(talk: Talk) -> AsyncGenerator[str]:
    """A server that treats each connection as `talk` says, given its number."""
    count = 0
    tasks: set[asyncio.Task[None]] = set()

    async def accept(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal count
        number, count = count, count + 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer, number)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Read one request; its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(size)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def answer(text: str) -> bytes:
    return whole(completion(text))


async def texts_of(client: AsyncDeepSeek, count: int) -> list[str | None]:
    """Ask several times, with time between for whatever comes unasked."""
    found: list[str | None] = []
    for number in range(count):
        message = {"role": "user", "content": f"question {number}"}
        found.append((await ask(client, messages=[message])).text)
        await asyncio.sleep(0.05)
    return found


@limited(10.0)
@pytest.mark.usefixtures("way")
async def test_an_answer_that_nobody_asked_for_reaches_nobody() -> None:
    """A server that answers twice does not answer the next question with it."""

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        while True:
            said = await request_of(reader)
            writer.write(answer(said[-40:].decode()))
            await asyncio.sleep(0.02)
            writer.write(answer("an answer to nobody"))

    async with talking(talk) as url, client_of(url) as client:
        found = await texts_of(client, 4)

    assert all(f"question {n}" in (text or "") for n, text in enumerate(found))


@limited(10.0)
@pytest.mark.usefixtures("way")
async def test_two_answers_at_once_are_one() -> None:
    """Neither is what follows an answer in the same packet."""

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        while True:
            said = await request_of(reader)
            writer.write(answer(said[-40:].decode()) + answer("an answer to nobody"))

    async with talking(talk) as url, client_of(url) as client:
        found = await texts_of(client, 3)

    assert all(f"question {n}" in (text or "") for n, text in enumerate(found))


@limited(10.0)
@pytest.mark.usefixtures("way")
async def test_a_new_connection_that_speaks_first_is_refused() -> None:
    """What it says is no answer, and the error says what happened."""
    spoken = asyncio.Event()

    async def talk(_: object, writer: asyncio.StreamWriter, number: int) -> None:
        del number
        writer.write(answer("an answer to nobody"))
        spoken.set()
        await asyncio.Event().wait()

    connect = aiohttp.TCPConnector.connect

    async def slowly(self: Any, *args: Any) -> Any:
        connection = await connect(self, *args)
        await spoken.wait()
        await asyncio.sleep(0.05)  # until it has been read, too
        return connection

    with patch("aiohttp.TCPConnector.connect", slowly):
        async with talking(talk) as url, client_of(url) as client:
            with pytest.raises(ConnectError, match="spoke before it was asked"):
                await ask(client)


@limited(10.0)
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [60_000, 8_000_000])
async def test_a_server_that_does_not_read_holds_nothing_up(size: int) -> None:
    """A cancelled call lets go of its socket, and `aclose` ends at once."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    server.bind(("127.0.0.1", 0))
    server.listen(5)
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    message = {"role": "user", "content": "x" * size}
    before = open_files()
    client = client_of(url)
    kept, dropped = (
        asyncio.create_task(ask(client, messages=[message])) for _ in range(2)
    )
    await asyncio.sleep(0.2)
    dropped.cancel()
    await asyncio.gather(dropped, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert open_files() == before + 1

    async with asyncio.timeout(1.0):
        await client.aclose()

    with pytest.raises(ClientClosedError):
        await kept
    assert open_files() == before
    server.close()


@limited(10.0)
@pytest.mark.usefixtures("way")
async def test_dead_connections_do_not_use_up_the_attempts() -> None:
    """After one idle connection turned out dead, a new one is made."""
    served = 0
    all_are_there, is_dead = asyncio.Event(), asyncio.Event()

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        nonlocal served
        while True:
            await request_of(reader)
            if is_dead.is_set() and number < 4:
                return  # as a balancer does that has forgotten the connection
            served += 1
            if served == 4:
                all_are_there.set()
            await all_are_there.wait()  # so that each call has a connection of its own
            writer.write(answer("fine"))

    options = {"retry": RetryPolicy(attempts=3, base=0.0), "max_connections": 8}
    async with talking(talk) as url, client_of(url, **options) as client:
        await asyncio.gather(*(ask(client) for _ in range(4)))
        is_dead.set()
        completion_after = await ask(client)

    outcomes = [attempt.outcome for attempt in completion_after.attempts]
    assert outcomes == ["ConnectionLostError", "ok"]


@limited(10.0)
@pytest.mark.usefixtures("way")
async def test_only_the_first_loss_of_an_idle_connection_is_free() -> None:
    """A server that takes requests and hangs up does not get them in a burst."""
    seen = 0

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        nonlocal seen
        await request_of(reader)
        seen += 1
        if seen > 1:
            return
        writer.write(answer("fine"))
        await request_of(reader)
        seen += 1

    policy = RetryPolicy(attempts=2, base=0.0)
    async with talking(talk) as url, client_of(url, retry=policy) as client:
        await ask(client)
        with pytest.raises(ConnectionLostError):
            await ask(client)

    assert seen == 3


@limited(20.0, debug=False)
@pytest.mark.timing
@pytest.mark.usefixtures("way")
async def test_what_unpacks_to_endless_keep_alives_lets_others_run() -> None:
    """Clocks and other tasks go on while a small body becomes a very large one."""
    unit = b": keep-alive\n\n" * 75_000
    packed = gzip.compress(unit * 150)

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        await request_of(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        )
        writer.write(packed)
        await asyncio.Event().wait()

    clocks = Timeouts(deadline=0.1)
    loop = asyncio.get_running_loop()
    async with talking(talk) as url, client_of(url, timeouts=clocks) as client:
        began = loop.time()
        with pytest.raises(DeadlineExceededError):  # noqa: PT012
            async with await open_stream(client) as stream:
                async for _ in stream:
                    pass
        assert loop.time() - began < 1.5  # not seconds, until all of it is unpacked


@limited(10.0)
@pytest.mark.usefixtures("way")
async def test_a_header_that_differs_in_case_is_one() -> None:
    """The last one counts, whichever way the request goes."""
    heads: list[bytes] = []

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer("fine"))
        await asyncio.Event().wait()

    async with talking(talk) as url, client_of(url) as client:
        await ask(client, extra_headers={"x-a": "1", "X-A": "2"})

    (head,) = heads
    assert head.lower().count(b"x-a: ") == 1
    assert b": 2\r\n" in head


class _Stub(Exception):  # noqa: N818 - not an error of anybody's
    """Raised by what stands in the place of the network."""


async def _stub(*_: object, **__: object) -> Any:
    raise _Stub


def _stubbed_session() -> type[aiohttp.ClientSession]:
    """A session as a test suite of a user makes one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return type("Stubbed", (aiohttp.ClientSession,), {"_request": _stub})


@limited(10.0)
@pytest.mark.parametrize(
    ("place", "stub"),
    [
        ("aiohttp.ClientSession._request", _stub),
        ("aiohttp.ClientSession.request", _stub),
        ("aiohttp.ClientSession", _stubbed_session()),
        ("aiohttp.ClientRequest.send", _stub),
    ],
)
async def test_stubs_of_aiohttp_are_not_passed_by(place: str, stub: Any) -> None:
    """A test suite that replaces a part of aiohttp never reaches the network."""
    reached = False

    async def talk(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        nonlocal reached
        await request_of(reader)
        reached = True
        writer.write(answer("from the network"))

    with patch(place, stub):
        async with talking(talk) as url, client_of(url) as client:
            with pytest.raises((ConnectionLostError, ConnectError)):
                await ask(client)

    assert not reached


def test_a_call_collected_after_its_loop_leaves_no_noise(tmp_path: Path) -> None:
    """An abandoned call ends quietly, even in another context."""
    script = tmp_path / "abandon.py"
    script.write_text(
        f"""
import asyncio, gc, socket
from deepseek_async import AsyncDeepSeek
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
loop = asyncio.new_event_loop()
client = AsyncDeepSeek(
    api_key="{KEY}", base_url=f"http://127.0.0.1:{{server.getsockname()[1]}}"
)
ask = client.chat.completions.create(
    model="deepseek-flash", messages=[{{"role": "user", "content": "x"}}]
)
async def begin():
    global task
    task = asyncio.ensure_future(ask)
    await asyncio.sleep(0.1)
loop.run_until_complete(begin())
loop.close()
task._log_destroy_pending = False
del task, ask
gc.collect()
print("quiet")
"""
    )
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )

    assert ran.stdout == "quiet\n"
    assert "different Context" not in ran.stderr


def test_warnings_reach_the_main_script(tmp_path: Path) -> None:
    """In `__main__`, too, a parameter that the API ignores is a warning only."""
    script = tmp_path / "main.py"
    script.write_text(
        """
import asyncio
from deepseek_async import AsyncDeepSeek
from deepseek_async.testing import DeepSeekEmulator, Pace
async def main():
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        AsyncDeepSeek(api_key=emulator.api_key, base_url=emulator.base_url) as client,
    ):
        await client.chat.completions.create(
            model="deepseek-flash",
            messages=[{"role": "user", "content": "x"}],
            user="u1",
            seed=1,
        )
        print("answered")
asyncio.run(main())
"""
    )
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )

    assert ran.stdout == "answered\n", ran.stderr
    assert "main.py:" in ran.stderr
    assert "DeepSeekWarning" in ran.stderr
