"""A server that falls into a black hole for 60 s of its own time, and comes back.

A TCP relay between client and emulator stops passing bytes on and accepts no new
connection's data; the clocks of the client are scaled down by the same factor.

    python -m benchmarks.batch.outage [SECONDS]
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.batch.goodput import row
from deepseek_async import AsyncDeepSeek, Timeouts
from deepseek_async.batch import Limit
from deepseek_async.testing import DeepSeekEmulator, Pace

LIMIT = 64
LATENCY = 0.5


class Relay:
    """Passes bytes on, except while it is a black hole."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.target = parts.hostname, parts.port
        self.is_hole = False
        self.arrivals: list[float] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        try:
            await asyncio.gather(
                self.copy(reader, up_writer, is_request=True),
                self.copy(up_reader, writer, is_request=False),
            )
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            up_writer.close()
            self.tasks.discard(task)

    async def copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        while data := await reader.read(65536):
            if self.is_hole:
                continue  # swallowed
            if is_request and data.startswith(b"POST"):
                self.arrivals.append(time.perf_counter())
            writer.write(data)
            await writer.drain()
        writer.close()


async def main(seconds: float) -> None:  # noqa: PLR0915 - one scenario, told in order
    async with DeepSeekEmulator(
        pace=Pace(latency=LATENCY, tokens_per_second=0.0), record_limit=1
    ) as emulator:
        emulator.answer = lambda _: "yes"
        relay = Relay(emulator.base_url)
        server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = AsyncDeepSeek(
            api_key=emulator.api_key,
            base_url=f"http://127.0.0.1:{port}",
            timeouts=Timeouts(head=2.0, silence=2.0, first_payload=2.0),
        )
        back = 0.0
        done: list[float] = []

        async def hole() -> None:
            nonlocal back
            await asyncio.sleep(3.0)
            relay.is_hole = True
            await asyncio.sleep(seconds)
            relay.is_hole = False
            back = time.perf_counter()

        async with client:
            task = asyncio.create_task(hole())
            rows = (row(number) for number in range(100_000))
            async with client.batch(rows, concurrency=Limit.fixed(LIMIT)) as batch:
                async for result in batch:
                    assert result.ok, result
                    done.append(time.perf_counter())
                    if back and done[-1] > back + 12:
                        break
            await task
        server.close()
        for left in list(relay.tasks):
            left.cancel()
        await asyncio.gather(*relay.tasks, return_exceptions=True)
    first = sum(back <= at < back + 1 for at in relay.arrivals)
    ideal = LIMIT / LATENCY
    full = next(
        (
            at - back
            for at in done
            if at > back and sum(at <= t < at + 1 for t in done) >= 0.9 * ideal
        ),
        float("inf"),
    )
    print(
        f"black hole of {seconds:g} s, limit {LIMIT}: {first} requests in the first "
        f"second after it, 90 % of full speed after {full:.1f} s; {batch.report.failed}"
        f" rows failed, {batch.report.retries} retries"
    )
    assert first <= LIMIT
    assert full <= 5


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
