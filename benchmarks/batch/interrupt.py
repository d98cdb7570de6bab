"""Ctrl-C once and twice with 500 requests in flight, through the command line.

python -m benchmarks.batch.interrupt
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.batch.server import Server, running
from deepseek_async.batch.upkeep import status

IN_FLIGHT = 500
LATENCY = 4.0


def command(server: Server, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "deepseek_async", "batch", "run"),
            *(str(directory / "in.jsonl"), "--journal", str(directory / "journal")),
            *("--concurrency", str(IN_FLIGHT), "--base-url", server.url, "--json"),
        ],
        env={**os.environ, "DEEPSEEK_API_KEY": "sk-emulator"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def interrupted(times: int) -> None:
    with tempfile.TemporaryDirectory() as name, running(2500, LATENCY) as server:
        directory = Path(name)
        lines = [
            msgspec.json.encode(
                {
                    "max_tokens": 8,
                    "thinking": {"type": "disabled"},
                    "messages": [{"role": "user", "content": f"number {number}"}],
                }
            )
            for number in range(5_000)
        ]
        (directory / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        process = command(server, directory)
        time.sleep(LATENCY + 3)  # in the second round of requests
        struck = time.perf_counter()
        process.send_signal(signal.SIGINT)
        if times > 1:
            time.sleep(0.3)
            struck = time.perf_counter()
            process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        elapsed = time.perf_counter() - struck
        report = msgspec.json.decode(output)
        found = status(directory / "journal")
        assert process.returncode == 130, process.returncode
        assert found.is_sound
        assert found.ok == report["ok"]
        if times == 1:
            assert report["ok"] == report["attempts"], "drained"
        else:
            assert elapsed < 1.0, elapsed
        print(
            f"SIGINT x{times}: exit 130 after {elapsed:.2f} s, {report['attempts']} "
            f"sent, {report['ok']} recorded, {report['attempts'] - report['ok']} "
            "given up; journal sound",
            flush=True,
        )


if __name__ == "__main__":
    interrupted(1)
    interrupted(2)
