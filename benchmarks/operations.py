"""What a client process does when told: each operation warms up, then measures.

Every operation answers a flat dict; `cpu` and `wall` are seconds over the measured
window, `units` what they are divided by.
"""

import asyncio
import gc
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from . import instructions
from .instructions import Counter
from .peers import Peer
from .peers.base import PROMPT, Message

Result = dict[str, float | list[float]]
WARM_CHUNKS = 40
LIVE_PATIENCE = 60.0  # seconds after which a live measurement is given up


@dataclass(frozen=True)
class Bench:
    """Where an operation finds its peer and the server's control port."""

    peer: type[Peer]
    base_url: str
    control_port: int
    slot: str

    def connect(self) -> Peer:
        """Build the peer on this process's own slot of the server."""
        return self.peer(f"{self.base_url}/{self.slot}")

    def tell(self, verb: str, *words: object) -> float:
        """Send one control line; return the server's CPU seconds so far."""
        line = " ".join(map(str, (verb, self.slot, *words)))
        with socket.create_connection(("127.0.0.1", self.control_port)) as control:
            control.sendall(line.encode() + b"\n")
            return float(control.recv(64))


class Window:
    """CPU and wall time between two moments, and the server's CPU in between."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        gc.collect()
        self.server = bench.tell("cpu")
        self.counter = Counter() if instructions.wanted() else None
        self.wall = time.perf_counter()
        self.cpu = time.process_time()

    def close(self, units: float) -> Result:
        """Return the window's figures."""
        cpu = time.process_time() - self.cpu
        wall = time.perf_counter() - self.wall
        count = self.counter.stop() if self.counter else 0
        server = self.bench.tell("cpu") - self.server
        result: Result = {"cpu": cpu, "wall": wall, "units": units, "server": server}
        return {**result, "instructions": count} if self.counter else result


async def nothing(bench: Bench) -> Result:
    """Measure an empty window: what measuring itself costs."""
    return Window(bench).close(1)


async def together(
    count: int, work: Callable[[], Coroutine[object, object, object]]
) -> None:
    """Run `count` copies of `work` at once."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())


async def bulk(bench: Bench, streams: int, chunks: int) -> Result:
    """Read `streams` streams at once, sent as fast as they are taken."""
    async with bench.connect() as peer:
        bench.tell("set", "bulk", WARM_CHUNKS)
        await together(streams, lambda: peer.bulk(WARM_CHUNKS))
        bench.tell("set", "bulk", chunks)
        window = Window(bench)
        await together(streams, lambda: peer.bulk(chunks))
        return window.close(streams * chunks)


async def request(bench: Bench, scenario: str, concurrency: int, total: int) -> Result:
    """Await `total` completions, `concurrency` at a time."""
    each = total // concurrency

    async def ask(times: int) -> None:
        for _ in range(times):
            await peer.ask(PROMPT)

    async with bench.connect() as peer:
        bench.tell("set", scenario)
        await together(concurrency, lambda: ask(1))
        await peer.ask(PROMPT)
        window = Window(bench)
        await together(concurrency, lambda: ask(each))
        return window.close(each * concurrency)


async def history(bench: Bench, messages: int, times: int) -> Result:
    """Await completions for a conversation of `messages` messages."""
    prompt: list[Message] = [
        {"role": ("user", "assistant")[i % 2], "content": f"message {i} " * 10}
        for i in range(messages)
    ]
    async with bench.connect() as peer:
        bench.tell("set", "ask")
        await peer.ask(prompt)
        window = Window(bench)
        for _ in range(times):
            await peer.ask(prompt)
        return window.close(times)


async def fold(bench: Bench, scenario: str, size: int, times: int) -> Result:
    """Fold streams of `size` chunks, or bytes of arguments, into completions."""
    async with bench.connect() as peer:
        bench.tell("set", scenario, size)
        await peer.fold()
        window = Window(bench)
        for _ in range(times):
            await peer.fold()
        return window.close(times)


class Opening:
    """Waits until all of `streams` streams have their response heads."""

    def __init__(self, streams: int) -> None:
        self.missing = streams
        self.done = asyncio.Event()

    def __call__(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.done.set()


class Tally:
    """Counts chunks and tells when the last expected one is seen."""

    def __init__(self, expected: int) -> None:
        self.left = expected
        self.done = asyncio.Event()

    def __call__(self, text: str) -> None:
        del text
        self.left -= 1
        if not self.left:
            self.done.set()


class Delays(Tally):
    """Also notes how long ago the server stamped each chunk, in seconds."""

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self.seconds: list[float] = []

    def __call__(self, text: str) -> None:
        self.seconds.append((time.monotonic_ns() - int(text)) * 1e-9)
        super().__call__(text)


async def live(bench: Bench, streams: int, rate: float, chunks: int) -> Result:
    """Read `streams` paced streams; the window spans the chunks alone."""
    return await _live(bench, streams, rate, chunks, Tally(streams * chunks))


async def delay(bench: Bench, streams: int, rate: float, chunks: int) -> Result:
    """Like `live`, with the delay of every chunk from the server's clock."""
    delays = Delays(streams * chunks)
    result = await _live(bench, streams, rate, chunks, delays)
    return {**result, "delays": quantiles(delays.seconds)}


def quantiles(values: list[float]) -> list[float]:
    """Return the median, the 99th percentile and the maximum."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return [ordered[last // 2], ordered[round(last * 0.99)], ordered[last]]


async def _live(
    bench: Bench, streams: int, rate: float, chunks: int, tally: Tally
) -> Result:
    async with bench.connect() as peer:
        await _warm(bench, peer)
        bench.tell("set", "live", rate, chunks)
        opening = Opening(streams)
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(peer.live(opening, tally))
            await _within(opening.done.wait())
            window = Window(bench)
            bench.tell("go")
            await _within(tally.done.wait())
            return window.close(streams * chunks)


async def _warm(bench: Bench, peer: Peer) -> None:
    bench.tell("set", "bulk", WARM_CHUNKS)
    await together(4, lambda: peer.bulk(WARM_CHUNKS))


async def _within(wait: Awaitable[object]) -> None:
    async with asyncio.timeout(LIVE_PATIENCE):
        await wait


def resident_bytes() -> int:
    """Return this process's resident set; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    message = "the memory benchmark reads /proc/self/status"
    raise RuntimeError(message)


async def hold(bench: Bench, streams: int) -> Result:
    """Hold `streams` live streams open and weigh the process before and after."""
    async with bench.connect() as peer:
        await _warm(bench, peer)
        bench.tell("set", "live", 1, 1)
        gc.collect()
        before = resident_bytes()
        opening, tally = Opening(streams), Tally(streams)
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(peer.live(opening, tally))
            await _within(opening.done.wait())
            await asyncio.sleep(0.2)  # the first chunk of each has been read by now
            gc.collect()
            after = resident_bytes()
            bench.tell("go")
        return {"bytes": (after - before) / streams, "base": before}
