"""What must hold for any bytes."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from msgspec import Struct
from test_sse_properties import Reference

from deepseek_async.chunks import PayloadReader
from deepseek_async.codec import (
    BALANCE,
    CHAT,
    CHAT_CHUNK,
    FIM,
    FIM_CHUNK,
    MAX_BODY_EXCERPT,
    MODELS,
    Codec,
    find_error,
    status_error,
    stream_error,
)
from deepseek_async.errors import APIError, APIStatusError, SSEEventTooLargeError
from deepseek_async.salvage import parse
from deepseek_async.sse import ServerSentEvent, SSEDecoder
from deepseek_async.types.chat import ChatCompletionChunk
from deepseek_async.types.meta import Extensible

Target: TypeAlias = Callable[[bytes], None]

LARGE: Final = 1 << 20
"""A limit that no input of a fuzzer reaches, in bytes."""


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """The payload of an input, whole and in pieces: its first bytes say where to cut.

    The first byte is the number of cuts; each of that many bytes after it is the size
    of a piece; the last piece takes what is left.
    """
    count = data[0] % 16 if data else 0
    sizes, stream = data[1 : 1 + count], data[1 + count :]
    edges = [0, *itertools.accumulate(sizes), len(stream)]
    return stream, [stream[a:b] for a, b in itertools.pairwise(edges)]


def sse(data: bytes) -> None:
    """The event decoder agrees with the plain reading of the standard, and is bounded.

    A limit that is too small raises its one error, the same at every later call.
    """
    stream, pieces = cut(data)
    decoder = SSEDecoder(max_event_size=LARGE)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    plain = Reference().read(stream)
    assert events == plain.events
    assert decoder.last_event_id == plain.last_event_id
    assert decoder.retry == plain.retry
    assert decoder.comments == plain.comments
    last = decoder.unfinished()
    more = Reference().read(stream + b"\n\n").events[len(events) :]
    assert ([last] if last else []) == more
    limit = 1 + (data[0] if data else 0)
    assert _limited(pieces, limit) == _limited([stream], limit)


def _limited(pieces: list[bytes], limit: int) -> tuple[list[ServerSentEvent], bool]:
    decoder = SSEDecoder(max_event_size=limit)
    events: list[ServerSentEvent] = []
    try:
        for piece in [*pieces, b""]:
            events += decoder.feed(piece)
    except SSEEventTooLargeError:
        return events, True
    return events, False


Outcome: TypeAlias = tuple[list[ChatCompletionChunk], bool, type[APIError] | None, int]


def chunks(data: bytes) -> None:
    """Whatever arrives, however cut, becomes the same chunks and the same failure.

    Nothing is raised: what cannot be read is a typed failure. The fast way of reading
    agrees with one event at a time from the plain reading of the standard.
    """
    stream, pieces = cut(data)
    read = _read(pieces)
    assert read[:3] == _read([stream])[:3] == _read_plainly(stream)
    if not read[1] and read[2] is None:
        assert read == _read([stream])
    _read(pieces, limit=1 + (data[0] if data else 0))


def _read(pieces: list[bytes], limit: int = LARGE) -> Outcome:
    reader = PayloadReader(CHAT_CHUNK, max_event_size=limit)
    found = [chunk for piece in pieces for chunk in reader.feed(piece)]
    found += reader.end()
    assert reader.failure is None or isinstance(reader.failure, APIError)
    assert not (reader.done and reader.failure)
    return found, reader.done, _failure(reader), reader.comments


def _failure(reader: PayloadReader[ChatCompletionChunk]) -> type[APIError] | None:
    return None if reader.failure is None else type(reader.failure)


def _read_plainly(
    stream: bytes,
) -> tuple[list[ChatCompletionChunk], bool, type[APIError] | None]:
    """The chunks of a stream, one event after the other, and how it ended."""
    whole = Reference().read(stream).events
    events = Reference().read(stream + b"\n\n").events
    found: list[ChatCompletionChunk] = []
    for number, event in enumerate(events):
        is_whole = number < len(whole)
        reader = PayloadReader(CHAT_CHUNK, max_event_size=LARGE)
        name = event.event.replace("\n", "").encode()
        lines = event.data.split(b"\n")
        body = b"".join(b"data: " + line + b"\n" for line in lines)
        # A comment first: it keeps the reader from its fast way.
        found += reader.feed(b": x\nevent: " + name + b"\n" + body)
        found += reader.feed(b"\n") if is_whole else reader.end()
        if reader.done or reader.failure is not None:
            return found, reader.done, _failure(reader)
    return found, False, None


def errors(data: bytes) -> None:
    """An error response or event of any bytes is a bounded, printable, typed error."""
    status = 300 + int.from_bytes(data[:2], "big") % 300
    header, _, body = data[2:].partition(b"\n")
    text = header.decode("latin-1")
    headers = {"retry-after": text, "content-type": text, "location": f"//{text}"}
    error = status_error(status, headers, body)
    assert error.status == status
    assert error.retry_after is None or 0 <= error.retry_after < float("inf")
    _check_error(error)
    found = find_error(body)
    if found is not None:
        inside = stream_error(found, body)
        assert inside.in_stream
        assert 400 <= inside.status <= 599
        _check_error(inside)


def _check_error(error: APIStatusError) -> None:
    assert isinstance(error, APIStatusError)
    assert len(error.message) <= MAX_BODY_EXCERPT
    assert len(error.body) <= MAX_BODY_EXCERPT
    assert all(len(x or "") <= 200 for x in (error.code, error.type, error.param))
    assert f"{error!s}{error!r}".encode()
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert (type(copy), str(copy)) == (type(error), str(error))


CODECS: Final[tuple[Codec[Any], ...]] = (
    CHAT,
    CHAT_CHUNK,
    FIM,
    FIM_CHUNK,
    MODELS,
    BALANCE,
)


NAMES: Final[tuple[str, ...]] = (
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "choices",
    "usage",
    "index",
    "message",
    "delta",
    "finish_reason",
    "logprobs",
    "role",
    "content",
    "reasoning_content",
    "tool_calls",
    "function_call",
    "function",
    "name",
    "arguments",
    "title",
    "type",
    "token",
    "logprob",
    "bytes",
    "top_logprobs",
    "text",
    "tokens",
    "token_logprobs",
    "text_offset",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "data",
    "prompt_cache_hit_tokens",
    "completion_tokens_details",
    "reasoning_tokens",
    "owned_by",
    "is_available",
    "balance_infos",
    "currency",
    "total_balance",
    "error",
    "code",
    "param",
    "(extra)",
    "new",
)
"""Names of the wire, and names that it does not have."""

_EMPTY: Final[list[object]] = [[], {}]

LEAVES: Final[tuple[object, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**40, 0.5, -1e300, "", "x"),
    *("7", "-7.5", "stop", "\0", "\ud83d", "\u20ac", [None], {"": None}, _EMPTY),
    *("9" * 400, float("inf"), float("nan"), *_EMPTY),
)


def grow(source: Iterator[int], depth: int = 0) -> object:
    """A JSON value as the bytes direct: mostly objects with names of the wire."""
    kind = next(source, 0)
    if depth < 8 and kind >= 160:
        return {NAMES[next(source, 0) % len(NAMES)]: grow(source, depth + 1)}
    if depth < 8 and kind >= 100:
        size = kind % 5
        names = [NAMES[next(source, 0) % len(NAMES)] for _ in range(size)]
        return {name: grow(source, depth + 1) for name in names}
    if depth < 8 and kind >= 60:
        return [grow(source, depth + 1) for _ in range(kind % 4)]
    return LEAVES[kind % len(LEAVES)]


def answers(data: bytes) -> None:
    """A body of any bytes is a struct or a ValueError, and the struct can be used.

    An input that begins with a NUL directs how a JSON document is put together.
    """
    if data[:1] == b"\0":
        data = json.dumps(grow(iter(data[1:]))).encode()
    for codec in CODECS:
        try:
            made: Struct = codec.decode(data)
        except ValueError:
            continue
        assert type(made) is codec.cls
        assert repr(made)
        if isinstance(made, Extensible):
            assert parse(made.to_json()) is not None
            copy = pickle.loads(pickle.dumps(made))  # noqa: S301 - its own
            assert repr(copy) == repr(made)


TARGETS: Final[dict[str, Target]] = {
    "sse": sse,
    "chunks": chunks,
    "errors": errors,
    "answers": answers,
}
