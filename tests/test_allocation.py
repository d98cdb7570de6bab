"""What arrives is read without memory being mapped for each read."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHUNKS = 200

PROGRAM = """
import asyncio, resource, sys
from deepseek_async import AsyncDeepSeek

EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\\n\\n'
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\n\\r\\n"

async def main(chunks):
    taken = asyncio.Semaphore(0)

    async def serve(reader, writer):
        await reader.readuntil(b"}")
        writer.write(HEAD)
        for _ in range(2 * chunks):
            writer.write(EVENT)
            await taken.acquire()
        writer.write(b"data: [DONE]\\n\\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    seen = []
    async with AsyncDeepSeek(api_key="sk", base_url=f"http://127.0.0.1:{port}") as c:
        stream = await c.chat.completions.create(
            model="deepseek-flash",
            messages=[{"role": "user", "content": "a"}],
            stream=True,
        )
        async for _ in stream:
            seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
            taken.release()
    server.close()
    print(len(seen), seen[-1] - seen[chunks])

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_a_read_maps_no_memory() -> None:
    """A block that was mapped costs a page fault; the program is one that has none."""
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM, str(CHUNKS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    chunks, faults = map(int, ran.stdout.split())
    assert chunks == 2 * CHUNKS
    assert faults < CHUNKS // 4
