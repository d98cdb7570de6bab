"""`python -m benchmarks.guard [--record]`: fail when a ratio to the floor got worse.

Guarded is the cost of this library over that of raw aiohttp in the same run. With
valgrind installed the cost is counted in instructions of the client process, which
repeats to a few per cent whatever else the machine does. Without it the cost is CPU
time, of the cases alone whose ratio is steady enough, and the best of three attempts
counts. A ratio more than 15 % above the one in `guard.json` fails.

Ratios are recorded per Python version; a version without a record is held to the
nearest one, at twice the tolerance, because interpreters differ.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from . import instructions
from .lab import Lab, Order, open_lab
from .peers import FLOOR
from .report import Cell, Table

RECORD = Path(__file__).with_name("guard.json")
TOLERANCE = 0.15
ATTEMPTS = 3
CPU_ROUNDS = 7
OURS, TEXT = "deepseek_async", "deepseek_async text()"
Ratios = dict[str, float]

BULK: Order = {"operation": "bulk", "streams": 5, "chunks": 1000}
LIVE: Order = {"operation": "live", "streams": 10, "rate": 10, "chunks": 20}
#: what is guarded -> our face, the order
COUNTED: dict[str, tuple[str, Order]] = {
    "bulk stream": (OURS, BULK),
    "bulk stream, text()": (TEXT, BULK),
    "live stream": (OURS, LIVE),
    "live stream, text()": (TEXT, LIVE),
    "request": (
        OURS,
        {"operation": "request", "scenario": "ask", "concurrency": 1, "total": 50},
    ),
    "requests, 50 at once": (
        OURS,
        {"operation": "request", "scenario": "ask", "concurrency": 50, "total": 200},
    ),
    "1 MB answer": (
        OURS,
        {"operation": "request", "scenario": "long", "concurrency": 1, "total": 2},
    ),
}
TIMED: dict[str, tuple[str, Order]] = {
    "bulk stream": (OURS, {**BULK, "streams": 10, "chunks": 2000}),
    "requests, 50 at once": (
        OURS,
        {**COUNTED["requests, 50 at once"][1], "total": 600},
    ),
    "1 MB answer": (OURS, {**COUNTED["1 MB answer"][1], "total": 6}),
}


def counted(lab: Lab) -> Ratios:
    """Measure every ratio in instructions."""
    costs: dict[str, Mapping[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for peer in (FLOOR, OURS, TEXT):
            costs[peer] = _counts(lab, peer, Path(folder))
    return {
        case: costs[peer][case] / costs[FLOOR][case]
        for case, (peer, _) in COUNTED.items()
    }


def _counts(lab: Lab, peer: str, folder: Path) -> Ratios:
    """Count instructions per unit; the cost of measuring is taken off."""
    counts: Ratios = {}
    with lab.client(peer, "asyncio", counting=folder) as client:
        client.order({"operation": "nothing"})
        empty = client.order({"operation": "nothing"})["instructions"]
        for case, (face, order) in COUNTED.items():
            if peer in {FLOOR, face}:
                result = client.order(order)
                counts[case] = (result["instructions"] - empty) / result["units"]
    return counts


def timed(lab: Lab) -> Ratios:
    """Measure the steady ratios in CPU time, each the median of paired rounds."""
    ratios: Ratios = {}
    for case, (peer, order) in TIMED.items():
        taken = lab.rounds({FLOOR: order, peer: order}, CPU_ROUNDS, "asyncio")
        pairs = zip(taken[peer], taken[FLOOR], strict=True)
        ratios[case] = statistics.median(
            own["cpu"] / floor["cpu"] for own, floor in pairs
        )
    return ratios


def recorded(method: str, version: str) -> tuple[Ratios, float]:
    """Return the ratios to be held to, and the tolerance."""
    versions: dict[str, Ratios] = json.loads(RECORD.read_text())[method]
    if version in versions:
        return versions[version], TOLERANCE
    nearest = min(versions, key=lambda known: abs(_minor(known) - _minor(version)))
    print(f"no record for Python {version}: held to {nearest}, tolerance doubled")
    return versions[nearest], 2 * TOLERANCE


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def record(method: str, version: str, ratios: Ratios) -> None:
    """Write the ratios down as what later runs are held to."""
    kept: dict[str, dict[str, Ratios]] = {}
    if RECORD.exists():
        kept = json.loads(RECORD.read_text())
    rounded = {case: round(ratio, 3) for case, ratio in ratios.items()}
    kept.setdefault(method, {})[version] = rounded
    RECORD.write_text(json.dumps(kept, indent=2) + "\n")


def recorded_tables() -> list[Table]:
    """Return what is on record, as tables."""
    tables: list[Table] = []
    kept: dict[str, dict[str, Ratios]] = json.loads(RECORD.read_text())
    for method, versions in kept.items():
        for version, ratios in versions.items():
            title = f"guard: {method} on record (asyncio, Python {version})"
            rows: list[Mapping[str, Cell]] = [
                {"what": case, "÷ floor": ratio} for case, ratio in ratios.items()
            ]
            tables.append(Table(title, ("what", "÷ floor"), rows))
    return tables


def worse(ratios: Ratios, bars: Ratios, tolerance: float) -> list[str]:
    """Return the cases that got worse by more than `tolerance`."""
    return [case for case, bar in bars.items() if ratios[case] > bar * (1 + tolerance)]


def table(method: str, ratios: Ratios, bars: Ratios) -> Table:
    """Return what is shown: the ratios now, recorded, and the change."""
    columns = (method, "÷ floor", "recorded", "change %")
    shown = Table("guard: cost over raw aiohttp", columns)
    for case, bar in bars.items():
        change = 100 * (ratios[case] / bar - 1)
        row: dict[str, Cell] = {method: case, "÷ floor": ratios[case], "recorded": bar}
        shown.rows.append({**row, "change %": change})
    return shown


def check(lab: Lab, method: str, version: str) -> list[str]:
    """Measure until nothing is worse, at most `ATTEMPTS` times; keep the best."""
    measure = METHODS[method]
    bars, tolerance = recorded(method, version)
    best = measure(lab)
    for _ in range(ATTEMPTS - 1):
        if not worse(best, bars, tolerance):
            break
        again = measure(lab)
        best = {case: min(ratio, again[case]) for case, ratio in best.items()}
    print(table(method, best, bars).render())
    return worse(best, bars, tolerance)


METHODS: dict[str, Callable[[Lab], Ratios]] = {"instructions": counted, "CPU": timed}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard")
    parser.add_argument("--record", action="store_true", help="write guard.json anew")
    parser.add_argument("--method", choices=METHODS, help="default: as installed")
    given = parser.parse_args()
    default = "instructions" if instructions.is_available() else "CPU"
    method = given.method or default
    version = ".".join(platform.python_version_tuple()[:2])
    with open_lab() as lab:
        if given.record:
            record(method, version, METHODS[method](lab))
        slower = check(lab, method, version)
    for case in slower:
        print(f"worse by more than the tolerance: {case}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
