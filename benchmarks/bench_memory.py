"""What an open live stream weighs: resident memory, 500 of them held open."""

import statistics

from .lab import Lab
from .options import Options
from .report import Table, ratios, spread

PEERS = (
    "aiohttp",
    "deepseek_async",
    "openai httpx2",
    "openai aiohttp",
)
STREAMS = 500
ROUNDS = 3
NOTE = (
    f"{STREAMS} streams held open in a fresh process each round, one chunk received, "
    "one task each; growth of the resident set over the warmed-up client, per stream."
)


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure resident memory per open stream."""
    loop = options.loops[0]
    taken: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    for _ in range(options.turns(ROUNDS)):
        for peer in PEERS:
            with lab.client(peer, loop) as client:
                taken[peer].append(
                    client.order({"operation": "hold", "streams": STREAMS})
                )
    columns = (
        "peer",
        "KiB/stream",
        "min .. max",
        "÷ floor",
        "openai ÷ this",
        "base MiB",
    )
    table = Table(f"memory: per open live stream ({loop})", columns, notes=[NOTE])
    kib = {
        peer: [s["bytes"] / 1024 for s in figures] for peer, figures in taken.items()
    }
    medians = {peer: statistics.median(values) for peer, values in kib.items()}
    for peer in PEERS:
        table.rows.append(
            {
                "peer": peer,
                "KiB/stream": medians[peer],
                "min .. max": spread(kib[peer]),
                **ratios(medians, peer),
                "base MiB": statistics.median(s["base"] for s in taken[peer]) / 2**20,
            }
        )
    return [table]
