"""Server-sent events from bytes, without input or output of its own.

The rules are those of the WHATWG event stream:
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import copy
from typing import Final

import msgspec

from .errors import SSEEventTooLargeError

__all__ = ["MAX_EVENT_SIZE", "SSEDecoder", "ServerSentEvent"]

# Theory of operation
#
# The rules, plus one that the standard leaves to us:
#
# 1) A line ends with CR, LF or CRLF. A CR ends its line at once, so an event is
#    never held back to see what follows; an LF that opens the next piece is then
#    half of a line ending already taken.
# 2) A line adds a field to the block. A blank line ends the block, and dispatches
#    it when it had a data line. Whatever the end of the stream cuts off is dropped.
# 3) The outcome does not depend on where the bytes were cut, the limit included.
#    So sizes are counted in bytes of lines, and a line is known to be ignored as
#    soon as its name cannot become a known one, which takes six bytes at most.
#
# Every byte is searched by C code once, and copied a fixed number of times: each
# piece is split whole, and only the line that a piece leaves open is kept, in a
# bytearray that grows in place. Between pieces there is nothing else to remember
# but the fields of the open block.

#: Default bound, in bytes, of the data lines of one event. The longest answer is
#: far below it even when a server sends it as one chunk (a few hundred thousand
#: tokens of a few bytes each), and some hundred streams at the bound at the same
#: time still fit into an ordinary machine's memory.
MAX_EVENT_SIZE: Final = 8 * 1024 * 1024

#: Greatest reconnection time kept, in milliseconds; a longer one is cut to it.
_MAX_RETRY: Final = 2**53 - 1
_MAX_RETRY_DIGITS: Final = len(str(_MAX_RETRY))

_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data: "  # how every known server writes it
_DATA_SIZE: Final = len(_DATA)
_DEFAULT_EVENT: Final = "message"
_FIELDS: Final = frozenset({b"data", b"event", b"id", b"retry"})
_NAME_SIZE: Final = 1 + max(map(len, _FIELDS))  # the colon included
_LF: Final = ord("\n")


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One dispatched event.

    Attributes:
        event: The event's type; ``"message"`` when the block names none.
        data: The data lines joined with LF, byte for byte as sent: they may hold
            NUL or bytes that are not UTF-8.
        id: The last event id seen so far; it stays until a block changes it.
        retry: The reconnection time in milliseconds that holds for this event,
            set by its block or by an earlier one; None as long as none was sent.
    """

    event: str
    data: bytes
    id: str = ""
    retry: int | None = None

    def __repr__(self) -> str:
        """Show everything but the data, which is somebody's conversation."""
        return (
            f"ServerSentEvent(event={self.event!r}, data=<{len(self.data)} bytes>, "
            f"id={self.id!r}, retry={self.retry!r})"
        )


class SSEDecoder:
    """Decodes one event stream, fed in pieces of any size.

    The time taken is linear in the number of bytes, however they are cut, and the
    memory held between two pieces is bounded by *max_event_size*.

    Args:
        max_event_size: Bound, in bytes, of the data lines of one event with their
            field names, and of any other line that has to be kept. Comments and
            unknown fields of any length are skipped without being kept.

    Attributes:
        last_event_id: The id of the last block that was ended by a blank line.
        retry: The reconnection time in milliseconds last asked for, or None.
        comments: How many comment lines were read; servers send them as
            keep-alives (https://api-docs.deepseek.com/quick_start/rate_limit).

    Raises:
        ValueError: If *max_event_size* is less than one.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_event",
        "_head",
        "_id",
        "_line",
        "_max_event_size",
        "_overflowed",
        "_size",
        "_wanted",
        "comments",
        "last_event_id",
        "retry",
    )

    def __init__(self, *, max_event_size: int = MAX_EVENT_SIZE) -> None:
        if max_event_size < 1:
            message = "max_event_size must be at least 1 byte"
            raise ValueError(message)
        self.last_event_id = ""
        self.retry: int | None = None
        self.comments = 0
        self._max_event_size = max_event_size
        self._overflowed = False
        # What may still become a byte order mark; None once that is settled.
        self._head: bytes | None = b""
        self._after_cr = False
        # The open line, and whether its name is one to keep it for: None as long as
        # the name is not complete; when False, no more than the name is kept.
        self._line = bytearray()
        self._wanted: bool | None = None
        # The open block. None differs from empty: only a data line makes an event.
        self._data: bytes | bytearray | None = None
        self._size = 0
        self._event = _DEFAULT_EVENT
        self._id = ""

    @property
    def at_boundary(self) -> bool:
        """Whether nothing read so far can change what comes next.

        True when no line and no block is open, so that a piece of whole events may
        be read without this decoder. A CR at the very end does not matter: the LF
        that may follow it is a blank line outside a block, which does nothing. Nor
        does a complete line that leaves nothing in its block, such as a comment.
        """
        return not (
            self._line
            or self._data is not None
            or self._head
            or self._id != self.last_event_id
            or self._event != _DEFAULT_EVENT
            or self._overflowed
        )

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Read one piece of the stream.

        Args:
            data: The next bytes; they may be cut anywhere, and may be empty.

        Returns:
            The events that these bytes complete, often none.

        Raises:
            SSEEventTooLargeError: If an event exceeds *max_event_size*. Events that
                the same piece completed before it are returned first, and the error
                is raised by the next call. The open block is forgotten and every
                later call raises the same error: the rest of the stream is lost.
        """
        events: list[ServerSentEvent] = []
        if self._head is not None:
            data = self._without_bom(data, self._head)
        if data and not self._overflowed:
            try:
                self._read_lines(self._complete_lines(data), events)
            except SSEEventTooLargeError:
                self._overflowed = True
                self._data = None
                self._line.clear()
        if self._overflowed and not events:
            raise SSEEventTooLargeError(self._max_event_size)
        return events

    def unfinished(self) -> ServerSentEvent | None:
        """Return the event that the open block would make if it ended here.

        The standard drops a block that the end of the stream cuts off. A caller who
        can tell from the data that only the blank line is missing may use this; the
        data can just as well be the first part of something longer. The decoder
        stays as it is.

        Returns:
            The event, or None if the block has no data line.

        Raises:
            SSEEventTooLargeError: If an event exceeded *max_event_size*.
        """
        if self.at_boundary:
            return None
        events = copy.deepcopy(self).feed(b"\n\n")
        return events[0] if events else None

    def _without_bom(self, data: bytes, head: bytes) -> bytes:
        head += data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _complete_lines(self, data: bytes) -> list[bytes]:
        """Split off the lines that *data* ends, and keep the one it leaves open."""
        if self._after_cr and data[0] == _LF:
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()  # of bytes: at CR, LF and CRLF, nowhere else
        rest = lines.pop() if lines and data[-1] not in b"\r\n" else b""
        if lines and self._line:
            lines[0] = self._close_line(lines[0])
        if rest:
            self._keep(rest)
        return lines

    def _close_line(self, end: bytes) -> bytes:
        if self._wanted is not False:
            self._line += end
        line = bytes(self._line)
        self._line.clear()
        self._wanted = None
        return line

    def _keep(self, part: bytes) -> None:
        """Add *part* to the open line, unless the line will be ignored anyway."""
        if self._wanted is not False:
            self._line += part
        if self._wanted is None:
            name, colon, _ = bytes(self._line[:_NAME_SIZE]).partition(b":")
            if colon or len(name) == _NAME_SIZE:
                self._wanted = name in _FIELDS
            if self._wanted is False:
                del self._line[_NAME_SIZE:]

    def _read_lines(self, lines: list[bytes], events: list[ServerSentEvent]) -> None:
        for line in lines:
            if line.startswith(_DATA):
                self._add_data(len(line), line[_DATA_SIZE:])
            elif line:
                self._read_field(line)
            else:
                self._end_block(events)
        if self._wanted:
            self._check_size(len(self._line))

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name in _FIELDS:
            self._check_size(len(line))
            self._set_field(name, len(line), value.removeprefix(b" "))
        elif not name:
            self.comments += 1

    def _set_field(self, name: bytes, size: int, value: bytes) -> None:
        if name == b"data":
            self._add_data(size, value)
        elif name == b"event":
            self._event = value.decode(errors="replace") or _DEFAULT_EVENT
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
        elif value.isdigit():
            self.retry = _milliseconds(value)

    def _add_data(self, size: int, value: bytes) -> None:
        self._check_size(size)
        self._size += size
        if self._data is None:
            self._data = value
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value

    def _check_size(self, size: int) -> None:
        if self._size + size > self._max_event_size:
            raise SSEEventTooLargeError(self._max_event_size)

    def _end_block(self, events: list[ServerSentEvent]) -> None:
        self.last_event_id = self._id
        if self._data is not None:
            data = bytes(self._data)  # the same object when there is one line
            events.append(ServerSentEvent(self._event, data, self._id, self.retry))
            self._data = None
            self._size = 0
        self._event = _DEFAULT_EVENT


def _milliseconds(digits: bytes) -> int:
    """Read a reconnection time, of which a hostile server may send megabytes."""
    digits = digits.lstrip(b"0")
    if len(digits) > _MAX_RETRY_DIGITS:
        return _MAX_RETRY
    return min(int(digits or b"0"), _MAX_RETRY)
