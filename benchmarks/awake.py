"""Keep the clients' core from falling asleep between packets.

A client that waits for the next packet lets its core halt; waking it costs CPU time
that depends on the machine's mood, up to half of what a chunk costs. A spinning
process at idle priority, which gives way to everybody, takes that noise out for all
peers alike. Linux only; elsewhere nothing is done.
"""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

SPIN = """\
import os, sys, threading
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
while True:
    pass
"""


@contextmanager
def awake(core: int) -> Generator[None]:
    """Spin at idle priority on `core` while the block runs."""
    if core < 0 or not hasattr(os, "SCHED_IDLE"):
        yield
        return
    command = [sys.executable, "-c", SPIN, str(core)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        try:
            yield
        finally:
            child.kill()
