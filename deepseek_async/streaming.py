"""Streams: chunks out of a live response, and async generators over them.

A stream pulls: nothing is read ahead of its reader beyond what one network read
brought, so a slow reader slows the server down. Every way out, the end, an error, a
`break`, a cancellation, `close()` in another task, gives the connection back or closes
it at once, and what had arrived stays readable in `partial`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Generator,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from .accumulate import ChatAccumulator, FIMAccumulator
from .call import Call, incomplete
from .chunks import PayloadReader
from .codec import CHAT_CHUNK, FIM_CHUNK, Codec
from .errors import (
    APIError,
    ClientClosedError,
    ConnectionLostError,
    DeepSeekError,
    EmptyResponseError,
    StreamClosedError,
    StreamInterruptedError,
    StreamInUseError,
)
from .events import ChatEventMaker
from .metering import Charge
from .transport import LiveResponse, unexpected_content
from .types.chat import ChatCompletion, ChatCompletionChunk
from .types.events import ChatEvent, Heartbeat, Resumed
from .types.fim import Completion, CompletionChunk
from .types.meta import Attempt, ResponseMeta
from .types.usage import Usage

C = TypeVar("C", bound=ChatCompletionChunk | CompletionChunk)
A = TypeVar("A", bound=ChatCompletion | Completion)
C_contra = TypeVar("C_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)

DRAIN_SECONDS: Final = 0.25
"""How long to wait after `[DONE]` for the end of the body, to reuse the connection."""

MAX_EVENT_SIZE: Final = 16 * 1024 * 1024
"""The largest server-sent event accepted, in bytes."""

_MAX_HELD: Final = 65_536
"""How much of a body to look at that does not call itself an event stream."""

_SSE_STARTS: Final = (b"data", b"event", b"id", b"retry", b":", b"\xef\xbb\xbf")


class _Done:
    """An awaitable without anything to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE: Final = _Done()


class _Accumulator(Protocol[C_contra, A_co]):
    @property
    def usage(self) -> Usage | None: ...
    def feed(self, chunks: Iterable[C_contra], /) -> None: ...
    def completion(self) -> A_co: ...


class Stream(Generic[C, A]):
    """The life of one stream; `ChatStream` and `CompletionStream` are its kinds.

    Args:
        call: The call it belongs to, for attempts before the first payload.
        response: The open response.
        codec: Decodes a payload.
        accumulator: Folds the chunks.
        charge: The call's entry in the client's meter.
    """

    def __init__(
        self,
        call: Call,
        response: LiveResponse,
        codec: Codec[C],
        accumulator: _Accumulator[C, A],
        charge: Charge | None = None,
    ) -> None:
        self._begin(accumulator, charge)
        self._call = call
        self._response = response
        self._codec = codec
        self._reader = self._new_reader()
        self._held = self._undecided()

    def _begin(self, accumulator: _Accumulator[C, A], charge: Charge | None) -> None:
        """Set up what does not depend on where the chunks come from."""
        self._accumulator = accumulator
        self._charge = charge
        self._pending: deque[C] = deque()
        self._failure: DeepSeekError | None = None
        self._is_reading = False
        self._is_complete = False
        self._meta: ResponseMeta | None = None
        self._loop = asyncio.get_running_loop()

    def _new_reader(self) -> PayloadReader[C]:
        return PayloadReader(self._codec, max_event_size=MAX_EVENT_SIZE)

    def _undecided(self) -> bytes | None:
        """The beginning of a body of doubtful kind, `None` for an event stream."""
        kind = self._response.headers.get("content-type", "")
        return None if "text/event-stream" in kind else b""

    def __repr__(self) -> str:
        state = "complete" if self._is_complete else "open"
        if not self._is_complete and self._response.ended:
            state = "closed"
        return (
            f"<{type(self).__name__} {state}, {self._response.clock.payloads} payloads>"
        )

    # -- what is known so far ------------------------------------------------------

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

    @property
    def is_complete(self) -> bool:
        """Whether the stream was read to its `[DONE]`."""
        return self._is_complete

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the server has sent them."""
        return self._accumulator.usage

    @property
    def receipt(self) -> Charge | None:
        """The call's bill, for a stream derived from this one."""
        return None if self._charge is None else self._charge.receipt()

    @property
    def meta(self) -> ResponseMeta | None:
        """How the answer came about, once the stream is complete."""
        return self._meta

    @property
    def partial(self) -> A:
        """The answer as far as it has been received, at any time."""
        self._rescue()
        return self._accumulator.completion()

    # -- reading -------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[C]:
        return self._chunks()

    async def _chunks(self) -> AsyncGenerator[C, None]:
        pending = self._pending
        try:
            while pending or await self._fill():
                while pending:
                    yield pending.popleft()
        finally:
            self.abort()

    async def __anext__(self) -> C:
        """The next chunk; unlike leaving `async for`, this leaves the stream open."""
        if self._pending or await self._fill():
            return self._pending.popleft()
        raise StopAsyncIteration

    async def read_chunks(self, *, heartbeats: bool = False) -> list[C] | None:
        """Every chunk that has arrived, after a wait for the first.

        Args:
            heartbeats: Return an empty list when only keep-alives have arrived.

        Returns:
            The chunks, or `None` at the end of the stream. The stream stays open.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        if not self._pending and not await self._fill(heartbeats=heartbeats):
            return None
        chunks = list(self._pending)
        self._pending.clear()
        return chunks

    async def completion(self) -> A:
        """Read to the end and fold everything into one answer.

        Returns:
            What the call would have returned without `stream=True`.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        self._pending.clear()
        while await self._fill():
            self._pending.clear()
        answer = self._accumulator.completion()
        if self._meta is not None:
            answer.set_meta(self._meta)
        if self._charge is not None:
            answer.set_bill(self._charge.bill)
        return answer

    async def _fill(self, *, heartbeats: bool = False) -> bool:
        """Read until a chunk is pending.

        Args:
            heartbeats: Return also when only keep-alives have arrived.

        Returns:
            Whether the stream goes on; `False` at its end.

        Raises:
            APIError: The stream failed.
            StreamClosedError: It was closed before its end.
        """
        if self._is_reading:
            message = "another task is reading this stream"
            raise StreamInUseError(message)
        self._is_reading = True
        try:
            while not self._pending:
                if self._failure is not None:
                    raise self._failed(self._failure)
                if self._is_complete:
                    return False
                if self._reader.done:
                    await self._complete()
                    return False
                await self._read()
                if heartbeats and not self._reader.done:
                    break
        finally:
            self._is_reading = False
        return True

    async def _read(self) -> None:
        """One network read, decoded."""
        response, reader = self._response, self._reader
        failure: DeepSeekError | None = None
        data = b""
        try:
            data = await response.read_some()
        except DeepSeekError as error:
            failure = error
            data = response.salvage()
        ended = not data or failure is not None
        self._take(data, ended=ended)
        if not ended and reader.failure is None:
            return
        if reader.done:
            return
        failure = reader.failure or failure
        if failure is None and not data:
            failure = self._ended_early()
        if failure is not None:
            await self._fail(failure)

    def _take(self, data: bytes, *, ended: bool) -> None:
        """Decode a piece of the body into pending chunks."""
        response, reader = self._response, self._reader
        if self._held is not None:
            data = self._check_kind(self._held + data, ended=ended)
        chunks = reader.feed(data)
        if ended:
            chunks += reader.end()
        if chunks:
            response.clock.paid(len(chunks))
            self._pending.extend(chunks)
            self._accumulator.feed(chunks)
        else:
            response.clock.keep_alives = reader.comments

    def _ended_early(self) -> APIError:
        clock = self._response.clock
        if clock.bytes_received == 0:
            message = "the server answered 200 with an empty stream"
            return EmptyResponseError(message, status=200)
        message = f"the stream ended without [DONE] after {clock.payloads} payloads"
        return StreamInterruptedError(message)

    def _check_kind(self, body: bytes, *, ended: bool) -> bytes:
        """Hold a body that is not labelled as an event stream until it shows its kind.

        Returns:
            What to decode: all that was held, once it looks like an event stream.
        """
        start = body.lstrip()
        if start.startswith(_SSE_STARTS):
            self._held = None
            return body
        if not ended and len(start) < _MAX_HELD:
            self._held = start
            return b""
        if start.startswith(b"{"):
            self._reader.failure = incomplete(self._response, start)
        elif start:
            self._reader.failure = unexpected_content(self._response, start)
        return b""

    def _rescue(self) -> None:
        """Take what had arrived when the stream was closed."""
        if not self._reader.done and self._response.ended:
            self._take(self._response.salvage(), ended=True)

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
        self._reader = self._new_reader()
        self._held = self._undecided()

    def _failed(self, failure: DeepSeekError) -> DeepSeekError:
        """The failure, ready to be raised: with what had arrived before it."""
        self._settle()
        carriers = APIError, ClientClosedError, StreamClosedError
        if isinstance(failure, carriers):
            failure.partial = self._accumulator.completion()
        if isinstance(failure, APIError) and not failure.attempts:
            self._call.failed(failure, status=self._response.status)
        return failure.with_traceback(None)

    async def _complete(self) -> None:
        self._meta = self._call.succeeded(self._response)
        self._is_complete = True
        self._settle()
        await self._response.drain(DRAIN_SECONDS)

    def _settle(self) -> None:
        if self._charge is not None:
            self._charge.settle(self._accumulator.usage)

    # -- leaving -------------------------------------------------------------------

    def close(self) -> Awaitable[None]:
        """The same as `abort`, done at once.

        Returns:
            An awaitable without a wait, as code for other clients awaits `close()`.
        """
        self.abort()
        return _DONE

    def abort(self) -> None:
        """Close the connection unless the stream is complete. From the loop's thread.

        A task that waits for this stream gets `StreamClosedError`.
        """
        if self._is_complete:
            return
        if self._failure is None:
            self._failure = StreamClosedError()
        self._call.abandon(self._failure)
        self._response.close(self._failure)
        self._rescue()
        self._settle()

    async def aclose(self) -> None:
        """The same as `close`, for `contextlib.aclosing`."""
        self.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()

    def __del__(self) -> None:
        response = getattr(self, "_response", None)
        if response is None or response.ended or self._loop.is_closed():
            return
        # The collector may run in any thread, and while the meter is locked.
        self._loop.call_soon_threadsafe(response.close)
        if self._charge is not None:
            usage = self._accumulator.usage
            self._loop.call_soon_threadsafe(self._charge.settle, usage)


class ChatStream(Stream[ChatCompletionChunk, ChatCompletion]):
    """The streamed answer to a chat request.

    Iterate over it for chunks, over `text()` for visible text, over `events()` for
    typed events, or await `completion()` for the whole answer. Use it in
    `async with`, so that it is closed however the block is left:

        async with await client.chat.completions.create(..., stream=True) as stream:
            async for text in stream.text():
                print(text, end="")

    Leaving an `async for` early closes the stream.

    https://api-docs.deepseek.com/api/create-chat-completion
    """

    def __init__(
        self, call: Call, response: LiveResponse, charge: Charge | None = None
    ) -> None:
        super().__init__(call, response, CHAT_CHUNK, ChatAccumulator(), charge)

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on; see `Resume`."""
        return ()

    async def text(self) -> AsyncGenerator[str, None]:
        """The visible text, piece by piece, reasoning left out.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        pending = self._pending
        try:
            while pending or await self._fill():
                while pending:
                    for choice in pending.popleft().choices:
                        if choice.delta.content:
                            yield choice.delta.content
        finally:
            self.abort()

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        """Everything that happens, as typed events.

        Yields:
            `Heartbeat` while the server keeps the request waiting, `ReasoningDelta`,
            `TextDelta`, `ToolCallArgumentsDelta`, `ToolCallFinished`,
            `UsageReported`, and `Finished` last.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        maker = ChatEventMaker()
        pending = self._pending
        try:
            while pending or await self._fill(heartbeats=True):
                if not pending:
                    yield self.heartbeat()
                while pending:
                    for event in maker.events(pending.popleft()):
                        yield event
            for event in maker.end():
                yield event
        finally:
            self.abort()

    def heartbeat(self) -> Heartbeat:
        """How long the stream has been waiting."""
        return Heartbeat(
            keep_alives=self.keep_alives,
            waited=self._response.clock.waited(self._loop.time()),
            attempt=len(self._call.attempts) + 1,
        )


class CompletionStream(Stream[CompletionChunk, Completion]):
    """The streamed answer to a fill-in-the-middle request; used like `ChatStream`.

    https://api-docs.deepseek.com/api/create-completion
    """

    def __init__(
        self, call: Call, response: LiveResponse, charge: Charge | None = None
    ) -> None:
        super().__init__(call, response, FIM_CHUNK, FIMAccumulator(), charge)

    async def text(self) -> AsyncGenerator[str, None]:
        """The text, piece by piece.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        pending = self._pending
        try:
            while pending or await self._fill():
                while pending:
                    for choice in pending.popleft().choices:
                        if choice.text:
                            yield choice.text
        finally:
            self.abort()
