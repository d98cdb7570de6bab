"""Network reads to chunks: the regular way equals the exact one at every cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from recorded import body

from deepseek_async import errors
from deepseek_async.chunks import PayloadReader
from deepseek_async.codec import CHAT_CHUNK, FIM_CHUNK, Codec
from deepseek_async.types import ChatCompletionChunk


class ExactReader(PayloadReader[Any]):
    """A reader that is never allowed the regular way."""

    def feed(self, data: bytes) -> list[Any]:
        self._is_regular = False
        return self._feed_general(data)


def chunk(text: str, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    data = {"id": "c", "choices": [choice], **fields}
    return json.dumps(data, ensure_ascii=False).encode()


def event(text: str) -> bytes:
    return b"data: " + chunk(text) + b"\n\n"


DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"Internal failure","type":"server_error"}}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"total_tokens":3}}\n\n'
EMPTY = b'data: {"id":"c","choices":[]}\n\n'

STREAMS: dict[str, bytes] = {
    "thinking": body("chat_thinking.sse"),
    "tools": body("chat_tools.sse"),
    "old": body("chat_old.sse"),
    "error after text": body("stream_error.sse"),
    "regular": event("a") + event("bé") + event("\U0001f304") + USAGE + DONE,
    "keep-alives between": event("a")
    + b": keep-alive\n\n"
    + event("b")
    + b":\n\n\n\n"
    + DONE,
    "keep-alives first": b": keep-alive\n\n: keep-alive\n\n" + event("a") + DONE,
    "keep-alive in an event": event("a")
    + b": x\n"
    + event("b")
    + b":y\ndata: [DONE]\n\n",
    "blank lines first": b"\n\n\n" + event("a") + b"\n" + event("b") + DONE,
    "CRLF": (event("a") + b": keep-alive\n\n" + event("b") + DONE).replace(
        b"\n", b"\r\n"
    ),
    "CR": (event("a") + event("b") + DONE).replace(b"\n", b"\r"),
    "mixed endings": event("a")
    + b"data: "
    + chunk("b")
    + b"\r\n\r\n"
    + event("c")
    + b"data: "
    + chunk("d")
    + b"\r\n\n"
    + event("e")
    + b"data: [DONE]\n\r\n",
    "BOM": b"\xef\xbb\xbf" + event("a") + event("b") + DONE,
    "BOM that is none": event("a") + b"\xef\xbb\xbf" + event("b") + event("c") + DONE,
    "no space": (event("a") + event("b") + DONE).replace(b"data: ", b"data:"),
    "ids and types": b"id: 1\nevent: message\ndata: "
    + chunk("a")
    + b"\n\n"
    + event("b")
    + b"id: 2\n\nretry: 5\n\n: x\n\n"
    + event("c")
    + b"id: 3\n"
    + DONE,
    "foreign type": event("a") + b"event: ping\ndata: {}\n\n" + event("b") + DONE,
    "error type": event("a")
    + b'event: error\ndata: {"message":"no","code":429}\n\n'
    + DONE,
    "error type, plain": event("a") + b"event: error\ndata: overloaded\n\n" + DONE,
    "unknown fields": event("a") + b"foo: bar\n\nfoo\n" + event("b") + DONE,
    "empty data": event("a") + b"data:\n\ndata: \n\ndata\n\n" + event("b") + DONE,
    "multi-line data": event("a") + b'data: {"choices":\ndata: [{"delta":\ndata: '
    b'{"content":"m"}}]}\n\n' + event("b") + DONE,
    "two objects in an event": event("a") + b"data: {}\ndata: {}\n\n" + event("b"),
    "two objects on a line": event("a") + b"data: {} {}\n\n" + event("b"),
    "error object": event("a") + ERROR + event("b") + DONE,
    "error only": ERROR,
    "error after a comment": b": x\n" + ERROR + event("b") + event("c") + DONE,
    "only comments, no blank line": b": x\n: y\n" + event("a") + b": z\n" + DONE,
    "empty chunk": event("a") + EMPTY + event("b") + b"data: {}\n\n" + DONE,
    "nonsense": event("a") + b"data: nonsense\n\n" + event("b") + DONE,
    "not an object": event("a") + b"data: [1]\n\ndata: 5\n\n" + DONE,
    "unfit fields": event("a")
    + b'data: {"choices":[{"delta":{"content":5,"x":1}}]}\n\n'
    + DONE,
    "invalid UTF-8": event("a")
    + b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'
    + DONE,
    "done early": event("a") + DONE + event("b") + DONE,
    "done at once": DONE,
    "done, padded": event("a") + b"data:  [DONE] \n\n",
    "no final blank line": event("a") + b"data: [DONE]\n",
    "no final line end": event("a") + b"data: [DONE]",
    "no final blank line, payload": event("a") + b"data: " + chunk("b"),
    "no done": event("a") + event("b"),
    "cut in a payload": event("a") + b'data: {"choices":[{"delta":{"content":"b',
    "cut in a name": event("a") + b"dat",
    "cut error": event("a") + b'data: {"error":{"message":"x"}}',
    "nothing": b"",
    "comments only": b": a\n\n: b\n\n",
}


def outcome(
    reader: PayloadReader[Any], pieces: Iterable[bytes]
) -> tuple[Any, bool, Any, int]:
    """All there is to know after a stream: chunks, end, failure, keep-alives."""
    chunks: list[Any] = []
    for piece in pieces:
        chunks += reader.feed(piece)
    chunks += reader.end()
    failure = reader.failure
    told = failure and (type(failure), str(failure), vars(failure).get("body"))
    shown = [msgspec.to_builtins(one) for one in chunks]
    return shown, reader.done, told, reader.comments


def new(cls: type[PayloadReader[Any]], codec: Codec[Any] = CHAT_CHUNK) -> Any:
    return cls(codec, max_event_size=1_000_000)


@pytest.mark.parametrize("name", STREAMS)
def test_the_regular_way_equals_the_exact_one_at_every_cut(name: str) -> None:
    """However the bytes are cut, chunks, failure and counts are the same."""
    data = STREAMS[name]
    expected = outcome(new(ExactReader), [data])

    assert outcome(new(PayloadReader), [data]) == expected
    for cut in range(len(data) + 1):
        pieces = data[:cut], data[cut:]
        assert outcome(new(PayloadReader), pieces) == expected, pieces


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_the_regular_way_equals_the_exact_one_in_small_pieces(
    name: str, size: int
) -> None:
    """Pieces of one byte, of a few, and of an odd size make no difference."""
    data = STREAMS[name]
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    expected = outcome(new(ExactReader), [data])

    assert outcome(new(ExactReader), pieces) == expected
    assert outcome(new(PayloadReader), pieces) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_every_event_in_a_piece_of_its_own(name: str) -> None:
    """The usual case of a network read an event gives the same."""
    data = STREAMS[name]
    pieces = [part + b"\n\n" for part in data.split(b"\n\n")]
    pieces[-1] = pieces[-1][:-2]

    assert outcome(new(PayloadReader), pieces) == outcome(new(ExactReader), [data])


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def read(data: bytes) -> tuple[str, PayloadReader[ChatCompletionChunk]]:
    reader: PayloadReader[ChatCompletionChunk] = new(PayloadReader)
    chunks = reader.feed(data)
    return text(chunks + reader.end()), reader


@pytest.mark.parametrize(
    ("name", "content", "done"),
    [
        ("thinking", "Grüß Gott \U0001f304", True),
        ("old", "Good day", True),
        ("regular", "abé\U0001f304", True),
        ("CRLF", "ab", True),
        ("CR", "ab", True),
        ("mixed endings", "abcde", True),
        ("BOM", "ab", True),
        ("ids and types", "abc", True),
        ("multi-line data", "amb", True),
        ("empty data", "ab", True),
        ("invalid UTF-8", "a�", True),
        ("done early", "a", True),
        ("done, padded", "a", True),
        ("no final blank line", "a", True),
        ("no final line end", "a", True),
        ("no final blank line, payload", "ab", False),
        ("no done", "ab", False),
        ("cut in a payload", "a", False),
        ("cut in a name", "a", False),
    ],
)
def test_streams_say_what_they_should(name: str, content: str, done: bool) -> None:  # noqa: FBT001
    """The exact way itself is right: text, end, and no failure."""
    found, reader = read(STREAMS[name])

    assert found == content
    assert reader.done is done
    assert reader.failure is None


@pytest.mark.parametrize(
    ("name", "cls", "reason"),
    [
        ("error after text", errors.InternalServerError, "Internal failure"),
        ("error object", errors.InternalServerError, "Internal failure"),
        ("error only", errors.InternalServerError, "Internal failure"),
        ("error type", errors.RateLimitError, "no"),
        ("error type, plain", errors.InternalServerError, "overloaded"),
        ("cut error", errors.InternalServerError, "x"),
        ("nonsense", errors.ResponseDecodeError, "not a JSON object"),
        ("not an object", errors.ResponseDecodeError, "not a JSON object"),
    ],
)
def test_an_error_in_the_stream_ends_it(
    name: str, cls: type[errors.APIError], reason: str
) -> None:
    """The chunks before it are kept, the error is typed, the rest is not read."""
    found, reader = read(STREAMS[name])

    assert found == {"error after text": "Half a", "error only": ""}.get(name, "a")
    assert type(reader.failure) is cls
    assert reason in str(reader.failure)
    assert not reader.done
    assert reader.feed(event("late")) == []


def test_keep_alives_are_counted() -> None:
    """Comments and events without content are what a queued request shows."""
    _, reader = read(STREAMS["keep-alives between"])
    assert reader.comments == 2
    _, reader = read(STREAMS["foreign type"])
    assert reader.comments == 1


@pytest.mark.parametrize("late", [event("b"), event("b") + DONE, b"x", b"\n\n"])
def test_nothing_counts_after_the_end(late: bytes) -> None:
    """What a server sends after `[DONE]` is no part of the answer."""
    reader = new(PayloadReader)
    assert text(reader.feed(event("a") + DONE)) == "a"

    assert reader.feed(late) == []
    assert reader.end() == []
    assert reader.end() == []
    assert reader.done
    assert reader.failure is None


@pytest.mark.parametrize("size", [10, 1_000, 100_000])
def test_an_event_too_large_is_refused(size: int) -> None:
    """A line without end is given up at the limit, in pieces and at once."""
    data = event("a") + b"data: " + b"x" * 200_000
    for pieces in ([data], [data[i : i + size] for i in range(0, len(data), size)]):
        reader = PayloadReader(CHAT_CHUNK, max_event_size=50_000)
        chunks = [c for piece in pieces for c in reader.feed(piece)] + reader.end()

        assert text(chunks) == "a"
        assert type(reader.failure) is errors.ResponseTooLargeError


def test_a_large_event_without_its_end_is_refused_at_the_end() -> None:
    """The limit holds for what only the end of the body completes."""
    reader = PayloadReader(CHAT_CHUNK, max_event_size=1_000)
    reader.feed(b"data: " + b"x" * 2_000)

    assert reader.end() == []
    assert type(reader.failure) is errors.ResponseTooLargeError


def test_a_long_event_is_whole() -> None:
    """An event longer than the kept tail, in pieces, is decoded all the same."""
    data = event("a") + event("y" * 100_000) + event("b") + DONE
    reader = new(PayloadReader)
    chunks = [
        c for i in range(0, len(data), 1_500) for c in reader.feed(data[i : i + 1_500])
    ]

    assert text(chunks) == "a" + "y" * 100_000 + "b"
    assert reader.done


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=ascii)
def test_no_event_is_held_back(ending: bytes) -> None:
    """Whatever ends its lines, an event is there as soon as it is complete."""
    reader = new(PayloadReader)
    for number in range(5):
        data = event(str(number)).replace(b"\n", ending)
        assert text(reader.feed(data)) == str(number)


def test_no_event_is_held_back_where_line_endings_change() -> None:
    """Two kinds of endings in one piece delay nothing either."""
    reader = new(PayloadReader)
    data = event("a") + event("b").replace(b"\n", b"\r\n")

    assert text(reader.feed(data)) == "ab"
    assert text(reader.feed(data)) == "ab"


def test_a_keep_alive_counts_at_once() -> None:
    """A comment is seen when it comes, with or without a blank line after it."""
    reader = new(PayloadReader)
    for count in range(1, 4):
        reader.feed(b": keep-alive\n")
        assert reader.comments == count
    assert text(reader.feed(b"\n" + event("a"))) == "a"
    assert reader.comments == 3


def test_an_end_is_an_end() -> None:
    """Asking twice for what the end completes gives it once."""
    reader = new(PayloadReader)
    reader.feed(event("a")[:-2])

    assert text(reader.end()) == "a"
    assert reader.end() == []


def test_fim_streams_are_read_likewise() -> None:
    """The reader knows no endpoint; the separate usage chunk counts as one."""
    reader = new(PayloadReader, FIM_CHUNK)
    chunks = reader.feed(body("fim.sse"))

    assert "".join(c.text for one in chunks for c in one.choices) == "total = x * y"
    assert chunks[-1].usage is not None
    assert reader.done
