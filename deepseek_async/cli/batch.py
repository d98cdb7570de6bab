"""`deepseek-async batch`: many requests from a file to a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from .connection import connect, require_key
from .console import complain, err
from .exits import CommandError
from .options import DEFAULT_CONCURRENCY, BaseURL, Concurrency, Emulate
from .progress import BatchRun
from .results import opened
from .rows import RowFile, Shape


def batch(  # noqa: PLR0913 - each is an option of the command line
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="JSONL or .csv; - is JSONL on stdin.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="JSONL of results; - is stdout.")
    ],
    *,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEMPLATE",
            help='A prompt with columns of the row: "Translate: {text}".',
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option("--system", "-s", help="Instructions before each --prompt."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Ask this model whatever the rows say; without it, the row's own, "
            "or deepseek-flash.",
        ),
    ] = None,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it has content.")
    ] = False,
    base_url: BaseURL = None,
    emulate: Emulate = False,
) -> int:
    """Answer every row of a file.

    A row is a line of the OpenAI batch format, a request with messages, or, with
    --prompt, any JSON object or CSV row. The whole file is checked before anything
    is sent. Results are lines of the OpenAI batch output format, in the order in
    which they come; custom_id tells which row each belongs to.
    """
    require_key(emulate=emulate)
    shape = Shape(prompt=prompt, model=model, system=system)
    with RowFile(source, shape) as rows:
        total = rows.check()
        with _output(target, source, overwrite=overwrite) as file:
            return asyncio.run(
                _run(
                    rows,
                    file,
                    total=total,
                    concurrency=min(concurrency, total),
                    base_url=base_url,
                    emulate=emulate,
                )
            )


async def _run(
    rows: RowFile,
    file: BinaryIO,
    *,
    total: int,
    concurrency: int,
    base_url: str | None,
    emulate: bool,
) -> int:
    async with connect(
        emulate=emulate, base_url=base_url, connections=concurrency
    ) as client:
        run = BatchRun(client, file, total=total, concurrency=concurrency)
        await run.run(rows.requests())
    err().print(run.tally.table())
    if run.stop is not None:
        complain(f"stopped after {run.tally.done} of {total} rows: {run.stop}")
    return run.code


@contextmanager
def _output(
    path: Path, source: Path, *, overwrite: bool
) -> Generator[BinaryIO, None, None]:
    """The file for the results, which never replaces anything unasked."""
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    if path.exists() and source.exists() and path.samefile(source):
        message = "IN and OUT are the same file"
        raise CommandError(message)
    if path.is_file() and path.stat().st_size and not overwrite:
        message = f"{path} has content: add --overwrite to replace it"
        raise CommandError(message)
    with opened(path) as file:
        yield file
