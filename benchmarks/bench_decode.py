"""Bytes to typed chunks, and whether cost grows with size and not faster."""

import gc
import statistics
import time
from collections.abc import Sequence

from . import decoding, plots
from .lab import Lab, rotated
from .options import Options
from .peers.base import expect
from .report import Table, slope, spread

READS = (1, 16, 256, 4096, 65536)
CHUNKS = {1: 60, 16: 200, 256: 1000, 4096: 2000, 65536: 2000}
ROUNDS = 5
#: what grows -> operation, scenario, sizes; times is chosen for about 0.2 s each
GROWING: dict[str, tuple[str, str, Sequence[int]]] = {
    "answer, chunks": ("fold", "bulk", (100, 1_000, 10_000, 100_000)),
    "tool arguments, bytes": ("fold", "tools", (10**4, 10**5, 10**6, 10**7)),
    "history, messages": ("history", "", (10, 100, 1_000, 10_000)),
}
TIMES = (20, 10, 3, 1)
SLOPE_NOTE = (
    "Slope of log CPU over log size: 1 is linear, 2 quadratic; the last decade counts, "
    "because fixed costs flatten the small sizes. Whole calls against the server: a "
    "stream folded by `completion()`, a request with a long history."
)


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure MB/s for several read sizes, and the slopes of growing inputs."""
    return [throughput(options), growth(lab, options)]


def throughput(options: Options) -> Table:
    """Measure how fast every decoder takes an answer cut into reads."""
    decoders = {name: make() for name, make in decoding.DECODERS.items()}
    columns = (
        "decoder",
        *(f"{size} B reads" for size in READS),
        "min .. max at 64 KiB",
    )
    rows: dict[str, dict[str, str | float | None]] = {
        n: {"decoder": n} for n in decoders
    }
    for size in READS:
        chunks = CHUNKS[size]
        body = decoding.answer(chunks)
        pieces = decoding.cut(body, size)
        taken: dict[str, list[float]] = {name: [] for name in decoders}
        for turn in range(options.turns(ROUNDS) + 1):
            for name in rotated(decoders, turn):
                taken[name].append(
                    len(body) / 1e6 / _seconds(decoders[name], pieces, chunks)
                )
        for name, speeds in taken.items():
            rows[name][f"{size} B reads"] = statistics.median(speeds[1:])
            rows[name]["min .. max at 64 KiB"] = spread(speeds[1:])
    return Table(
        "decode: MB/s of stream to typed chunks, no network", columns, [*rows.values()]
    )


def _seconds(decode: decoding.Decode, pieces: Sequence[bytes], chunks: int) -> float:
    gc.collect()
    start = time.process_time_ns()
    expect(decode(pieces), chunks)
    return (time.process_time_ns() - start) / 1e9


def growth(lab: Lab, options: Options) -> Table:
    """Measure how the CPU of whole calls grows with their size."""
    table = Table(
        f"decode: growth of deepseek_async ({options.loops[0]})",
        ("what grows", "sizes", "CPU ms", "slope overall", "slope of last decade"),
        notes=[SLOPE_NOTE],
    )
    series: dict[str, list[tuple[float, ...]]] = {}
    with lab.client("deepseek_async", options.loops[0]) as client:
        for what, (operation, scenario, sizes) in GROWING.items():
            points: list[tuple[float, ...]] = []
            for size, times in zip(sizes, TIMES, strict=True):
                order: dict[str, object] = {"operation": operation, "times": times}
                if operation == "fold":
                    order |= {"scenario": scenario, "size": size}
                else:
                    order["messages"] = size
                runs = [client.order(order) for _ in range(3)]
                points.append((size, min(r["cpu"] / r["units"] for r in runs) * 1e3))
            series[what] = points
            table.rows.append(_row(what, points))
    plots.offer("linearity", lambda: plots.linearity(series))
    return table


def _row(
    what: str, points: Sequence[tuple[float, ...]]
) -> dict[str, str | float | None]:
    return {
        "what grows": what,
        "sizes": " ".join(f"{size:,.0f}" for size, _ in points),
        "CPU ms": " ".join(f"{cpu:.3g}" for _, cpu in points),
        "slope overall": slope(points),
        "slope of last decade": slope(points[-2:]),
    }
