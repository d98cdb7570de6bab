"""`deepseek-async balance`: the money left."""

from __future__ import annotations

import asyncio
import sys

from rich.table import Table

from ..types.account import Balance
from .connection import connect
from .console import out, warn
from .exits import ExitCode
from .options import AsJSON, BaseURL, Emulate
from .terminal import one_line


def balance(
    *, as_json: AsJSON = False, base_url: BaseURL = None, emulate: Emulate = False
) -> int:
    """Show the money left on the account."""
    found = asyncio.run(_fetch(base_url=base_url, emulate=emulate))
    if as_json:
        sys.stdout.write(found.to_json().decode() + "\n")
        return ExitCode.OK
    table = Table(box=None, pad_edge=False)
    table.add_column("currency")
    for column in ("total", "granted", "topped up"):
        table.add_column(column, justify="right")
    for info in found.balance_infos:
        amounts = info.total_balance, info.granted_balance, info.topped_up_balance
        table.add_row(one_line(info.currency), *map(one_line, amounts))
    out().print(table)
    if not found.is_available:
        warn("the balance does not allow calls")
    return ExitCode.OK


async def _fetch(*, base_url: str | None, emulate: bool) -> Balance:
    async with connect(emulate=emulate, base_url=base_url) as client:
        return await client.balance()
