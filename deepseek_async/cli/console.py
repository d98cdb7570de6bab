"""Where the command writes: answers to stdout, everything about them to stderr."""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.text import Text

from .terminal import one_line, safe

PROGRAM = "deepseek-async"

#: Columns of a table that is not shown on a terminal but kept in a file.
_FILE_WIDTH = 120


def out() -> Console:
    """A console on stdout; it never reads markup in what it is given."""
    return _console(stderr=False)


def err() -> Console:
    """A console on stderr; it never reads markup in what it is given."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _FILE_WIDTH
    return Console(
        stderr=stderr, width=width, markup=False, highlight=False, emoji=False
    )


def note(text: str) -> None:
    """Write a dimmed line to stderr."""
    err().print(Text(safe(text), style="dim"), soft_wrap=True)


def warn(text: str) -> None:
    """Write one line that begins with `warning` to stderr."""
    sys.stderr.write(f"{PROGRAM}: warning: {one_line(text)}\n")


def complain(text: str) -> None:
    """Write one line that begins with `error` to stderr."""
    sys.stderr.write(f"{PROGRAM}: error: {one_line(text)}\n")


def end(text: str) -> None:
    """Write a last line to stderr, over the `^C` that a terminal shows."""
    start = "\r" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{text}\n")


def tolerate_any_character() -> None:
    """Make the standard streams replace what their encoding cannot write."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
