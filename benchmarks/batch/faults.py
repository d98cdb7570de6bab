"""Mixed faults on 5 % of the requests over real HTTP: every row is answered.

python -m benchmarks.batch.faults
"""

from __future__ import annotations

import asyncio

from benchmarks.batch.goodput import row
from deepseek_async import AsyncDeepSeek, Timeouts
from deepseek_async.testing import Cut, DeepSeekEmulator, Empty, Pace, Stall, Status

COUNT = 4_000
SHARE = 0.05


async def main() -> None:
    async with DeepSeekEmulator(
        pace=Pace(latency=0.1, tokens_per_second=0.0), record_limit=1, seed=5
    ) as emulator:
        emulator.answer = lambda _: "yes"
        faults = [
            Status(status=500),
            Status(status=503),
            Cut(),
            Empty(),
            Cut(events=1),
            Stall(),
        ]
        emulator.fault_mix = {fault: SHARE / len(faults) for fault in faults}
        client = AsyncDeepSeek(
            api_key=emulator.api_key,
            base_url=emulator.base_url,
            timeouts=Timeouts(head=2.0, silence=2.0, first_payload=2.0),
        )
        async with client:
            batch = client.batch((row(n) for n in range(COUNT)), concurrency=100)
            report = await batch.run()
    extra = report.attempts / COUNT - 1
    print(
        f"{COUNT} rows, {SHARE:.0%} faults: {report.ok} answered, {report.failed} "
        f"failed, {extra:.1%} extra requests, {report.seconds:.1f} s"
    )
    print(report.failures)
    assert report.ok == COUNT
    assert extra <= 0.10


if __name__ == "__main__":
    asyncio.run(main())
