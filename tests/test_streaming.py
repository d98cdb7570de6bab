"""Streams over real sockets: what other clients get wrong, what must not be lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from faults.answers import (
    DONE,
    EVENTS,
    FINISH,
    FIRST,
    GOOD_ANSWER,
    GOOD_STREAM,
    HTML,
    KEEP_ALIVE,
    LAST_CHUNK,
    SECOND,
    STREAM_HEAD,
    TEXT,
    THIRD,
    TRACE_ID,
    UNFRAMED_HEAD,
    chunk,
    completion,
    error_body,
    event,
    framed,
    head,
    text_event,
    whole,
)
from faults.harness import (
    PROMPTLY,
    STREAM_MODES,
    Mode,
    Taken,
    ask,
    by_await,
    by_chunks,
    by_completion,
    clean_client,
    limited,
    open_stream,
    pool_empty,
    served,
    slots_in_use,
)
from faults.wire import (
    FaultServer,
    Reply,
    Step,
    endless,
    fin,
    pause,
    pieces,
    reset,
    send,
    stall,
)

from deepseek_async import (
    APIError,
    AuthenticationError,
    ChatCompletion,
    ChatEvent,
    CompletionStream,
    ConnectionLostError,
    EmptyAnswerError,
    Finished,
    FirstPayloadTimeoutError,
    Heartbeat,
    InsufficientBalanceError,
    InsufficientSystemResourceError,
    PayloadGapTimeoutError,
    ReasoningDelta,
    ResponseHeadTimeoutError,
    ServiceUnavailableError,
    StreamClosedError,
    StreamInterruptedError,
    StreamInUseError,
    TextDelta,
    Timeouts,
    UnexpectedContentTypeError,
    raise_for_finish_reason,
)

T = TypeVar("T")

QUICK = Timeouts(
    connect=0.25, head=0.25, first_payload=0.25, payload_gap=0.25, silence=0.25
)


def streamed(*events: bytes) -> Reply:
    """A healthy stream of these events."""
    return (send(STREAM_HEAD + framed(b"".join(events)) + LAST_CHUNK),)


def open_ended(*events: bytes) -> Reply:
    """These events, and the connection stays open."""
    return (send(STREAM_HEAD + framed(b"".join(events))), stall())


async def folded(reply: Reply) -> ChatCompletion:
    """The whole answer of a streamed reply."""
    async with served(reply) as (_server, client):
        return await (await open_stream(client)).completion()


async def _collect(
    pieces: AsyncIterator[T], seen: list[T], *, sleep_after_first: float = 0.0
) -> None:
    """Keep what an iterator yields, however it ends."""
    async for piece in pieces:
        seen.append(piece)
        if len(seen) == 1:
            await asyncio.sleep(sleep_after_first)


# -- where other clients fail: one test a situation ------------------------------------


@limited(3.0)
async def test_reasoning_content_in_deltas() -> None:
    """Reasoning is a field and an event of its own, apart from the text."""
    events = (
        event(chunk(role="assistant", content="")),
        event(chunk(reasoning_content="think ")),
        event(chunk(reasoning_content="hard")),
        text_event("42"),
        FINISH,
        DONE,
    )
    async with served(streamed(*events)) as (_server, client):
        stream = await open_stream(client)
        seen = [found async for found in stream.events()]

    message = stream.partial.choices[0].message
    assert message.reasoning_content == "think hard"
    assert message.content == "42"
    assert [e.text for e in seen if isinstance(e, ReasoningDelta)] == ["think ", "hard"]
    assert [e.text for e in seen if isinstance(e, TextDelta)] == ["42"]
    assert isinstance(seen[-1], Finished)


@limited(3.0)
async def test_silence_mid_stream() -> None:
    """Silence in the midst of the answer is a typed timeout with the partial."""
    async with served(open_ended(FIRST), timeouts=QUICK) as (_server, client):
        with pytest.raises(PayloadGapTimeoutError) as caught:
            await by_completion(client, Taken())

    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "
    assert caught.value.payloads == 1


@limited(3.0)
async def test_keep_alives_and_no_data_for_ever() -> None:
    """Comments prove life but are no content: the wait ends, and they are counted."""
    clocks = Timeouts(first_payload=0.4, silence=0.2)
    reply = (send(STREAM_HEAD), endless(framed(KEEP_ALIVE), 0.05))
    async with served(reply, timeouts=clocks) as (_server, client):
        stream = await open_stream(client)
        beats: list[ChatEvent] = []
        with pytest.raises(FirstPayloadTimeoutError) as caught:
            await _collect(stream.events(), beats)

    assert caught.value.keep_alives >= 4
    waits = [beat.waited for beat in beats if isinstance(beat, Heartbeat)]
    counts = [beat.keep_alives for beat in beats if isinstance(beat, Heartbeat)]
    assert len(waits) == len(beats) >= 4
    assert waits == sorted(waits)
    assert counts == sorted(counts)
    assert 0.0 <= waits[0] < waits[-1] <= 0.5


@limited(3.0)
async def test_blank_lines_for_ever_without_streaming() -> None:
    """Blank lines before the JSON do not prolong the wait for it."""
    clocks = Timeouts(first_payload=0.4, silence=0.2)
    reply = (send(head(Transfer_Encoding="chunked")), endless(framed(b"\n"), 0.05))
    async with served(reply, timeouts=clocks) as (_server, client):
        with pytest.raises(FirstPayloadTimeoutError) as caught:
            await by_await(client, Taken())

    assert caught.value.keep_alives >= 4
    assert caught.value.payloads == 0


@limited(3.0)
@pytest.mark.parametrize("mode", STREAM_MODES.values(), ids=STREAM_MODES)
async def test_clean_eof_without_finish_reason_and_done(mode: Mode) -> None:
    """A stream that just ends is an error with the partial, never a success."""
    async with served((*streamed(FIRST, SECOND),)) as (_server, client):
        with pytest.raises(StreamInterruptedError) as caught:
            await mode(client, Taken())

    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two "
    assert caught.value.partial.finish_reason is None


@limited(3.0)
async def test_error_inside_the_stream() -> None:
    """An error object in the stream has the class and status it has as a response."""
    body = error_body("overloaded, come back later", "service_unavailable_error")
    async with served(streamed(FIRST, event(body.decode()))) as (_server, client):
        with pytest.raises(ServiceUnavailableError, match="overloaded") as caught:
            await by_completion(client, Taken())

    assert caught.value.in_stream
    assert caught.value.request_id == TRACE_ID
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "


@limited(3.0)
@pytest.mark.parametrize(
    "reason", ["insufficient_system_resource", "aborted", "content_filter", "length"]
)
async def test_finish_reason_is_told_as_it_is(reason: str) -> None:
    """An unfinished answer keeps the server's word and is never turned into `stop`."""
    events = (FIRST, event(chunk(finish_reason=reason)), DONE)
    answer = await folded(streamed(*events))

    assert answer.finish_reason == reason
    assert not answer.is_finished
    if reason == "insufficient_system_resource":
        with pytest.raises(InsufficientSystemResourceError):
            raise_for_finish_reason(answer)


@limited(3.0)
async def test_reasoning_only_answer_is_told() -> None:
    """An answer that is all reasoning says so."""
    events = (event(chunk(reasoning_content="hm")), FINISH, DONE)
    answer = await folded(streamed(*events))

    assert answer.is_reasoning_only
    with pytest.raises(EmptyAnswerError):
        raise_for_finish_reason(answer)


@limited(3.0)
async def test_socket_kept_open_after_done() -> None:
    """A server that does not end the body after [DONE] holds the reader up briefly."""
    async with served(open_ended(EVENTS)) as (server, client):
        taken = Taken()
        started = time.monotonic()
        await by_chunks(client, taken)
        elapsed = time.monotonic() - started
        await server.all_gone()

    assert taken.text == TEXT
    assert elapsed < 0.5


@limited(3.0)
async def test_429_with_retry_after() -> None:
    """A 429 is repeated, no sooner than it asks."""
    refusal = whole(error_body("slow down"), "429 Too Many Requests", Retry_After="0.3")
    async with served((send(refusal),), GOOD_STREAM, retry=PROMPTLY) as (
        _server,
        client,
    ):
        started = time.monotonic()
        answer = await (await open_stream(client)).completion()
        elapsed = time.monotonic() - started

    assert answer.text == TEXT
    assert 0.3 <= elapsed < 1.0
    assert [a.outcome for a in answer.attempts] == ["RateLimitError", "ok"]


@limited(3.0)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("401 Unauthorized", AuthenticationError),
        ("402 Payment Required", InsufficientBalanceError),
    ],
)
async def test_401_and_402(status: str, error: type[Exception]) -> None:
    """401 and 402 have their own errors and are not repeated, streaming or not."""
    reply = (send(whole(error_body("no"), status)),)
    async with served(reply, retry=PROMPTLY) as (server, client):
        for mode in (by_await, by_completion):
            with pytest.raises(error):
                await mode(client, Taken())

    assert len(server.requests) == 2


@limited(3.0)
async def test_503_for_ever() -> None:
    """A server that stays overloaded is asked as often as the policy says."""
    reply = (send(whole(error_body("busy"), "503 Service Unavailable")),)
    async with served(reply, retry=PROMPTLY) as (server, client):
        with pytest.raises(ServiceUnavailableError) as caught:
            await by_completion(client, Taken())

    assert len(server.requests) == 3
    assert [a.status for a in caught.value.attempts] == [503, 503, 503]


@limited(3.0)
async def test_silent_server() -> None:
    """A silent server costs one timeout, not one an attempt."""
    async with served((stall(),), timeouts=QUICK, retry=None) as (server, client):
        started = time.monotonic()
        with pytest.raises(ResponseHeadTimeoutError):
            await by_completion(client, Taken())
        elapsed = time.monotonic() - started

    assert 0.25 <= elapsed < 0.45
    assert len(server.requests) == 1


@limited(3.0)
async def test_connection_dropped_before_a_reply() -> None:
    """A connection that dies without a reply is a ConnectionLostError, no timeout."""
    async with served((fin(),)) as (_server, client):
        with pytest.raises(ConnectionLostError) as caught:
            await by_completion(client, Taken())

    assert not isinstance(caught.value, TimeoutError)
    assert not caught.value.stale


ODD_FRAMES = {
    "a retry frame": b"retry: 3000\n\n",
    "an empty data frame": b"data:\n\n",
    "a comment after an id": b"id: 7\n: keep-alive\n\n",
    "a ping": b"event: ping\ndata: {}\n\n",
    "unknown fields": b"colour: blue\nnothing\n\n",
    "blank lines": b"\n\n\r\n\r\r\n",
    "a byte order mark alone": b"",
}


@limited(3.0)
@pytest.mark.parametrize("frame", ODD_FRAMES.values(), ids=ODD_FRAMES)
async def test_odd_frame(frame: bytes) -> None:
    """Frames without content, before and between payloads, change nothing."""
    events = FIRST + frame + SECOND + frame + THIRD + FINISH + frame + DONE
    answer = await folded(streamed(b"\xef\xbb\xbf" + frame, events))

    assert answer.text == TEXT
    assert answer.usage is not None


@limited(3.0)
@pytest.mark.parametrize("mode", STREAM_MODES.values(), ids=STREAM_MODES)
@pytest.mark.parametrize("cut", [1, 2])
async def test_last_event_without_blank_line(mode: Mode, cut: int) -> None:
    """A final [DONE] that lacks its line ends is not lost: the answer is complete."""
    reply = (send(UNFRAMED_HEAD + EVENTS[:-cut]), fin())
    async with served(reply) as (_server, client):
        taken = Taken()
        await mode(client, taken)

    assert taken.text == TEXT
    assert taken.stream is not None
    assert taken.stream.is_complete


@limited(3.0)
@pytest.mark.parametrize("ends", [b"", b"\n", b"\r\n"])
async def test_last_payload_without_blank_line(ends: bytes) -> None:
    """A final whole payload that lacks its blank line is part of the partial."""
    reply = (send(UNFRAMED_HEAD + FIRST + SECOND.rstrip(b"\n") + ends), fin())
    async with served(reply) as (_server, client):
        taken = Taken()
        with pytest.raises(StreamInterruptedError) as caught:
            await by_chunks(client, taken)

    assert taken.text == "one two "
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two "


@limited(3.0)
@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "", "a/b"])
async def test_200_with_html(kind: str) -> None:
    """A 200 with HTML is an error, streaming or not, whatever type it claims."""
    reply = (send(whole(HTML, kind=kind)),)
    async with served(reply) as (_server, client):
        for mode in (by_await, by_chunks):
            with pytest.raises(UnexpectedContentTypeError) as caught:
                await mode(client, Taken())
            assert "Gateway" in caught.value.body


@limited(3.0)
async def test_leading_blank_lines_then_json() -> None:
    """Keep-alive blank lines before the JSON are skipped and counted as waiting."""
    reply = (
        send(head(Transfer_Encoding="chunked") + framed(b"\n\n")),
        pause(0.02),
        send(framed(b"\r\n\n") + framed(completion()) + LAST_CHUNK),
    )
    async with served(reply) as (_server, client):
        taken = Taken()
        await by_await(client, taken)

    assert taken.text == TEXT


@limited(3.0)
@pytest.mark.parametrize("kind", ["", "text/plain", "text/event-stream;", "x/y"])
async def test_json_under_any_content_type(kind: str) -> None:
    """JSON is an answer under any content type."""
    reply = (send(whole(completion(), kind=kind)),)
    async with served(reply) as (_server, client):
        taken = Taken()
        await by_await(client, taken)

    assert taken.text == TEXT


@limited(3.0)
@pytest.mark.parametrize("kind", ["", "text/plain", "text/event-stream; charset=x"])
async def test_event_stream_under_any_content_type(kind: str) -> None:
    """An event stream is one under any content type, were its first read one byte."""
    reply = (
        send(head(kind=kind, Transfer_Encoding="chunked") + framed(EVENTS[:1])),
        pause(0.02),
        send(framed(EVENTS[1:]) + LAST_CHUNK),
    )
    assert (await folded(reply)).text == TEXT


@limited(3.0)
async def test_hundreds_of_equal_chunks() -> None:
    """A model that repeats itself is not cut off."""
    answer = await folded(streamed(text_event("la ") * 500, FINISH, DONE))

    assert answer.text == "la " * 500


# -- cut anywhere ----------------------------------------------------------------------

WIDE = (
    event(chunk(role="assistant", content=""))
    + text_event("żółw — 海龟 \U0001f422\r\n")
    + KEEP_ALIVE
    + b"data: " + event(chunk("crlf"))[6:].replace(b"\n", b"\r\n")
    + FINISH
    + DONE
)  # fmt: skip


@limited(5.0, debug=False)
async def test_any_pieces_fold_to_the_same_answer() -> None:
    """However the network cuts a stream, UTF-8 and CRLF included, it reads the same."""
    expected = await folded(streamed(WIDE))
    data = STREAM_HEAD + framed(WIDE) + LAST_CHUNK
    replies = [(pieces(data, seed, largest=1 + seed * 3),) for seed in range(25)]
    async with served(*replies) as (_server, client):
        for _ in replies:
            answer = await (await open_stream(client)).completion()
            assert answer.to_dict() == expected.to_dict()

    assert expected.text == "żółw — 海龟 \U0001f422\r\ncrlf"


# -- nothing received is lost ----------------------------------------------------------


@limited(3.0)
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (fin(), StreamInterruptedError),
        (reset(), StreamInterruptedError),
        (stall(), PayloadGapTimeoutError),
    ],
    ids=["FIN", "RST", "stall"],
)
async def test_events_sent_while_the_consumer_sleeps(
    end: Step, error: type[APIError]
) -> None:
    """Events that arrive while the consumer is busy outlive the server's leaving."""
    reply = (
        send(STREAM_HEAD + framed(FIRST)),
        pause(0.02),
        send(framed(SECOND) + framed(THIRD)),
        end,
    )
    clocks = Timeouts(payload_gap=0.2)
    async with served(reply, timeouts=clocks) as (_server, client):
        seen: list[str] = []
        stream = await open_stream(client)
        with pytest.raises(error) as caught:
            await _collect(stream.text(), seen, sleep_after_first=0.3)

    assert seen == ["one ", "two ", "three"]
    assert caught.value.partial == stream.partial
    assert stream.partial.text == TEXT


@limited(3.0)
async def test_slow_consumer_is_not_punished() -> None:
    """Time the consumer spends elsewhere counts towards no clock but the deadline."""
    clocks = Timeouts(first_payload=0.15, payload_gap=0.15, silence=0.15)
    gaps = [
        step for e in (FIRST, SECOND, THIRD) for step in (send(framed(e)), pause(0.05))
    ]
    reply = (send(STREAM_HEAD), *gaps, send(framed(FINISH + DONE) + LAST_CHUNK))
    async with served(reply, timeouts=clocks) as (_server, client):
        taken = ""
        stream = await open_stream(client)
        await asyncio.sleep(0.3)
        async for text in stream.text():
            taken += text
            await asyncio.sleep(0.2)

    assert taken == TEXT


@limited(3.0)
async def test_closing_keeps_what_had_arrived() -> None:
    """Closing a stream keeps what had arrived but was not read yet."""
    reply = (
        send(STREAM_HEAD + framed(FIRST)),
        pause(0.02),
        send(framed(SECOND) + framed(THIRD)),
        stall(),
    )
    async with served(reply) as (_server, client):
        stream = await open_stream(client)
        await anext(stream)
        await asyncio.sleep(0.1)
        await stream.close()
        with pytest.raises(StreamClosedError) as caught:
            await stream.completion()

    assert stream.partial.text == TEXT
    assert caught.value.partial == stream.partial


@limited(3.0)
async def test_partial_at_any_time() -> None:
    """`partial` grows with the stream and ends equal to the completion."""
    reply = (
        send(STREAM_HEAD + framed(FIRST)),
        pause(0.02),
        send(framed(SECOND)),
        pause(0.02),
        send(framed(THIRD + FINISH + DONE) + LAST_CHUNK),
    )
    async with served(reply) as (_server, client):
        stream = await open_stream(client)
        lengths = [len(stream.partial.text)]
        lengths += [len(stream.partial.text) async for _ in stream]

    assert lengths[0] == 0
    assert lengths == sorted(lengths)
    assert stream.partial.text == TEXT


# -- what a stream is, besides ---------------------------------------------------------


@limited(3.0)
async def test_folded_stream_equals_the_awaited_answer() -> None:
    """`completion()` of a stream is what the call without streaming returns."""
    async with served(GOOD_STREAM, GOOD_ANSWER) as (_server, client):
        streaming = await (await open_stream(client)).completion()
        awaited = await ask(client)

    assert streaming.text == awaited.text == TEXT
    assert streaming.finish_reason == awaited.finish_reason == "stop"
    assert streaming.usage == awaited.usage
    assert streaming.request_id == awaited.request_id == TRACE_ID
    assert streaming.meta.status == 200
    assert streaming.meta.headers["X-DS-TRACE-ID"] == TRACE_ID
    assert [a.outcome for a in streaming.attempts] == ["ok"]


@limited(3.0)
async def test_two_tasks_cannot_read_one_stream() -> None:
    """A second reader is refused with a clear error; the first goes on."""
    reply = (send(STREAM_HEAD), pause(0.1), send(framed(EVENTS) + LAST_CHUNK))
    async with served(reply) as (_server, client):
        stream = await open_stream(client)
        first = asyncio.create_task(stream.completion())
        await asyncio.sleep(0.02)
        with pytest.raises(StreamInUseError):
            await anext(stream)
        answer = await first

    assert answer.text == TEXT


@limited(3.0)
async def test_reading_on_after_the_end() -> None:
    """A complete stream is empty when read again, and its completion stays."""
    async with (
        FaultServer(GOOD_STREAM) as server,
        clean_client(server.url) as client,
        await open_stream(client) as stream,
    ):
        first = [found async for found in stream]
        again = [found async for found in stream]
        answer = await stream.completion()
        await stream.close()

    assert len(first) == 4
    assert again == []
    assert answer.text == TEXT
    assert stream.usage is not None
    assert stream.request_id == TRACE_ID
    assert "complete" in repr(stream)


@limited(3.0)
async def test_an_error_stays_the_error() -> None:
    """A broken stream raises its error again, not an empty success."""
    async with served((*streamed(FIRST),)) as (_server, client):
        stream = await open_stream(client)
        for _ in range(3):
            with pytest.raises(StreamInterruptedError) as caught:
                await stream.completion()
            assert caught.value.partial is not None
            assert caught.value.partial.text == "one "


@limited(3.0)
async def test_attempts_of_a_broken_stream_hold_the_last_one() -> None:
    """The error of a stream lists the attempt that broke, with its trace id."""
    async with served((*streamed(FIRST),)) as (_server, client):
        with pytest.raises(StreamInterruptedError) as caught:
            await by_completion(client, Taken())

    assert [(a.number, a.outcome) for a in caught.value.attempts] == [
        (1, "StreamInterruptedError")
    ]
    assert caught.value.attempts[0].request_id == TRACE_ID
    assert caught.value.attempts[0].status == 200


@limited(3.0)
async def test_closing_may_be_awaited() -> None:
    """`stream.close()` acts at once, and may be awaited as in other clients."""
    async with served(open_ended(FIRST)) as (_server, client):
        stream = await open_stream(client)
        close: Callable[[], Any] = stream.close
        closing = close()
        assert slots_in_use(client) == 0
        await closing
        await stream.aclose()


@limited(3.0)
async def test_connection_is_reused_after_done() -> None:
    """Streams read to [DONE], one after another, share one connection."""
    split = (
        send(STREAM_HEAD + framed(EVENTS)),
        pause(0.03),  # the end of the body comes later than [DONE]
        send(LAST_CHUNK),
    )
    async with served(split, GOOD_STREAM) as (server, client):
        for mode in (*STREAM_MODES.values(), *STREAM_MODES.values()):
            await mode(client, Taken())
            await pool_empty(client)

    assert len(server.requests) == 8
    assert len(server.connections) == 1


@limited(3.0)
async def test_fim_stream() -> None:
    """A FIM stream folds, breaks and closes like a chat stream."""

    def fim(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "text": text, "finish_reason": finish}
        return event({"id": "f", "object": "text_completion", "choices": [choice]})

    async def opened() -> CompletionStream:
        return await client.completions.create(
            model="deepseek-v4-pro", prompt="x", stream=True
        )

    good = streamed(fim("a"), fim("b", "stop"), DONE)
    async with served(good, streamed(fim("a")), open_ended(fim("a"))) as (
        _server,
        client,
    ):
        stream = await opened()
        assert "".join([text async for text in stream.text()]) == "ab"
        broken = await opened()
        with pytest.raises(StreamInterruptedError) as caught:
            await broken.completion()
        assert caught.value.partial == broken.partial
        async with await opened():
            assert slots_in_use(client) == 1
        assert slots_in_use(client) == 0
