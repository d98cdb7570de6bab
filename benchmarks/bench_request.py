"""Awaited completions: one at a time, many at once, and a very long one."""

from .awake import awake
from .lab import CLIENT_CORE, Lab
from .options import Options
from .report import Table, cpu_table

PEERS = ("aiohttp", "deepseek_async", "openai httpx2", "openai aiohttp")
ROUNDS = 9
#: title, scenario, concurrency, requests a round, openai's requests a round
CASES = (
    ("1 KB answer, one at a time", "ask", 1, 400, 100),
    ("1 KB answer, 200 at once", "ask", 200, 1000, 400),
    ("1 MB answer with log probabilities", "long", 1, 15, 3),
)
NOTE = (
    "The floor `aiohttp` is `session.post` with a body encoded by msgspec, "
    "`response.read()` and a decode into structs of the documented fields: no retries, "
    "clocks, cookies, limits or error handling. The core is kept awake as for `live`."
)


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure CPU per awaited completion."""
    tables: list[Table] = []
    for loop, tls, setting in options.settings():
        for title, scenario, concurrency, total, openai_total in CASES:
            orders: dict[str, dict[str, object]] = {
                peer: {
                    "operation": "request",
                    "scenario": scenario,
                    "concurrency": concurrency,
                    "total": openai_total if peer.startswith("openai") else total,
                }
                for peer in PEERS
            }
            with awake(CLIENT_CORE):
                samples = lab.rounds(orders, options.turns(ROUNDS), loop, tls=tls)
            tables.append(
                cpu_table(f"request: {title} ({setting})", "request", samples)
            )
    tables[-1].notes.append(NOTE)
    return tables
