"""Network reads to chunks, without an event loop.

The general way is exact: the SSE decoder, then one JSON decode an event. The regular
way gives the same result for what this server practically always sends, at a fraction
of the cost: where a run of bytes consists of nothing but `data: ...` lines, each
followed by a blank line, it is cut at those marks in one go. Counting line breaks
proves that the run is of that form; anything else, a keep-alive, a CR, an error object,
goes the general way.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from .codec import Codec, excerpt_of, find_error, stream_error
from .errors import (
    APIError,
    ResponseDecodeError,
    ResponseTooLargeError,
    SSEEventTooLargeError,
)
from .sse import ServerSentEvent, SSEDecoder
from .types.chat import ChatCompletionChunk
from .types.fim import CompletionChunk

C = TypeVar("C", bound=ChatCompletionChunk | CompletionChunk)

_DONE: Final = b"[DONE]"
_DONE_EVENT: Final = b"data: [DONE]\n\n"
_DATA: Final = b"data: "
_NEXT_DATA: Final = b"\n\ndata: "
_DATA_SIZE: Final = len(_DATA)
_LF: Final = ord("\n")
_CR: Final = ord("\r")
"""A number: to look for bytes with `in`, Python first makes and drops an error."""

_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_MAX_TAIL: Final = 16_384
"""An unfinished event longer than this is left to the decoder, which is linear."""


def _has_content(chunk: ChatCompletionChunk | CompletionChunk) -> bool:
    return bool(chunk.choices) or chunk.usage is not None


class PayloadReader(Generic[C]):
    """Turns the bytes of one stream into chunks.

    Args:
        codec: Decodes a payload.
        max_event_size: The largest event to accept, in bytes.

    Attributes:
        done: Whether `data: [DONE]` has been seen.
        failure: What ended the stream before that, if anything in it did; chunks
            returned so far come first.
        keep_alives: Comments and other events without content seen so far.
    """

    __slots__ = (
        "_codec",
        "_is_ended",
        "_is_regular",
        "_sse",
        "_tail",
        "done",
        "failure",
        "keep_alives",
    )

    def __init__(self, codec: Codec[C], *, max_event_size: int) -> None:
        self._codec = codec
        self._sse = SSEDecoder(max_event_size=max_event_size)
        self._is_regular = False  # a stream may begin with a byte-order mark
        self._is_ended = False
        self._tail = b""
        self.done = False
        self.failure: APIError | None = None
        self.keep_alives = 0

    def feed(self, data: bytes) -> list[C]:
        """Take the next bytes.

        Args:
            data: A piece of the body, cut anywhere.

        Returns:
            The chunks completed by it.
        """
        if self.done or self.failure is not None:
            return []
        if not self._is_regular:
            return self._feed_irregular(data)
        if not self._tail and data.find(b"\n") == len(data) - 2:
            chunk = self._decode_one(data)  # one event a packet: a live stream
            if chunk is not None:
                return [chunk]
        return self._feed_regular(self._tail + data if self._tail else data)

    def _feed_irregular(self, data: bytes) -> list[C]:
        """Decode exactly up to the end of an event; the rest may be regular again."""
        end = data.find(b"\n\n") + 2
        if end == 1:
            return self._feed_general(data)
        chunks = self._feed_general(data[:end])
        rest = data[end:]
        if self._sse.at_boundary:
            self._is_regular = True
            if rest:
                chunks += self._feed_regular(rest)
        elif rest:
            chunks += self._feed_general(rest)
        return chunks

    def _feed_regular(self, data: bytes) -> list[C]:
        """Decode from the start of an event on; keep what is not complete."""
        if self.done or self.failure is not None:
            return []
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            return self._keep(data)
        tail, self._tail = data[end:], b""
        events = data[:end] if tail else data
        chunks = self._decode_run(events)
        if chunks is None:
            chunks = self._leave_regular(events)
            self._is_regular = self._sse.at_boundary
        if tail:
            chunks += (self._keep if self._is_regular else self._feed_general)(tail)
        return chunks

    def _keep(self, tail: bytes) -> list[C]:
        """Keep the beginning of an event, if it can become a regular one.

        Otherwise the decoder has it at once: the end of an event that is not marked
        by two LF would be missed here, and a comment may have no end at all.
        """
        fits = tail.startswith(_DATA) or _DATA.startswith(tail)
        if not fits or len(tail) > _MAX_TAIL or _CR in tail:
            return self._leave_regular(tail)
        self._tail = tail
        return []

    def _decode_one(self, event: bytes) -> C | None:
        """Decode a line and one byte more, `None` if that is not a regular event."""
        if not event.startswith(_DATA) or event[-1] != _LF or _CR in event:
            return None
        try:
            chunk = self._codec.decode_strictly(event[_DATA_SIZE:])
        except _DECODE_ERRORS:
            return None
        return chunk if chunk.choices or chunk.usage is not None else None

    def _decode_run(self, events: bytes) -> list[C] | None:
        """Decode whole events at once, or `None` if they are not regular."""
        done = events.endswith(_DONE_EVENT)
        if done:
            events = events[: -len(_DONE_EVENT)]
        if not events:
            self.done = True
            return []
        if not events.startswith(_DATA) or not events.endswith(b"\n\n"):
            return None
        payloads = events.split(_NEXT_DATA)
        payloads[0] = payloads[0][len(_DATA) :]
        if events.count(b"\n") != 2 * len(payloads) or _CR in events:
            return None
        decode = self._codec.decode_strictly
        try:
            chunks = [decode(payload) for payload in payloads]
        except _DECODE_ERRORS:
            return None
        if [chunk for chunk in chunks if not chunk.choices and chunk.usage is None]:
            return None
        self.done = done
        return chunks

    def _leave_regular(self, data: bytes) -> list[C]:
        self._is_regular = False
        self._tail = b""
        return self._feed_general(data)

    def _feed_general(self, data: bytes) -> list[C]:
        if self.done or self.failure is not None:
            return []
        try:
            events = self._sse.feed(data)
        except SSEEventTooLargeError as error:
            self.failure = ResponseTooLargeError(error.message, status=200)
            return []
        return self._decode_events(events)

    def _decode_events(self, events: list[ServerSentEvent]) -> list[C]:
        chunks: list[C] = []
        for event in events:
            if self.done or self.failure is not None:
                break
            chunk = self._decode_event(event)
            if chunk is not None:
                chunks.append(chunk)
        return chunks

    def _decode_event(self, event: ServerSentEvent) -> C | None:
        data = event.data.strip()
        if data == _DONE:
            self.done = True
            return None
        if not data or event.event not in {"message", "error"}:
            self.keep_alives += 1
            return None
        try:
            chunk = self._codec.decode(data)
        except ValueError:
            chunk = None
        if chunk is not None and _has_content(chunk):
            return chunk
        found = find_error(data)
        if found is not None or event.event == "error":
            self.failure = stream_error(found or {"message": excerpt_of(data)}, data)
        elif chunk is None:
            message = "an event of the stream is not a JSON object"
            self.failure = ResponseDecodeError(
                message, status=200, body=excerpt_of(data)
            )
        else:
            self.keep_alives += 1
        return None

    def end(self) -> list[C]:
        """The body has ended: take a last event that only lacks its blank line.

        Returns:
            The chunk it holds, if it is whole.
        """
        if self._is_ended:
            return []
        self._is_ended = True
        chunks = self._leave_regular(self._tail) if self._tail else []
        if self.done or self.failure is not None:
            return chunks
        try:
            event = self._sse.unfinished()
        except SSEEventTooLargeError as error:
            self.failure = ResponseTooLargeError(error.message, status=200)
            return chunks
        if event is not None:
            chunks += self._decode_last(event)
        return chunks

    def _decode_last(self, event: ServerSentEvent) -> list[C]:
        chunks = self._decode_events([event])
        if isinstance(self.failure, ResponseDecodeError):
            self.failure = None  # half an event: the stream was cut, no more
        return chunks

    @property
    def comments(self) -> int:
        """Keep-alive comments and empty events seen so far."""
        return self.keep_alives + self._sse.comments
