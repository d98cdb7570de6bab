"""Soak: many requests and streams, left in every way, and what stays behind.

`python -m benchmarks.soak [--loop asyncio|uvloop] [--requests N] [--streams N]
[--rounds N] [--seed N]`

An emulator in a process of its own answers at once, but one request in eight meets a
fault: error statuses, pages, cut and stalled answers, garbage, errors amid a stream.
The client awaits, cancels, breaks off, closes, abandons or reads to the end, as drawn
from a seed. After every round, with nothing under way, sockets, file descriptors,
tasks, taken connection slots and resident memory are counted, without the connections
that idle in the pool: of those there are as many as chance has left, up to its size.
The slopes are those of a straight line through the rounds after the first quarter,
which warms up.

Ends with status 1 if anything grows, or if anything is raised that is not an error of
the library.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from deepseek_async import (
    AsyncDeepSeek,
    ChatStream,
    DeepSeekError,
    RetryPolicy,
    Timeouts,
)
from deepseek_async.session import LoopSession, SessionManager
from deepseek_async.testing import (
    Cut,
    DeepSeekEmulator,
    Delay,
    Empty,
    Fault,
    Garbage,
    Pace,
    Page,
    Stall,
    Status,
    StreamError,
)

from .worker import runner_for

WORKERS: Final = 48
MIX: Final[dict[Fault, float]] = {
    Status(status=503): 0.01,
    Status(status=429, retry_after=0): 0.01,
    Status(status=400): 0.01,
    Page(status=504): 0.01,
    Empty(): 0.01,
    Cut(events=2): 0.01,
    Cut(events=2, ending="reset"): 0.01,
    Cut(head=True): 0.01,
    Garbage(): 0.01,
    StreamError(): 0.01,
    Stall(phase="body", seconds=0.02): 0.01,
    Stall(phase="body", seconds=None): 0.005,
    Delay(seconds=0.01): 0.01,
}
REQUEST: Final = [{"role": "user", "content": "Count to forty in words."}]
CLOCKS: Final = Timeouts(head=3.0, first_payload=3.0, payload_gap=0.5, silence=0.5)
GROWTH_ALLOWED: Final = {
    "sockets": 0.5,
    "fds": 0.5,
    "tasks": 0.5,
    "slots": 0.5,
    "rss_kb": 4_096.0,
}
"""The most a fitted line may rise over the whole run."""


class Sample(Struct, frozen=True):
    """What was there after a round, with nothing under way.

    Sockets and file descriptors are those beside the idle connections.
    """

    operations: int
    idle: int
    sockets: int
    fds: int
    tasks: int
    slots: int
    rss_kb: int


# -- the server ------------------------------------------------------------------------


async def serve() -> None:
    """Print the base URL and serve until standard input closes."""
    emulator = DeepSeekEmulator(
        pace=Pace.instant(), concurrency_limit=None, record_limit=10
    )
    emulator.fault_mix = MIX
    async with emulator:
        print(json.dumps([emulator.base_url, emulator.api_key]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def server() -> Generator[tuple[str, str], None, None]:
    """An emulator in a process of its own: its base URL and key."""
    command = [sys.executable, "-m", "benchmarks.soak", "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        base_url, api_key = json.loads(process.stdout.readline())
        yield base_url, api_key


# -- ways to use the client ------------------------------------------------------------

Use = Callable[[AsyncDeepSeek, random.Random], Awaitable[None]]


async def ask(client: AsyncDeepSeek, _: random.Random) -> None:
    await client.chat.completions.create(model="deepseek-flash", messages=REQUEST)


async def ask_and_cancel(client: AsyncDeepSeek, rng: random.Random) -> None:
    task = asyncio.ensure_future(ask(client, rng))
    for _ in range(rng.randrange(12)):
        await asyncio.sleep(0)
    if rng.random() < 0.5:
        await asyncio.sleep(rng.random() * 0.02)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def opened(client: AsyncDeepSeek) -> ChatStream:
    return await client.chat.completions.create(
        model="deepseek-flash", messages=REQUEST, stream=True
    )


async def read(client: AsyncDeepSeek, _: random.Random) -> None:
    async for _chunk in await opened(client):
        pass


async def fold(client: AsyncDeepSeek, _: random.Random) -> None:
    await (await opened(client)).completion()


async def break_off(client: AsyncDeepSeek, rng: random.Random) -> None:
    left = rng.randrange(6)
    async with await opened(client) as stream:
        async for _ in stream.text():
            left -= 1
            if left < 0:
                break


async def close(client: AsyncDeepSeek, rng: random.Random) -> None:
    stream = await opened(client)
    for _ in range(rng.randrange(4)):
        await anext(stream, None)
    await stream.close()


async def abandon(client: AsyncDeepSeek, rng: random.Random) -> None:
    """Break without closing, then let go of the stream."""
    left = rng.randrange(6)
    async for _ in (await opened(client)).text():
        left -= 1
        if left < 0:
            break


async def read_and_cancel(client: AsyncDeepSeek, rng: random.Random) -> None:
    task = asyncio.ensure_future(read(client, rng))
    await asyncio.sleep(rng.random() * 0.03)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


ASKING: Final[tuple[Use, ...]] = (ask, ask, ask, ask, ask_and_cancel)
STREAMING: Final[tuple[Use, ...]] = (
    read,
    fold,
    break_off,
    close,
    abandon,
    read_and_cancel,
)


# -- rounds and samples ----------------------------------------------------------------


class Soak:
    """One run.

    Args:
        client: Whose leaks are looked for.
        rng: Draws the ways to use it.

    Attributes:
        outcomes: How often each kind of call ended in which way.
        strange: What was raised although it is no error of the library.
        samples: One a round.
    """

    def __init__(self, client: AsyncDeepSeek, rng: random.Random) -> None:
        self.client = client
        self.rng = rng
        self.outcomes: Counter[str] = Counter()
        self.strange: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.done = 0

    async def round(self, requests: int, streams: int) -> None:
        """Use the client that often, then count what is left."""
        uses = self.rng.choices(ASKING, k=requests)
        uses += self.rng.choices(STREAMING, k=streams)
        self.rng.shuffle(uses)
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(uses))
        self.done += requests + streams
        await asyncio.sleep(0.1)  # servers end what clients have left
        gc.collect()
        await asyncio.sleep(0.05)
        self.samples.append(self._sample())

    async def _work(self, uses: list[Use]) -> None:
        while uses:
            use = uses.pop()
            outcome = "ok"
            try:
                await use(self.client, self.rng)
            except DeepSeekError as error:
                outcome = type(error).__name__
            except Exception as error:  # noqa: BLE001 - what a soak is there to find
                outcome = type(error).__name__
                self.strange[f"{use.__name__}: {error!r}"[:200]] += 1
            self.outcomes[outcome] += 1

    def _sample(self) -> Sample:
        links = [_target(path) for path in Path("/proc/self/fd").iterdir()]
        session = _session_of(self.client)
        idle = sum(map(len, vars(session.http.connector)["_conns"].values()))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return Sample(
            operations=self.done,
            idle=idle,
            sockets=sum(link.startswith("socket:") for link in links) - idle,
            fds=len(links) - idle,
            tasks=len(asyncio.all_tasks()),
            slots=WORKERS - session.slots.value + len(session.live),
            rss_kb=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        )


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # the descriptor of the listing itself
        return ""


def _session_of(client: AsyncDeepSeek) -> LoopSession:
    # What no public call tells.
    manager: SessionManager = vars(client)["_manager"]
    session: LoopSession = vars(manager)["_sessions"][asyncio.get_running_loop()]
    return session


def slope(samples: list[Sample], name: str) -> float:
    """The rise of a figure per 1,000 operations, the first quarter left out."""
    settled = samples[len(samples) // 4 :]
    operations = [sample.operations / 1_000 for sample in settled]
    figures = [float(getattr(sample, name)) for sample in settled]
    return statistics.linear_regression(operations, figures).slope


async def soak(options: argparse.Namespace, base_url: str, api_key: str) -> Soak:
    """Run all rounds, telling of each on standard error."""
    async with AsyncDeepSeek(
        api_key=api_key,
        base_url=base_url,
        timeouts=CLOCKS,
        retry=RetryPolicy(base=0.0),
        max_connections=WORKERS,
    ) as client:
        run = Soak(client, random.Random(options.seed))  # noqa: S311
        await ask_until_answered(client)
        for number in range(options.rounds):
            await run.round(
                options.requests // options.rounds, options.streams // options.rounds
            )
            print(number + 1, run.samples[-1], file=sys.stderr, flush=True)
    return run


async def ask_until_answered(client: AsyncDeepSeek) -> None:
    """The first answers may be faults: open the session whatever comes."""
    try:
        await ask(client, random.Random())  # noqa: S311
    except DeepSeekError:
        await ask_until_answered(client)


def report(run: Soak, seconds: float) -> bool:
    """Print the figures; whether nothing grows and nothing strange was raised."""
    samples = run.samples
    span = (samples[-1].operations - samples[len(samples) // 4].operations) / 1_000
    print(f"{run.done} operations in {seconds:.0f} s, {len(samples)} rounds")
    print("outcomes:", json.dumps(dict(run.outcomes.most_common())))
    print(f"{'':10}{'first':>10}{'last':>10}{'most':>10}{'per 1,000':>12}")
    flat = True
    for name, allowed in GROWTH_ALLOWED.items():
        figures = [getattr(sample, name) for sample in samples]
        rise = slope(samples, name)
        flat &= rise * span <= allowed
        print(
            f"{name:10}{figures[0]:>10}{figures[-1]:>10}{max(figures):>10}{rise:>12.4f}"
        )
    most_idle = max(sample.idle for sample in samples)
    print(f"at most {most_idle} of {WORKERS} connections were idle")
    flat &= most_idle <= WORKERS
    for text, count in run.strange.items():
        print(f"no error of the library, {count} times: {text}")
    print("flat" if flat else "GROWING")
    return flat and not run.strange


def main() -> int:
    """Run the soak, or its server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return 0
    started = time.monotonic()
    with server() as (base_url, api_key), runner_for(options.loop) as runner:
        run = runner.run(soak(options, base_url, api_key))
    print(options.loop, end=": ")
    return 0 if report(run, time.monotonic() - started) else 1


if __name__ == "__main__":
    sys.exit(main())
