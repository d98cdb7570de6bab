"""Goodput over real HTTP, as a share of what the account admits.

    python -m benchmarks.batch.goodput [SCENARIO ...]

The ideal is the limit divided by the latency, over the time from the first request to
the moment the source is used up.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.batch.server import Server, running
from deepseek_async import AsyncDeepSeek
from deepseek_async.batch import BatchReport

STEPS = (64, 16, 64)


def row(number: int) -> dict[str, Any]:
    message = {"role": "user", "content": f"Number {number}"}
    return {
        "model": "deepseek-flash",
        "messages": [message],
        "max_tokens": 8,
        "thinking": {"type": "disabled"},
    }


class Clocked:
    """A source that ends after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began = self.ended = 0.0

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        self.began = time.perf_counter()
        number = 0
        while time.perf_counter() - self.began < self.seconds:
            yield row(number)
            number += 1
        self.ended = time.perf_counter()


async def run(
    url: str, seconds: float, most: int
) -> tuple[int, float, BatchReport, list[tuple[float, int]]]:
    """Answers while there was a backlog, that time, the report, answers a second."""
    source = Clocked(seconds)
    key = "sk-emulator"
    done: list[float] = []
    async with AsyncDeepSeek(api_key=key, base_url=url, max_connections=most) as client:
        async with client.batch(source.rows()) as batch:
            async for result in batch:
                assert result.ok, result
                done.append(time.perf_counter() - source.began)
        report = batch.report
    series = [
        (float(at), sum(at <= moment < at + 5 for moment in done))
        for at in range(0, int(seconds), 5)
    ]
    return sum(moment <= seconds for moment in done), seconds, report, series


async def constant(limit: int, latency: float, seconds: float) -> None:
    with running(limit, latency) as server:
        ok, elapsed, report, _ = await run(server.url, seconds, 2500)
    # A request sent at the start answers one latency later at the earliest.
    ideal = limit / latency * (elapsed - latency)
    print(
        f"N={limit} l={latency:g}s: {ok / elapsed:.1f}/s for {elapsed:.0f} s, "
        f"{ok / (limit / latency * elapsed):.3f} of N/l with the first answer's "
        f"wait, {ok / ideal:.3f} without; {report.refused} 429 "
        f"({report.refused / max(1, report.ok):.4f} per answer)",
        flush=True,
    )


async def stepping(latency: float, phase: float) -> None:
    async def steps(server: Server) -> None:
        for limit in STEPS:
            server.tell(f"limit {limit}")
            await asyncio.sleep(phase)

    with running(STEPS[0], latency) as server:
        task = asyncio.create_task(steps(server))
        seconds = phase * len(STEPS)
        ok, _, report, series = await run(server.url, seconds, 2500)
        await task
    ideal = phase * sum(STEPS) / latency - STEPS[0]
    print(
        f"N={'→'.join(map(str, STEPS))} each {phase:g} s, l={latency:g}s: "
        f"{ok / ideal:.3f} of the ideal; {report.refused} 429 "
        f"({report.refused / report.ok:.4f} per answer); per 5 s "
        f"{[count for _, count in series]}",
        flush=True,
    )


async def two_processes(limit: int, latency: float, seconds: float) -> None:
    with running(limit, latency) as server:
        command = [sys.executable, "-m", "benchmarks.batch.goodput", "one", server.url]
        both = [
            subprocess.Popen(  # noqa: ASYNC220 - nothing else runs meanwhile
                [*command, str(seconds)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        outputs = [process.communicate()[0] for process in both]
    found = [[int(n) for n in output.split()] for output in outputs]
    total = sum(sum(counts) for counts in found)
    last = [sum(counts[-4:]) for counts in found]
    share = [sum(counts) / total for counts in found]
    ideal = limit / latency * (seconds - latency)
    print(
        f"two processes, N={limit} l={latency:g}s: total {total / ideal:.3f}; shares "
        f"{share[0]:.2f}/{share[1]:.2f}, in the last 20 s "
        f"{last[0] / sum(last):.2f}/{last[1] / sum(last):.2f}",
        flush=True,
    )


async def one(url: str, seconds: float) -> None:
    _, _, _, series = await run(url, seconds, 2500)
    print(*(count for _, count in series))


async def main(wanted: list[str]) -> None:
    if wanted[:1] == ["one"]:
        await one(wanted[1], float(wanted[2]))
        return
    if not wanted or "64" in wanted:
        await constant(64, 1.0, 60)
    if not wanted or "500" in wanted:
        await constant(500, 2.0, 60)
    if not wanted or "3" in wanted:
        await constant(3, 1.0, 60)
    if "3-long" in wanted:  # ten minutes: what finding the limit takes counts less
        await constant(3, 1.0, 600)
    if not wanted or "steps" in wanted:
        await stepping(1.0, 30)
    if not wanted or "two" in wanted:
        await two_processes(64, 1.0, 60)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
