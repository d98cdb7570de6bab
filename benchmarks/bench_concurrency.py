"""Many live streams on one core: how late a chunk comes, how busy the core is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from . import plots
from .lab import Lab
from .options import Options
from .report import Table, slope

RATE, CHUNKS = 20, 20
CARRIED_CPU, CARRIED_P99 = 90.0, 0.050  # per cent of a core, seconds
LEAN = (10, 100, 300, 500, 1000)
HEAVY = (10, 100, 200, 300, 500)
SIZES: Mapping[str, Sequence[int]] = {
    "aiohttp+msgspec": LEAN,
    "deepseek_async": LEAN,
    "openai httpx2": HEAVY,
    "openai aiohttp": HEAVY,
}
TARGET = 500
TARGET_ROUNDS = 3
COLUMNS = ("peer", "streams", "CPU % of a core", "p50 ms", "p99 ms", "max ms")
NOTE = (
    f"Each stream sends {RATE} chunks a second, so 500 streams are 10,000 chunks a "
    "second. Delay: from the server's write (a clock stamp in the chunk, same machine) "
    "to the chunk in the caller's loop. A number of streams is carried while the core "
    f"is at most {CARRIED_CPU:.0f} % busy and p99 below {CARRIED_P99 * 1e3:.0f} ms. "
    f"At {TARGET} streams the best of {TARGET_ROUNDS} rounds, else of one."
)


@dataclass(frozen=True)
class Point:
    """One peer at one number of streams; shares in per cent, delays in seconds."""

    streams: int
    cpu: float
    delays: Sequence[float]
    server: float

    @property
    def carried(self) -> bool:
        """Whether the peer keeps up."""
        return self.cpu <= CARRIED_CPU and self.delays[1] <= CARRIED_P99

    def row(self, peer: str) -> dict[str, str | float | None]:
        """Return the line of a table."""
        p50, p99, most = (1e3 * seconds for seconds in self.delays)
        return {
            "peer": peer,
            "streams": str(self.streams),
            "CPU % of a core": self.cpu,
            "p50 ms": p50,
            "p99 ms": p99,
            "max ms": most,
            "server CPU %": self.server,
        }


def point(streams: int, samples: Sequence[Mapping[str, float]]) -> Point:
    """Take the round with the least p99: the others were held up from outside."""
    best = min(samples, key=lambda sample: _delays(sample)[1])
    wall = best["wall"]
    cpu, server = 100 * best["cpu"] / wall, 100 * best["server"] / wall
    return Point(streams, cpu, _delays(best), server)


def _delays(sample: Mapping[str, float]) -> Sequence[float]:
    return cast("Sequence[float]", sample["delays"])


def measure(
    lab: Lab, peers: Sequence[str], streams: int, rounds: int, loop: str
) -> dict[str, Point]:
    """Measure some peers, in turn, at one number of streams."""
    order = {"operation": "delay", "streams": streams, "rate": RATE, "chunks": CHUNKS}
    samples = lab.rounds(dict.fromkeys(peers, order), rounds, loop)
    return {peer: point(streams, taken) for peer, taken in samples.items()}


def curve(lab: Lab, loop: str, rounds: int) -> dict[str, list[Point]]:
    """Measure every peer over its numbers of streams."""
    found: dict[str, list[Point]] = {peer: [] for peer in SIZES}
    for streams in sorted({*LEAN, *HEAVY}):
        peers = [peer for peer, sizes in SIZES.items() if streams in sizes]
        turns = max(rounds, TARGET_ROUNDS) if streams == TARGET else rounds
        for peer, taken in measure(lab, peers, streams, turns, loop).items():
            found[peer].append(taken)
    return found


def run(lab: Lab, options: Options) -> list[Table]:
    """Measure delay and CPU from 10 to 1,000 live streams, on uvloop if asked for."""
    loop = options.loops[-1]
    found = curve(lab, loop, options.turns(1))
    columns = (*COLUMNS, "server CPU %")
    target = Table(f"concurrency: {TARGET} live streams on one core ({loop})", columns)
    every = Table(f"concurrency: live streams per core ({loop})", columns)
    for peer, points in found.items():
        every.rows += [taken.row(peer) for taken in points]
        target.rows += [taken.row(peer) for taken in points if taken.streams == TARGET]
        carried = [taken.streams for taken in points if taken.carried]
        growth = slope([(taken.streams, taken.cpu) for taken in points[1:]])
        target.notes.append(
            f"- {peer} carries {max(carried, default=0)} of at most "
            f"{points[-1].streams} streams; CPU grows from {points[1].streams} streams "
            f"on with slope {growth:.2f} (1 is linear)."
        )
    every.notes.append(NOTE)
    plots.offer("concurrency", lambda: plots.concurrency(_series(found)))
    return [target, every]


def _series(found: Mapping[str, Sequence[Point]]) -> dict[str, list[tuple[float, ...]]]:
    return {
        peer: [(p.streams, p.cpu, 1e3 * p.delays[0], 1e3 * p.delays[1]) for p in points]
        for peer, points in found.items()
    }
