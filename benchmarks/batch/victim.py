"""A batch that is going to be killed: `victim.py JOURNAL SENT COUNT LIMIT`.

Every request it sends is noted in the file SENT, which outlives it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from benchmarks.batch.fake import FakeWire, rows
from deepseek_async import ChatCompletion
from deepseek_async.batch import Batch, Limit, Settings
from deepseek_async.request import WireRequest


class NotingWire(FakeWire):
    """Notes what it sends, and takes a few milliseconds to answer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.random = random.Random()  # noqa: S311 - a simulation

    async def send(self, request: WireRequest) -> ChatCompletion:
        number = request.body.split(b"Text number ", 1)[1].split(b":", 1)[0]
        os.write(self.file, number + b"\n")
        await asyncio.sleep(self.random.expovariate(1 / 0.01))
        return await super().send(request)


async def main(journal: Path, sent: Path, count: int, limit: int) -> None:
    settings = Settings(journal=journal)
    batch = Batch(NotingWire(sent), rows(count), Limit.fixed(limit), settings)
    report = await batch.run()
    print(report.ok, report.skipped)


if __name__ == "__main__":
    asyncio.run(
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    )
