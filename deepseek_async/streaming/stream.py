"""What every stream can do, wherever its chunks come from.

A stream pulls: nothing is read ahead of its reader. Every way out, the end, an error, a
`break`, a cancellation, `close()` in another task, frees what it holds at once, and
what had arrived stays readable in `partial`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from ..accumulate import ChatAccumulator, FIMAccumulator
from ..errors import (
    APIError,
    ClientClosedError,
    DeepSeekError,
    StreamClosedError,
    StreamInUseError,
)
from ..events import ChatEventMaker
from ..metering import Charge
from ..types.chat import ChatCompletion, ChatCompletionChunk
from ..types.events import ChatEvent, Heartbeat, Resumed
from ..types.fim import Completion, CompletionChunk
from ..types.meta import Attempt, ResponseMeta
from ..types.usage import Usage
from ..waking import AT_ONCE

C = TypeVar("C", bound=ChatCompletionChunk | CompletionChunk)
A = TypeVar("A", bound=ChatCompletion | Completion)
C_contra = TypeVar("C_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class _Leaving:
    """Whoever reads a stream leaves it in the end; not so a second reader, refused."""

    def __init__(self, stream: Stream[Any, Any]) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not StreamInUseError:
            self._stream.abort()


class _Accumulator(Protocol[C_contra, A_co]):
    @property
    def usage(self) -> Usage | None: ...
    def feed(self, chunks: Iterable[C_contra], /) -> None: ...
    def completion(self) -> A_co: ...


class Stream(ABC, Generic[C, A]):
    """The life of one stream; `ChatStream` and `CompletionStream` are its kinds.

    Args:
        accumulator: Folds the chunks.
        charge: The call's entry in the client's meter.
    """

    def __init__(
        self, accumulator: _Accumulator[C, A], charge: Charge | None = None
    ) -> None:
        self._accumulator = accumulator
        self._charge = charge
        self._pending: deque[C] = deque()
        self._failure: DeepSeekError | None = None
        self._is_reading = False
        self._is_complete = False
        self._meta: ResponseMeta | None = None
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        state = "closed" if self._failure is not None else "open"
        return f"<{type(self).__name__} {'complete' if self._is_complete else state}>"

    # -- where the chunks come from ------------------------------------------------

    @abstractmethod
    async def _more(self, *, heartbeats: bool) -> list[C] | None:
        """The next chunks.

        Args:
            heartbeats: Whether to return an empty list when only keep-alives came.

        Returns:
            The chunks, or `None` at the end.

        Raises:
            DeepSeekError: The stream broke.
        """

    @abstractmethod
    def _release(self, reason: DeepSeekError) -> None:
        """Free what the stream holds: it is left before its end.

        Args:
            reason: What a task that waits for it is to see.
        """

    async def _complete(self) -> None:
        """The end has been reached; set `_meta`."""
        self._is_complete = True
        self._settle()

    def _rescue(self) -> None:
        """Take what had arrived, but was not read, when the stream was left."""

    def _list_attempts(self, failure: APIError) -> None:
        """List the attempts in an error that is about to be raised."""

    @property
    @abstractmethod
    def request_id(self) -> str | None:
        """The server's trace id: the `x-ds-trace-id` header."""

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """The response headers, looked up whatever their case."""

    @property
    @abstractmethod
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts so far; the successful one last, once the stream is complete."""

    @property
    @abstractmethod
    def keep_alives(self) -> int:
        """Keep-alives received so far in this attempt."""

    @abstractmethod
    def heartbeat(self) -> Heartbeat:
        """How long the stream has been waiting."""

    # -- what is known so far ------------------------------------------------------

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
        with _Leaving(self):
            while pending or await self._fill():
                while pending:
                    yield pending.popleft()

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
                try:
                    chunks = await self._more(heartbeats=heartbeats)
                except DeepSeekError as error:
                    self._remember(error)
                    chunks = []
                if chunks is None:
                    await self._complete()
                    return False
                self._keep(chunks)
                if heartbeats:
                    break
        finally:
            self._is_reading = False
        return True

    def _remember(self, failure: DeepSeekError) -> None:
        """Raise it when what came before has been read; the first failure counts."""
        self._failure = self._failure or failure

    def _keep(self, chunks: list[C]) -> None:
        if chunks:
            self._accumulator.feed(chunks)
            self._pending.extend(chunks)

    def _failed(self, failure: DeepSeekError) -> DeepSeekError:
        """The failure, ready to be raised: with what had arrived before it."""
        self._settle()
        if isinstance(failure, APIError | ClientClosedError | StreamClosedError):
            failure.partial = self._accumulator.completion()
        if isinstance(failure, APIError) and not failure.attempts:
            self._list_attempts(failure)
        return failure.with_traceback(None)

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
        return AT_ONCE

    def abort(self) -> None:
        """Leave the stream unless it is complete. From the loop's thread.

        A task that waits for this stream gets `StreamClosedError`.
        """
        if self._is_complete:
            return
        if self._failure is None:
            self._failure = StreamClosedError()
        self._release(self._failure)
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

    def __init__(self, charge: Charge | None = None) -> None:
        super().__init__(ChatAccumulator(), charge)

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
        with _Leaving(self):
            while pending or await self._fill():
                while pending:
                    for choice in pending.popleft().choices:
                        if choice.delta.content:
                            yield choice.delta.content

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        """Everything that happens, as typed events.

        Yields:
            `Heartbeat` while the server keeps the request waiting, `ReasoningDelta`,
            `TextDelta`, `ToolCallArgumentsDelta`, `ToolCallFinished`,
            `UsageReported`, and `Finished` last; `Resumed` wherever the stream went
            on after a break.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        maker = ChatEventMaker()
        pending = self._pending
        told = beats = 0
        with _Leaving(self):
            while pending or await self._fill(heartbeats=True):
                if not pending and self.keep_alives != beats:
                    beats = self.keep_alives
                    yield self.heartbeat()
                for resumed in self.breaks[told:]:
                    told += 1
                    maker = _maker_after(resumed, maker)
                    yield resumed
                while pending:
                    for event in maker.events(pending.popleft()):
                        yield event
            for resumed in self.breaks[told:]:
                yield resumed
            for event in maker.end():
                yield event


class CompletionStream(Stream[CompletionChunk, Completion]):
    """The streamed answer to a fill-in-the-middle request; used like `ChatStream`.

    https://api-docs.deepseek.com/api/create-completion
    """

    def __init__(self, charge: Charge | None = None) -> None:
        super().__init__(FIMAccumulator(), charge)

    async def text(self) -> AsyncGenerator[str, None]:
        """The text, piece by piece.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        pending = self._pending
        with _Leaving(self):
            while pending or await self._fill():
                while pending:
                    for choice in pending.popleft().choices:
                        if choice.text:
                            yield choice.text


def _maker_after(resumed: Resumed, maker: ChatEventMaker) -> ChatEventMaker:
    return ChatEventMaker() if resumed.action == "restarted" else maker
