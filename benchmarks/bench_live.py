"""Live streams: what a chunk costs that arrives alone in its packet."""

from .awake import awake
from .lab import CLIENT_CORE, Lab
from .options import Options
from .peers import LOOP_ALONE, PEERS
from .report import Table, cpu_table

STREAMS, RATE, CHUNKS = 100, 20, 10
ROUNDS = 11
NOTE = (
    f"{STREAMS} streams open at once, {RATE} chunks a second each, evenly out of step; "
    f"the window spans {CHUNKS} chunks of every stream, not their opening and closing. "
    "The floor `aiohttp` awaits `iter_any()` and only counts bytes. `event loop alone` "
    "is `data_received` of an `asyncio.Protocol`, counting bytes: no client on that "
    "loop can take less. For each read on asyncio, glibc maps memory and takes it "
    "back unless the program once freed a block of that size: this library and "
    "`event loop alone` see to that, `import openai` does by chance, `aiohttp` on "
    "plain TCP does not. The core is kept awake between packets by a process of idle "
    "priority."
)


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure CPU per live chunk."""
    order = {"operation": "live", "streams": STREAMS, "rate": RATE, "chunks": CHUNKS}
    tables: list[Table] = []
    for loop, tls, setting in options.settings():
        turns = options.turns(ROUNDS)
        with awake(CLIENT_CORE):
            samples = lab.rounds(
                dict.fromkeys([*LOOP_ALONE, *PEERS], order), turns, loop, tls=tls
            )
        tables.append(
            cpu_table(f"live: one chunk a packet ({setting})", "chunk", samples)
        )
    tables[-1].notes.append(NOTE)
    return tables
