"""Chat streams whose chunks come from another stream, or from memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ..errors import DeepSeekError
from ..metering import Charge
from ..types.chat import ChatCompletionChunk
from ..types.events import Heartbeat, Resumed
from ..types.meta import Attempt, ResponseMeta
from .stream import ChatStream

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
        super().__init__(charge)
        self._source = source

    # -- how it is read: what has been shown cannot be begun anew ------------------

    def mark_shown(self) -> None:
        """Someone reads on who could not know that the answer was begun anew."""
        mark_shown(self._source)

    async def take_chunks(
        self, *, heartbeats: bool = False
    ) -> list[ChatCompletionChunk] | None:
        """As `read_chunks`, for a stream that passes on what `breaks` says.

        Args:
            heartbeats: Return an empty list when only keep-alives have arrived.
        """
        return await super().read_chunks(heartbeats=heartbeats)

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        self.mark_shown()
        return super().__aiter__()

    async def __anext__(self) -> ChatCompletionChunk:
        """The next chunk; unlike leaving `async for`, this leaves the stream open."""
        self.mark_shown()
        return await super().__anext__()

    def text(self) -> AsyncGenerator[str, None]:
        """The visible text, piece by piece, reasoning left out.

        Raises:
            APIError: The stream broke, and could not go on.
        """
        self.mark_shown()
        return super().text()

    async def read_chunks(
        self, *, heartbeats: bool = False
    ) -> list[ChatCompletionChunk] | None:
        """Every chunk that has arrived, after a wait for the first; see `ChatStream`.

        Args:
            heartbeats: Return an empty list when only keep-alives have arrived.
        """
        self.mark_shown()
        return await super().read_chunks(heartbeats=heartbeats)

    # -- what is known about it ----------------------------------------------------

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

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on; see `Resume`."""
        return self._source.breaks if self._source is not None else ()

    def heartbeat(self) -> Heartbeat:
        """How long the stream has been waiting."""
        if self._source is not None:
            return self._source.heartbeat()
        return Heartbeat(keep_alives=0, waited=0.0)

    async def _complete(self) -> None:
        self._meta = self._make_meta()
        await super()._complete()

    def _make_meta(self) -> ResponseMeta | None:
        return self._source.meta if self._source is not None else None

    def _release(self, reason: DeepSeekError) -> None:  # noqa: ARG002 - told by the source itself
        if self._source is not None:
            self._source.abort()

    def __del__(self) -> None:
        """Counted, if dropped unread; the source closes by itself."""
        charge, loop = getattr(self, "_charge", None), getattr(self, "_loop", None)
        if charge is None or loop is None or self._is_complete or loop.is_closed():
            return
        loop.call_soon_threadsafe(charge.settle, self._accumulator.usage)


async def take_chunks(
    stream: ChatStream, *, heartbeats: bool = False
) -> list[ChatCompletionChunk] | None:
    """The next chunks of a stream, for one derived from it, which passes on `breaks`.

    Args:
        stream: The stream.
        heartbeats: Return an empty list when only keep-alives have arrived.

    Returns:
        The chunks, or `None` at the end. All are of the part that `breaks` tells of.

    Raises:
        DeepSeekError: The stream broke.
    """
    if isinstance(stream, DerivedStream):
        return await stream.take_chunks(heartbeats=heartbeats)
    return await stream.read_chunks(heartbeats=heartbeats)


def mark_shown(stream: ChatStream | None) -> None:
    """What has been read of a stream was shown: it cannot be begun anew any more."""
    if isinstance(stream, DerivedStream):
        stream.mark_shown()


def begins_anew(breaks: Iterable[Resumed]) -> bool:
    """Whether, after these breaks, the answer was told from its beginning again."""
    return any(resumed.action == "restarted" for resumed in breaks)
