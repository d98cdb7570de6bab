"""The `deepseek-async` command: the library at a terminal, one module per subcommand.

The rooms of this floor::

    app                                     one parser, one exit code per failure
    chat  models  balance  serve  demo
    batch                                   from a file to a file
    jobs                                    batches with a journal
    answer | rows | tally                   text out, rows in, numbers
    connection | options                    the real API or the embedded emulator
    console | terminal | exits              safe text, lines on stderr, exit codes

It needs the extra `cli`. Its modules are imported at the top, as everywhere in this
package: `--help` takes 0.3 to 0.5 s, most of it for the library itself, which loads
whatever is deferred here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import MissingExtraError

__all__ = ["main"]

_CONFIGURATION = 3
_INTERRUPTED = 130
_EXTRA = frozenset({"typer", "rich"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `exits.ExitCode` lists them.

    Args:
        argv: The arguments after the program's name; those of the process if not
            given.

    Returns:
        The exit code. Without the extra `cli` it is 3, after one line on stderr.
    """
    try:
        from .app import run  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        missing = MissingExtraError("the command line", "cli")
        sys.stderr.write(f"deepseek-async: error: {missing}\n")
        return _CONFIGURATION
    except KeyboardInterrupt:
        return _INTERRUPTED
    return run(sys.argv[1:] if argv is None else argv)
