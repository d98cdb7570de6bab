"""Rows of a file: what they are read from, and how they become requests."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ..batch import Settings, SourceError
from ..batch.files import is_dataset, is_known
from ..batch.plan import make_plan
from ..batch.template import columns_of, custom_id_of
from ..errors import ConfigurationError
from .exits import CommandError
from .options import DEFAULT_MODEL

Rows: TypeAlias = str | Path | BinaryIO
"""A file that the library reads by its name, or else one of JSON lines."""


def row_options(
    *, prompt: str | None = None, system: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """The options of a batch that say how a row becomes a request.

    Args:
        prompt: A template, or `None` where rows are requests themselves.
        system: A system message in front of it, as it stands.
        model: Asked whatever the rows say, if given.

    Raises:
        CommandError: They make no sense together.
    """
    if system is not None and prompt is None:
        message = "--system goes with --prompt"
        raise CommandError(message)
    options: dict[str, Any] = {"defaults": {"model": DEFAULT_MODEL}}
    if model is not None:
        options["overrides"] = {"model": model}
    if prompt is not None:
        messages = [{"role": "user", "content": _template(prompt)}]
        if system is not None:
            literal = system.replace("{", "{{").replace("}", "}}")
            messages.insert(0, {"role": "system", "content": literal})
        options["request"] = {"messages": messages}
    return options


def _template(prompt: str) -> str:
    try:
        has_columns = bool(columns_of(prompt))
    except ConfigurationError as error:
        message = f"--prompt: {error}"
        raise CommandError(message) from None
    if not has_columns:
        message = '--prompt names no column: write "{column}"'
        raise CommandError(message)
    return prompt


class Numbering:
    """Keys of rows, in the order they are read: the `custom_id`, or else the number."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, row: object) -> str:
        """The key of the next row."""
        self._count += 1
        return custom_id_of(row) or f"request-{self._count}"


async def count_checked(rows: Rows, options: dict[str, Any]) -> int:
    """Read every row and return their number; nothing is sent.

    Args:
        rows: The rows.
        options: Those of the batch.

    Raises:
        CommandError: A row makes no request; its line is named.
        SourceError: There is none, or they cannot be read.
    """
    found = await make_plan(rows, Settings.of({**options, "key": Numbering()}))
    if isinstance(rows, io.IOBase):
        rows.seek(0)
    if not found.invalid:
        return found.requests
    message = found.invalid_rows[0].reason
    if found.invalid > 1:
        message += f" (and {found.invalid - 1:,} more wrong rows)"
    raise CommandError(message)


@contextmanager
def readable(name: str) -> Generator[Rows, None, None]:
    """What can be read, and read again.

    Args:
        name: A file whose name the library knows; any other is JSON lines, and `-`
            is those of standard input.

    Raises:
        SourceError: It cannot be read.
    """
    with ExitStack() as stack:
        try:
            rows = _found(name, stack)
        except OSError as error:
            message = f"cannot read {name}: {error.strerror or error}"
            raise SourceError(message) from None
        yield rows


def _found(name: str, stack: ExitStack) -> Rows:
    if is_dataset(name):
        return name
    path = Path(name)
    if path.is_file():
        return path if is_known(path) else stack.enter_context(path.open("rb"))
    # What can be read once only, such as a pipe, is kept for a second reading.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    kept = folder / ("stdin" if name == "-" else path.name)
    copy = stack.enter_context(kept.open("w+b"))
    if not is_known(kept):
        with suppress(OSError):  # where it can be, it has no name any more
            kept.unlink()
    pipe: BinaryIO = sys.stdin.buffer
    if name != "-":
        pipe = stack.enter_context(path.open("rb"))
    shutil.copyfileobj(pipe, copy)
    copy.seek(0)
    return kept if is_known(kept) else copy
