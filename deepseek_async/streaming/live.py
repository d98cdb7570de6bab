"""Streams of a live response: bytes to chunks, attempts before the first payload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, TypeVar

from ..call import Call
from ..chunks import PayloadReader
from ..codec import CHAT_CHUNK, FIM_CHUNK, Codec, find_error, stream_error
from ..errors import (
    APIError,
    APITimeoutError,
    ConnectionLostError,
    DeepSeekError,
    EmptyResponseError,
    StreamInterruptedError,
)
from ..metering import Charge
from ..transport import LiveResponse, unexpected_content
from ..types.chat import ChatCompletion, ChatCompletionChunk
from ..types.events import Heartbeat
from ..types.fim import Completion, CompletionChunk
from ..types.meta import Attempt
from .stream import ChatStream, CompletionStream, Stream

C = TypeVar("C", bound=ChatCompletionChunk | CompletionChunk)
A = TypeVar("A", bound=ChatCompletion | Completion)

DRAIN_SECONDS: Final = 0.25
"""How long to wait after `[DONE]` for the end of the body, to reuse the connection."""

MAX_PAYLOAD_SIZE: Final = 16 * 1024 * 1024
"""The largest server-sent event accepted, in bytes: room for 10 MB in one chunk."""

_MAX_HELD: Final = 65_536
"""How much of a body to look at that does not call itself an event stream."""

_SSE_STARTS: Final = (b"data", b"event", b"id", b"retry", b":", b"\xef\xbb\xbf")


def _is_foreign(start: bytes) -> bool:
    """Whether a body begins like JSON or HTML."""
    return start.startswith((b"{", b"<"))


class LiveStream(Stream[C, A]):
    """A stream that reads a response. Mixed into the kinds of streams below."""

    _call: Call
    _response: LiveResponse
    _codec: Codec[C]

    def _attach(self, call: Call, response: LiveResponse, codec: Codec[C]) -> None:
        """Begin to read.

        Args:
            call: The call, for attempts before the first payload.
            response: The open response.
            codec: Decodes a payload.
        """
        self._call = call
        self._response = response
        self._codec = codec
        self._start()

    def _start(self) -> None:
        self._reader = PayloadReader(self._codec, max_event_size=MAX_PAYLOAD_SIZE)
        #: The beginning of a body until its kind is certain, then `None`.
        self._held: bytes | None = b""

    def __repr__(self) -> str:
        payloads = self._response.clock.payloads
        return f"{super().__repr__()[:-1]}, {payloads} payloads>"

    @property
    def request_id(self) -> str | None:
        """The server's trace id: the `x-ds-trace-id` header."""
        return self._response.request_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers, looked up whatever their case."""
        return self._response.headers

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts so far; the successful one last, once the stream is complete."""
        return self._meta.attempts if self._meta else self._call.attempts

    @property
    def keep_alives(self) -> int:
        """Keep-alives received so far in this attempt."""
        return self._reader.comments

    def heartbeat(self) -> Heartbeat:
        """How long the stream has been waiting."""
        return Heartbeat(
            keep_alives=self.keep_alives,
            waited=self._response.clock.waited(self._loop.time()),
            attempt=len(self._call.attempts) + 1,
        )

    async def _more(self, *, heartbeats: bool) -> list[C] | None:  # noqa: ARG002 - one read either way
        """One network read, decoded."""
        response, reader = self._response, self._reader
        if reader.done:
            return None
        lost: BaseException | None = None
        data: bytes | None = None
        try:  # `response.read_some`, without a coroutine for every chunk
            while data is None:
                await response.arrival()
                data = response.arrived()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - see `lost`
            lost = response.lost(error)
        if not data:
            return await self._read_last(lost)
        if self._held is not None:
            data = self._check_kind(self._held + data, ended=False)
        chunks = reader.feed(data)
        if chunks:
            response.clock.paid(len(chunks))
        else:
            self._kept_alive(data)
        if reader.failure is not None:
            await self._fail(reader.failure)
        return chunks

    async def _read_last(self, lost: BaseException | None) -> list[C]:
        """The end of the body, or what had arrived before it was lost, decoded."""
        if lost is not None and not isinstance(lost, DeepSeekError):
            raise lost  # cancelled
        reader = self._reader
        chunks = self._decode_last(b"" if lost is None else self._response.salvage())
        if reader.done:
            return chunks
        failure = lost
        if reader.failure is not None and not isinstance(lost, APITimeoutError):
            failure = reader.failure
        await self._fail(failure or self._ended_early())
        return chunks

    def _decode_last(self, data: bytes) -> list[C]:
        if self._held is not None:
            data = self._check_kind(self._held + data, ended=True)
        chunks = self._reader.feed(data) + self._reader.end()
        if chunks:
            self._response.clock.paid(len(chunks))
        else:
            self._kept_alive(data)
        return chunks

    def _kept_alive(self, data: bytes) -> None:
        """No payload was in there: count what keeps the stream alive."""
        if data.isspace():
            self._reader.keep_alives += 1
        self._response.clock.keep_alives = self._reader.comments

    def _ended_early(self) -> APIError:
        clock = self._response.clock
        if clock.bytes_received == 0:
            message = "the server answered 200 with an empty stream"
            return EmptyResponseError(message, status=200)
        message = f"the stream ended without [DONE] after {clock.payloads} payloads"
        return StreamInterruptedError(message)

    def _check_kind(self, body: bytes, *, ended: bool) -> bytes:
        """Hold the beginning of a body until it shows its kind.

        Returns:
            What to decode: all that was held, once it looks like an event stream.
        """
        start = body.lstrip()
        kind = self._response.headers.get("content-type", "")
        is_labelled = "text/event-stream" in kind
        if start.startswith(_SSE_STARTS) or (is_labelled and not _is_foreign(start)):
            self._held = None
            return body
        if not ended and len(start) < _MAX_HELD:
            self._held = start
            return b""
        found = find_error(start)
        if found is not None:
            self._reader.failure = stream_error(found, start)
        elif start:
            self._reader.failure = unexpected_content(self._response, start)
        return b""

    def _rescue(self) -> None:
        if not self._reader.done and self._response.ended:
            self._keep(self._decode_last(self._response.salvage()))

    async def _fail(self, failure: DeepSeekError) -> None:
        """Try again if nothing has been received yet, else remember the failure."""
        response = self._response
        if isinstance(failure, APIError):
            failure.request_id = failure.request_id or response.request_id
            if type(failure) is ConnectionLostError:
                failure = self._interrupted(failure)
            if not response.clock.payloads:
                response.close()
                await self._reopen(failure)
                return
        self._failure = failure
        response.close()

    def _interrupted(self, lost: ConnectionLostError) -> APIError:
        message = "the connection was lost in the midst of the answer"
        interrupted = StreamInterruptedError(message, request_id=lost.request_id)
        interrupted.cause = lost.cause
        return interrupted

    async def _reopen(self, failure: APIError) -> None:
        again: DeepSeekError | None = None
        try:
            await self._call.recover(failure, status=self._response.status)
            self._response = await self._call.open()
        except DeepSeekError as error:
            again = error
        if again is not None:
            self._failure = again
            return
        if self._failure is not None:  # closed by another task meanwhile
            self._response.close()
            return
        self._start()

    def _list_attempts(self, failure: APIError) -> None:
        self._call.failed(failure, status=self._response.status)

    async def _complete(self) -> None:
        self._meta = self._call.succeeded(self._response)
        await super()._complete()
        await self._response.drain(DRAIN_SECONDS)

    def _release(self, reason: DeepSeekError) -> None:
        self._call.abandon(reason)
        self._response.close(reason)

    def __del__(self) -> None:
        response = getattr(self, "_response", None)
        if response is None or response.ended or self._loop.is_closed():
            return
        # The collector may run in any thread, and while the meter is locked.
        self._loop.call_soon_threadsafe(response.close)
        if self._charge is not None:
            usage = self._accumulator.usage
            self._loop.call_soon_threadsafe(self._charge.settle, usage)


class LiveChatStream(LiveStream[ChatCompletionChunk, ChatCompletion], ChatStream):
    """The chat stream of a live response."""

    def __init__(
        self, call: Call, response: LiveResponse, charge: Charge | None = None
    ) -> None:
        ChatStream.__init__(self, charge)
        self._attach(call, response, CHAT_CHUNK)


class LiveCompletionStream(LiveStream[CompletionChunk, Completion], CompletionStream):
    """The fill-in-the-middle stream of a live response."""

    def __init__(
        self, call: Call, response: LiveResponse, charge: Charge | None = None
    ) -> None:
        CompletionStream.__init__(self, charge)
        self._attach(call, response, FIM_CHUNK)
