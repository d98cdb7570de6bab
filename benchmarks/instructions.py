"""Instruction counts of a window, from valgrind's callgrind.

The client process runs under callgrind with counting switched off, and switches it on
and off around the window through `callgrind_control`. Counts repeat to about a per
cent where CPU time on a shared machine varies by a quarter.
"""

import os
import shutil
import subprocess
from pathlib import Path

FOLDER_VARIABLE = "BENCHMARKS_CALLGRIND"  # set: count instructions, dumps go there


def is_available() -> bool:
    """Return whether valgrind and its control program are installed."""
    return all(map(shutil.which, ("valgrind", "callgrind_control", "vgdb")))


def command(folder: Path) -> list[str]:
    """Return what to put before a Python command to count its instructions."""
    return [
        *("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"),
        f"--callgrind-out-file={folder}/%p",
    ]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment that makes counts repeatable."""
    return {FOLDER_VARIABLE: str(folder), "PYTHONHASHSEED": "0"}


class Counter:
    """Counts between `start` and `stop`, in a process started with `command`."""

    def __init__(self) -> None:
        self.folder = Path(os.environ[FOLDER_VARIABLE])
        self.control("--instr=on")

    def control(self, argument: str) -> None:
        """Tell callgrind, about this very process."""
        arguments = ["callgrind_control", argument, str(os.getpid())]
        subprocess.run(arguments, check=True, capture_output=True)

    def stop(self) -> int:
        """Stop counting; return the instructions executed since the start."""
        self.control("--instr=off")
        self.control("--dump")
        dumps = sorted(self.folder.glob(f"{os.getpid()}*"))
        counts = [_total(dump) for dump in dumps]
        for dump in dumps:
            dump.unlink()
        return sum(counts)


def _total(dump: Path) -> int:
    lines = dump.read_text(errors="replace").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def wanted() -> bool:
    """Return whether this process counts instructions."""
    return FOLDER_VARIABLE in os.environ
