"""`deepseek-async demo`: one streamed answer, then a batch of 200 real prompts.

The prompts are the first 200 problems of the test set of GSM8K (MIT licence; it lies
beside them in `data/`). See https://github.com/openai/grade-school-math
"""

from __future__ import annotations

import asyncio
import sys
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
import typer

from ..client import AsyncDeepSeek
from ..errors import raise_for_finish_reason
from .answer import AnswerView, show_answer
from .batch import Job, opened
from .connection import connect, require_key
from .console import note, out
from .jobs import exit_code
from .options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MODEL,
    BaseURL,
    Concurrency,
    Emulate,
    Model,
)
from .rows import row_options

PROMPTS: Final = 200
_FILE: Final = "gsm8k_200.jsonl"


def demo(
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the answers go; replaced."
        ),
    ] = Path("demo-output.jsonl"),
    limit: Annotated[
        int,
        typer.Option(
            min=1, max=PROMPTS, metavar="N", help="How many of the prompts to ask."
        ),
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
    most = min(concurrency, limit)

    async def run(file: BinaryIO) -> int:
        async with connect(
            emulate=emulate, base_url=base_url, connections=most
        ) as client:
            whom = "the embedded emulator" if emulate else client.base_url
            note(f"1. a streamed answer from {whom}\n")
            rows = _prompts(limit)
            await _stream(client, rows[0]["question"], model)
            note(f"\n2. a batch of {limit} prompts, {most} at a time\n")
            options = row_options(prompt="{question}", model=model)
            job = Job(client, file, options, total=limit, concurrency=most)
            report, stop = await job.run(rows)
        sys.stdout.write(f"\n{report.to_table()}\n")
        return exit_code(report, stop)

    with opened(output) as file:
        code = asyncio.run(run(file))
    note(f"answers: {output}")
    return code


def _prompts(count: int) -> list[dict[str, str]]:
    decode = msgspec.json.Decoder(dict[str, str]).decode
    data = files(__name__.rpartition(".")[0]) / "data" / _FILE
    with data.open("rb") as lines:
        return [decode(line) for line in islice(lines, count)]


async def _stream(client: AsyncDeepSeek, question: str, model: str) -> None:
    screen = out()
    screen.print(question + "\n", style="bold", soft_wrap=not screen.is_terminal)
    completion = await show_answer(
        client,
        [{"role": "user", "content": question}],
        {"model": model},
        view=AnswerView(),
    )
    raise_for_finish_reason(completion)
