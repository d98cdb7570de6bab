"""Where the command writes: answers to stdout, everything about them to stderr."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import cast

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
    if sys.stderr.isatty():
        err().print(Text(safe(text), style="dim"), soft_wrap=True)
    else:
        tell(safe(text))


def tell(text: str) -> None:
    """Write lines to stderr, if anybody reads it: what was done stays done."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    """Write one line that begins with `warning` to stderr."""
    tell(f"{PROGRAM}: warning: {one_line(text)}")


def complain(text: str) -> None:
    """Write one line that begins with `error` to stderr."""
    tell(f"{PROGRAM}: error: {one_line(text)}")


def end(text: str) -> None:
    """Write a last line to stderr, over the `^C` that a terminal shows."""
    start = "\r" if sys.stderr.isatty() else ""
    tell(f"{start}{text}")


def tolerate_any_character() -> None:
    """Make the standard streams replace what their encoding cannot write.

    A stream that was closed before the start is opened on nothing.
    """
    if cast("object", sys.stderr) is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if cast("object", sys.stdout) is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
