"""One HTTP exchange: open it, read it, end it.

Whatever aiohttp raises, a cancellation included, is raised anew *after* the `except`
block has ended: an exception chain, or a traceback that shows locals, would otherwise
reach aiohttp's frames, and those hold the API key and the prompt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp

from .codec import excerpt_of, request_id_of
from .errors import (
    APIConnectionError,
    ConnectError,
    ConnectionLostError,
    DeepSeekError,
    ResponseDecodeError,
    ResponseTooLargeError,
    StreamClosedError,
    UnexpectedContentTypeError,
)
from .inside import KNOWN, left_in, make_plain, take, wait_of
from .opening import Opening, current_opening
from .request import WireRequest
from .sending import Response, Sender
from .timeouts import NEVER, BodyClock, connect_error
from .waking import AT_ONCE
from .watch import Watch

MAX_ERROR_BODY: Final = 64 * 1024
"""How much of an error response is read, in bytes."""


_ERROR_BODY_SECONDS: Final = 5.0
"""How long to wait for the text of an error whose status is known already."""


_INNER: Final = r"(?s)<\w+: \d+, message=['\"]?(.*?)['\"]?>"

_READS_AT_ONCE: Final = 4
"""Of reads that find bytes at hand, every so many lets other tasks go first."""


async def open_response(
    sender: Sender,
    request: WireRequest,
    opening: Opening,
    watch: Watch,
    on_end: Callable[[LiveResponse], None],
) -> LiveResponse:
    """Send one request and wait for the response head.

    Args:
        sender: That of the running loop.
        request: What to send.
        opening: Lets a clock or another task end the wait.
        watch: Watches the clocks.
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
    failure: BaseException
    cancelling = opening.cancelling
    current_opening.set(opening)
    watch.add(opening, opening.earliest)
    try:
        response = await sender.send(request, opening.timeouts.connect)
    except asyncio.CancelledError as error:
        if opening.takes_back_cancellation(cancelling) and opening.reason is not None:
            failure = opening.reason
        else:
            failure = asyncio.CancelledError(*error.args)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must become ours
        failure = _opening_error(error, opening)
    else:
        clock = BodyClock(opening.timeouts, opening.deadline_at)
        return LiveResponse(response, clock, watch, on_end)
    finally:
        watch.discard(opening)
        opening.end()
        # Not `reset`: a call that is collected late ends in another context.
        current_opening.set(None)
    raise failure


def _said(error: BaseException) -> str:
    """The transport's words, short: the exception itself must not be kept."""
    text = str(error)
    if isinstance(error, aiohttp.ClientResponseError):
        text = error.message
    # Not a status, though aiohttp writes it like one: <TransferEncodingError: 400, ...>
    text = re.sub(_INNER, r"\1", text)
    text = " ".join("".join(filter(str.isprintable, text.replace("\n", " "))).split())
    return f"{type(error).__name__}: {text}"[:240] if text else type(error).__name__


def _opening_error(error: Exception, opening: Opening) -> APIConnectionError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return connect_error(opening.timeouts.connect or 0.0)
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


class LiveResponse:
    """A response whose body is still to be read.

    Args:
        response: The response, its body unread.
        clock: Limits the wait for the body.
        watch: Watches the clock.
        on_end: Called once, when the body was read to its end or given up.

    Attributes:
        status: The HTTP status.
        headers: The response headers, looked up whatever their case.
        request_id: The server's trace id.
        clock: Counts what arrives.
        ended: Whether the connection has been given back or closed.
    """

    __slots__ = (
        "__weakref__",
        "_at_once",
        "_closed",
        "_content",
        "_is_known",
        "_is_watched",
        "_loop",
        "_on_end",
        "_read",
        "_reason",
        "_response",
        "_watch",
        "clock",
        "ended",
        "headers",
        "request_id",
        "status",
        "step",
    )

    def __init__(
        self,
        response: Response,
        clock: BodyClock,
        watch: Watch,
        on_end: Callable[[LiveResponse], None],
    ) -> None:
        self._response = response
        self._content = response.content
        self._is_known = KNOWN and make_plain(response.content)
        self._watch = watch
        self._is_watched = False
        self._at_once = 0
        self._read: bytes | None = None
        self._closed: asyncio.Future[None] | None = None
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._reason: DeepSeekError | None = None
        self.clock = clock
        self.step = NEVER
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.request_id = request_id_of(response.headers)
        self.ended = False
        if clock.deadline_at != NEVER:  # it runs also while nobody reads
            self._start_watch(self._loop.time())

    def __repr__(self) -> str:
        state = "ended" if self.ended else "open"
        return (
            f"LiveResponse({self.status}, {self.clock.bytes_received} bytes, {state})"
        )

    def due(self) -> float:
        """When the body is overdue, if nothing more arrives."""
        return self.clock.due()[0]

    def expire(self) -> None:
        """A clock has run out: close, which wakes the reader."""
        self._is_watched = False
        self.close(self.clock.error(self.clock.due()[1], self.request_id))

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
        data: bytes | None = None
        try:
            while data is None:
                await self.arrival()
                data = self.arrived()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as `lost`
            failure = self.lost(error)
        else:
            return data
        raise failure

    def arrival(self) -> Awaitable[None]:
        """Begin to wait for bytes; `read_some` in parts, for who reads very often.

        Returns:
            What to await before `arrived`. Whatever is raised on the way, by this
            method too, is to be handed to `lost`.
        """
        now = self._loop.time()
        self.clock.wait(now)
        if not self._is_watched:
            self._start_watch(now)
        if self._is_known:
            return wait_of(self._content) or self._turn_of_others() or AT_ONCE
        return self._read_any()

    def arrived(self) -> bytes | None:
        """The bytes that came, `b""` at the end of the body, `None` if none came."""
        if self._is_known:
            data = take(self._content)
        else:
            data, self._read = self._read, None
        if data is not None:
            self.clock.received(len(data))
            if not data:
                self._end()
        return data

    def lost(self, error: BaseException) -> BaseException:
        """Close the response.

        Args:
            error: What was raised instead of bytes.

        Returns:
            What to raise, once the `except` block has ended.
        """
        failure: BaseException
        if isinstance(error, asyncio.CancelledError):
            failure = asyncio.CancelledError(*error.args)
        else:
            failure = self._reason or _lost(_said(error), self.request_id)
        self.clock.waiting = False
        self.close()
        return failure

    async def _read_any(self) -> None:
        """The documented way, which waits by itself."""
        turn = self._turn_of_others()
        if turn is not None:
            await turn
        self._read = await self._content.readany()

    def _turn_of_others(self) -> Awaitable[None] | None:
        """What to await now and then though there are bytes.

        What unpacks to endless bytes would never let go of the loop otherwise.
        """
        self._at_once += 1
        return None if self._at_once % _READS_AT_ONCE else asyncio.sleep(0)

    def _start_watch(self, now: float) -> None:
        self._is_watched = True
        self.step = self.clock.smallest
        self._watch.add(self, min(self.clock.deadline_at, now + self.step))
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            self._closed = connection.protocol.closed
            if self._closed is not None:
                self._closed.add_done_callback(self._on_closed)

    def _on_closed(self, _: asyncio.Future[None]) -> None:
        """The connection is gone.

        aiohttp has told the body's reader by now, unless what ended it was broken
        framing: then the reader would wait for ever.
        """
        content = self._content
        if not content.is_eof() and content.exception() is None:
            failure = _lost("the server broke the framing of HTTP", self.request_id)
            self.close(failure)

    def salvage(self) -> bytes:
        """Bytes that had arrived when the connection broke or was closed.

        aiohttp raises the stored error before it hands out what it has buffered.
        """
        found = left_in(self._content)
        self.clock.bytes_received += len(found)
        return found

    async def read(self, limit: int) -> bytes:
        """Read the whole body: blank lines for as long as it takes, then one JSON text.

        Args:
            limit: The most bytes to accept.

        Returns:
            The body without the blank lines that keep a waiting call alive.

        Raises:
            ResponseTooLargeError: The body is larger than `limit`.
            APIError: As `read_some`; `PayloadGapTimeoutError` when the JSON had
                begun and was not complete in time.
        """
        content, clock = self._content, self.clock
        if content.is_eof() and content.exception() is None:
            # All of it came together with the head.
            data = left_in(content) if self._is_known else content.read_nowait()
            clock.received(len(data))
            self._end()
            self._check_size(limit)
            return data
        parts: list[bytes] = []
        while data := await self.read_some():
            if parts:
                parts.append(data)
            elif data.isspace():
                clock.keep_alives += max(1, data.count(b"\n"))
            else:
                parts.append(data)
                clock.paid(1)
            self._check_size(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_size(self, limit: int) -> None:
        if self.clock.bytes_received <= limit:
            return
        self.close()
        message = f"the body is larger than {limit} bytes"
        raise ResponseTooLargeError(
            message, status=self.status, request_id=self.request_id
        )

    async def read_error(self) -> bytes:
        """Read the beginning of an error body; a body cut short is good enough."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_ERROR_BODY_SECONDS):
                while size < MAX_ERROR_BODY and (data := await self.read_some()):
                    parts.append(data)
                    size += len(data)
        except (APIConnectionError, TimeoutError):
            parts.append(self.salvage())
        self.close()
        if self.status == 101:  # noqa: PLR2004 - aiohttp leaves it to us to end it
            self._response.close()
        return b"".join(parts)

    async def drain(self, seconds: float, limit: int = 65_536) -> None:
        """Read a finished body to its end, so that the connection can be reused.

        Args:
            seconds: How long to wait for the end before closing instead.
            limit: How many bytes to skip before closing instead.
        """
        content = self._content
        try:
            if not content.at_eof():
                async with asyncio.timeout(seconds):
                    while limit > 0 and (data := await content.readany()):
                        limit -= len(data)
        except Exception:  # noqa: BLE001 - the answer is complete already
            self.close()
        finally:
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
            self._reason = reason or StreamClosedError()
        self._end()
        content = self._content
        if not content.is_eof() and content.exception() is None:
            # aiohttp would raise an exception that all readers share, and which would
            # keep the frames of each of them, request and all, for ever.
            content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self._response.close()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._is_watched:
            self._watch.discard(self)
            if self._closed is not None:
                self._closed.remove_done_callback(self._on_closed)
        self._on_end(self)


def _lost(cause: str, request_id: str | None) -> ConnectionLostError:
    message = "the connection was lost in the midst of the body"
    return ConnectionLostError(message, request_id=request_id, cause=cause)


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
