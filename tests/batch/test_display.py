"""What a batch shows on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import textwrap
from contextlib import suppress
from decimal import Decimal

import msgspec
import pytest

from deepseek_async import Progress

NOW = Progress(
    done=1_200,
    skipped=34,
    total=5_000,
    ok=1_190,
    failed=10,
    in_flight=7,
    limit=32,
    refused=2,
    per_second=12.34,
    output_per_second=1_234.0,
    cache_hit_ratio=0.5,
    cost=Decimal("0.25"),
    projected_cost=Decimal(1),
    eta=304.9,
    elapsed=100.0,
    state="running",
)
PROGRAM = textwrap.dedent("""
    import asyncio
    from deepseek_async import AsyncDeepSeek
    from deepseek_async.testing import DeepSeekEmulator, Pace

    async def main():
        rows = [
            {"model": "deepseek-flash", "messages": [{"role": "user", "content": "a"}]}
        ] * 20
        pace = Pace(latency=0.1, tokens_per_second=0)
        async with (
            DeepSeekEmulator(pace=pace) as emulator,
            AsyncDeepSeek(
                api_key=emulator.api_key, base_url=emulator.base_url
            ) as client,
            client.batch(rows, concurrency=2, progress=True) as results,
        ):
            async for result in results:
                print("row", result.key)

    asyncio.run(main())
""")


def test_lines_break_between_figures() -> None:
    """Whatever the width, no figure is torn, and none is lost."""
    whole = str(NOW).split(" · ")

    for width in (10, 40, 80, 200):
        lines = NOW.fold(width).split("\n")

        assert [part for line in lines for part in line.split(" · ")] == whole
        assert all(len(line) <= width or " · " not in line for line in lines)
    assert NOW.fold(80).count("\n") == 1
    assert "1,234/5,000" in whole
    assert "$0.2500 of $1.0000" in whole
    assert "5:05 to go" in whole


def test_states() -> None:
    """An end that was asked for says how to have it at once; a full bar says less."""

    def shown(**changes: object) -> str:
        return str(msgspec.structs.replace(NOW, **changes))

    asked = shown(state="draining", stop_reason="interrupted")
    assert asked.endswith(" · draining (Ctrl-C again ends at once)")
    assert shown(state="draining", stop_reason="cost").endswith(" · draining (cost)")
    assert shown(state="off-peak").endswith(" · off-peak")
    assert "draining" not in shown(state="draining", stop_reason="cost", in_flight=0)
    assert shown(total=1_234).endswith(" · $0.2500")


def test_a_display_leaves_stdout_alone() -> None:
    """What the caller prints to a pipe goes there, not to the terminal."""
    pytest.importorskip("rich")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=slave
    ) as program:
        os.close(slave)
        screen = b""
        with os.fdopen(master, "rb", buffering=0) as terminal, suppress(OSError):
            while data := terminal.read(65_536):  # an error where others have an end
                screen += data
        printed, _ = program.communicate(timeout=60)

    assert program.returncode == 0
    assert sorted(printed.splitlines()) == sorted(
        b"row %d" % number for number in range(20)
    )
    assert b"20/20" in screen
    assert b"row" not in screen
