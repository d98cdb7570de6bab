"""One HTTP answer before it is played: its pieces, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, TypeAlias

import msgspec

from .wire import (
    DONE,
    EVENT_STREAM,
    KEEP_ALIVE_COMMENT,
    KEEP_ALIVE_LINE,
    OCTETS,
    WireError,
)

#: How the answer ends: framed properly, by FIN, or by RST.
Ending: TypeAlias = Literal["complete", "fin", "reset"]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A silence in the middle of an answer.

    Attributes:
        at: Number of pieces that are sent before it.
        seconds: Its length; None means until the connection ends.
        keep_alive: Interval of keep-alives meanwhile, in seconds; None sends none.
    """

    at: int
    seconds: float | None = None
    keep_alive: float | None = None


class Reply(msgspec.Struct, kw_only=True):
    """One HTTP answer, ready to be played at the emulator's pace.

    Attributes:
        pieces: Body in the order of sending; one event each in a stream.
        status: HTTP status.
        content_type: Value of the ``Content-Type`` header.
        headers: Further headers.
        streamed: Whether the pieces are events that flow at the pace's speed.
        generated: Whether a model spoke, so that latency and queue apply.
        tokens: Tokens an awaited answer has to wait for.
        review: Whether the last chunk waits for a safety review.
        delay: Seconds before the response head; None means for ever.
        queue: Overrides the pace's queue time, in seconds.
        hold: A silence between two pieces.
        ending: How the connection is left.
        trickle: Bytes per write and seconds between writes.
        raw: Bytes that replace the whole response, head included.
        completed: Called once all of it has been sent.
    """

    pieces: list[bytes]
    status: int = 200
    content_type: str = OCTETS
    headers: dict[str, str] = {}
    streamed: bool = False
    generated: bool = False
    tokens: int = 0
    review: bool = False
    delay: float | None = 0.0
    queue: float | None = None
    hold: Hold | None = None
    ending: Ending = "complete"
    trickle: tuple[int, float] | None = None
    raw: bytes | None = None
    completed: Callable[[], None] | None = None

    @property
    def keep_alive(self) -> bytes:
        """What is sent to show that a waiting connection lives."""
        return KEEP_ALIVE_COMMENT if self.streamed else KEEP_ALIVE_LINE

    @property
    def plain(self) -> bool:
        """Whether the answer can be sent in one piece, head and body together."""
        return (
            not self.streamed
            and self.hold is None
            and self.ending == "complete"
            and self.trickle is None
        )

    def keep_events(self, count: int) -> None:
        """Drop all pieces after the first `count`."""
        del self.pieces[count:]

    def keep_bytes(self, size: int) -> None:
        """Drop all bytes of the body after the first `size`."""
        kept: list[bytes] = []
        for piece in self.pieces:
            kept.append(piece[:size])
            size -= len(kept[-1])
            if size <= 0:
                break
        self.pieces = kept

    def halve(self) -> None:
        """Cut an awaited answer's body into two pieces."""
        body = b"".join(self.pieces)
        middle = len(body) // 2
        self.pieces = [body[:middle], body[middle:]]

    def head(self, *, length: int | None) -> bytes:
        """Return a response head as bytes, with or without ``Content-Length``."""
        phrase = HTTPStatus(self.status).phrase
        lines = [
            f"HTTP/1.1 {self.status} {phrase}",
            f"Content-Type: {self.content_type}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            "Connection: close" if length is None else f"Content-Length: {length}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def refusal(error: WireError, headers: dict[str, str] | None = None) -> Reply:
    """Return the reply that carries `error`."""
    return Reply(pieces=[error.body()], status=error.status, headers=headers or {})


def stream_reply(events: list[bytes]) -> Reply:
    """Return a streamed reply of `events` and the closing ``[DONE]``."""
    return Reply(
        pieces=[*events, DONE],
        content_type=EVENT_STREAM,
        headers={"Cache-Control": "no-cache"},
        streamed=True,
        generated=True,
    )
