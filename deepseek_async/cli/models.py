"""`deepseek-async models`: what can be asked."""

from __future__ import annotations

import asyncio
import sys

from rich.table import Table

from ..types.account import Model, ModelList
from .connection import connect
from .console import out
from .exits import ExitCode
from .options import AsJSON, BaseURL, Emulate
from .terminal import one_line

_COLUMNS = "model", "context", "max output", "input", "reasoning effort"


def models(
    *, as_json: AsJSON = False, base_url: BaseURL = None, emulate: Emulate = False
) -> int:
    """List the models on offer."""
    found = asyncio.run(_fetch(base_url=base_url, emulate=emulate))
    if as_json:
        sys.stdout.write(found.to_json().decode() + "\n")
        return ExitCode.OK
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for model in found:
        table.add_row(*(one_line(cell) for cell in _cells(model)))
    out().print(table)
    return ExitCode.OK


async def _fetch(*, base_url: str | None, emulate: bool) -> ModelList:
    async with connect(emulate=emulate, base_url=base_url) as client:
        return await client.models.list()


def _cells(model: Model) -> tuple[str, ...]:
    effort = model.effort
    levels = effort.supported_levels if effort else []
    default = effort.default_level if effort else None
    shown = [f"{level}*" if level == default else level for level in levels]
    return (
        model.id,
        _number(model.context_window),
        _number(model.max_output_tokens),
        ", ".join(model.input_modalities or []),
        ", ".join(shown),
    )


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
