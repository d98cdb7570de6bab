"""The fault matrix: what can go wrong on a wire, and what must come of it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

from deepseek_async import (
    APIStatusError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineExceededError,
    DeepSeekError,
    EmptyResponseError,
    FirstPayloadTimeoutError,
    InternalServerError,
    PayloadGapTimeoutError,
    RateLimitError,
    ResponseDecodeError,
    ResponseHeadTimeoutError,
    ResponseTooLargeError,
    ServiceUnavailableError,
    SilenceTimeoutError,
    StreamInterruptedError,
    Timeouts,
    UnexpectedContentTypeError,
)

from .answers import (
    DONE,
    EVENTS,
    FINISH,
    FIRST,
    HTML,
    KEEP_ALIVE,
    LAST_CHUNK,
    PIECES,
    SECOND,
    STREAM_HEAD,
    THIRD,
    UNFRAMED_HEAD,
    completion,
    error_body,
    event,
    framed,
    head,
    text_event,
    whole,
)
from .wire import (
    Reply,
    Request,
    drip,
    endless,
    fin,
    flood,
    pause,
    reset,
    send,
    stall,
)

LIMIT = 0.2
"""Of the clock under test, in seconds."""

PATIENCE = 9.0
"""Of all other clocks: they outlast every hard limit."""

JSON_HEAD = head(Transfer_Encoding="chunked")
HALF_ANSWER = completion()[:40]
OVERLOADED = error_body("The server is overloaded", "service_unavailable_error")


@dataclass(frozen=True)
class Fault:
    """A fault and what must come of it.

    Attributes:
        answer: The reply to a request without streaming.
        stream: The reply to a streaming request; the same if not given.
        error: What the awaiting caller gets.
        stream_error: What the reader of the stream gets; the same if not given.
        partial: What a stream keeps; `None` where it does not even open.
        clock: The clocks of `Timeouts` that are short; the others outlast the test.
        closes: Whether the client must have closed the connection by itself.
        greeting: Whether the reply is played on connect.
        status: The status the error must have.
    """

    answer: Reply
    error: type[DeepSeekError]
    stream: Reply | None = None
    stream_error: type[DeepSeekError] | None = None
    partial: str | None = None
    clock: tuple[str, ...] = ()
    closes: bool = True
    greeting: bool = False
    status: int | None = None

    @property
    def timeouts(self) -> Timeouts:
        """The clocks of the client."""
        names = ("connect", "head", "first_payload", "payload_gap", "silence")
        limits = dict.fromkeys(names, PATIENCE) | dict.fromkeys(self.clock, LIMIT)
        if "deadline" in limits:
            # It runs while a hundred others connect, too, before any body begins.
            limits["deadline"] = 4 * LIMIT
        return Timeouts(**limits)

    def reply(self, request: Request) -> Reply:
        if request.is_stream and self.stream is not None:
            return self.stream
        return self.answer


def _chunked_stream(*events: bytes) -> Reply:
    return (send(STREAM_HEAD + framed(b"".join(events))),)


ONE_TWO = "".join(PIECES[:2])

FAULTS: dict[str, Fault] = {
    "reset at the head": Fault((reset(),), ConnectionLostError),
    "FIN at the head": Fault((fin(),), ConnectionLostError),
    "FIN inside the status line": Fault(
        (send(b"HTTP/1.1 20"), fin()), ConnectionLostError
    ),
    "garbage for a status line": Fault(
        (send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),), ConnectionLostError
    ),
    "a header too large": Fault(
        (send(head(X_Large="x" * 20_000)),), ConnectionLostError
    ),
    "endless header": Fault(
        (send(b"HTTP/1.1 200 OK\r\n"), flood(b"X-Many: more\r\n" * 50, 1_000)),
        ConnectionLostError,
    ),
    "two content lengths": Fault(
        (send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),),
        ConnectionLostError,
    ),
    "unknown content encoding": Fault(
        (send(whole(completion(), Content_Encoding="br")),),
        ConnectionLostError,
    ),
    "gzip that is none": Fault(
        (send(whole(completion(), Content_Encoding="gzip")),),
        ConnectionLostError,
        stream=(
            send(
                head(
                    kind="text/event-stream",
                    Content_Encoding="gzip",
                    Content_Length=str(len(EVENTS)),
                )
                + EVENTS
            ),
        ),
        partial="",
    ),
    "gzip cut short": Fault(
        (
            send(
                head(Content_Encoding="gzip", Connection="close")
                + gzip.compress(completion())[:60]
            ),
            fin(),
        ),
        # aiohttp reports the end of an unframed body, not the cut inside the gzip.
        DeepSeekError,
        stream=(
            send(UNFRAMED_HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n"),
            send(gzip.compress(EVENTS)[:-20]),
            fin(),
        ),
        stream_error=StreamInterruptedError,
        partial="?",
    ),
    "reset in the midst of an event": Fault(
        (send(JSON_HEAD + framed(HALF_ANSWER)), reset()),
        ConnectionLostError,
        stream=(*_chunked_stream(FIRST, SECOND[:30]), reset()),
        stream_error=StreamInterruptedError,
        partial="one ",
    ),
    "reset of an unframed body": Fault(
        (send(head(Connection="close") + HALF_ANSWER), reset()),
        DeepSeekError,
        stream=(send(UNFRAMED_HEAD + FIRST + SECOND[:30]), reset()),
        stream_error=StreamInterruptedError,
        partial="one ",
    ),
    "FIN without a last chunk": Fault(
        (send(JSON_HEAD + framed(completion())), fin()),
        ConnectionLostError,
        stream=(*_chunked_stream(FIRST, SECOND), fin()),
        stream_error=StreamInterruptedError,
        partial=ONE_TWO,
    ),
    "FIN inside a chunk": Fault(
        (send(JSON_HEAD + framed(completion())[:-9]), fin()),
        ConnectionLostError,
        stream=(send(STREAM_HEAD + framed(FIRST) + framed(SECOND)[:-5]), fin()),
        stream_error=StreamInterruptedError,
        partial="one ",
    ),
    "FIN of an unframed body": Fault(
        (send(head(Connection="close") + HALF_ANSWER), fin()),
        DeepSeekError,
        stream=(send(UNFRAMED_HEAD + FIRST + SECOND), fin()),
        stream_error=StreamInterruptedError,
        partial=ONE_TWO,
    ),
    "the end without [DONE]": Fault(
        (send(whole(b'{"id": "c-1", "choices": []}')),),
        EmptyResponseError,
        stream=(*_chunked_stream(FIRST, SECOND, THIRD, FINISH), send(LAST_CHUNK)),
        stream_error=StreamInterruptedError,
        partial="one two three",
        closes=False,
    ),
    "short content length": Fault(
        (send(head(Content_Length="5000") + completion()), fin()),
        ConnectionLostError,
        stream=(
            send(head(kind="text/event-stream", Content_Length="5000") + FIRST),
            fin(),
        ),
        stream_error=StreamInterruptedError,
        partial="one ",
    ),
    "a bad chunk size": Fault(
        (send(JSON_HEAD + framed(HALF_ANSWER) + b"zz\r\n"),),
        ConnectionLostError,
        stream=(*_chunked_stream(FIRST), pause(0.02), send(b"zz\r\n")),
        stream_error=StreamInterruptedError,
        partial="one ",
    ),
    "stall at the handshake": Fault(
        (stall(),), ConnectTimeoutError, greeting=True, clock=("connect",)
    ),
    "stall at the head": Fault((stall(),), ResponseHeadTimeoutError, clock=("head",)),
    "stall before the first payload": Fault(
        (send(JSON_HEAD), stall()),
        FirstPayloadTimeoutError,
        stream=(send(STREAM_HEAD), stall()),
        partial="",
        clock=("first_payload",),
    ),
    "stall inside the first payload": Fault(
        (send(JSON_HEAD + framed(HALF_ANSWER)), stall()),
        PayloadGapTimeoutError,
        stream=(*_chunked_stream(FIRST[:30]), stall()),
        stream_error=FirstPayloadTimeoutError,
        partial="",
        clock=("payload_gap", "first_payload"),
    ),
    "stall in the midst of the body": Fault(
        (send(JSON_HEAD + framed(HALF_ANSWER)), stall()),
        PayloadGapTimeoutError,
        stream=(*_chunked_stream(FIRST, SECOND[:30]), stall()),
        partial="one ",
        clock=("payload_gap",),
    ),
    "stall after the last payload": Fault(
        (send(JSON_HEAD + framed(completion())), stall()),
        PayloadGapTimeoutError,
        stream=(*_chunked_stream(FIRST, SECOND, THIRD, FINISH), stall()),
        partial="one two three",
        clock=("payload_gap",),
    ),
    "silence before the first payload": Fault(
        (send(JSON_HEAD), stall()),
        SilenceTimeoutError,
        stream=(send(STREAM_HEAD), stall()),
        partial="",
        clock=("silence",),
    ),
    "silence in the midst of the body": Fault(
        (send(JSON_HEAD + framed(HALF_ANSWER)), stall()),
        SilenceTimeoutError,
        stream=(*_chunked_stream(FIRST), stall()),
        partial="one ",
        clock=("silence",),
    ),
    "the deadline before the head": Fault(
        (stall(),), DeadlineExceededError, clock=("deadline",)
    ),
    "the deadline in the midst of the body": Fault(
        (send(JSON_HEAD + framed(b"{")), endless(framed(b" "), 0.05)),
        DeadlineExceededError,
        stream=(*_chunked_stream(FIRST), endless(framed(text_event("")), 0.05)),
        partial="one ",
        clock=("deadline",),
    ),
    "endless keep-alives": Fault(
        (send(JSON_HEAD), endless(framed(b"\n"), 0.02)),
        FirstPayloadTimeoutError,
        stream=(send(STREAM_HEAD), endless(framed(KEEP_ALIVE), 0.02)),
        partial="",
        clock=("first_payload",),
    ),
    "endless keep-alives after a payload": Fault(
        (send(JSON_HEAD + framed(b"{")), endless(framed(b"\n"), 0.02)),
        PayloadGapTimeoutError,
        stream=(*_chunked_stream(FIRST), endless(framed(KEEP_ALIVE), 0.02)),
        partial="one ",
        clock=("payload_gap",),
    ),
    "endless events without content": Fault(
        (send(JSON_HEAD), endless(framed(b" "), 0.02)),
        FirstPayloadTimeoutError,
        stream=(send(STREAM_HEAD), endless(framed(b"event: ping\ndata: {}\n\n"), 0.02)),
        partial="",
        clock=("first_payload",),
    ),
    "slow-loris in the head": Fault(
        (drip(head(), 0.05),), ResponseHeadTimeoutError, clock=("head",)
    ),
    "slow-loris in the body": Fault(
        (send(head(Content_Length="5000")), drip(completion(), 0.05)),
        PayloadGapTimeoutError,
        stream=(send(UNFRAMED_HEAD + FIRST), drip(SECOND, 0.05)),
        partial="one ",
        clock=("payload_gap",),
    ),
    "an empty 200": Fault(
        (send(whole(b"")),),
        EmptyResponseError,
        stream=(send(whole(b"", kind="text/event-stream")),),
        partial="",
        closes=False,
    ),
    "a blank 200": Fault(
        (send(whole(b"\n \r\n")),),
        EmptyResponseError,
        # Blank lines are keep-alives: the stream just ended without a payload.
        stream=(send(whole(b"\n \r\n", kind="text/event-stream")),),
        stream_error=DeepSeekError,
        partial="",
        closes=False,
    ),
    "a 204": Fault(
        (send(head("204 No Content")),), APIStatusError, status=204, closes=False
    ),
    "an HTML 504": Fault(
        (send(whole(HTML, "504 Gateway Time-out", "text/html")),),
        InternalServerError,
        status=504,
        closes=False,
    ),
    "a 504 cut short": Fault(
        (
            send(head("504 Gateway Time-out", "text/html", Content_Length="9000")),
            send(HTML),
            fin(),
        ),
        InternalServerError,
        status=504,
    ),
    "a 503 that stalls": Fault(
        (send(head("503 Busy", Content_Length="900") + b'{"error'), stall()),
        ServiceUnavailableError,
        status=503,
        clock=("silence",),
    ),
    "a 429": Fault(
        (send(whole(error_body("Too many requests", "rate_limit_error"), "429 Many")),),
        RateLimitError,
        status=429,
        closes=False,
    ),
    "HTML with 200": Fault(
        (send(whole(HTML, kind="text/html")),),
        UnexpectedContentTypeError,
        partial="",
        closes=False,
    ),
    "HTML with 200 in pieces": Fault(
        (
            send(head(kind="text/html", Transfer_Encoding="chunked")),
            send(framed(HTML[:1])),
            pause(0.02),
            send(framed(HTML[1:]) + LAST_CHUNK),
        ),
        UnexpectedContentTypeError,
        partial="",
        closes=False,
    ),
    "an error instead of an answer": Fault(
        (send(whole(OVERLOADED)),),
        ServiceUnavailableError,
        partial="",
        status=503,
        closes=False,
    ),
    "an error instead of an answer in pieces": Fault(
        (
            send(head(Content_Length=str(len(OVERLOADED))) + OVERLOADED[:6]),
            pause(0.02),
            send(OVERLOADED[6:]),
        ),
        ServiceUnavailableError,
        partial="",
        status=503,
        closes=False,
    ),
    "an error in the stream": Fault(
        (send(whole(OVERLOADED)),),
        ServiceUnavailableError,
        stream=(
            *_chunked_stream(FIRST, event(OVERLOADED.decode()), DONE),
            send(LAST_CHUNK),
        ),
        partial="one ",
        status=503,
        closes=False,
    ),
    "an event that is no JSON": Fault(
        (send(whole(b"not json at all")),),
        ResponseDecodeError,
        stream=(*_chunked_stream(FIRST, b"data: not json\n\n", DONE), stall()),
        partial="one ",
        closes=False,
    ),
    "an answer over the limit": Fault(
        (send(JSON_HEAD), flood(framed(b"[" * 65_536), 200)),
        ResponseTooLargeError,
        stream=(
            send(STREAM_HEAD + framed(FIRST + b"data: ")),
            flood(framed(b"x" * 262_144), 80),
        ),
        partial="one ",
    ),
}

TIMED = tuple(name for name, fault in FAULTS.items() if fault.clock)
UNTIMED = tuple(name for name, fault in FAULTS.items() if not fault.clock)
