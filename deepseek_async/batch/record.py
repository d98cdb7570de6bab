"""One finished request as a line of the journal.

A record is one JSON object on one line::

    {"i":7,"k":"q7","h":"<hash>","s":"ok","n":1,"t":1763.5,"ms":812,
     "u":[prompt,hit,miss,output,reasoning],"c":1500,"b":{...},"x":"<crc32>"}

`i` is the place in the source, `k` the key, `h` a hash of the request (the request
itself, and so the prompt, is not kept), `s` `ok` or `err`, `n` attempts, `t` when it
ended (Unix time), `ms` how long it took, `u` tokens, `c` the cost in nano-dollars (-1:
unknown), `b` the completion or the error, and `x`, always last, the CRC-32 of every
byte before `,"x":`. A lost library loses no data: `jq` and `grep` read the file.

Between them stand lines of another kind::

    {"held":[cost,tokens],"x":"<crc32>"}

Each says how much may have been billed, at most, beside what the records say: for
requests under way, lost, given up or repeated. The latest one counts. It is durable
before the money it speaks of can be spent, so a killed run leaves no cost unknown.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct, field

from ..codec import CHAT, Codec
from ..errors import DeepSeekError
from ..types.chat import ChatCompletion
from .results import BatchFailed, BatchOk, BatchResult, Finished, Tokens

UNKNOWN_COST: Final = -1
HELD: Final = b'{"held":'
"""What a line begins with that says what may have been billed."""

_TAIL: Final = len(',"x":"00000000"}')
_CHECK: Final = b',"x":"'


class _Head(Struct, kw_only=True, gc=False):
    """The fields before the body, in the order they are written."""

    index: int = field(name="i")
    key: str = field(name="k")
    hash: str = field(name="h")
    status: Literal["ok", "err"] = field(name="s")
    attempts: int = field(name="n")
    ended: float = field(name="t")
    latency_ms: int = field(name="ms")
    tokens: Tokens = field(name="u")
    cost: int = field(name="c")


class Record(_Head, kw_only=True, gc=False):
    """A record as it is read."""

    body: Raw = field(name="b")


class _Written(_Head, kw_only=True, gc=False):
    """A record as it is written."""

    body: ChatCompletion | Failure | dict[str, Any] = field(name="b")


class Mark(Struct, gc=False):
    """The part of a record that says which request it finishes."""

    index: int = field(name="i")
    hash: str = field(name="h")
    status: Literal["ok", "err"] = field(name="s")
    tokens: Tokens = field(name="u")
    cost: int = field(name="c")


class Held(Struct):
    """What may have been billed beside what the records say: nano-dollars, tokens."""

    held: tuple[int, int]


class Failure(Struct, kw_only=True, omit_defaults=True):
    """An error as the journal keeps it: without the server's body.

    Attributes:
        kind: The name of the class.
        message: Its text.
        status: The HTTP status.
        code: The server's code.
        type: The server's type.
        reason: See `APIStatusError.reason`.
        param: The offending parameter.
        request_id: The server's trace id.
    """

    kind: str
    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None
    reason: str | None = None
    param: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, error: DeepSeekError) -> Failure:
        """What to keep of an error."""
        found = {name: getattr(error, name, None) for name in _KEPT}
        return cls(kind=type(error).__name__, message=error.message, **found)

    def to_error(self) -> DeepSeekError:
        """An error of the same class, as far as the class is still known."""
        kind = _kinds(DeepSeekError).get(self.kind, DeepSeekError)
        error = kind.__new__(kind, self.message)
        state = {name: getattr(self, name) for name in _KEPT}
        error.__dict__.update(message=self.message, attempts=(), **_DEFAULTS, **state)
        return error


def _kinds(root: type[DeepSeekError]) -> dict[str, type[DeepSeekError]]:
    """The classes below one, by name."""
    found = {root.__name__: root}
    for kind in root.__subclasses__():
        found |= _kinds(kind)
    return found


_KEPT: Final = ("status", "code", "type", "reason", "param", "request_id")
_DEFAULTS: Final[dict[str, Any]] = {
    "cause": None,
    "partial": None,
    "body": "",
    "retry_after": None,
    "in_stream": False,
    "limit": 0.0,
}

_encode: Final = msgspec.json.Encoder().encode
_FAILURE: Final = Codec(Failure)
_RECORD: Final = Codec(Record)
_MARK: Final = Codec(Mark)
_HELD: Final = Codec(Held)
_BODY: Final = b',"b":'


def completion_body(completion: ChatCompletion) -> bytes:
    """A completion as JSON, with whatever fields the server sent beside the known."""
    return _encode(_whole(completion))


def _whole(completion: ChatCompletion) -> ChatCompletion | dict[str, Any]:
    if not completion.extra and _is_plain(completion):
        return completion
    whole = completion.to_dict()
    for choice, sent in zip(completion.choices, whole["choices"], strict=True):
        sent["message"] = {**sent["message"], **choice.message.to_dict()}
    return whole


def _is_plain(completion: ChatCompletion) -> bool:
    for choice in completion.choices:
        if choice.message.extra or choice.message.tool_calls:
            return False
    return True


def to_line(finished: Finished, ended: float) -> bytes:
    """The record of a result, newline included.

    Args:
        finished: The result, and what it took.
        ended: Unix time.
    """
    result, cost = finished.result, finished.cost
    body: ChatCompletion | dict[str, Any] | Failure
    if isinstance(result, BatchOk):
        body, attempts = _whole(result.completion), result.completion.meta.attempts
    else:
        body, attempts = Failure.of(result.error), result.attempts
    record = _Written(
        index=result.index,
        key=result.key,
        hash=finished.digest,
        status="ok" if result.ok else "err",
        attempts=len(attempts) or 1,
        ended=ended,
        latency_ms=int(result.latency * 1000),
        tokens=finished.used,
        cost=UNKNOWN_COST if cost is None else cost,
        body=body,
    )
    return seal(_encode(record))


def held_line(cost: int, tokens: int) -> bytes:
    """The line that says what may have been billed beside the records.

    Args:
        cost: Nano-dollars, at most.
        tokens: Tokens, at most.
    """
    return seal(_encode(Held((cost, tokens))))


def decode_record(line: bytes) -> Record:
    """A record as it was written."""
    return _RECORD.decode_strictly(line)


def mark_of(line: bytes) -> Mark:
    """Which request a record finishes; its body, most of the line, is not looked at.

    Args:
        line: A whole record.

    Raises:
        msgspec.ValidationError: It is a line of another kind.
    """
    try:
        return _MARK.decode_strictly(line[: line.find(_BODY)] + b"}")
    except msgspec.DecodeError:  # in another order, or none at all
        return _MARK.decode_strictly(line)


def held_in(line: bytes) -> tuple[int, int]:
    """Nano-dollars and tokens of such a line."""
    return _HELD.decode_strictly(line).held


def seal(encoded: bytes) -> bytes:
    """Add the checksum and the newline to an encoded record."""
    start = encoded[:-1]
    return b'%b,"x":"%08x"}\n' % (start, zlib.crc32(start))


def is_whole(line: bytes) -> bool:
    """Whether a line, newline included, is a record as it was written."""
    start, tail = line[: -_TAIL - 1], line[-_TAIL - 1 :]
    return tail == b'%b%08x"}\n' % (_CHECK, zlib.crc32(start))


def to_result(record: Record) -> BatchResult:
    """The result a record was made of."""
    latency = record.latency_ms / 1000
    if record.status == "ok":
        completion = CHAT.decode(bytes(record.body))
        return BatchOk(
            index=record.index, key=record.key, completion=completion, latency=latency
        )
    error = _FAILURE.decode_strictly(bytes(record.body)).to_error()
    return BatchFailed(index=record.index, key=record.key, error=error, latency=latency)
