"""A client process: `python -m benchmarks.worker PEER LOOP CORE`.

Reads one order a line from standard input, as JSON, and answers each with one line:
the operation's figures, or an `error`.
"""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Coroutine

from . import operations
from .operations import Bench, Result
from .peers import peer_class

Operation = Callable[..., Coroutine[object, object, Result]]
OPERATIONS: dict[str, Operation] = {
    "nothing": operations.nothing,
    "bulk": operations.bulk,
    "request": operations.request,
    "history": operations.history,
    "fold": operations.fold,
    "live": operations.live,
    "delay": operations.delay,
    "hold": operations.hold,
}


def runner_for(loop: str) -> asyncio.Runner:
    """Return a runner on asyncio's own loop or on uvloop."""
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415

        return asyncio.Runner(loop_factory=uvloop.new_event_loop)
    return asyncio.Runner()


def perform(runner: asyncio.Runner, bench: Bench, line: str) -> dict[str, object]:
    """Carry out one order; a failure becomes the answer's `error`."""
    order = json.loads(line)
    operation = OPERATIONS[order.pop("operation")]
    try:
        return dict(runner.run(operation(bench, **order)))
    except Exception:  # noqa: BLE001 - the driver decides what a failure means
        return {"error": traceback.format_exc(limit=-8)}


def main(peer: str, loop: str, core: str, base_url: str, control_port: str) -> None:
    if int(core) >= 0:
        os.sched_setaffinity(0, {int(core)})
    bench = Bench(peer_class(peer), base_url, int(control_port), f"w{os.getpid()}")
    with runner_for(loop) as runner:
        print("{}", flush=True)
        for line in sys.stdin:
            print(json.dumps(perform(runner, bench, line)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
