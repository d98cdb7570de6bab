"""Runs a batch whose journal is on a small, almost full file system."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from batch.fakes import FakeWire, asks, make
from deepseek_async.batch.catalogue import read_results
from deepseek_async.batch.upkeep import status

COUNT = 400


async def main(place: Path) -> None:
    ballast = place / "ballast"
    ballast.write_bytes(bytes(200 * 1024))
    wire = FakeWire()
    batch = make(wire, asks(COUNT), 32, place / "journal")
    done: list[str] = []
    states: set[str] = set()
    async with batch:
        loop = asyncio.get_running_loop()

        def look() -> None:
            states.add(batch.progress.state)
            if "full disk" in states:
                ballast.unlink(missing_ok=True)
            loop.call_later(0.02, look)

        look()
        done = [result.key async for result in batch]
    assert states >= {"running", "full disk"}, states
    assert len(done) == len(set(done)) == COUNT
    assert set(wire.seen.values()) == {1}
    assert [r.index for r in read_results(place / "journal")] == list(range(COUNT))
    assert status(place / "journal").is_sound


asyncio.run(main(Path(sys.argv[1])))
