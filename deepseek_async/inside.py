"""aiohttp from the inside: members that are used though they are not documented.

They save more than they risk: aiohttp's documented ways are made for every kind of
request and of reader, and cost accordingly. When this module is imported, a sample is
sent through all of them. If aiohttp is not, or no longer, what it is taken for here,
`KNOWN` is false, and whoever would use this module goes the documented way.

Not in here: the connector that `opening` extends, which both ways need.
"""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp import client, client_reqrep, http_parser, http_writer
from aiohttp.client_proto import ResponseHandler

from .waking import wake

if TYPE_CHECKING:
    from aiohttp.http import RawResponseMessage

    Head = tuple[RawResponseMessage, aiohttp.StreamReader]

_MOST_PIECES: Final = 256
"""A piece becomes a chunk: so few at once stay in the processor's cache, and call for
no garbage collection before they are used up."""

_STOPS_LATE: Final = http_parser.HttpResponseParser is not getattr(
    http_parser, "HttpResponseParserPy", None
)
"""Whether aiohttp's parser is the one in C (see `HeldReader`)."""

_serialize: Final = cast(
    "Callable[[str, Mapping[str, str]], bytes]",
    getattr(http_writer, "_serialize_headers", None),
)


def head_of(status_line: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request's head.

    Args:
        status_line: Method, target and version.
        headers: In the order in which they are sent.

    Raises:
        ValueError: There is a control character in it, such as a line break.
    """
    return _serialize(status_line, headers)


def write(protocol: ResponseHandler | None, sent: bytes) -> ResponseHandler:
    """Write a request, in one piece.

    Args:
        protocol: That of a connection without a request under way.
        sent: Head and body.

    Returns:
        The same protocol, ready for the response.

    Raises:
        ClientConnectionResetError: The connection is gone.
    """
    transport = None if protocol is None else protocol.transport
    if protocol is None or transport is None or transport.is_closing():
        reason = "Cannot write to closing transport"
        raise aiohttp.ClientConnectionResetError(reason)
    protocol.set_response_params(read_until_eof=True)
    transport.write(sent)
    return protocol


async def read_head(protocol: ResponseHandler) -> Head:
    """Wait for a response head, and the reader of its body; skip informational ones.

    Args:
        protocol: That of a connection to which a request was written.

    Raises:
        HttpProcessingError: What came is not HTTP.
        ClientError: The connection was lost.
    """
    while True:
        head = await protocol.read()
        if not 100 <= head[0].code < 200 or head[0].code == 101:  # noqa: PLR2004
            return head


class PromptProtocol(ResponseHandler):
    """The protocol of a connection whose reader goes on as soon as bytes have come.

    Not before the parser is through with them: what the reader does may close the
    connection.

    Args:
        loop: The running loop.

    Attributes:
        waiter: What a reader waits for, once it has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived; called by the transport.

        Args:
            data: The bytes; none if they are those the parser had kept.
        """
        # For every packet: `super()` would cost more than the call.
        ResponseHandler.data_received(self, data)
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            wake(waiter)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note of the end of the connection; called by the transport.

        Args:
            exc: Why it ended, if that was an error.
        """
        super().connection_lost(exc)  # a decompressor may have had some bytes left
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            wake(waiter)

    def feed_data(self, data: Head, size: int = 0) -> None:
        """Take in a response head; called by aiohttp's protocol.

        Args:
            data: The head, and the reader of the body.
            size: Nothing.
        """
        if self._waiter is not None:
            self.waiter, self._waiter = self._waiter, None
        super().feed_data(data, size)


class PlainReader(aiohttp.StreamReader):
    """The reader of a body of which nobody asks where its HTTP chunks end.

    aiohttp notes the end of each, which a stream pays for with every chunk. Both kinds
    hold the connection up when too much is unread, be it bytes or pieces.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Take in a piece of the body; called by aiohttp's parser.

        Args:
            data: The piece.
            size: Nothing; aiohttp's own has it, too.
        """
        del size
        if not data:
            return False
        self._size += len(data)
        pieces = self._buffer
        pieces.append(data)
        waiter = self._waiter
        if waiter is not None:  # so this is the only piece, and about to be taken
            protocol: Any = self._protocol  # see `make_plain`
            self._waiter, protocol.waiter = None, waiter
        elif self._size > self._high_water or len(pieces) > self._high_water_chunks:
            self._protocol.pause_reading()
        return False

    def begin_http_chunk_receiving(self) -> None:
        """An HTTP chunk begins."""

    def end_http_chunk_receiving(self) -> None:
        """An HTTP chunk ends."""


class HeldReader(PlainReader):
    """One whose HTTP chunks have held the connection up before it was plain.

    aiohttp's parser in C, held up at the end of a chunk, stops only after the next
    piece, whether the connection was told to go on before or not. So it is held up
    again with that piece, and will be told to go on.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Take in the first piece of the body since.

        Args:
            data: The piece.
            size: Nothing.
        """
        if data:
            plain: Any = PlainReader
            self.__class__ = plain
            PlainReader.feed_data(self, data, size)
            self._protocol.pause_reading()
        return False


def make_plain(content: aiohttp.StreamReader) -> bool:
    """Have a body's reader no longer note the ends of HTTP chunks.

    Args:
        content: The reader, from which nothing was read yet.

    Returns:
        Whether it is a `PlainReader` now; one that is not aiohttp's own, or has another
        protocol than a `PromptProtocol`, is left alone. So is one that the parser in
        Python has held up for the number of its HTTP chunks.
    """
    if type(content) is not aiohttp.StreamReader:
        return False
    if type(content._protocol) is not PromptProtocol:
        return False
    kind: Any = PlainReader
    if len(content._http_chunk_splits or ()) > content._high_water_chunks:
        if not _STOPS_LATE:
            return False
        kind = HeldReader
    content.__class__ = kind
    content._http_chunk_splits = None
    return True


def wait_of(content: aiohttp.StreamReader) -> asyncio.Future[None] | None:
    """What to await before there are bytes to take, `None` if there is nothing to.

    Args:
        content: A `PlainReader`.

    Raises:
        Exception: What ended the body before its time.
    """
    if content._exception is not None:
        raise content._exception
    if content._buffer or content._eof:
        return None
    if content._waiter is not None or content._protocol.transport is None:
        message = "the body has another reader, or no connection any more"
        raise RuntimeError(message)
    content._waiter = content._loop.create_future()
    return content._waiter


def take(content: aiohttp.StreamReader) -> bytes | None:
    """Take the bytes that have arrived, of not more than 256 pieces.

    aiohttp hands them out one by one and tells the connection to go on, which is a way
    through its parser each time. Here they are joined, and the connection is told only
    if it had been told to stop, and when nothing is left.

    Args:
        content: A `PlainReader`.

    Returns:
        The bytes, `b""` at the end of the body, `None` if there are none yet.

    Raises:
        Exception: What ended the body before its time.
    """
    if content._exception is not None:
        raise content._exception
    pieces = content._buffer
    if not pieces:
        return b"" if content._eof else None
    if len(pieces) == 1:
        data = pieces.popleft()
        content._size = 0
    elif len(pieces) <= _MOST_PIECES:
        data = b"".join(pieces)
        pieces.clear()
        content._size = 0
    else:
        data = b"".join([pieces.popleft() for _ in range(_MOST_PIECES)])
        content._size -= len(data)
    if content._protocol._reading_paused:
        _go_on(content)
    return data


def _go_on(content: aiohttp.StreamReader) -> None:
    """Tell the connection to go on if nothing is left, or too many pieces were."""
    pieces = content._buffer
    if len(pieces) + _MOST_PIECES > content._high_water_chunks:
        # At once: should the server close the connection meanwhile, what the parser
        # has kept is lost.
        rest = b"".join(pieces)
        pieces.clear()
        pieces.append(rest)
    elif pieces:
        return
    content._protocol.resume_reading()


def left_in(content: aiohttp.StreamReader) -> bytes:
    """Take all that had arrived of a body that is at its end.

    Args:
        content: Any reader. Of a body that failed, aiohttp would raise the failure.
    """
    pieces = getattr(content, "_buffer", None)
    if not pieces:
        return b""
    data = b"".join(pieces)
    pieces.clear()
    return data


def _own(owner: type, name: str) -> object:
    """A method of aiohttp's, unless something has been put in its place already."""
    found: object = vars(owner).get(name)
    is_own = isinstance(found, FunctionType) and found.__code__.co_filename in {
        client.__file__,
        client_reqrep.__file__,
    }
    return found if is_own else None


_SESSION: Final = client.ClientSession
_INNER: Final = _own(_SESSION, "_request")
_REQUEST: Final = _own(_SESSION, "request")
_SEND: Final = _own(client_reqrep.ClientRequest, "send")


def is_stubbed(http: aiohttp.ClientSession) -> bool:
    """Whether something else answers in the place of aiohttp's sessions.

    Stubs for tests are put there, and so are some tracers.

    Args:
        http: The session of the running loop.
    """
    return (
        type(http) is not _SESSION
        or _SESSION._request is not _INNER
        or _SESSION.request is not _REQUEST
        or client_reqrep.ClientRequest.send is not _SEND
    )


def is_traced(http: aiohttp.ClientSession) -> bool:
    """Whether a session was given somebody to listen when it was made."""
    return bool(http.trace_configs or getattr(http, "_middlewares", ()))


class _Sample:
    """A loop, a transport and a future: as much of each as a sample needs."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def create_future(self) -> _Sample:
        return _Sample()

    def __await__(self) -> Generator[None, None, None]:
        yield

    def done(self) -> bool:
        return False

    def get_loop(self) -> _Sample:
        return self

    def set_result(self, _: object) -> None:
        self.told.append("awake")

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


def _end_of(reading: Coroutine[Any, Any, Head]) -> Head:
    try:
        reading.send(None)
    except StopIteration as stop:
        return cast("Head", stop.value)
    message = "it waits"
    raise RuntimeError(message)


def _refuses_line_breaks() -> bool:
    try:
        head_of("POST / HTTP/1.1", {"Host": "a\r\nb: c"})
    except ValueError:
        return True
    return False


def _is_known() -> bool:
    """Whether a sample comes through as it should."""
    sample: Any = _Sample()
    protocol = PromptProtocol(sample)
    protocol.transport = sample
    sent = head_of("POST / HTTP/1.1", {"Host": "a"}) + b"{}"
    reading = read_head(write(protocol, sent))
    reading.send(None)
    protocol.set_response_params(read_until_eof=True, read_bufsize=64)  # soon full
    protocol.data_received(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
        b"a: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n1"
    )
    message, content = _end_of(reading)
    is_plain = make_plain(content)
    first, waiting = take(content), wait_of(content)
    protocol.data_received(b"\r\nd\r\n1\r\ne\r\n")
    counted = content._size
    second = take(content)
    # Too much for the reader, which holds the connection up until it is taken.
    much = b"f" * (content.get_read_buffer_limits()[1] + 1)
    protocol.data_received(b"%x\r\n%b\r\n1\r\ng\r\n0\r\n\r\n" % (len(much), much))
    return (
        (message.code, message.headers["A"]) == (200, "b")
        and first == b"c"
        and cast("Any", waiting).told == ["awake"]
        and is_plain
        and (counted, second) == (2, b"de")
        and sample.told == [b"POST / HTTP/1.1\r\nHost: a\r\n\r\n{}", "pause"]
        and b"".join(take(content) or b"" for _ in range(2)) == much + b"g"
        and "resume" in sample.told
        and content.is_eof()
        and wait_of(content) is None
        and not protocol.should_close
        and _refuses_line_breaks()
    )


def _is_known_for_sure() -> bool:
    try:
        return _is_known()
    except Exception:  # noqa: BLE001 - however it differs, it is not what we know
        return False


KNOWN: Final = _is_known_for_sure()
"""Whether aiohttp is what this module takes it for."""


def make_prompt(connector: aiohttp.TCPConnector) -> None:
    """Have a connector make its connections with a `PromptProtocol`.

    Args:
        connector: A new one. If it does not make them as is known, it is left alone.
    """
    made = getattr(connector, "_factory", None)
    if KNOWN and isinstance(made, partial) and made.func is ResponseHandler:
        make: Any = partial(PromptProtocol, *made.args, **made.keywords)
        connector._factory = make
