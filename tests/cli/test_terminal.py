"""The sanitiser: nothing a terminal would obey gets through, however it is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from deepseek_async.cli.terminal import MAX_SEQUENCE, Sanitizer, one_line, safe

OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

NASTY = {
    "colour": ("a\x1b[31mb\x1b[0mc", "abc"),
    "cursor up": ("a\x1b[2Ab", "ab"),
    "private mode": ("a\x1b[?1049hb", "ab"),
    "intermediate": ("a\x1b[1 qb", "ab"),
    "title, BEL": ("a\x1b]0;owned\x07b", "ab"),
    "title, ST": ("a\x1b]0;owned\x1b\\b", "ab"),
    "clipboard": ("a\x1b]52;c;cm0gLXJmIC8=\x07b", "ab"),
    "link": ("\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\", "text"),
    "device control": ("a\x1bP1$tx\x1b\\b", "ab"),
    "application command": ("a\x1b_Gf=100;AAAA\x1b\\b", "ab"),
    "privacy message": ("a\x1b^x\x1b\\b", "ab"),
    "start of string": ("a\x1bXx\x1b\\b", "ab"),
    "C1 control sequence": ("a\x9b31mb", "ab"),
    "C1 command": ("a\x9d0;owned\x9cb", "ab"),
    "C1 ended by BEL": ("a\x9d0;owned\x07b", "ab"),
    "character set": ("a\x1b(0b", "ab"),
    "reset": ("a\x1bcb", "ab"),
    "lone escape at the end": ("a\x1b", "a"),
    "escape in a sequence": ("a\x1b[3\x1b[1mb", "ab"),
    "escape twice": ("a\x1b\x1b[1mb", "ab"),
    "sequence left by CAN": ("a\x1b[3\x18b", "ab"),
    "string left by a line": ("a\x1b]0;ow\nb", "a\nb"),
    "string left by a sequence": ("a\x1b]0;ow\x1b[1mb", "ab"),
    "escape before a letter of another script": ("a\x1bé", "aé"),
    "sequence before one": ("a\x1b[3é", "aé"),
    "carriage return": ("rm -rf /\rls\r\n", "rm -rf /ls\n"),
    "backspaces": ("abc\b\b\bd", "abcd"),
    "nul and delete": ("a\x00\x7fb", "ab"),
    "form feed": ("a\x0c\x0bb", "ab"),
    "bidi override": ("a\u202ecba\u202cd", "acbad"),
    "bidi isolate": ("a\u2066b\u2069\u200f\u061cc", "abc"),
    "lone surrogate": ("a\ud83db", "a\ufffdb"),
}


@pytest.mark.parametrize(("text", "shown"), NASTY.values(), ids=NASTY)
def test_every_cut(text: str, shown: str) -> None:
    """A nasty text comes out the same wherever it is cut into pieces."""
    assert safe(text) == shown
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            sanitizer = Sanitizer()
            pieces = text[:first], text[first:second], text[second:]

            assert "".join(map(sanitizer.feed, pieces)) == shown


def test_plain_text_passes() -> None:
    """Text, tabs, line feeds, emoji and right-to-left scripts are left alone."""
    text = "a\tb\nc [bold]d[/bold] 👩‍👩‍👧 שלום مرحبا $\\frac{1}{2}$ \\x1b[31m"

    assert safe(text) == text


def test_unclosed_string_swallows_little() -> None:
    """An unclosed sequence hides at most a bounded part of the answer."""
    text = "\x1b]0;" + "x" * 10_000

    assert 10_000 - MAX_SEQUENCE <= len(safe(text)) < 10_000


@given(st.lists(st.text(st.sampled_from("\x1b[]0;m\x07\\\x9b\x9d\x9c\n\rP(aé\u202e"))))
def test_nothing_obeyed_remains(pieces: list[str]) -> None:
    """No mixture of controls yields one, and pieces do not matter."""
    sanitizer = Sanitizer()
    shown = "".join(map(sanitizer.feed, pieces))

    assert not OBEYED.search(shown)
    assert shown == safe("".join(pieces))


def test_one_line() -> None:
    """A message of a server becomes one bounded line without controls."""
    line = one_line("first\nsecond\t\x1b[31mthird" + "x" * 1000, 40)

    assert line.startswith("first second thirdxxx")
    assert len(line) == 40
