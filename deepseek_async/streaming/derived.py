"""Chat streams whose chunks come from another stream, or from memory."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..errors import DeepSeekError
from ..metering import Charge
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
