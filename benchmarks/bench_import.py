"""What `import` costs: ours, its dependencies, and openai."""

import os
import statistics
import subprocess
import sys

from .lab import Lab, rotated
from .options import Options
from .report import Table, spread

FLOOR = "aiohttp, msgspec, anyio"
FIRST = {FLOOR: FLOOR, "deepseek_async": FLOOR, "openai": "openai"}
"""What is imported first; `deepseek_async` is imported after that."""

ROUNDS = 21
NOTE = (
    "Around the import statement in a fresh process, by its own clock; warm byte code, "
    "medians of interleaved processes. What deepseek_async takes over its dependencies "
    "is taken after theirs in the very same process: whether the machine is fast or "
    "slow just then, it is so for both."
)
SCRIPT = """
import sys, time
began = time.perf_counter()
import {first}
first = time.perf_counter()
import {then}
then = time.perf_counter()
print((first - began) * 1000, (then - first) * 1000, len(sys.modules))
"""


def import_times(name: str) -> tuple[float, float, int]:
    """Return the milliseconds of what comes first and of the rest, and all modules."""
    then = name if name == "deepseek_async" else "sys"
    command = [sys.executable, "-c", SCRIPT.format(first=FIRST[name], then=then)]
    # Byte code of an installed library is there; an environment that forbids to write
    # it would have only what comes out of the working tree compiled each time.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    told = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    first, rest, modules = told.split()
    return float(first), float(rest), int(modules)


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure import times."""
    del lab
    taken: dict[str, list[float]] = {name: [] for name in FIRST}
    more: list[float] = []
    modules: dict[str, int] = {}
    for name in FIRST:
        import_times(name)  # writes the byte code
    for turn in range(options.turns(ROUNDS)):
        for name in rotated(FIRST, turn):
            first, rest, modules[name] = import_times(name)
            taken[name].append(first + rest)
            if name == "deepseek_async":
                more.append(rest)
    return [_table(taken, more, modules)]


def _table(
    taken: dict[str, list[float]], more: list[float], modules: dict[str, int]
) -> Table:
    columns = (
        "import",
        "ms",
        "min .. max",
        "ms over dependencies",
        "its min .. max",
        "÷ openai",
        "modules",
    )
    table = Table("import: time of a first import", columns, notes=[NOTE])
    openai = statistics.median(taken["openai"])
    for name, times in taken.items():
        mid = statistics.median(times)
        is_ours = name == "deepseek_async"
        table.rows.append(
            {
                "import": name,
                "ms": mid,
                "min .. max": spread(times),
                "ms over dependencies": statistics.median(more) if is_ours else "",
                "its min .. max": spread(more) if is_ours else "",
                "÷ openai": mid / openai,
                "modules": str(modules[name]),
            }
        )
    return table
