"""Everything that goes wrong on a real connection, to be ordered per request.

A fault does its work in one of three places: `Fault.instead` answers in the model's
stead, `Fault.amend` changes what the model says, `Fault.bend` spoils the finished
reply on its way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from .reply import Hold, Reply
from .wire import DONE, HTML, JSON, OCTETS, WireError, error_body, event

if TYPE_CHECKING:
    from .answers import Answer
    from .recorded import Recorded

_PAGE: Final = (
    "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n"
    "<center><h1>{status}</h1></center>\r\n<hr><center>openresty</center>\r\n"
    "</body>\r\n</html>\r\n"
)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that goes wrong with one request; a plain `Fault` changes nothing.

    Attributes:
        path: Part of the path that the request must contain.
        stream: Whether the request must be streamed; None matches both.
        times: Requests that the fault strikes before it is used up.
    """

    path: str = ""
    stream: bool | None = None
    times: int = 1

    def matches(self, request: Recorded) -> bool:
        """Return whether the fault is meant for `request`."""
        streamed = bool(request.body.get("stream"))
        return self.path in request.path and self.stream in {None, streamed}

    def instead(self) -> Reply | None:
        """Return the reply that replaces the model's, if the fault has one."""
        return None

    def amend(self, answer: Answer) -> Answer:
        """Return `answer` as the fault changes it."""
        return answer

    def bend(self, reply: Reply) -> None:
        """Spoil the finished `reply`."""


class Status(Fault, frozen=True, kw_only=True):
    """An HTTP error.

    Attributes:
        status: HTTP status.
        message: Text of the error; by default what the service says.
        body: Bytes in place of the JSON envelope.
        retry_after: Value of a ``Retry-After`` header: seconds or an HTTP date.
        content_type: Value of ``Content-Type``.
        headers: Further headers.
    """

    status: int
    message: str = ""
    body: bytes | None = None
    retry_after: str | float | None = None
    content_type: str = OCTETS
    headers: tuple[tuple[str, str], ...] = ()

    def instead(self) -> Reply:
        """Return the error."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        body = self.body
        if body is None:
            body = WireError(self.status, self.message).body()
        return Reply(
            pieces=[body],
            status=self.status,
            content_type=self.content_type,
            headers=headers,
        )


class Page(Fault, frozen=True, kw_only=True):
    """A gateway's HTML page, such as a 504 or a 200 that is no answer."""

    status: int = 504

    def instead(self) -> Reply:
        """Return the page."""
        page = _PAGE.format(status=self.status).encode()
        return Reply(pieces=[page], status=self.status, content_type=HTML)


class Empty(Fault, frozen=True, kw_only=True):
    """A 200 whose body is empty or, with `body`, only white space."""

    body: bytes = b""
    content_type: str = JSON

    def instead(self) -> Reply:
        """Return the empty answer."""
        return Reply(pieces=[self.body], content_type=self.content_type)


class Raw(Fault, frozen=True, kw_only=True):
    """Bytes in place of the whole response, head included; then the end.

    Attributes:
        data: What is written to the socket.
        ending: How the connection ends: ``fin`` or ``reset``.
    """

    data: bytes
    ending: Literal["fin", "reset"] = "fin"

    def instead(self) -> Reply:
        """Return the bytes."""
        return Reply(pieces=[], raw=self.data, ending=self.ending)


class Delay(Fault, frozen=True, kw_only=True):
    """A pause of `seconds` before the response head."""

    seconds: float

    def bend(self, reply: Reply) -> None:
        """Put the pause before the head."""
        reply.delay = self.seconds


class Queue(Fault, frozen=True, kw_only=True):
    """A wait of `seconds` for inference, with keep-alives at the pace's interval."""

    seconds: float

    def bend(self, reply: Reply) -> None:
        """Put the request into the queue."""
        reply.queue = self.seconds


class Stall(Fault, frozen=True, kw_only=True):
    """Silence on an open connection.

    Attributes:
        phase: Before the ``head``, before the first ``payload``, or amid the ``body``.
        after: Events that come before a stall in the body.
        seconds: Length; None lasts until the client goes away.
        keep_alive: Interval of keep-alives meanwhile, in seconds; None sends none.
    """

    phase: Literal["head", "payload", "body"] = "body"
    after: int = 3
    seconds: float | None = None
    keep_alive: float | None = None

    def bend(self, reply: Reply) -> None:
        """Put the silence into the reply."""
        if self.phase == "head":
            reply.delay = self.seconds
            return
        if not reply.streamed:
            reply.halve()
        amid = self.after if reply.streamed else 1
        at = amid if self.phase == "body" else 0
        reply.hold = Hold(at=at, seconds=self.seconds, keep_alive=self.keep_alive)


class Cut(Fault, frozen=True, kw_only=True):
    """A connection that ends before the answer does.

    Attributes:
        events: Events of a stream that still come.
        size: Bytes of the body that still come, instead of `events`. An awaited
            answer loses its second half when `size` is not given.
        head: Whether even the response head is missing.
        ending: ``fin`` for an orderly end, ``reset`` for RST.
        framing: What the head says of the body: ``chunked``, a ``length`` that is
            then not reached, or nothing (``close``).
    """

    events: int = 3
    size: int | None = None
    head: bool = False
    ending: Literal["fin", "reset"] = "fin"
    framing: Literal["chunked", "length", "close"] = "chunked"

    def bend(self, reply: Reply) -> None:
        """Cut the reply."""
        reply.ending = self.ending
        if self.head:
            reply.raw = b""
            return
        length = sum(map(len, reply.pieces))
        if self.size is not None:
            reply.keep_bytes(self.size)
        elif reply.streamed:
            reply.keep_events(self.events)
        else:
            reply.keep_bytes(length // 2)
        if self.framing != "chunked":
            head = reply.head(length=length if self.framing == "length" else None)
            reply.raw = head + b"".join(reply.pieces)


class Garbage(Fault, frozen=True, kw_only=True):
    """Bytes that do not belong there.

    Attributes:
        data: The bytes; a stream gets them as they are, so end them like an event.
        after: Events before them in a stream, where they replace one event. An
            awaited answer's body is replaced altogether.
        content_type: Value of ``Content-Type``; by default the right one.
        headers: Further headers, such as a ``Content-Encoding``.
    """

    data: bytes = b"data: {not json\n\n"
    after: int = 2
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def bend(self, reply: Reply) -> None:
        """Put the bytes in."""
        if reply.streamed:
            reply.pieces[self.after : self.after + 1] = [self.data]
        else:
            reply.pieces = [self.data]
        if self.content_type is not None:
            reply.content_type = self.content_type
        reply.headers = reply.headers | dict(self.headers)


class StreamError(Fault, frozen=True, kw_only=True):
    """An error object inside a 200 answer.

    Attributes:
        message: Text of the error.
        type: The error's type.
        after: Events of a stream before it.
        done: Whether ``[DONE]`` follows.
    """

    message: str = "Internal error"
    type: str = "server_error"
    after: int = 2
    done: bool = False

    def bend(self, reply: Reply) -> None:
        """End the answer with the error."""
        if not reply.streamed:
            reply.pieces = [error_body(self.message, self.type)]
            return
        reply.keep_events(self.after)
        reply.pieces.append(event(error_body(self.message, self.type)))
        if self.done:
            reply.pieces.append(DONE)


class Finish(Fault, frozen=True, kw_only=True):
    """A finish reason of the service's own choice.

    Attributes:
        reason: ``insufficient_system_resource``, ``content_filter``, ``aborted``, ...
        after: Tokens after which the answer ends; None lets it end by itself.
    """

    reason: str
    after: int | None = None

    def amend(self, answer: Answer) -> Answer:
        """End the answer for that reason."""
        return msgspec.structs.replace(
            answer, finish_reason=self.reason, cut_after=self.after
        )


class MissingDone(Fault, frozen=True, kw_only=True):
    """A stream that ends in good order, but without ``data: [DONE]``.

    Attributes:
        blank_line: False takes the last chunk's blank line as well.
    """

    blank_line: bool = True

    def bend(self, reply: Reply) -> None:
        """Take ``[DONE]`` away."""
        if reply.streamed:
            del reply.pieces[-1]
            if not self.blank_line:
                reply.pieces[-1] = reply.pieces[-1].removesuffix(b"\n")


class MissingBlankLine(Fault, frozen=True, kw_only=True):
    """A stream whose ``data: [DONE]`` lacks its blank line.

    Attributes:
        newline: False takes the line's own end as well.
    """

    newline: bool = True

    def bend(self, reply: Reply) -> None:
        """Take the blank line away."""
        if reply.streamed:
            end = b"\n" if self.newline else b"\n\n"
            reply.pieces[-1] = reply.pieces[-1].removesuffix(end)


class Trickle(Fault, frozen=True, kw_only=True):
    """A body that comes in drops.

    Attributes:
        size: Bytes of each write.
        interval: Seconds between writes.
    """

    size: int = 1
    interval: float = 0.001

    def bend(self, reply: Reply) -> None:
        """Slow the body down."""
        reply.trickle = (self.size, self.interval)
