"""What `import` costs: ours, its dependencies, and openai."""

import os
import statistics
import subprocess
import sys

from .lab import Lab, rotated
from .options import Options
from .report import Table, spread

TARGETS = {
    "bare interpreter": "pass",
    "aiohttp, msgspec, anyio": "import aiohttp, msgspec, anyio",
    "deepseek_async": "import deepseek_async",
    "openai": "import openai",
}
ROUNDS = 15
NOTE = (
    "Sum of the self times that `python -X importtime` prints, warm byte code, medians "
    "of interleaved fresh processes, the bare interpreter's own imports taken off."
)


def import_time(statement: str) -> tuple[float, int]:
    """Return milliseconds spent importing, and how many modules, in a new process."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    # Byte code of an installed library is there; an environment that forbids to write
    # it would have only what comes out of the working tree compiled each time.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    told = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stderr
    times = [line.split(":")[1].split("|")[0] for line in told.splitlines()[1:]]
    return sum(map(int, times)) / 1000, len(times)


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure import times."""
    del lab
    taken: dict[str, list[float]] = {name: [] for name in TARGETS}
    modules: dict[str, int] = {}
    for statement in TARGETS.values():
        import_time(statement)  # writes the byte code
    for turn in range(options.turns(ROUNDS)):
        for name in rotated(TARGETS, turn):
            milliseconds, modules[name] = import_time(TARGETS[name])
            taken[name].append(milliseconds)
    return [_table(taken, modules)]


def _table(taken: dict[str, list[float]], modules: dict[str, int]) -> Table:
    bare, ours_floor, *_ = TARGETS
    own = {
        name: [v - statistics.median(taken[bare]) for v in taken[name]]
        for name in taken
    }
    floor = statistics.median(own[ours_floor])
    columns = (
        "import",
        "ms",
        "min .. max",
        "ms over dependencies",
        "÷ openai",
        "modules",
    )
    table = Table("import: time of a first import", columns, notes=[NOTE])
    openai = statistics.median(own["openai"])
    for name in list(TARGETS)[1:]:
        mid = statistics.median(own[name])
        table.rows.append(
            {
                "import": name,
                "ms": mid,
                "min .. max": spread(own[name]),
                "ms over dependencies": mid - floor,
                "÷ openai": mid / openai,
                "modules": str(modules[name]),
            }
        )
    return table
