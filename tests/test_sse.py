"""The event stream decoder: public cases at every cut, limits, and its cost."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from deepseek_async.errors import SSEEventTooLargeError
from deepseek_async.sse import MAX_EVENT_SIZE, ServerSentEvent, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 1024 * 1024


class Event(msgspec.Struct):
    event: str
    data: str
    id: str
    retry: int | None


class End(msgspec.Struct):
    last_event_id: str
    retry: int | None
    pending_discarded: bool


class Case(msgspec.Struct):
    n: int
    name: str
    encoding: str
    chunks: list[str]
    expect: list[Event]
    comments: list[str]
    end: End

    @property
    def pieces(self) -> list[bytes]:
        return [chunk.encode(self.encoding) for chunk in self.chunks]

    @property
    def events(self) -> list[ServerSentEvent]:
        return [
            ServerSentEvent(e.event, e.data.encode(), e.id, e.retry)
            for e in self.expect
        ]


CASES = msgspec.json.decode(
    (Path(__file__).parent / "data" / "sse_cases.json").read_bytes(), type=list[Case]
)
every_case = pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.n} {case.name}" for case in CASES]
)


def decode(
    pieces: Iterable[bytes], decoder: SSEDecoder | None = None
) -> list[ServerSentEvent]:
    decoder = decoder or SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def check_end(case: Case, decoder: SSEDecoder) -> None:
    assert decoder.last_event_id == case.end.last_event_id
    assert decoder.retry == case.end.retry
    assert decoder.comments == len(case.comments)


def content(events: Iterable[ServerSentEvent]) -> list[tuple[str, bytes]]:
    return [(event.event, event.data) for event in events]


async def test_case_count() -> None:
    """The reference collection is present in full."""
    assert len(CASES) == 105


@every_case
async def test_case_as_recorded(case: Case) -> None:
    """A public case, cut as its source cut it, gives the standard's events."""
    decoder = SSEDecoder()
    events = decode(case.pieces, decoder)

    assert events == case.events
    check_end(case, decoder)


@every_case
async def test_case_whole(case: Case) -> None:
    """A public case read in one piece gives the standard's events."""
    decoder = SSEDecoder()
    events = decoder.feed(b"".join(case.pieces))

    assert events == case.events
    check_end(case, decoder)


@every_case
async def test_case_at_every_cut(case: Case) -> None:
    """A cut at any position, with an empty read in it, changes nothing."""
    data = b"".join(case.pieces)
    for at in range(len(data) + 1):
        decoder = SSEDecoder()
        head = decoder.feed(data[:at])
        at_boundary = decoder.at_boundary
        assert decoder.feed(b"") == []
        assert decoder.at_boundary is at_boundary
        tail = decoder.feed(data[at:])

        assert head + tail == case.events
        check_end(case, decoder)
        if at_boundary and at:
            other = SSEDecoder()
            other.feed(b"\n")  # past the place of a byte order mark
            assert content(other.feed(data[at:])) == content(tail)


@every_case
async def test_case_byte_by_byte(case: Case) -> None:
    """A public case read one byte at a time gives the standard's events."""
    decoder = SSEDecoder()
    events: list[ServerSentEvent] = []
    for piece in cut(b"".join(case.pieces), 1):
        completed = decoder.feed(piece)
        events += completed
        assert len(completed) <= 1
        if completed:
            assert decoder.at_boundary
        if decoder.at_boundary:
            assert decoder.unfinished() is None

    assert events == case.events
    check_end(case, decoder)


@every_case
async def test_case_end_of_stream(case: Case) -> None:
    """What the end of a stream cuts off is pending, and never dispatched."""
    decoder = SSEDecoder()
    decode(case.pieces, decoder)
    assert decoder.at_boundary is not case.end.pending_discarded
    assert decoder.feed(b"") == []


@pytest.mark.parametrize(
    ("data", "at_boundary"),
    [
        (b"", True),
        (b"\n", True),
        (b"data: x\n\n", True),
        (b"data: x\r\r", True),
        (b"data: x\r\n\r", True),
        (b": keep-alive\n", True),
        (b"unknown: x\n", True),
        (b"retry: 1\n", True),
        (b"id: 1\ndata\n\nid: 1\n", True),
        (b"\xef\xbb\xbf", True),
        (b"\xef\xbb", False),
        (b": keep-alive", False),
        (b":", False),
        (b"unknown line", False),
        (b"data", False),
        (b"data\n", False),
        (b"data: x\n", False),
        (b"data: x\r", False),
        (b"event: x\n", False),
        (b"id: 1\n", False),
        (b"id: 1\n\nid\n", False),
    ],
)
async def test_at_boundary(data: bytes, *, at_boundary: bool) -> None:
    """The decoder is at a boundary exactly when nothing read can matter later."""
    decoder = SSEDecoder()
    decoder.feed(data)
    assert decoder.at_boundary is at_boundary


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"\xef\xbb", None),
        (b"event: x\nid: 1", None),
        (b": comment", None),
        (b"data: [DONE]", b"[DONE]"),
        (b"data: [DONE]\n", b"[DONE]"),
        (b"data: [DONE]\r", b"[DONE]"),
        (b"data: [DONE]\r\n", b"[DONE]"),
        (b"data: a\ndata: b", b"a\nb"),
        (b"data: a\ndat", b"a"),
        (b"data: a\n: comment", b"a"),
        (b"data", b""),
        (b"\xef\xbb\xbfdata: x", b"x"),
        (b"data: old\n\ndata: new", b"new"),
    ],
)
async def test_unfinished(data: bytes, expected: bytes | None) -> None:
    """The unfinished event is what a blank line would dispatch."""
    decoder = SSEDecoder()
    decode(cut(data, 3), decoder)
    event = decoder.unfinished()

    assert (event and event.data) == expected


async def test_unfinished_leaves_the_decoder_alone() -> None:
    """Asking for the unfinished event has no effect on what is read later."""
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\nretry: 5\nevent: part\ndata: one\ndata: tw")

    assert decoder.unfinished() == ServerSentEvent("part", b"one\ntw", "1", 5)
    assert decoder.unfinished() == ServerSentEvent("part", b"one\ntw", "1", 5)
    assert decoder.last_event_id == ""
    assert decoder.feed(b"o\n\n") == [ServerSentEvent("part", b"one\ntwo", "1", 5)]
    assert decoder.last_event_id == "1"


async def test_unicode_line_separators_do_not_end_a_line() -> None:
    """Only CR and LF end a line, whatever else Unicode or C calls a separator."""
    text = "a\u2028b\u2029c\x0b\x0c\x1c\x1d\x1e\x85d"
    (event,) = SSEDecoder().feed(f"data: {text}\n\n".encode())
    assert event.data.decode() == text


async def test_invalid_utf8() -> None:
    """Data passes byte for byte; an event type or id has bad bytes replaced."""
    (event,) = SSEDecoder().feed(b"event: \xff\nid: \xc3\ndata: \xff\xfe\x00\n\n")
    assert event == ServerSentEvent("\ufffd", b"\xff\xfe\x00", "\ufffd", None)


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"00000000000000000000000000000000012", 12),
        (b"9007199254740991", 2**53 - 1),
        (b"9007199254740992", 2**53 - 1),
        (b"9" * 100_000, 2**53 - 1),
        (b"0" * 100_000, 0),
        (b"-1", None),
        (b"+1", None),
        (b"1_0", None),
        (b"1 ", None),
        (b" 1", None),
        (b"", None),
        ("\u0661".encode(), None),
    ],
)
async def test_retry(value: bytes, retry: int | None) -> None:
    """A reconnection time is ASCII digits only, and bounded."""
    decoder = SSEDecoder()
    decoder.feed(b"retry: " + value + b"\n")
    assert decoder.retry == retry


async def test_comments_are_counted_once() -> None:
    """A comment counts when its line is complete, however it was cut."""
    decoder = SSEDecoder()
    counts: list[int] = []
    for piece in (b":", b" keep", b"-alive", b"\r", b"\n:", b"\n", b"data:x\n:y\n"):
        decoder.feed(piece)
        counts.append(decoder.comments)
    assert counts == [0, 0, 0, 1, 1, 2, 3]


async def test_repr_hides_the_data() -> None:
    """An event's representation tells the size of its data, not the data."""
    event = ServerSentEvent("message", b"secret", "1", 2)
    assert repr(event) == (
        "ServerSentEvent(event='message', data=<6 bytes>, id='1', retry=2)"
    )


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (b"data: " + b"x" * 94 + b"\n\n", True),
        (b"data: " + b"x" * 95 + b"\n\n", False),
        (b"data: " + b"x" * 95, False),
        (b"data: " + b"x" * 44 + b"\ndata:" + b"x" * 45 + b"\n\n", True),
        (b"data: " + b"x" * 44 + b"\ndata:" + b"x" * 46 + b"\n\n", False),
        (b"data:\n" * 20 + b"\n", True),
        (b"data:\n" * 21, False),
        (b"event:" + b"x" * 95, False),
        (b"id:" + b"x" * 98 + b"\n", False),
        (b"retry:" + b"0" * 95 + b"\n", False),
        (b":" + b"x" * 1_000 + b"\n", True),
        (b"unknown:" + b"x" * 1_000 + b"\n", True),
        (b"database" * 100 + b"\n", True),
        (b"data: x\n\n" * 50, True),
        (b"data: x\n:" + b"x" * 500 + b"\n\n", True),
        (b"\n" * 1_000, True),
    ],
)
async def test_limit(data: bytes, size: int, *, fits: bool) -> None:
    """The limit holds for an event's lines, wherever the bytes are cut."""
    decoder = SSEDecoder(max_event_size=100)
    if fits:
        decode(cut(data, size), decoder)
        return
    with pytest.raises(SSEEventTooLargeError) as caught:
        decode(cut(data, size), decoder)
    assert caught.value.limit == 100


@pytest.mark.parametrize("size", [1, 5, 10_000])
async def test_limit_loses_no_event(size: int) -> None:
    """Events completed before one that is too large are still returned."""
    decoder = SSEDecoder(max_event_size=20)
    data = b"data: a\n\ndata: b\n\ndata: " + b"c" * 30 + b"\n\ndata: d\n\n"
    events: list[ServerSentEvent] = []

    def read() -> None:
        for piece in [*cut(data, size), b""]:
            events.extend(decoder.feed(piece))

    with pytest.raises(SSEEventTooLargeError):
        read()

    assert [event.data for event in events] == [b"a", b"b"]


async def test_limit_is_final() -> None:
    """After an event that was too large every call raises the same error."""
    decoder = SSEDecoder(max_event_size=20)
    with pytest.raises(SSEEventTooLargeError):
        decoder.feed(b"data: " + b"x" * 20)

    assert not decoder.at_boundary
    for data in (b"", b"\n\n", b"data: x\n\n"):
        with pytest.raises(SSEEventTooLargeError):
            decoder.feed(data)
    with pytest.raises(SSEEventTooLargeError):
        decoder.unfinished()


async def test_limit_error_holds_no_bytes_of_its_own() -> None:
    """The error has no context: it was not raised from within the parsing."""
    decoder = SSEDecoder(max_event_size=20)
    with pytest.raises(SSEEventTooLargeError) as caught:
        decoder.feed(b"data: " + b"x" * 20)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("limit", [0, -1])
async def test_limit_must_be_positive(limit: int) -> None:
    """A limit that admits nothing is refused."""
    with pytest.raises(ValueError, match="max_event_size"):
        SSEDecoder(max_event_size=limit)


async def test_default_limit() -> None:
    """An event of just under 8 MiB passes by default, one above does not."""
    data = b"data: " + b"x" * (MAX_EVENT_SIZE - len(b"data: "))
    assert len(decode([data, b"\n\n"])) == 1
    with pytest.raises(SSEEventTooLargeError):
        decode([data, b"x"])


@pytest.mark.parametrize("start", [b":", b": ", b"unknown: ", b"unknown", b"data\0"])
async def test_ignored_line_is_not_kept(start: bytes) -> None:
    """A comment or unknown line of 64 MiB takes next to no memory."""
    decoder = SSEDecoder()
    piece = b"x" * (64 * 1024)
    tracemalloc.start()
    try:
        decoder.feed(start + b"x" * 4 * MIB)
        tracemalloc.reset_peak()
        decode(itertools.repeat(piece, 1024), decoder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < MIB
    assert decoder.feed(b"\ndata: x\n\n") == [ServerSentEvent("message", b"x")]


@pytest.mark.parametrize(
    "piece", [b"data: " + b"x" * 4090, b"data:xy\n" * 512, b"data\n" * 800]
)
async def test_memory_is_bounded(piece: bytes) -> None:
    """Endless data fails at the limit having taken a small multiple of it."""
    decoder = SSEDecoder(max_event_size=MIB)
    tracemalloc.start()
    try:
        with pytest.raises(SSEEventTooLargeError):
            decode(itertools.repeat(piece, 4096), decoder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB


def seconds_per_byte(pieces: list[bytes], total: int) -> float:
    """Return the best of five, in processor time: others may use the machine."""
    best = float("inf")
    for _ in range(5):
        decoder = SSEDecoder(max_event_size=64 * MIB)
        start = time.thread_time()
        for piece in pieces:
            decoder.feed(piece)
        best = min(best, time.thread_time() - start)
    return best / total


@pytest.mark.timing
@pytest.mark.parametrize(
    ("line", "count", "size"),
    [
        pytest.param(b"x" * 1000, 500, 200, id="one line in pieces"),
        pytest.param(b"x" * 1000, 20, 1, id="one line byte by byte"),
        pytest.param(b"x\ndata: ", 6_000, 200, id="one event of many lines"),
        pytest.param(b"x\ndata: ", 6_000, MIB * 16, id="many lines at once"),
        pytest.param(b"x\n\ndata: ", 6_000, MIB * 16, id="many events at once"),
        pytest.param(b"x\r\rdata: ", 6_000, MIB * 16, id="many events, CR"),
        pytest.param(b"\r\n:" + b"x" * 100, 1_000, 7, id="comments in pieces"),
        pytest.param(b"\r", 6_000, 1, id="line endings one by one"),
    ],
)
async def test_time_is_linear(line: bytes, count: int, size: int) -> None:
    """Eight times the bytes take no more than a few times longer per byte."""
    small = b"data: " + line * count
    large = b"data: " + line * (8 * count)

    assert (
        seconds_per_byte(cut(large, size), len(large))
        < seconds_per_byte(cut(small, size), len(small)) * 4
    )
