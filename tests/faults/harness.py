"""Drives a client through a fault and checks that nothing is left behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ParamSpec, TypeAlias, TypeVar

from deepseek_async import (
    AsyncDeepSeek,
    BatchFailed,
    ChatCompletion,
    ChatStream,
    RetryPolicy,
    TextDelta,
    Timeouts,
    TurnStream,
    tool,
)

from .wire import FaultServer, Reply, Request

T = TypeVar("T")
P = ParamSpec("P")
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def _loops() -> dict[str, LoopFactory]:
    found: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return found
    return {**found, "uvloop": uvloop.new_event_loop}


LOOPS = _loops()

KEY = "sk-canary-7d41b09e55c2"
PROMPT = "canary-prompt-albatross-quince"
REQUEST: dict[str, Any] = {
    "model": "deepseek-flash",
    "messages": [{"role": "user", "content": PROMPT}],
}

ONCE = RetryPolicy(attempts=1)
PROMPTLY = RetryPolicy(attempts=3, base=0.0)
"""Retries without a wait."""

PATIENT = Timeouts(
    connect=3.0, head=3.0, first_payload=3.0, payload_gap=3.0, silence=3.0
)
"""Clocks that never run out in a healthy test."""


def client_of(url: str, **options: Any) -> AsyncDeepSeek:
    """A client that tries once and has patient clocks, unless told otherwise."""
    options = {"timeouts": PATIENT, "retry": ONCE, "max_connections": 4, **options}
    return AsyncDeepSeek(api_key=KEY, base_url=url, **options)


# -- limits and leaks ------------------------------------------------------------------


async def within(limit: float, work: Awaitable[T]) -> T:
    """Await, but fail when it takes longer than the hard limit."""
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            return await work
    except TimeoutError:
        if not clock.expired():
            raise
    message = f"not over within the hard limit of {limit} s"
    raise AssertionError(message)


def limited(
    limit: float, *, debug: bool = True
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """A hard limit for a test, after which nothing of the client may be left.

    Args:
        limit: Seconds.
        debug: Whether to keep asyncio's debug mode, which triples the cost of I/O.
    """

    def decorate(
        test: Callable[P, Awaitable[T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(test)
        async def limited_test(*args: P.args, **kwargs: P.kwargs) -> T:
            if not debug:
                asyncio.get_running_loop().set_debug(enabled=False)
            with no_resource_warning():
                result = await within(limit, test(*args, **kwargs))
                await no_task_left()
            return result

        return limited_test

    return decorate


async def no_task_left() -> None:
    """Fail unless this task is the only one; finalizers get a few steps to end."""
    others: set[asyncio.Task[Any]] = set()
    mine = asyncio.current_task()
    for _ in range(50):
        others = {each for each in asyncio.all_tasks() if each is not mine}
        if not others:
            return
        await asyncio.sleep(0.002)
    message = f"tasks left: {others}"
    raise AssertionError(message)


# What is loaded by now is no garbage of any test: later collections may skip it.
gc.collect()
gc.freeze()


@contextmanager
def no_resource_warning() -> Generator[None, None, None]:
    """Fail on anything that is finalized unclosed within the block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    left = [str(warning.message) for warning in caught]
    assert not left, f"warnings: {left}"


def run_on(loop: str, work: Coroutine[Any, Any, T], limit: float = 5.0) -> T:
    """Run on a loop of that kind; no task, warning or loop error may come of it."""
    complaints: list[str] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(str(context))
        )
        result = await within(limit, work)
        await no_task_left()
        return result

    with no_resource_warning(), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        result = runner.run(watched())
    assert not complaints, complaints
    return result


def session_of(client: AsyncDeepSeek) -> Any:
    """The client's session on the running loop, or `None`."""
    return client._manager._sessions.get(asyncio.get_running_loop())


def slots_in_use(client: AsyncDeepSeek) -> int:
    """How many connection slots are taken."""
    session = session_of(client)
    if session is None:
        return 0
    taken: int = client._manager.max_connections - session.slots.value
    return taken


async def pool_empty(client: AsyncDeepSeek) -> None:
    """Fail unless every slot is free and no response is live."""
    session = session_of(client)
    if session is None:
        return
    for _ in range(20):  # an abandoned generator is closed by a task of its own
        if not session.live and slots_in_use(client) == 0:
            break
        await asyncio.sleep(0.002)
    assert not session.live, session.live
    assert not session.openings, session.openings
    assert slots_in_use(client) == 0


@asynccontextmanager
async def clean_client(
    at: str | FaultServer, **options: Any
) -> AsyncGenerator[AsyncDeepSeek, None]:
    """A client of a URL or server whose pool must be empty at the end."""
    url = at if isinstance(at, str) else at.url
    async with client_of(url, **options) as client:
        yield client
        await pool_empty(client)


@asynccontextmanager
async def served(
    *replies: Reply | Callable[[Request], Reply], **options: Any
) -> AsyncGenerator[tuple[FaultServer, AsyncDeepSeek], None]:
    """A server that plays these replies, and a clean client of it."""
    server = FaultServer(*replies)
    async with server, clean_client(server, **options) as client:
        yield server, client


# -- ways to take an answer ------------------------------------------------------------


class Taken:
    """What a consumer has received.

    Attributes:
        text: The visible text, as far as it came.
        stream: The stream, if the call returned one.
        turn: The turn, if tools could be called in a stream.
        ran: What the tool was called with, in the order of beginning.
        running: How many tools run now.
        began: Set when the first of them begins.
    """

    def __init__(self) -> None:
        self.text = ""
        self.stream: ChatStream | None = None
        self.turn: TurnStream | None = None
        self.ran: list[str] = []
        self.running = 0
        self.began = asyncio.Event()


Mode: TypeAlias = Callable[[AsyncDeepSeek, Taken], Coroutine[Any, Any, None]]


def _request(options: dict[str, Any]) -> Any:
    """The parameters; in no local, so that a traceback shows the library's only."""
    return {**REQUEST, **options}


async def open_stream(client: AsyncDeepSeek, **options: Any) -> ChatStream:
    """A stream of the canary prompt."""
    stream: ChatStream
    stream = await client.chat.completions.create(stream=True, **_request(options))
    return stream


async def ask(client: AsyncDeepSeek, **options: Any) -> ChatCompletion:
    """The awaited answer to the canary prompt."""
    answer: ChatCompletion
    answer = await client.chat.completions.create(stream=None, **_request(options))
    return answer


async def by_await(client: AsyncDeepSeek, taken: Taken) -> None:
    taken.text = (await ask(client)).text


async def by_chunks(client: AsyncDeepSeek, taken: Taken) -> None:
    taken.stream = await open_stream(client)
    async for chunk in taken.stream:
        for choice in chunk.choices:
            taken.text += choice.delta.content or ""


async def by_text(client: AsyncDeepSeek, taken: Taken) -> None:
    taken.stream = await open_stream(client)
    async for text in taken.stream.text():
        taken.text += text


async def by_events(client: AsyncDeepSeek, taken: Taken) -> None:
    taken.stream = await open_stream(client)
    async for event in taken.stream.events():
        if isinstance(event, TextDelta):
            taken.text += event.text


async def by_completion(client: AsyncDeepSeek, taken: Taken) -> None:
    taken.stream = await open_stream(client)
    answer = await taken.stream.completion()
    taken.text = answer.text


STREAM_MODES: dict[str, Mode] = {
    "chunks": by_chunks,
    "text": by_text,
    "events": by_events,
    "completion": by_completion,
}
MODES: dict[str, Mode] = {"await": by_await, **STREAM_MODES}


async def by_batch(client: AsyncDeepSeek, taken: Taken) -> None:
    async with client.batch([REQUEST], concurrency=1) as results:
        async for result in results:
            if isinstance(result, BatchFailed):
                raise result.error
            taken.text = result.completion.text


TOOL_STEPS = 6
"""Loop steps that a tool takes."""


def _tools(taken: Taken) -> Any:
    """The parameter: one tool, which notes that it runs."""

    @tool
    async def look_up(place: str) -> str:
        """Look a place up."""
        taken.ran.append(place)
        taken.running += 1
        taken.began.set()
        try:
            for _ in range(TOOL_STEPS):
                await asyncio.sleep(0)
        finally:
            taken.running -= 1
        return f"{place} is in Europe."

    return {"tools": [look_up]}


async def by_tools(client: AsyncDeepSeek, taken: Taken) -> None:
    completions = client.chat.completions
    turn = await completions.run_tools(**_request(_tools(taken)))
    taken.text = turn.text


async def by_tool_events(client: AsyncDeepSeek, taken: Taken) -> None:
    completions = client.chat.completions
    taken.turn = completions.stream_tools(**_request(_tools(taken)))
    async with taken.turn as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                taken.text += event.text


TOOL_MODES: dict[str, Mode] = {"tools": by_tools, "tool events": by_tool_events}
MATRIX_MODES: dict[str, Mode] = {**MODES, "batch": by_batch, **TOOL_MODES}


# -- servers for tests that have no loop of their own ----------------------------------


def all_closed(server: FaultServer, within: float = 2.0) -> bool:
    """Whether the connections of a server in another thread end in time."""
    over = time.monotonic() + within
    while server.open_connections and time.monotonic() < over:
        time.sleep(0.005)
    return not server.open_connections


@contextmanager
def serving(
    *replies: Reply | Callable[[Request], Reply],
) -> Generator[FaultServer, None, None]:
    """A fault server on a loop and a thread of its own."""
    server = FaultServer(*replies)
    started = threading.Event()
    stopping: list[Callable[[], object]] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with server:
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="faults")
    thread.start()
    try:
        assert started.wait(5.0)
        yield server
    finally:
        for stop in stopping:
            stop()
        thread.join(5.0)
        assert not thread.is_alive()
