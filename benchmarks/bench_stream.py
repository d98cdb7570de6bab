"""Streams in bulk: what a chunk costs when bytes are never waited for."""

from .lab import Lab
from .options import Options
from .peers import PEERS
from .report import Table, cpu_table

STREAMS, OPENAI_STREAMS, CHUNKS = 20, 2, 2000
ROUNDS = 9
NOTE = (
    f"{STREAMS} streams at once (openai: {OPENAI_STREAMS}) of {CHUNKS} chunks of about "
    "320 bytes, each its own HTTP chunk, half thinking and half text. The floor "
    "`aiohttp` reads `iter_any()` and decodes nothing; `aiohttp+msgspec` splits and "
    "decodes into structs by hand; `text()` is per chunk of the stream."
)


def orders() -> dict[str, dict[str, object]]:
    """Return every peer's order; openai gets fewer streams, for time's sake."""
    return {
        peer: {
            "operation": "bulk",
            "streams": OPENAI_STREAMS if peer.startswith("openai") else STREAMS,
            "chunks": CHUNKS,
        }
        for peer in PEERS
    }


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure CPU per typed chunk."""
    tables: list[Table] = []
    for loop, tls, setting in options.settings():
        samples = lab.rounds(orders(), options.turns(ROUNDS), loop, tls=tls)
        tables.append(cpu_table(f"stream: in bulk ({setting})", "chunk", samples))
    tables[-1].notes.append(NOTE)
    return tables
