"""The parser of `deepseek-async`, and the one place where failures become exit codes.

Typer's own error display is not used: it takes several lines, and its tracebacks show
local variables.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TextIO

import typer

from .._version import __version__
from ..errors import DeepSeekError
from .balance import balance
from .batch import batch
from .chat import chat
from .console import PROGRAM, complain, end, tolerate_any_character, warn
from .demo import demo
from .exits import CommandError, ExitCode, code_of
from .jobs import SIMPLE, app as jobs
from .models import models
from .serve import serve

_EXIT_CODES = (
    "Exit codes: 0 ok; 1 the API failed, or some rows did; 2 usage or bad input; "
    "3 configuration, such as a missing key; 4 the key or the balance was refused; "
    "5 a batch reached a ceiling; 130 interrupted."
)

app = typer.Typer(
    name=PROGRAM,
    help="The DeepSeek API at the terminal.",
    epilog=_EXIT_CODES,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (chat, models, balance, serve, demo):
    app.command()(command)
jobs.command(SIMPLE)(batch)
app.add_typer(jobs, name="batch")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """The DeepSeek API at the terminal. Set DEEPSEEK_API_KEY, or use --emulate."""


def run(argv: Sequence[str]) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name.

    Returns:
        The exit code; whatever went wrong has been told in one line on stderr.
    """
    tolerate_any_character()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _invoke(argv)
        except (KeyboardInterrupt, asyncio.CancelledError):
            return _interrupted()
        except SystemExit as stop:  # the reader of stdout is gone
            return stop.code if isinstance(stop.code, int) else ExitCode.FAILED
        except Exception as error:  # noqa: BLE001 - a traceback could show the key
            return _failed(error)


def _invoke(argv: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    code: object = command.main(
        list(argv) or ["--help"], prog_name=PROGRAM, standalone_mode=False
    )
    if code == ExitCode.INTERRUPTED:
        return _interrupted()
    return code if isinstance(code, int) else ExitCode.OK


def _interrupted() -> int:
    end("interrupted")
    return ExitCode.INTERRUPTED


def _failed(error: Exception) -> int:
    """Tell an error in one line and return its exit code."""
    if isinstance(error, BrokenPipeError):
        return _reader_gone()
    code, message = _verdict(error)
    complain(message)
    return code


def _verdict(error: Exception) -> tuple[ExitCode, str]:
    """The exit code and the line for an error."""
    if isinstance(error, CommandError):
        return error.code, error.message
    if isinstance(error, DeepSeekError):
        return code_of(error), str(error)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)  # of usage errors, which it does not name
        hint = f"(see {getattr(context, 'command_path', PROGRAM)} --help)"
        return ExitCode.USAGE, f"{error.format_message()} {hint}"
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return ExitCode.USAGE, f"{name}{error.strerror or error}"
    return ExitCode.FAILED, f"unexpected {type(error).__name__}: {_place(error)}"


def _reader_gone() -> int:
    """End quietly when nobody reads stdout any more, as in `... | head`."""
    with suppress(OSError):
        # What is still buffered for it must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FAILED


def _place(error: Exception) -> str:
    """Where an error arose, without its text, which may quote anything."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return "place unknown"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del category, filename, lineno, file, line
    warn(str(message))
