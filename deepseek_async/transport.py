"""One HTTP exchange on an aiohttp session: open it, read it, end it.

Two rules shape this module. Whatever aiohttp raises becomes an error of this library,
raised *after* the `except` block has ended: an exception chain, or a traceback that
shows locals, would otherwise reach aiohttp's frames, and those hold the API key and
the prompt. And a response is bounded in time by one timer that wakes rarely and
compares times, so that reading a chunk starts no timer of its own.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import aiohttp

from .codec import excerpt_of, request_id_of
from .errors import (
    APIConnectionError,
    APITimeoutError,
    ConnectError,
    ConnectionLostError,
    DeepSeekError,
    ResponseDecodeError,
    ResponseTooLargeError,
    StreamClosedError,
    UnexpectedContentTypeError,
)
from .timeouts import (
    NEVER,
    BodyClock,
    Timeouts,
    connect_error,
    deadline_error,
    head_error,
)

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from yarl import URL

_LARGE_BODY: Final = 1024 * 1024
"""From here on aiohttp wants a file object, to write the body in pieces."""

MAX_ERROR_BODY: Final = 64 * 1024
"""How much of an error response is read, in bytes."""


class Opening:
    """The part of an exchange before the response head.

    Attributes:
        connected: Whether the connection stands, so that the head clock runs.
        fresh: Whether the connection was made for this exchange.
        clock: Ends the exchange when it is rescheduled to now.
    """

    __slots__ = ("clock", "connected", "deadline_at", "fresh", "head")

    def __init__(self, head: float | None, deadline_at: float) -> None:
        self.head = head
        self.deadline_at = deadline_at
        self.connected = False
        self.fresh = False
        self.clock: asyncio.Timeout | None = None

    def start_head_clock(self) -> None:
        """A connection is there: from now on it is the server's turn."""
        self.connected = True
        if self.clock is not None and self.head is not None:
            head_at = asyncio.get_running_loop().time() + self.head
            self.clock.reschedule(min(head_at, self.deadline_at))

    def abort(self) -> None:
        """Give up at once; the waiting task sees a timeout."""
        if self.clock is not None:
            self.clock.reschedule(asyncio.get_running_loop().time())


_opening: ContextVar[Opening | None] = ContextVar("_opening", default=None)


class Connector(aiohttp.TCPConnector):
    """Tells the exchange when it has a connection, and whether it is a new one."""

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Take a pooled connection or make one."""
        connection = await super().connect(req, traces, timeout)
        opening = _opening.get()
        if opening is not None:
            opening.start_head_clock()
        return connection

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        opening = _opening.get()
        if opening is not None:
            opening.fresh = True
        return await super()._create_connection(req, traces, timeout)


async def open_response(  # noqa: PLR0913 - the parts of an HTTP request
    http: aiohttp.ClientSession,
    method: str,
    url: URL,
    *,
    headers: Callable[[], dict[str, str]],
    body: Callable[[], bytes],
    proxy: str | None,
    timeouts: Timeouts,
    opening: Opening,
    on_end: Callable[[LiveResponse], None],
) -> LiveResponse:
    """Send one request and wait for the response head.

    Args:
        http: The session of the running loop.
        method: `GET` or `POST`.
        url: The full URL.
        headers: Makes the request headers; a function, so that no frame holds them.
        body: Gives the request body; a function, for the same reason.
        proxy: The proxy's URL.
        timeouts: The clocks.
        opening: Lets another task end the wait.
        on_end: Called once when the response has ended, however.

    Returns:
        The response, its body unread.

    Raises:
        ConnectError: No connection.
        ConnectTimeoutError: No connection in time.
        ResponseHeadTimeoutError: No head in time.
        DeadlineExceededError: The overall deadline passed.
        ConnectionLostError: The connection died, or what came was not HTTP.
    """
    token = _opening.set(opening)
    limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect)
    deadline_at = opening.deadline_at
    try:
        async with asyncio.timeout_at(
            None if deadline_at == NEVER else deadline_at
        ) as c:
            opening.clock = c
            response = await http.request(
                method,
                url,
                data=_payload(body()) if method == "POST" else None,
                headers=headers(),
                allow_redirects=False,
                proxy=proxy,
                timeout=limits,
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, it must become ours
        failure = _opening_error(error, opening, timeouts)
    else:
        return LiveResponse(response, BodyClock(timeouts, deadline_at), on_end)
    finally:
        opening.clock = None
        _opening.reset(token)
    raise failure


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) < _LARGE_BODY else io.BytesIO(body)


def _said(error: BaseException) -> str:
    """The transport's words, short: the exception itself must not be kept."""
    text = str(error)
    if isinstance(error, aiohttp.ClientResponseError):
        text = error.message
    return f"{type(error).__name__}: {text}"[:240] if text else type(error).__name__


def _opening_error(
    error: Exception, opening: Opening, timeouts: Timeouts
) -> APIConnectionError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return connect_error(timeouts.connect or 0.0)
    if type(error) is TimeoutError:
        return _clock_error(opening, timeouts)
    made: APIConnectionError
    if isinstance(error, aiohttp.ClientConnectorError) or not opening.connected:
        made = ConnectError("no connection to the server")
    elif isinstance(error, aiohttp.ClientResponseError):
        # aiohttp calls this a 400, though no server said so.
        made = ConnectionLostError("the server's reply is not HTTP")
    else:
        made = ConnectionLostError("the connection was lost before a reply came")
        made.stale = not opening.fresh
    made.cause = _said(error)
    return made


def _clock_error(opening: Opening, timeouts: Timeouts) -> APITimeoutError:
    now = asyncio.get_running_loop().time()
    if now >= opening.deadline_at:
        return deadline_error(timeouts.deadline or 0.0)
    return head_error(timeouts.head or 0.0)


class LiveResponse:
    """A response whose body is still to be read.

    Args:
        response: aiohttp's response.
        clock: Limits the wait for the body.
        on_end: Called once, when the body was read to its end or given up.

    Attributes:
        status: The HTTP status.
        headers: The response headers, looked up whatever their case.
        request_id: The server's trace id.
        clock: Counts what arrives.
        ended: Whether the connection has been given back or closed.
    """

    __slots__ = (
        "_content",
        "_loop",
        "_on_end",
        "_reason",
        "_response",
        "_step",
        "_timer",
        "clock",
        "ended",
        "headers",
        "request_id",
        "status",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        clock: BodyClock,
        on_end: Callable[[LiveResponse], None],
    ) -> None:
        self._response = response
        self._content = response.content
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._reason: DeepSeekError | None = None
        self.clock = clock
        self._step = clock.smallest
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.request_id = request_id_of(response.headers)
        self.ended = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "open"
        return (
            f"LiveResponse({self.status}, {self.clock.bytes_received} bytes, {state})"
        )

    async def read_some(self) -> bytes:
        """Wait for the next bytes of the body.

        Returns:
            Whatever has arrived, `b""` at the end of the body.

        Raises:
            APITimeoutError: One of the body's clocks ran out.
            ConnectionLostError: The connection died, or the body is cut.
            ClientClosedError: The client was closed meanwhile.
            StreamClosedError: The response was closed by another task.
        """
        clock = self.clock
        clock.wait(self._loop.time())
        if self._timer is None:
            self._watch()
        try:
            data = await self._content.readany()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must become ours
            failure = self._reason or _reading_error(error, self.request_id)
        except BaseException:
            self.close()
            raise
        else:
            clock.received(self._loop.time(), len(data))
            if not data:
                self._end()
            return data
        clock.waiting = False
        self.close()
        raise failure

    def salvage(self) -> bytes:
        """Bytes that had arrived when the connection broke.

        aiohttp raises the stored error before it hands out what it has buffered.
        """
        buffered = getattr(self._content, "_buffer", None)
        if not buffered:
            return b""
        found = b"".join(buffered)
        buffered.clear()
        self.clock.bytes_received += len(found)
        return found

    async def read(self, limit: int) -> bytes:
        """Read the whole body.

        Args:
            limit: The most bytes to accept.

        Returns:
            The body without the blank lines that keep a waiting call alive.

        Raises:
            ResponseTooLargeError: The body is larger than `limit`.
            APIError: As `read_some`.
        """
        clock = self.clock
        parts: list[bytes] = []
        while data := await self.read_some():
            if not parts and data.isspace():
                clock.keep_alives += max(1, data.count(b"\n"))
            else:
                parts.append(data)
                clock.paid(1)
            if clock.bytes_received > limit:
                self.close()
                message = f"the body is larger than {limit} bytes"
                raise ResponseTooLargeError(
                    message, status=self.status, request_id=self.request_id
                )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_error(self) -> bytes:
        """Read the beginning of an error body; a body cut short is good enough."""
        parts: list[bytes] = []
        size = 0
        try:
            while size < MAX_ERROR_BODY and (data := await self.read_some()):
                parts.append(data)
                size += len(data)
        except APIConnectionError:
            parts.append(self.salvage())
        self.close()
        return b"".join(parts)

    async def drain(self, seconds: float, limit: int = 65_536) -> None:
        """Read a finished body to its end, so that the connection can be reused.

        Args:
            seconds: How long to wait for the end before closing instead.
            limit: How many bytes to skip before closing instead.
        """
        content = self._content
        if not content.at_eof():
            try:
                async with asyncio.timeout(seconds):
                    while limit > 0 and (data := await content.readany()):
                        limit -= len(data)
            except Exception:  # noqa: BLE001, S110 - the answer is complete already
                pass
        if content.at_eof() and content.exception() is None:
            self._end()
        else:
            self.close()

    def close(self, reason: DeepSeekError | None = None) -> None:
        """Give the response up and close its connection, unless it has ended.

        Args:
            reason: What a task that waits for the body is to see.
        """
        if self.ended:
            return
        if self._reason is None:
            self._reason = reason or StreamClosedError("the stream was closed")
        self._end()
        self._response.close()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(self)

    def _watch(self) -> None:
        """Check the clocks, and come back when the next one could run out.

        Within the shortest limit from now no wait that has yet to begin can end, so
        nothing is missed by looking again then, and nothing is rescheduled meanwhile.
        """
        now = self._loop.time()
        at, name = self.clock.due()
        if at <= now:
            self._timer = None
            self.close(self.clock.error(name, self.request_id))
            return
        at = min(at, now + self._step)
        if at != NEVER:
            self._timer = self._loop.call_at(at, self._watch)


def _reading_error(error: Exception, request_id: str | None) -> APIConnectionError:
    made = ConnectionLostError(
        "the connection was lost in the midst of the body", request_id=request_id
    )
    made.cause = _said(error)
    return made


def unexpected_content(response: LiveResponse, body: bytes) -> ResponseDecodeError:
    """The exception for a success status whose body is not the API's."""
    kind = response.headers.get("content-type", "no content type")
    return UnexpectedContentTypeError(
        f"the server answered {response.status} with {kind:.80}, not the API's JSON"
        " or event stream: is the base URL right, is a proxy in between?",
        status=response.status,
        body=excerpt_of(body),
        request_id=response.request_id,
    )
