"""Chat streams whose chunks come from another stream, or from memory.

They read, and are left, like the stream of a live response; only where the next
chunks come from is their own affair.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from types import MappingProxyType
from typing import Final

from .accumulate import ChatAccumulator
from .errors import (
    APIError,
    ClientClosedError,
    DeepSeekError,
    StreamClosedError,
    StreamInUseError,
)
from .events import ChatEventMaker
from .metering import Charge
from .streaming import ChatStream
from .types.chat import ChatCompletionChunk
from .types.events import ChatEvent, Heartbeat, Resumed
from .types.meta import Attempt, ResponseMeta

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class DerivedStream(ChatStream):
    """A chat stream that gets its chunks from `_more`.

    Args:
        source: The stream it is derived from, if it is derived from one.
        charge: The call's entry in the client's meter.
    """

    def __init__(
        self, source: ChatStream | None = None, charge: Charge | None = None
    ) -> None:
        # The base's own __init__ wants a response; this has none.
        self._begin(ChatAccumulator(), charge)
        self._source = source

    @abstractmethod
    async def _more(self, *, heartbeats: bool) -> list[ChatCompletionChunk] | None:
        """The next chunks.

        Args:
            heartbeats: Whether to return an empty list when only keep-alives came.

        Returns:
            The chunks, or `None` at the end.

        Raises:
            DeepSeekError: The stream broke.
        """

    def __repr__(self) -> str:
        state = "complete" if self._is_complete else "open"
        if self._failure is not None:
            state = "closed"
        return f"<{type(self).__name__} {state}>"

    @property
    def request_id(self) -> str | None:
        """The server's trace id: the `x-ds-trace-id` header."""
        if self._source is not None:
            return self._source.request_id
        return self._meta.request_id if self._meta else None

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers, looked up whatever their case."""
        if self._source is not None:
            return self._source.headers
        return self._meta.headers if self._meta else _NO_HEADERS

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts so far; the successful one last, once the stream is complete."""
        if self._meta is None and self._source is not None:
            return self._source.attempts
        return self._meta.attempts if self._meta else ()

    @property
    def keep_alives(self) -> int:
        """Keep-alives received so far in this attempt."""
        return self._source.keep_alives if self._source is not None else 0

    def heartbeat(self) -> Heartbeat:
        """How long the stream has been waiting."""
        if self._source is not None:
            return self._source.heartbeat()
        return Heartbeat(keep_alives=0, waited=0.0)

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on; see `Resume`."""
        return self._source.breaks if self._source is not None else ()

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        """Everything that happens, as typed events.

        Yields:
            As `ChatStream.events`, and `Resumed` wherever the stream went on after a
            break.

        Raises:
            APIError: The stream broke; the error's `partial` holds what had arrived.
        """
        maker = ChatEventMaker()
        pending = self._pending
        told = 0
        try:
            while pending or await self._fill(heartbeats=True):
                if not pending and told == len(self.breaks):
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
        finally:
            self.abort()

    async def _fill(self, *, heartbeats: bool = False) -> bool:
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
                if not await self._take_more(heartbeats=heartbeats):
                    return False
                if heartbeats:
                    break
        finally:
            self._is_reading = False
        return True

    async def _take_more(self, *, heartbeats: bool) -> bool:
        try:
            chunks = await self._more(heartbeats=heartbeats)
        except DeepSeekError as error:
            failure = error
        else:
            if chunks is None:
                await self._complete()
                return False
            self._accumulator.feed(chunks)
            self._pending.extend(chunks)
            return True
        self._failure = self._failure or failure
        raise self._failed(self._failure)

    def _failed(self, failure: DeepSeekError) -> DeepSeekError:
        self._settle()
        carriers = APIError, ClientClosedError, StreamClosedError
        if isinstance(failure, carriers):
            failure.partial = self._accumulator.completion()
        return failure.with_traceback(None)

    async def _complete(self) -> None:
        self._meta = self._make_meta()
        self._is_complete = True
        self._settle()

    def _make_meta(self) -> ResponseMeta | None:
        return self._source.meta if self._source is not None else None

    def _rescue(self) -> None:
        """Nothing of its own to rescue: that is the source's affair."""

    def abort(self) -> None:
        """Leave the stream unless it is complete.

        A task that waits for it gets `StreamClosedError`.
        """
        if self._is_complete:
            return
        if self._failure is None:
            self._failure = StreamClosedError()
        if self._source is not None:
            self._source.abort()
        self._settle()

    def __del__(self) -> None:
        """Counted, if dropped unread; the source closes by itself."""
        charge, loop = getattr(self, "_charge", None), getattr(self, "_loop", None)
        if charge is None or loop is None or self._is_complete or loop.is_closed():
            return
        loop.call_soon_threadsafe(charge.settle, self._accumulator.usage)


def _maker_after(resumed: Resumed, maker: ChatEventMaker) -> ChatEventMaker:
    return ChatEventMaker() if resumed.action == "restarted" else maker
