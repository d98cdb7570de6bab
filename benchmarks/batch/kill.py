"""SIGKILL at random moments: nothing lost, nothing twice, few repeats.

python -m benchmarks.batch.kill [KILLS] [COUNT] [LIMIT]
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from deepseek_async.batch.catalogue import Catalogue
from deepseek_async.batch.export import export


def start(journal: Path, sent: Path, count: int, limit: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.batch.victim"),
            *(str(journal), str(sent), str(count), str(limit)),
        ],
        stdout=subprocess.DEVNULL,
    )


def sends(path: Path) -> Counter[bytes]:
    return Counter(path.read_bytes().split() if path.exists() else ())


def main() -> None:
    kills, count, limit = (
        int(given) if given else default
        for given, default in zip(
            [*sys.argv[1:], "", "", ""], (20, 20_000, 128), strict=False
        )
    )
    generator = random.Random(7)  # noqa: S311 - a simulation
    with tempfile.TemporaryDirectory() as directory:
        journal, sent = Path(directory, "journal"), Path(directory, "sent")
        struck, repeats = 0, list[int]()
        while struck < kills:
            before = sum(sends(sent).values())
            victim = start(journal, sent, count, limit)
            while sum(sends(sent).values()) == before and victim.poll() is None:
                time.sleep(0.01)
            time.sleep(generator.uniform(0.0, 1.6 * count / limit * 0.012 / kills))
            if victim.poll() is not None:
                break
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            struck += 1
            # What was sent is recorded, or was repeated before, or will be now.
            known = Catalogue(journal).index.records + sum(repeats)
            repeats.append(sum(sends(sent).values()) - known)
        assert start(journal, sent, count, limit).wait() == 0
        counted = sends(sent)
        repeated = sum(counted.values()) - count
        output = Path(directory, "out.jsonl")
        export(journal, output)
        lines = [msgspec.json.decode(line) for line in output.read_bytes().splitlines()]
        keys = [line["custom_id"] for line in lines]
        assert keys == [str(number) for number in range(count)], "lost or repeated"
        assert len(counted) == count
        assert repeated == sum(repeats)
        print(
            f"{struck} kills, {count} items, limit {limit}: every key once, in order; "
            f"{repeated} requests repeated, {min(repeats)} to {max(repeats)} per kill"
        )
        assert max(repeats) <= limit


if __name__ == "__main__":
    main()
