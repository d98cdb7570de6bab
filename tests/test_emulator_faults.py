"""The emulator's scripted faults, byte by byte, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from deepseek_async.testing import (
    Cut,
    DeepSeekEmulator,
    Delay,
    Empty,
    Fault,
    Finish,
    Garbage,
    MissingBlankLine,
    MissingDone,
    Pace,
    Page,
    Queue,
    Raw,
    Stall,
    Status,
    StreamError,
    Trickle,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY: dict[str, Any] = {
    "model": "deepseek-flash",
    "messages": [{"role": "user", "content": "Hello."}],
    "thinking": {"type": "disabled"},
}


class Answered:
    """What a client saw of one answer."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.data = b""
        self.error: Exception | None = None

    @property
    def events(self) -> int:
        return self.data.count(b"data: ")


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        yield emulator


@pytest.fixture
async def session(
    emulator: DeepSeekEmulator,
) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with aiohttp.ClientSession(
        emulator.base_url + "/", headers=headers
    ) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession,
    *,
    stream: bool,
    silence: float | None = None,
    path: str = "chat/completions",
) -> Answered:
    answered = Answered()
    timeout = aiohttp.ClientTimeout(sock_read=silence)
    body = {**BODY, "stream": stream}
    try:
        async with session.post(path, json=body, timeout=timeout) as response:
            answered.status = response.status
            answered.headers = dict(response.headers)
            async for data in response.content.iter_any():
                answered.data += data
    except (aiohttp.ClientError, TimeoutError) as error:
        answered.error = error
    return answered


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 402, 422, 429, 500, 503])
async def test_status(
    emulator: DeepSeekEmulator,
    session: aiohttp.ClientSession,
    status: int,
    *,
    stream: bool,
) -> None:
    """A status fault answers its error once, then the service is well again."""
    emulator.script(Status(status=status, retry_after=2, headers=(("x-a", "b"),)))

    first = await ask(session, stream=stream)
    second = await ask(session, stream=stream)

    assert first.status == status
    assert first.headers["Content-Type"] == "application/octet-stream"
    assert first.headers["Retry-After"] == "2"
    assert first.headers["x-a"] == "b"
    assert json.loads(first.data)["error"]["message"]
    assert (second.status, second.error) == (200, None)


async def test_status_with_its_own_body(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """Text, body and content type of an error can be chosen."""
    emulator.script(
        Status(status=400, message="Content Exists Risk"),
        Status(status=500, body=b"oops", content_type="text/plain"),
    )

    risk, plain = [await ask(session, stream=False) for _ in range(2)]

    assert json.loads(risk.data)["error"]["message"] == "Content Exists Risk"
    assert (plain.data, plain.headers["Content-Type"]) == (b"oops", "text/plain")


async def test_pages_and_empty_answers(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """HTML pages with any status, empty and blank 200s come as ordered."""
    emulator.script(Page(), Page(status=200), Empty(), Empty(body=b"\n \n"))

    gateway, page, empty, blank = [await ask(session, stream=False) for _ in range(4)]

    assert (gateway.status, page.status) == (504, 200)
    assert gateway.headers["Content-Type"] == page.headers["Content-Type"]
    assert b"<html>" in page.data
    assert (empty.status, empty.data) == (200, b"")
    assert (blank.status, blank.data) == (200, b"\n \n")


@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_stream_cut(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession, ending: Any
) -> None:
    """A cut stream keeps its first events and ends without its terminator."""
    emulator.script(Cut(events=2, ending=ending), Cut(size=40, ending=ending))

    by_events = await ask(session, stream=True)
    by_size = await ask(session, stream=True)

    assert isinstance(
        by_events.error, aiohttp.ClientPayloadError | aiohttp.ClientOSError
    )
    assert by_events.status == 200
    if ending == "fin":
        assert by_events.events == 2
        assert len(by_size.data) == 40


async def test_awaited_answer_cut(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """An awaited answer is cut in its half, by any framing, or before its head."""
    emulator.script(
        Cut(),
        Cut(size=20, framing="length"),
        Cut(size=20, framing="close"),
        Cut(head=True),
        Cut(head=True, ending="reset"),
    )

    half, short, close, headless, reset = [
        await ask(session, stream=False) for _ in range(5)
    ]

    assert isinstance(half.error, aiohttp.ClientPayloadError)
    assert half.data.startswith(b'{"id"')
    assert isinstance(short.error, aiohttp.ClientPayloadError)
    assert short.data == half.data[:1] + short.data[1:20]
    assert (close.error, len(close.data)) == (None, 20)
    assert isinstance(headless.error, aiohttp.ServerDisconnectedError)
    assert isinstance(reset.error, aiohttp.ClientOSError)


@pytest.mark.parametrize("phase", ["head", "payload", "body"])
@pytest.mark.parametrize("stream", [False, True])
async def test_stall(
    emulator: DeepSeekEmulator,
    session: aiohttp.ClientSession,
    phase: Any,
    *,
    stream: bool,
) -> None:
    """A stall is silent at its phase until the client gives up."""
    emulator.script(Stall(phase=phase))

    answered = await ask(session, stream=stream, silence=0.1)

    assert isinstance(answered.error, aiohttp.SocketTimeoutError)
    assert bool(answered.status) == (phase != "head")
    assert bool(answered.data) == (phase == "body")
    if stream and phase == "body":
        assert answered.events == 3
    await emulator.idle()


@pytest.mark.parametrize("phase", ["head", "payload", "body"])
async def test_stall_that_ends(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession, phase: Any
) -> None:
    """A stall with an end delays an answer that is otherwise whole."""
    whole = await ask(session, stream=True)
    emulator.script(Stall(phase=phase, seconds=0.1, times=2))
    begun = time.perf_counter()

    answered = await ask(session, stream=True)
    awaited = await ask(session, stream=False)

    assert time.perf_counter() - begun >= 0.2
    assert answered.error is None
    assert answered.events == whole.events
    assert json.loads(awaited.data)["choices"]


@pytest.mark.parametrize("stream", [False, True])
async def test_endless_keep_alives(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession, *, stream: bool
) -> None:
    """Keep-alives can go on for ever, so that only payload clocks notice."""
    emulator.script(Stall(phase="payload", keep_alive=0.01))
    line = b": keep-alive\n\n" if stream else b"\n"

    data = b""
    body = {**BODY, "stream": stream}
    async with session.post("chat/completions", json=body) as response:
        while len(data) < 5 * len(line):
            data += await response.content.readany()

    assert data == line * (len(data) // len(line))
    async with asyncio.timeout(2):
        await emulator.idle()


async def test_stall_amid_keep_alives_that_ends(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """Keep-alives in the middle of a stream are followed by the rest."""
    emulator.script(Stall(after=1, seconds=0.05, keep_alive=0.02))

    answered = await ask(session, stream=True)

    assert b": keep-alive\n\n" in answered.data
    assert answered.data.endswith(b"data: [DONE]\n\n")


async def test_garbage(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """Garbage replaces one event, or a whole body, under any content type."""
    whole = await ask(session, stream=True)
    emulator.script(
        Garbage(data=b"data: {oops\n\n", after=1, stream=True),
        Garbage(
            data=b"\x00\xff",
            content_type="text/event-stream",
            headers=(("x-a", "b"),),
            stream=False,
        ),
    )

    body = await ask(session, stream=False)
    stream = await ask(session, stream=True)

    assert body.data == b"\x00\xff"
    assert body.headers["Content-Type"] == "text/event-stream"
    assert body.headers["x-a"] == "b"
    assert stream.data.split(b"\n\n")[1] == b"data: {oops"
    assert stream.events == whole.events


async def test_raw_bytes_replace_the_response(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """Anything can stand where a response should be."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    emulator.script(Raw(data=b"SSH-2.0-x\r\n\r\n"), Raw(data=head))

    garbage = await ask(session, stream=False)
    good = await ask(session, stream=False)

    assert garbage.error is not None
    assert (good.status, good.data, good.error) == (200, b"ok", None)


async def test_error_inside_a_200(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """An error object comes in a stream after some events, or as the body."""
    emulator.script(
        StreamError(after=2, stream=True),
        StreamError(after=0, done=True, stream=True),
        StreamError(message="broken", stream=False),
    )

    awaited = await ask(session, stream=False)
    later = await ask(session, stream=True)
    first = await ask(session, stream=True)

    assert json.loads(awaited.data)["error"]["message"] == "broken"
    assert awaited.status == 200
    last = later.data.strip().split(b"\n\n")[-1].removeprefix(b"data: ")
    assert json.loads(last)["error"]["type"] == "server_error"
    assert later.events == 3
    assert first.events == 2
    assert first.data.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_finish_reason(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession, *, stream: bool
) -> None:
    """A finish reason of the service's own ends the answer early."""
    emulator.script(Finish(reason="insufficient_system_resource", after=2))

    answered = await ask(session, stream=stream)

    assert b'"finish_reason":"insufficient_system_resource"' in answered.data
    assert b'"completion_tokens":2,' in answered.data


async def test_missing_terminators(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """Streams can lack [DONE] or blank lines and still be framed properly."""
    emulator.script(
        MissingDone(),
        MissingDone(blank_line=False),
        MissingBlankLine(),
        MissingBlankLine(newline=False),
    )

    done, line, blank, bare = [await ask(session, stream=True) for _ in range(4)]

    assert all(answered.error is None for answered in (done, line, blank, bare))
    assert done.data.endswith(b"}\n\n")
    assert line.data.endswith(b"}\n")
    assert blank.data.endswith(b"\n\ndata: [DONE]\n")
    assert bare.data.endswith(b"\n\ndata: [DONE]")


@pytest.mark.parametrize("fault", [MissingDone(), MissingBlankLine()])
async def test_stream_faults_leave_awaited_answers_alone(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession, fault: Fault
) -> None:
    """What only a stream can lack changes nothing in an awaited answer."""
    emulator.script(fault)

    assert json.loads((await ask(session, stream=False)).data)["choices"]


async def test_delay_queue_and_trickle(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """Heads can be late, requests queued, bodies slow; all end whole."""
    emulator.pace = Pace(latency=0, tokens_per_second=0, keep_alive=0.02)
    emulator.script(
        Delay(seconds=0.1), Queue(seconds=0.05), Trickle(size=100, interval=0.001)
    )
    begun = time.perf_counter()

    late = await ask(session, stream=True)
    elapsed = time.perf_counter() - begun
    queued = await ask(session, stream=True)
    slow = await ask(session, stream=False)

    assert elapsed >= 0.1
    assert late.data.endswith(b"data: [DONE]\n\n")
    assert queued.data.startswith(b": keep-alive\n\n")
    assert json.loads(slow.data)["choices"]


async def test_script_matches_and_repeats(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """A fault waits for its path and kind of request, and strikes `times` times."""
    emulator.script(
        Status(status=500, path="/beta/", times=2), Status(status=503, stream=True)
    )
    beta = "beta/chat/completions"

    plain = await ask(session, stream=False)
    assert plain.status == 200
    assert emulator.faults_left == 3
    assert (await ask(session, stream=True)).status == 503
    assert (await ask(session, stream=False, path=beta)).status == 500
    assert (await ask(session, stream=True, path=beta)).status == 500
    assert (await ask(session, stream=True, path=beta)).status == 200
    assert emulator.faults_left == 0


async def test_mix_is_random_but_the_same_for_a_seed() -> None:
    """A mix strikes about as often as asked, the same way for the same seed."""

    async def statuses(seed: int) -> list[int]:
        async with DeepSeekEmulator(
            seed=seed, api_key=None, pace=Pace.instant()
        ) as emulator:
            emulator.fault_mix = {Status(status=503): 0.3, Page(stream=True): 0.1}
            assert len(emulator.fault_mix) == 2
            headers = {"Authorization": "Bearer x"}
            async with aiohttp.ClientSession(
                emulator.base_url + "/", headers=headers
            ) as session:
                found = [(await ask(session, stream=False)).status for _ in range(80)]
            emulator.clear_faults()
            assert not emulator.fault_mix
            return found

    first, again, other = [await statuses(seed) for seed in (1, 1, 2)]

    assert first == again
    assert first != other
    assert set(first) == {200, 503}
    assert 10 <= first.count(503) <= 40


async def test_fault_callable_decides(
    emulator: DeepSeekEmulator, session: aiohttp.ClientSession
) -> None:
    """A callable sees each request and names its fault or none."""
    emulator.fault = lambda request: (
        Status(status=429) if request.body["stream"] else None
    )

    assert emulator.fault is not None
    assert (await ask(session, stream=True)).status == 429
    assert (await ask(session, stream=False)).status == 200
