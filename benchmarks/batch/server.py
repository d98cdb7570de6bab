"""The emulator in a process of its own; standard input changes its settings.

A line is a Python-free command: `limit 16`, `latency 0.5`, `refuse 1` (black hole on),
`peak` (prints the most in flight and resets it), `quit`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

from deepseek_async.testing import DeepSeekEmulator, Pace


def short(body: dict[str, Any]) -> str:
    del body
    return "yes"


async def serve(limit: int, latency: float) -> None:
    emulator = DeepSeekEmulator(
        pace=Pace(latency=latency, tokens_per_second=0.0),
        concurrency_limit=limit,
        record_limit=10,
    )
    emulator.answer = short
    async with emulator:
        print(emulator.base_url, flush=True)
        loop = asyncio.get_running_loop()
        while True:
            line = await loop.run_in_executor(None, sys.stdin.readline)
            command, _, value = line.strip().partition(" ")
            if command == "limit":
                emulator.concurrency_limit = int(value)
            elif command == "latency":
                emulator.pace = Pace(latency=float(value), tokens_per_second=0.0)
            elif not line or command == "quit":
                return


class Server:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process

    @property
    def _pipe(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def tell(self, command: str) -> None:
        self._pipe.write(command + "\n")
        self._pipe.flush()


@contextmanager
def running(limit: int, latency: float) -> Generator[Server]:
    """A server process, ended at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.batch.server", str(limit), str(latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Server(process, process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
