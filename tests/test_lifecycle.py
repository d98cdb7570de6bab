"""Life cycles: leaving streams, loops that come and go, threads, forks, exits."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from faults.answers import (
    EVENTS,
    FIRST,
    GOOD_STREAM,
    LAST_CHUNK,
    SECOND,
    STREAM_HEAD,
    TEXT,
    error_body,
    framed,
    good,
    head,
    whole,
)
from faults.harness import (
    KEY,
    LOOPS,
    MODES,
    ONCE,
    PATIENT,
    STREAM_MODES,
    Taken,
    all_closed,
    by_await,
    by_completion,
    client_of,
    limited,
    no_resource_warning,
    open_stream,
    pool_empty,
    run_on,
    served,
    serving,
    slots_in_use,
    within,
)
from faults.wire import FaultServer, Reply, fin, pause, send, stall

from deepseek_async import (
    APIError,
    ChatStream,
    ClientClosedError,
    DeepSeekError,
    RateLimitError,
    StreamClosedError,
    StreamInterruptedError,
)

OPEN: Reply = (send(STREAM_HEAD + framed(FIRST + SECOND)), stall())


class BodyError(Exception):
    """Raised by the body of a loop."""


def _pieces(stream: ChatStream, how: str) -> AsyncIterator[Any]:
    """The stream's iterator of that kind."""
    if how == "text":
        return stream.text()
    return stream.events() if how == "events" else aiter(stream)


async def _fail_inside(pieces: AsyncIterator[Any]) -> None:
    """Raise from the body of a loop."""
    async for _ in pieces:
        raise BodyError


# -- leaving a stream ------------------------------------------------------------------


@limited(3.0)
@pytest.mark.parametrize("how", ["chunks", "text", "events"])
async def test_break_out_of_a_stream(how: str) -> None:
    """A `break` frees slot and connection at once, and keeps the partial."""
    async with served(OPEN, max_connections=1) as (server, client):
        for _ in range(5):
            stream = await open_stream(client)
            async for _piece in _pieces(stream, how):
                break
            await within(0.2, server.all_gone())
            await pool_empty(client)
            assert stream.partial.text == "one two "


@limited(3.0)
@pytest.mark.parametrize("how", ["chunks", "text", "events"])
async def test_exception_in_the_body_of_the_loop(how: str) -> None:
    """An exception of the consumer passes unchanged and frees the connection."""
    async with served(OPEN) as (server, client):
        stream = await open_stream(client)
        with pytest.raises(BodyError):
            await _fail_inside(_pieces(stream, how))
        await server.all_gone()
        await pool_empty(client)


@limited(3.0)
async def test_leaving_the_block_of_a_stream() -> None:
    """Leaving `async with`, by the end or by an exception, closes the stream."""
    async with served(OPEN) as (server, client):
        async with await open_stream(client) as stream:
            await anext(stream)
        assert slots_in_use(client) == 0
        with pytest.raises(BodyError):
            async with await open_stream(client) as stream:
                raise BodyError
        assert slots_in_use(client) == 0
        await server.all_gone()


@limited(3.0)
async def test_abandoned_streams() -> None:
    """A dropped stream, read or not, with its generator or without, frees its slot."""
    async with served(OPEN, max_connections=1) as (server, client):
        stream = await open_stream(client)
        del stream
        gc.collect()
        await server.all_gone()

        stream = await open_stream(client)
        await anext(stream)
        del stream
        gc.collect()
        await server.all_gone()

        generator = (await open_stream(client)).text()
        await anext(generator)
        del generator
        gc.collect()
        await server.all_gone()
        await pool_empty(client)


@limited(3.0)
async def test_close_from_another_task() -> None:
    """A reader whose stream is closed elsewhere is told so, with the partial."""
    async with served(OPEN) as (server, client):
        stream = await open_stream(client)
        reader = asyncio.create_task(stream.completion())
        await asyncio.sleep(0.05)
        await stream.close()
        with pytest.raises(StreamClosedError) as caught:
            await within(0.2, reader)

        assert caught.value.partial is not None
        assert caught.value.partial.text == "one two "
        await server.all_gone()


@limited(3.0)
async def test_cancel_twenty_streams() -> None:
    """Twenty cancelled streams leave no connection and no slot behind."""
    async with served(OPEN, max_connections=20) as (server, client):
        readers = [
            asyncio.create_task(by_completion(client, Taken())) for _ in range(20)
        ]
        await server.requested(20)
        await asyncio.sleep(0.05)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        await server.all_gone()

    assert all(reader.cancelled() for reader in readers)


@limited(3.0, debug=False)
async def test_error_responses_to_streaming_calls_leak_nothing() -> None:
    """A hundred error responses to streaming calls leave the pool as it was."""
    refusal: Reply = (send(whole(error_body("no"), "429 x")),)
    async with served(refusal, max_connections=1) as (server, client):
        for _ in range(100):
            with pytest.raises(RateLimitError):
                await open_stream(client)
        await pool_empty(client)

    assert len(server.connections) == 1


@limited(3.0)
async def test_error_is_held_without_its_connection() -> None:
    """An error that the caller keeps holds neither slot nor connection."""
    async with served((*OPEN[:1], fin()), max_connections=1) as (_server, client):
        kept: list[DeepSeekError] = []
        for _ in range(3):
            try:
                await by_completion(client, Taken())
            except StreamInterruptedError as error:
                kept.append(error)
        await pool_empty(client)

    assert len(kept) == 3


# -- pickling --------------------------------------------------------------------------


@limited(4.0)
async def test_pickle_of_exceptions() -> None:
    """Every kind of error survives pickling with its fields and its partial."""
    replies: list[Reply] = [
        (fin(),),
        (send(whole(b"")),),
        (send(whole(b"<html>")),),
        (send(whole(error_body("no"), "401 x")),),
        (send(whole(error_body("no"), "429 x", Retry_After="7")),),
        (send(STREAM_HEAD + framed(FIRST)), fin()),
        (send(STREAM_HEAD + framed(b"data: {}\n\ndata: x\n\n")), fin()),
    ]
    async with served(*replies) as (_server, client):
        for _ in replies:
            with pytest.raises(APIError) as caught:
                await by_completion(client, Taken())
            error = caught.value
            copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
            assert type(copy) is type(error)
            assert str(copy) == str(error)
            assert vars(copy) == vars(error)


# -- loops that come and go ------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_one_client_and_several_runs(loop: str) -> None:
    """One client serves run after run; nothing of an ended loop is left open."""
    with no_resource_warning(), serving(good) as server:
        client = client_of(server.url)
        for _ in range(3):
            taken = [Taken() for _ in MODES]
            work = [mode(client, each) for mode, each in zip(MODES.values(), taken)]  # noqa: B905

            async def both(work: Any = work) -> None:
                await asyncio.gather(*work)

            run_on(loop, both())
            assert [each.text for each in taken] == [TEXT] * len(MODES)
        run_on(loop, client.aclose())
        assert all_closed(server)


def test_one_client_and_two_loops_in_turn() -> None:
    """Two loops of one thread, used in turn, each keep their own connections."""
    with no_resource_warning(), serving(good) as server:
        client = client_of(server.url)
        runners = [asyncio.Runner(), asyncio.Runner()]
        for _ in range(3):
            for runner in runners:
                taken = Taken()
                runner.run(by_await(client, taken))
                assert taken.text == TEXT
        assert len(server.connections) == 2
        for runner in runners:
            runner.close()


def test_closing_while_another_loop_stands_still() -> None:
    """Closing reaches a loop that is not running as soon as it runs again."""
    with no_resource_warning(), serving(good) as server:
        client = client_of(server.url)
        with asyncio.Runner() as runner:
            runner.run(by_await(client, Taken()))
            asyncio.run(client.aclose())
            runner.run(asyncio.sleep(0.05))
            assert all_closed(server)


def test_loop_closed_without_finalizers() -> None:
    """A loop that is closed the rude way does not keep the client from the next one."""
    with serving(good) as server:
        client = client_of(server.url)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(by_await(client, Taken()))
        sessions = list(client._manager._sessions.values())
        loop.run_until_complete(sessions[0].http.close())
        loop.close()
        taken = Taken()
        asyncio.run(by_await(client, taken))
        assert taken.text == TEXT
        asyncio.run(client.aclose())


def test_six_threads_with_their_own_loops() -> None:
    """Six threads share one client, each with its own loop, again and again."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                asyncio.run(several())
        except BaseException as error:  # noqa: BLE001 - whatever a thread dies of
            failures.append(error)

    async def several() -> None:
        taken = [Taken() for _ in range(6)]
        await asyncio.gather(*(by_await(client, each) for each in taken[:3]))
        await asyncio.gather(*(by_completion(client, each) for each in taken[3:]))
        assert [each.text for each in taken] == [TEXT] * 6

    with no_resource_warning(), serving(good) as server:
        client = client_of(server.url)
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10.0)
        asyncio.run(client.aclose())

    assert failures == []
    assert len(server.requests) == 6 * 3 * 6


@limited(3.0)
async def test_closing_twice_and_from_within() -> None:
    """Closing while closing, and from a task that reads, is harmless."""
    async with FaultServer(OPEN) as server:
        client = client_of(server.url)
        stream = await open_stream(client)

        async def close_from_within() -> None:
            async for _ in stream:
                await client.aclose()

        with pytest.raises(ClientClosedError):
            await close_from_within()
        await asyncio.gather(client.aclose(), client.aclose())
        await server.all_gone()


# -- processes -------------------------------------------------------------------------

_PROLOGUE = f"""
import asyncio, logging, os, sys
from deepseek_async import AsyncDeepSeek
# Debug mode complains of slow steps too: that is the machine, not the client.
logging.getLogger("asyncio").addFilter(lambda it: "took %.3f" not in str(it.msg))
client = AsyncDeepSeek(api_key={KEY!r}, base_url=sys.argv[1], max_retries=0)
async def call(stream=False):
    return await client.chat.completions.create(
        model="m", messages=[{{"role": "user", "content": "x"}}], stream=stream)
"""

THREE_RUNS = """
for _ in range(3):
    assert asyncio.run(call()).text == "one two three"
    async def streamed():
        return await (await call(True)).completion()
    assert asyncio.run(streamed()).text == "one two three"
"""

FORK = """
runner = asyncio.Runner()
def once(run): assert run(call()).text == "one two three"
once(runner.run)
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        try:
            once(asyncio.run)
            once(asyncio.run)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
        os._exit(0)
    children.append(child)
once(runner.run)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
once(runner.run)
runner.close()
assert codes == [0, 0], codes
"""

FORK_INSIDE_A_LOOP = """
async def main():
    assert (await call()).text == "one two three"
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if asyncio.run(call()).text == "one two three" else 2
        except BaseException as error:
            sys.stderr.write(repr(error))
        os._exit(code)
    assert (await call()).text == "one two three"
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert (await call()).text == "one two three"
    assert code == 0, code
asyncio.run(main())
"""

EXIT_WITH_AN_OPEN_STREAM = """
async def main():
    global stream, generator
    stream = await call(True)
    generator = stream.text()
    await anext(generator)
asyncio.run(main())
"""

EXIT_OUT_OF_A_STREAM = """
async def main():
    async for chunk in await call(True):
        os.write(1, b"got one")
        sys.exit(3)
asyncio.run(main())
"""

EXIT_WITHOUT_A_LOOP = """
loop = asyncio.new_event_loop()
stream = loop.run_until_complete(call(True))
loop.run_until_complete(anext(stream))
loop.run_until_complete(client.aclose())
loop.close()
"""


async def _python(script: str, url: str) -> tuple[int, str, str]:
    """Run a script with warnings as errors in development mode."""
    arguments = [sys.executable, "-X", "dev", "-W", "error", "-c"]
    environment = {**os.environ, "PYTHONASYNCIODEBUG": "1"}
    environment.pop("PYTHONWARNINGS", None)
    done = await asyncio.to_thread(
        subprocess.run,
        [*arguments, _PROLOGUE + script, url],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("script", "reply", "code"),
    [
        (THREE_RUNS, good, 0),
        pytest.param(
            FORK,
            good,
            0,
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
        ),
        pytest.param(
            FORK_INSIDE_A_LOOP,
            good,
            0,
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
        ),
        (EXIT_WITH_AN_OPEN_STREAM, OPEN, 0),
        (EXIT_OUT_OF_A_STREAM, OPEN, 3),
        (EXIT_WITHOUT_A_LOOP, OPEN, 0),
    ],
    ids=[
        "three runs",
        "fork",
        "fork inside a loop",
        "exit with an open stream",
        "exit out of a stream",
        "exit without asyncio.run",
    ],
)
async def test_process(script: str, reply: Any, code: int) -> None:
    """In development mode with warnings as errors the process says nothing at all."""
    async with FaultServer(reply) as server:
        status, _, complaints = await _python(script, server.url)

    assert complaints == ""
    assert status == code


# -- a few things that must simply work ------------------------------------------------


@limited(3.0, debug=False)
async def test_stream_after_stream_on_one_slot() -> None:
    """On one slot every way to take an answer works after every other."""
    async with served(good, max_connections=1) as (server, client):
        for first in MODES.values():
            for second in STREAM_MODES.values():
                for mode in (first, second):
                    taken = Taken()
                    await mode(client, taken)
                    assert taken.text == TEXT

    assert len(server.connections) == 1


@limited(3.0)
async def test_late_trailer_of_a_left_stream_disturbs_nobody() -> None:
    """Bytes for a stream that was left never reach the next request."""
    late = (
        send(STREAM_HEAD + framed(FIRST)),
        pause(0.02),
        send(framed(EVENTS) + LAST_CHUNK + head() + b"{}"),
    )
    async with served(
        late, GOOD_STREAM, max_connections=1, retry=ONCE, timeouts=PATIENT
    ) as (_server, client):
        async with await open_stream(client) as stream:
            await anext(stream)
        answer = await open_stream(client)
        assert (await answer.completion()).text == TEXT
