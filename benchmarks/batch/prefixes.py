"""Cache-aware order against the emulator's prefix rule: 50 groups of 200 rows.

python -m benchmarks.batch.prefixes
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Any

from deepseek_async import AsyncDeepSeek
from deepseek_async.batch import BatchReport
from deepseek_async.testing import DeepSeekEmulator, Pace

GROUPS = 50
MEMBERS = 200
WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
]
LATENCY = 0.5


def document(group: int) -> str:
    generator = random.Random(group)  # noqa: S311 - filler
    return f"Document {group}. " + " ".join(generator.choices(WORDS, k=2_000))


def rows(*, shuffled: bool) -> list[dict[str, Any]]:
    found = [
        {
            "model": "deepseek-flash",
            "max_tokens": 4,
            "thinking": {"type": "disabled"},
            "messages": [
                {"role": "system", "content": document(group)},
                {"role": "user", "content": f"Question {number} about it?"},
            ],
        }
        for group in range(GROUPS)
        for number in range(MEMBERS)
    ]
    if shuffled:
        random.Random(1).shuffle(found)  # noqa: S311 - filler
    return found


async def run(*, ordered: bool, shuffled: bool) -> tuple[BatchReport, float]:
    emulator = DeepSeekEmulator(
        pace=Pace(latency=LATENCY, tokens_per_second=0.0), record_limit=1
    )
    emulator.answer = lambda _: "yes"
    async with (
        emulator,
        AsyncDeepSeek(api_key=emulator.api_key, base_url=emulator.base_url) as client,
    ):
        began = time.perf_counter()
        report = await client.batch(
            rows(shuffled=shuffled), concurrency=64, prefix_order=ordered
        ).run()
        return report, time.perf_counter() - began


async def main() -> None:
    prompt = 0.0
    for shuffled in (False, True) if sys.argv[1:] else (False,):
        times: dict[bool, float] = {}
        for ordered in (False, True):
            report, times[ordered] = await run(ordered=ordered, shuffled=shuffled)
            assert report.ok == GROUPS * MEMBERS
            prompt = report.prompt_tokens / report.ok
            missed = report.prompt_tokens - report.cache_hit_tokens
            # A hit leaves the tail of the prompt below the cache's unit uncovered.
            per_row = (prompt % 128) * (GROUPS * MEMBERS)
            misses = (missed - per_row) / prompt / GROUPS
            print(
                f"{'shuffled' if shuffled else 'in order'}, "
                f"{'two scouts first' if ordered else 'as they come'}: "
                f"hit ratio {report.cache_hit_ratio:.4f}, about {misses:.1f} whole "
                f"prefixes missed per group, {times[ordered]:.1f} s, "
                f"${report.cost:.4f}, order kept to the end: {report.prefix_order}",
                flush=True,
            )
        loss = 1 - times[False] / times[True]
        print(f"throughput loss {loss:+.1%}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
