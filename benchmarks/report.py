"""Figures into tables: medians, spreads, ratios, versions."""

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .peers import FLOOR, OPENAI

PACKAGES = (
    "deepseek-async", "aiohttp", "msgspec", "anyio", "openai", "httpx2", "pydantic",
    "uvloop",
)  # fmt: skip
Samples = Mapping[str, Sequence[Mapping[str, float]]]
Cell = str | float | None


@dataclass
class Table:
    """A titled table; `rows` are keyed by column and carry the raw values.

    Attributes:
        title: What was measured, with its unit.
        columns: Keys of the rows, in the order shown.
        rows: One mapping a line; floats are rounded only when shown.
        notes: Sentences below the table.
    """

    title: str
    columns: Sequence[str]
    rows: list[Mapping[str, Cell]] = field(default_factory=list[Mapping[str, Cell]])
    notes: list[str] = field(default_factory=list[str])

    def render(self) -> str:
        """Return the table as Markdown, padded so that it reads in a terminal."""
        grid = [list(self.columns)]
        grid += [[shown(row.get(key)) for key in self.columns] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = [_line(cells, widths) for cells in grid]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        notes = [part for note in self.notes for part in (note, "")]
        return "\n".join([f"### {self.title}", "", *lines, "", *notes])

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {"title": self.title, "rows": self.rows, "notes": self.notes}


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join([first, *others]) + " |"


def shown(value: Cell) -> str:
    """Return a cell's text: three significant digits, never an exponent."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def per_unit(samples: Sequence[Mapping[str, float]], key: str = "cpu") -> list[float]:
    """Return the microseconds per unit of every round."""
    return [sample[key] / sample["units"] * 1e6 for sample in samples]


def median(samples: Sequence[Mapping[str, float]], key: str = "cpu") -> float:
    """Return the median of `per_unit`."""
    return statistics.median(per_unit(samples, key))


def spread(values: Sequence[float]) -> str:
    """Return the least and the greatest value."""
    return f"{shown(min(values))} .. {shown(max(values))}"


def best_openai(medians: Mapping[str, float]) -> float | None:
    """Return the figure of openai's better backend, if one was measured."""
    return min((medians[name] for name in OPENAI if name in medians), default=None)


def ratios(medians: Mapping[str, float], peer: str) -> dict[str, Cell]:
    """Return how a peer stands to the floor and to openai's better backend."""
    openai, own = best_openai(medians), medians[peer]
    floor = medians.get(FLOOR)
    return {
        "÷ floor": own / floor if floor else None,
        "openai ÷ this": openai / own if openai else None,
    }


def cpu_table(title: str, unit: str, samples: Samples) -> Table:
    """Return the table of CPU time per unit, one line a peer."""
    cpu, wall = f"CPU µs/{unit}", f"wall µs/{unit}"
    columns = ("peer", cpu, "min .. max", "÷ floor", "openai ÷ this", wall)
    medians = {peer: median(taken) for peer, taken in samples.items()}
    table = Table(title, (*columns, "server CPU %"))
    for peer, taken in samples.items():
        table.rows.append(
            {
                "peer": peer,
                cpu: medians[peer],
                "min .. max": spread(per_unit(taken)),
                **ratios(medians, peer),
                wall: median(taken, "wall"),
                "server CPU %": server_share(taken),
            }
        )
    return table


def server_share(samples: Sequence[Mapping[str, float]]) -> float:
    """Return the percentage of its core that the server used, median."""
    return statistics.median(100 * s["server"] / s["wall"] for s in samples)


def environment() -> dict[str, str]:
    """Return the machine and the versions, with no name or path of the machine."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{_processor()}, {_cores()}, {platform.system()}",
        "versions": ", ".join(f"{name} {number}" for name, number in found.items()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def _cores() -> str:
    return f"{os.cpu_count()} cores"


def slope(points: Sequence[tuple[float, ...]]) -> float:
    """Return the least-squares slope of log(y) over log(x)."""
    x, y = (
        [math.log(value) for value in column] for column in zip(*points, strict=True)
    )
    return statistics.linear_regression(x, y).slope
