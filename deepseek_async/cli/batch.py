"""`deepseek-async batch IN OUT`: many requests from a file to a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from ..batch import BatchReport, BatchSource, BatchStoppedError
from ..batch.export import to_batch_line
from ..client import AsyncDeepSeek
from .connection import connect, require_key
from .console import note
from .exits import CommandError
from .jobs import exit_code
from .options import (
    DEFAULT_CONCURRENCY,
    BaseURL,
    Concurrency,
    Emulate,
    Prompt,
    RowModel,
    System,
)
from .rows import Numbering, Rows, count_checked, readable, row_options


def batch(  # noqa: PLR0913 - each is an option of the command line
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help=".csv (also .gz, .zst), .parquet, else JSONL; - is JSONL on stdin.",
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="JSONL of results; - is stdout.")
    ],
    *,
    prompt: Prompt = None,
    system: System = None,
    model: RowModel = None,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it has content.")
    ] = False,
    base_url: BaseURL = None,
    emulate: Emulate = False,
) -> int:
    """Answer every row of IN and write the results to OUT.

    A row is a line of the OpenAI batch format, a request with messages, or, with
    --prompt, any JSON object or CSV row. The whole file is checked before anything
    is sent. Results are lines of the OpenAI batch output format, in the order in
    which they come; custom_id tells which row each belongs to.
    """
    require_key(emulate=emulate)
    options = row_options(prompt=prompt, system=system, model=model)

    async def run(rows: Rows) -> int:
        total = await count_checked(rows, options)
        most = min(concurrency, total)
        with _output(target, Path(source), overwrite=overwrite) as file:
            async with connect(
                emulate=emulate, base_url=base_url, connections=most
            ) as client:
                job = Job(client, file, options, total=total, concurrency=most)
                report, stop = await job.run(rows)
        sys.stderr.write(report.to_table() + "\n")
        return exit_code(report, stop)

    with readable(source) as rows:
        return asyncio.run(run(rows))


class Job:
    """A batch whose results go to a file, each as soon as it is there.

    Args:
        client: Whom to ask.
        file: Where the results go.
        options: How rows become requests.
        total: The number of rows.
        concurrency: The most requests at once.
    """

    def __init__(
        self,
        client: AsyncDeepSeek,
        file: BinaryIO,
        options: dict[str, Any],
        *,
        total: int,
        concurrency: int,
    ) -> None:
        self._client = client
        self._file = file
        self._options: dict[str, Any] = {
            **options,
            "total": total,
            "key": Numbering(),
        }
        self._total = total
        self._concurrency = concurrency
        self._written = 0

    async def run(
        self, rows: BatchSource
    ) -> tuple[BatchReport, BatchStoppedError | None]:
        """Ask for every row; the report, and why the batch ended early if it did.

        Raises:
            OSError: The file cannot be written.
        """
        batch = self._client.batch(
            rows,
            concurrency=self._concurrency,
            progress=self._has_display(),
            **self._options,
        )
        try:
            async with batch as results:
                async for result in results:
                    line = msgspec.json.encode(to_batch_line(result))
                    self._file.write(line + b"\n")
                    self._file.flush()
                    self._written += 1
        except BatchStoppedError as stop:
            self._tell()
            return batch.report, stop
        except asyncio.CancelledError:
            self._tell()
            raise
        return batch.report, None

    def _tell(self) -> None:
        note(f"stopped with {self._written} of {self._total} rows written")

    def _has_display(self) -> bool:
        """Whether there is a terminal that the results do not go to as well."""
        return sys.stderr.isatty() and not self._file.isatty()


def opened(path: Path) -> BinaryIO:
    """A new file for results.

    Raises:
        CommandError: It cannot be made.
    """
    try:
        return path.open("wb")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise CommandError(message) from None


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
