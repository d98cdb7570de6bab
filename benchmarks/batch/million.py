"""A million items with a fake transport: memory, items a second, resume.

python -m benchmarks.batch.million [COUNT] [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.batch.fake import FakeWire, rows
from deepseek_async.batch import Batch, Limit, Settings

MIB = 1024 * 1024


def rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


async def run(count: int, directory: Path) -> dict[str, float]:
    wire = FakeWire()
    memory: list[float] = []
    settings = Settings(journal=directory)
    began, cpu = time.perf_counter(), time.process_time()
    done = 0
    async with Batch(wire, rows(count), Limit.fixed(500), settings) as batch:
        async for _ in batch:
            done += 1
            if done % (count // 20) == 0:
                memory.append(rss())
    assert done in (count, 0)
    assert wire.sent == done
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    report = batch.report
    return {
        "sent": done,
        "skipped": report.skipped,
        "seconds": seconds,
        "cpu": cpu,
        "per_second": count / seconds,
        "per_cpu_second": count / cpu,
        "rss_at_10": memory[1] if memory else rss(),
        "rss_at_end": memory[-1] if memory else rss(),
        "rss_most": max(memory, default=rss()),
    }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    base = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    directory = base / "journal"
    for what in ("run", "resume"):
        found = asyncio.run(run(count, directory))
        shown = ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
        print(f"{what}: {shown}", flush=True)
        gc.collect()
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
