"""The event stream decoder against a plain reading of the WHATWG rules."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from hypothesis import example, given, settings, strategies as st

from deepseek_async.errors import SSEEventTooLargeError
from deepseek_async.sse import ServerSentEvent, SSEDecoder

BOM = b"\xef\xbb\xbf"


@dataclass
class Reference:
    """The whole stream at once, with one variable for each of the standard's.

    Bytes are read as Latin-1 so that each is one character: every character the
    rules name is ASCII. Only an event type and an id are text in the end.
    """

    events: list[ServerSentEvent] = field(default_factory=list[ServerSentEvent])
    last_event_id: str = ""
    retry: int | None = None
    comments: int = 0
    data_buffer: list[str] = field(default_factory=list[str])
    event_type_buffer: str = ""
    last_event_id_buffer: str = ""

    def read(self, stream: bytes) -> Reference:
        text = stream.removeprefix(BOM).decode("latin-1")
        *lines, _ = re.split("\r\n|\n|\r", text)
        for line in lines:
            self.read_line(line)
        return self

    def read_line(self, line: str) -> None:
        if line == "":
            self.dispatch()
        elif line.startswith(":"):
            self.comments += 1
        elif ":" in line:
            name, value = line.split(":", 1)
            self.set_field(name, value.removeprefix(" "))
        else:
            self.set_field(line, "")

    def set_field(self, name: str, value: str) -> None:
        if name == "event":
            self.event_type_buffer = value
        elif name == "data":
            self.data_buffer.append(value)
        elif name == "id":
            if "\0" not in value:
                self.last_event_id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.retry = min(int(value), 2**53 - 1)

    def dispatch(self) -> None:
        self.last_event_id = utf8(self.last_event_id_buffer)
        if self.data_buffer:
            self.events.append(
                ServerSentEvent(
                    utf8(self.event_type_buffer) or "message",
                    "\n".join(self.data_buffer).encode("latin-1"),
                    self.last_event_id,
                    self.retry,
                )
            )
        self.data_buffer = []
        self.event_type_buffer = ""


def utf8(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", errors="replace")


line_endings = st.sampled_from([b"\n", b"\r", b"\r\n"])
names = st.sampled_from(
    [b"data", b"event", b"id", b"retry", b"", b"Data", b"dat", b"datab", b"events"]
)
values = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=8).map(str.encode),
    st.integers(0, 2**70).map(lambda number: str(number).encode()),
    st.sampled_from([b"[DONE]", b"\0", b"1\0", b" ", b"\xff", BOM]),
)
colons = st.sampled_from([b":", b": ", b":  ", b""])
fields = st.tuples(names, colons, values, line_endings).map(b"".join)
scraps = st.one_of(line_endings, st.binary(max_size=6), st.just(BOM), names)
streams = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(fields, fields, line_endings, scraps), max_size=30).map(
        b"".join
    ),
)
cuts = st.lists(st.integers(0, 400), max_size=20)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut *stream*; equal positions make empty pieces."""
    edges = [0, *sorted(min(at, len(stream)) for at in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=500, deadline=None)
@given(streams, cuts)
@example(BOM[:2] + b"data: x\n\n", [1, 2, 2, 3])
@example(b"data: x\r\n\r\n", [8, 8, 9, 10])
@example(b"id: 1\r\r\ndata\r\r", [6, 7, 8])
async def test_equals_the_reference(stream: bytes, cuts: list[int]) -> None:
    """Any bytes in any pieces give what the standard's steps give."""
    decoder = SSEDecoder()
    events = [e for piece in pieces_of(stream, cuts) for e in decoder.feed(piece)]
    reference = Reference().read(stream)

    assert events == reference.events
    assert decoder.last_event_id == reference.last_event_id
    assert decoder.retry == reference.retry
    assert decoder.comments == reference.comments


@settings(max_examples=500, deadline=None)
@given(streams, cuts)
@example(b"data: [DONE]\r", [])
async def test_unfinished_equals_the_reference(stream: bytes, cuts: list[int]) -> None:
    """The unfinished event is the one more that two line endings would bring."""
    decoder = SSEDecoder()
    for piece in pieces_of(stream, cuts):
        decoder.feed(piece)
    before = Reference().read(stream).events
    after = Reference().read(stream + b"\n\n").events

    event = decoder.unfinished()

    assert ([event] if event else []) == after[len(before) :]


@settings(max_examples=500, deadline=None)
@given(streams, streams)
@example(b"data: x\r\r", b"\ndata: y\n\n")
@example(b":\r", b"\r\ndata: y\n\n")
@example(b"id: 1\n", b"data: y\n\n")
@example(b"retry: 1\n", b"data: y\n\n")
async def test_boundary_forgets(head: bytes, tail: bytes) -> None:
    """At a boundary the rest reads like a stream of its own, but for id and retry."""
    decoder = SSEDecoder()
    decoder.feed(b"\n" + head)  # past the place of a byte order mark
    comments = decoder.comments
    if not decoder.at_boundary:
        decoder.feed(b"\n\n")
        comments = decoder.comments
    assert decoder.at_boundary
    assert decoder.unfinished() is None

    fresh = Reference(
        last_event_id=decoder.last_event_id,
        last_event_id_buffer=decoder.last_event_id.encode().decode("latin-1"),
        retry=decoder.retry,
    ).read(b"\n" + tail)

    assert decoder.feed(tail) == fresh.events
    assert decoder.comments - comments == fresh.comments


@settings(max_examples=500, deadline=None)
@given(streams, cuts, st.integers(1, 60))
async def test_limit_does_not_depend_on_cuts(
    stream: bytes, cuts: list[int], limit: int
) -> None:
    """The limit lets the same events through wherever the bytes are cut."""

    def outcome(pieces: list[bytes]) -> tuple[list[ServerSentEvent], bool]:
        decoder = SSEDecoder(max_event_size=limit)
        events: list[ServerSentEvent] = []
        try:
            for piece in [*pieces, b""]:
                events += decoder.feed(piece)
        except SSEEventTooLargeError:
            return events, True
        return events, False

    assert outcome(pieces_of(stream, cuts)) == outcome([stream])
