"""Bombs and nonsense: memory stays bounded, and there is always a typed error."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from faults.answers import (
    DONE,
    EVENTS,
    FINISH,
    FIRST,
    LAST_CHUNK,
    STREAM_HEAD,
    TEXT,
    chunk,
    completion,
    event,
    framed,
    head,
    whole,
)
from faults.harness import (
    Taken,
    ask,
    by_await,
    by_chunks,
    by_completion,
    limited,
    open_stream,
    served,
)
from faults.wire import Reply, endless, flood, send

from deepseek_async import (
    APIError,
    BadRequestError,
    FirstPayloadTimeoutError,
    InternalServerError,
    ResponseTooLargeError,
    Timeouts,
)

MB = 1_000_000


class Growth:
    """How much memory a block took at its peak, in bytes."""

    peak = 0


@contextmanager
def memory() -> Generator[Growth, None, None]:
    """Measure the peak of what Python allocates within the block."""
    growth = Growth()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield growth
        growth.peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def zipped(first: bytes, megabytes: int, more: bytes = b"\0" * MB) -> bytes:
    """A gzip bomb."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [squeeze.compress(first)]
    parts += [squeeze.compress(more) for _ in range(megabytes)]
    return b"".join((*parts, squeeze.flush()))


def zip_reply(bomb: bytes, kind: str, status: str = "200 OK") -> Reply:
    """A compressed body, which the client never asked for."""
    return (send(whole(bomb, status, kind, Content_Encoding="gzip")),)


# -- size ------------------------------------------------------------------------------


@limited(5.0, debug=False)
async def test_gzip_bomb_for_an_answer() -> None:
    """A body that unpacks to 50 MB is refused at the limit, in bounded memory."""
    reply = zip_reply(zipped(b'{"a":"', 50, b"x" * MB), "application/json")
    async with served(reply, max_body_size=2 * MB) as (_server, client):
        with memory() as growth, pytest.raises(ResponseTooLargeError, match="2000000"):
            await by_await(client, Taken())

    assert growth.peak < 12 * MB


@limited(8.0)
async def test_gzip_bomb_for_a_stream() -> None:
    """An event that unpacks to 50 MB is refused at the limit, in bounded memory."""
    reply = zip_reply(zipped(b"data: ", 50, b"x" * MB), "text/event-stream")
    async with served(reply) as (_server, client):
        with memory() as growth, pytest.raises(ResponseTooLargeError):
            await by_completion(client, Taken())

    assert growth.peak < 60 * MB


@limited(5.0)
@pytest.mark.parametrize(
    "comment",
    [
        pytest.param(b"\n", marks=pytest.mark.timing),
        b": keep-alive\n",
        b"x" * 9_999 + b"\n",
    ],
)
async def test_gzip_bomb_of_nothing_for_a_stream(comment: bytes) -> None:
    """Blank lines, comments and unknown fields take no memory to skip."""
    more = comment * (2 * MB // len(comment))
    squeezed = gzip.compress(more + EVENTS, 6)
    reply = zip_reply(squeezed, "text/event-stream")
    async with served(reply) as (_server, client):
        with memory() as growth:
            taken = Taken()
            await by_completion(client, taken)

    assert taken.text == TEXT
    assert growth.peak < 12 * MB


@limited(5.0)
async def test_gzip_bomb_for_an_error() -> None:
    """An error body that unpacks to 50 MB is read in part only."""
    reply = zip_reply(zipped(b"no ", 50, b"x" * MB), "text/plain", "500 x")
    async with served(reply) as (_server, client):
        with memory() as growth, pytest.raises(InternalServerError) as caught:
            await by_await(client, Taken())

    assert len(caught.value.body) <= 2_048
    assert len(str(caught.value)) <= 3_000
    assert growth.peak < 8 * MB


@limited(5.0)
async def test_endless_answer() -> None:
    """A body without an end is refused at the limit."""
    reply = (send(head(Transfer_Encoding="chunked")), flood(framed(b"[" * 65_536), 999))
    async with served(reply, max_body_size=3 * MB) as (_server, client):
        with memory() as growth, pytest.raises(ResponseTooLargeError):
            await by_await(client, Taken())

    assert growth.peak < 12 * MB


@limited(5.0)
async def test_stated_length_over_the_limit() -> None:
    """A body that says it is too large is refused, whatever comes."""
    reply = (
        send(head(Content_Length=str(10**15)) + b"{"),
        flood(b" " * 65_536, 999),
    )
    async with served(reply, max_body_size=MB) as (_server, client):
        with pytest.raises(ResponseTooLargeError):
            await by_await(client, Taken())


@limited(5.0)
async def test_endless_blank_lines_over_the_limit() -> None:
    """Keep-alive lines count towards the limit of a body too."""
    reply = (send(head(Transfer_Encoding="chunked")), flood(framed(b"\n" * 65_536), 99))
    async with served(reply, max_body_size=MB) as (_server, client):
        with pytest.raises(ResponseTooLargeError):
            await by_await(client, Taken())


@limited(5.0)
async def test_endless_blank_lines_below_the_limit() -> None:
    """5 MB of blank lines before the JSON are only waiting."""
    reply = (
        send(head(Transfer_Encoding="chunked")),
        flood(framed(b"\n" * 50_000), 100),
        send(framed(completion()) + LAST_CHUNK),
    )
    async with served(reply) as (_server, client):
        with memory() as growth:
            taken = Taken()
            await by_await(client, taken)

    assert taken.text == TEXT
    assert growth.peak < 4 * MB


@pytest.mark.timing
@limited(5.0, debug=False)
async def test_ten_megabyte_event() -> None:
    """A single event of 10 MB, cut into pieces, is an event like any other."""
    large = event(chunk("x" * 10 * MB))
    parts = [framed(large[at : at + 40_000]) for at in range(0, len(large), 40_000)]
    reply = (
        send(STREAM_HEAD),
        *(send(part) for part in parts),
        send(framed(FINISH + DONE) + LAST_CHUNK),
    )
    async with served(reply) as (_server, client):
        started = time.monotonic()
        taken = Taken()
        await by_completion(client, taken)

    assert len(taken.text) == 10 * MB
    assert time.monotonic() - started < 3.0


@limited(5.0)
async def test_event_over_the_limit() -> None:
    """An event without an end is refused with what came before it kept."""
    reply = (
        send(STREAM_HEAD + framed(FIRST + b"data: ")),
        flood(framed(b"x" * 262_144), 400),
    )
    async with served(reply) as (server, client):
        with memory() as growth, pytest.raises(ResponseTooLargeError) as caught:
            await by_chunks(client, Taken())
        await server.all_gone()

    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "
    assert growth.peak < 60 * MB


@pytest.mark.timing
@limited(5.0, debug=False)
async def test_many_data_lines_in_one_event() -> None:
    """An event of endless small lines is refused at the limit as well."""
    reply = (send(STREAM_HEAD), flood(framed(b"data: xxxxxxxxxxxxx\n" * 20_000), 400))
    async with served(reply) as (_server, client):
        with pytest.raises(ResponseTooLargeError):
            await by_chunks(client, Taken())


@limited(5.0)
async def test_slow_reader_slows_the_server() -> None:
    """A stream nobody reads does not pile up in memory."""
    reply = (send(STREAM_HEAD), flood(framed(FIRST * 400), 600))
    async with served(reply) as (_server, client), await open_stream(client) as stream:
        with memory() as growth:
            await anext(stream)
            await asyncio.sleep(0.3)

    assert growth.peak < 12 * MB


# -- nonsense --------------------------------------------------------------------------

DEEP = 100_000

BODIES: dict[str, bytes] = {
    "deep array": b"[" * DEEP,
    "deep object": b'{"a":' * DEEP,
    "deep unknown field": b'{"choices":[],"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a number": b"42",
    "a string": b'"hello"',
    "null": b"null",
    "a list": b"[]",
    "no choices": b"{}",
    "choices of a wrong type": b'{"choices": 7}',
    "invalid UTF-8": b'{"choices": [\xff\xfe]}',
    "invalid UTF-16": "{}".encode("utf-16"),
    "a huge number": b'{"created": ' + b"9" * 5_000 + b"}",
    "NUL bytes": b"\0" * 100,
    "cut JSON": completion()[:-1],
    "two documents": completion() + completion(),
}


@limited(5.0)
@pytest.mark.parametrize("name", BODIES)
async def test_nonsense_for_an_answer(name: str) -> None:
    """A body that is no answer is an APIError that quotes little of it."""
    async with served((send(whole(BODIES[name])),)) as (_server, client):
        with pytest.raises(APIError) as caught:
            await by_await(client, Taken())

    assert len(getattr(caught.value, "body", "")) <= 2_048
    assert not isinstance(caught.value, BadRequestError)


@limited(5.0)
@pytest.mark.parametrize("name", BODIES)
async def test_nonsense_for_an_event(name: str) -> None:
    """Events that are no chunks end the stream with an APIError or count as nothing."""
    data = b"data: " + BODIES[name].replace(b"\n", b"") + b"\n\n"
    reply = (send(STREAM_HEAD + framed(FIRST + data) + LAST_CHUNK),)
    async with served(reply) as (_server, client):
        with pytest.raises(APIError) as caught:
            await by_chunks(client, Taken())

    assert caught.value.partial is not None
    assert caught.value.partial.text.startswith("one ")


def _message(**fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "x", **fields}}
    return json.dumps({"choices": [choice]}).encode()


TOLERATED: dict[str, bytes] = {
    "lone surrogate": b'{"choices":[{"message":{"content":"a\\ud83d b"}}]}',
    "reversed surrogates": b'{"choices":[{"message":{"content":"\\ude00\\ud83d"}}]}',
    "huge integer": b'{"created":%d,"choices":[{"message":{"content":"x"}}]}' % 10**40,
    "float for an integer": (
        b'{"created":1.7e9,"choices":[{"message":{"content":"x"}}]}'
    ),
    "null everywhere": (
        b'{"id":null,"created":null,"model":null,"usage":null,'
        b'"choices":[{"index":null,"message":{"role":null,"content":null},'
        b'"finish_reason":null,"logprobs":null}]}'
    ),
    "numbers for strings": (
        b'{"id":7,"model":8,"choices":[{"message":{"content":"x"}}]}'
    ),
    "unknown fields": _message(brand_new={"deep": [1, 2]}),
    "unknown role": b'{"choices":[{"message":{"role":"oracle","content":"x"}}]}',
    "a null choice": b'{"choices":[null,{"message":{"content":"x"}}]}',
}


@limited(3.0)
@pytest.mark.parametrize("name", TOLERATED)
async def test_oddities_of_an_answer(name: str) -> None:
    """Odd values in an answer do not cost the answer."""
    async with served((send(whole(TOLERATED[name])),)) as (_server, client):
        answer = await ask(client)

    assert answer.choices
    repr(answer)
    answer.to_json()


@limited(3.0)
@pytest.mark.parametrize("name", TOLERATED)
async def test_oddities_of_a_chunk(name: str) -> None:
    """Odd values in a chunk do not cost the stream."""
    data = TOLERATED[name].replace(b'"message"', b'"delta"')
    events = FIRST + b"data: " + data + b"\n\n" + FINISH + DONE
    reply = (send(STREAM_HEAD + framed(events) + LAST_CHUNK),)
    async with served(reply) as (_server, client):
        taken = Taken()
        await by_completion(client, taken)

    assert taken.text.startswith("one ")
    assert taken.stream is not None
    assert taken.stream.partial.finish_reason == "stop"


@limited(3.0)
async def test_invalid_utf8_in_a_chunk() -> None:
    """Broken UTF-8 in the text of a chunk costs a character, not the stream."""
    broken = FIRST.replace(b"one ", b"\xff\xe2\x82 ")
    reply = (send(STREAM_HEAD + framed(broken + FINISH + DONE) + LAST_CHUNK),)
    async with served(reply) as (_server, client):
        taken = Taken()
        await by_completion(client, taken)

    assert "\ufffd" in taken.text


@pytest.mark.timing
@limited(6.0)
async def test_hundred_thousand_choices() -> None:
    """An answer with absurdly many choices is decoded in bounded time."""
    choice = b'{"index":0,"message":{"content":""}}'
    body = b'{"choices":[' + b",".join([choice] * 100_000) + b"]}"
    async with served((send(whole(body)),)) as (_server, client):
        started = time.monotonic()
        answer = await ask(client)

    assert len(answer.choices) == 100_000
    assert time.monotonic() - started < 3.0


@pytest.mark.timing
@limited(6.0, debug=False)
async def test_large_tool_arguments_in_small_pieces() -> None:
    """2 MB of tool arguments in small fragments are joined in linear time."""

    def call(arguments: str, **more: str) -> bytes:
        function = {"arguments": arguments, **more}
        return event(chunk(tool_calls=[{"index": 0, "id": "t", "function": function}]))

    pieces = call("", name="f") + call("x" * 500) * 4_000
    finish = event(chunk(finish_reason="tool_calls"))
    reply = (send(STREAM_HEAD + framed(pieces + finish + DONE) + LAST_CHUNK),)
    async with served(reply) as (_server, client):
        started = time.monotonic()
        stream = await open_stream(client)
        answer = await stream.completion()

    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert len(calls[0].function.arguments) == 2 * MB
    assert time.monotonic() - started < 2.0


@limited(3.0)
async def test_absurd_places_of_tool_calls() -> None:
    """Absurd indexes of tool calls reserve no memory and lose no call."""

    def call(index: Any) -> bytes:
        function = {"name": "f", "arguments": "{}"}
        delta = [{"index": index, "id": str(index), "function": function}]
        return event(chunk(tool_calls=delta))

    events = call(10**9) + call(-5) + call(2**63 - 1)
    reply = (send(STREAM_HEAD + framed(events + FINISH + DONE) + LAST_CHUNK),)
    async with served(reply) as (_server, client):
        with memory() as growth:
            answer = await (await open_stream(client)).completion()

    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert len(calls) == 3
    assert growth.peak < MB


@pytest.mark.timing
@limited(3.0)
async def test_endless_keep_alives_take_no_memory() -> None:
    """Keep-alives are counted, not kept."""
    clocks = Timeouts(first_payload=0.4)
    reply = (send(STREAM_HEAD), endless(framed(b": keep-alive\n\n" * 1_000), 0.001))
    async with served(reply, timeouts=clocks) as (_server, client):
        with memory() as growth, pytest.raises(FirstPayloadTimeoutError) as caught:
            await by_chunks(client, Taken())

    assert caught.value.keep_alives > 10_000
    assert growth.peak < 3 * MB
