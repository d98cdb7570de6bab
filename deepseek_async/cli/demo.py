"""`deepseek-async demo`: one streamed answer, then a batch of 200 real prompts.

The prompts are the first 200 problems of the test set of GSM8K (MIT licence; it lies
beside them in `data/`). See https://github.com/openai/grade-school-math
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from ..client import AsyncDeepSeek
from ..errors import raise_for_finish_reason
from .answer import AnswerView, show_answer
from .connection import connect, require_key
from .console import complain, note, out
from .options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MODEL,
    BaseURL,
    Concurrency,
    Emulate,
    Model,
)
from .progress import BatchRun, Request
from .results import opened
from .rows import RowFile, Shape

PROMPTS: Final = 200
_FILE: Final = "gsm8k_200.jsonl"


def demo(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the answers go; replaced.")
    ] = Path("demo-output.jsonl"),
    limit: Annotated[
        int, typer.Option(min=1, max=PROMPTS, help="How many of the prompts to ask.")
    ] = PROMPTS,
    model: Model = DEFAULT_MODEL,
    concurrency: Concurrency = DEFAULT_CONCURRENCY,
    base_url: BaseURL = None,
    emulate: Emulate = False,
) -> int:
    """Stream one answer, then run a batch of 200 real prompts.

    With DEEPSEEK_API_KEY set it talks to the real API, which costs some cents; with
    --emulate it needs neither key nor network.
    """
    require_key(emulate=emulate)
    shape = Shape(prompt="{question}", model=model)
    with (
        as_file(files(__name__.rpartition(".")[0]) / "data" / _FILE) as path,
        RowFile(path, shape) as rows,
        opened(output) as file,
    ):
        job = Demo(rows, file, limit=limit, concurrency=min(concurrency, limit))
        code = asyncio.run(job.run(emulate=emulate, base_url=base_url))
    note(f"answers: {output}")
    return code


class Demo:
    """The demonstration.

    Args:
        rows: The prompts.
        file: Where the answers of the batch go.
        limit: How many prompts to ask.
        concurrency: The most requests at once.
    """

    def __init__(
        self, rows: RowFile, file: BinaryIO, *, limit: int, concurrency: int
    ) -> None:
        self._rows = rows
        self._file = file
        self._limit = limit
        self._concurrency = concurrency

    async def run(self, *, emulate: bool, base_url: str | None) -> int:
        """Run both parts and print the summary; return the exit code."""
        async with connect(
            emulate=emulate, base_url=base_url, connections=self._concurrency
        ) as client:
            await self._stream(client, emulated=emulate)
            return await self._batch(client)

    def _requests(self) -> Iterator[Request]:
        return islice(self._rows.requests(), self._limit)

    async def _stream(self, client: AsyncDeepSeek, *, emulated: bool) -> None:
        _, params = next(self._requests())
        whom = "the embedded emulator" if emulated else client.base_url
        note(f"1. a streamed answer from {whom}\n")
        messages: list[dict[str, str]] = params.pop("messages")
        out().print(messages[-1]["content"] + "\n", style="bold")
        completion = await show_answer(client, messages, params, view=AnswerView())
        raise_for_finish_reason(completion)

    async def _batch(self, client: AsyncDeepSeek) -> int:
        note(f"\n2. a batch of {self._limit} prompts, {self._concurrency} at a time\n")
        run = BatchRun(
            client, self._file, total=self._limit, concurrency=self._concurrency
        )
        await run.run(self._requests())
        out().print()
        out().print(run.tally.table())
        if run.stop is not None:
            complain(str(run.stop))
        return run.code
