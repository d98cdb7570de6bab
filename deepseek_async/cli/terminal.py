"""Makes text from a model safe for a terminal.

What a model writes can be steered by whoever wrote its input, and a terminal obeys
what it is sent: escape sequences move the cursor over earlier lines, set the title,
reach the clipboard (OSC 52); a carriage return overwrites a line; bidirectional
controls show text in another order than it has. So all of that is cut out. The
sequences are recognised as in ECMA-48 and as xterm reads them.
"""

from __future__ import annotations

import re
from typing import Final

_ESC: Final = "\x1b"
_BEL: Final = "\x07"

_BIDI: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSAFE: Final = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f{_BIDI}\ud800-\udfff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

#: What begins a sequence: ESC, and each C1 control with the letter it stands for.
_INTRODUCERS: Final = {
    _ESC: "",
    **{chr(0x80 + code): chr(0x40 + code) for code in range(0x20)},
}
_CSI: Final = "["
_STRINGS: Final = frozenset("]PX^_")

#: Longest sequence that is waited for. Nothing legitimate is longer, and an unclosed
#: one must not swallow the rest of an answer; without its ESC it is harmless text.
MAX_SEQUENCE: Final = 4096

# States: what kind of sequence the text is in the midst of.
_TEXT, _ESCAPE, _CONTROL, _STRING = range(4)


class Sanitizer:
    """Cuts out what a terminal would obey; state is kept from piece to piece.

    Only printable characters, tabs and line feeds pass. A sequence that is cut
    anywhere between two pieces is still recognised.
    """

    __slots__ = ("_length", "_state")

    def __init__(self) -> None:
        self._state = _TEXT
        self._length = 0

    def feed(self, text: str) -> str:
        """The safe part of the next piece.

        Args:
            text: Any text; lone surrogates come out as U+FFFD.
        """
        if self._state == _TEXT and not _UNSAFE.search(text):
            return text
        return "".join(map(self._next, text))

    def _next(self, char: str) -> str:
        """Take one character; return what of it is shown."""
        if char in _INTRODUCERS:
            return self._introduce(char)
        if self._state == _TEXT:
            return _shown(char)
        self._length += 1
        if self._length > MAX_SEQUENCE or char in "\n\x18\x1a":
            self._state = _TEXT
            return _shown(char)
        if self._state == _ESCAPE:
            return self._escape(char)
        if self._state == _CONTROL:
            return self._control(char)
        return self._string(char)

    def _introduce(self, char: str) -> str:
        """An ESC, or a C1 control that stands for ESC and a letter.

        Either ends the sequence before it; ST, which closes a string, is ESC and a
        backslash.
        """
        self._state = _ESCAPE
        self._length = 0
        letter = _INTRODUCERS[char]
        return self._escape(letter) if letter else ""

    def _escape(self, char: str) -> str:
        """The character after ESC says what kind of sequence it is."""
        if char == _CSI:
            self._state = _CONTROL
        elif char in _STRINGS:
            self._state = _STRING
        elif not " " <= char <= "/":  # intermediates, as in ESC ( B
            self._state = _TEXT
            return "" if "0" <= char <= "~" else _shown(char)
        return ""

    def _control(self, char: str) -> str:
        """Parameters of a CSI sequence, up to its final character."""
        if "@" <= char <= "~":
            self._state = _TEXT
        elif char > "~":
            self._state = _TEXT
            return _shown(char)
        return ""

    def _string(self, char: str) -> str:
        """The body of OSC, DCS and the like, up to BEL or ST."""
        if char == _BEL:
            self._state = _TEXT
        return ""


def _shown(char: str) -> str:
    if _SURROGATE.match(char):
        return "\ufffd"
    return "" if _UNSAFE.match(char) else char


def safe(text: str) -> str:
    """A whole text, made safe.

    Args:
        text: Any text.
    """
    return Sanitizer().feed(text)


def one_line(text: str, limit: int = 500) -> str:
    """A text made safe and put on one line.

    Args:
        text: Any text, such as the message of a server.
        limit: The most characters to keep.
    """
    line = " ".join(safe(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
