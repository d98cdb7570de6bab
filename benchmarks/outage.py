"""An outage, simulated: how many attempts a request costs, and when they come.

`python -m benchmarks.outage [--calls N] [--seed N]`

Nothing sleeps and nothing is sent: calls arrive at random on a clock of its own, a
server that is a function of the time answers them, and `RetryPolicy` and `RetryBudget`
decide as they do in a client. Printed for each outage and each load: attempts a call,
the load at its worst second against the load asked for, and how evenly the waits
before a first retry are spread, as the share of the fullest twentieth of their range
(0.05 would be perfectly even; calls that retry in step would show 1).
"""

from __future__ import annotations

import argparse
import functools
import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from deepseek_async.codec import status_error
from deepseek_async.retry import RetryBudget, RetryPolicy

Server = Callable[[float, random.Random], bool]
"""Whether an attempt at this time, in seconds, is answered."""

ATTEMPT: Final = 0.05
"""How long an attempt takes, in seconds."""

BINS: Final = 20


def is_down(_now: float, _rng: random.Random) -> bool:
    """A total outage."""
    return False


def is_browned_out(_now: float, rng: random.Random) -> bool:
    """Every second attempt fails."""
    return rng.random() < 0.5


def is_flapping(now: float, _rng: random.Random) -> bool:
    """Ten seconds down, ten seconds up."""
    return now % 20.0 >= 10.0


OUTAGES: Final[dict[str, Server]] = {
    "total outage": is_down,
    "brown-out, 50 %": is_browned_out,
    "flapping, 10 s": is_flapping,
}
LOADS: Final = (10.0, 100.0, 1_000.0)
"""Calls a second."""


class Figures(Struct):
    """What an outage cost.

    Attributes:
        calls: How many were asked.
        attempts: How many were made for them.
        answered: How many calls got an answer.
        seconds: Attempts by second of the clock.
        waits: Seconds before each first retry.
    """

    calls: int
    attempts: int
    answered: int
    seconds: Counter[int]
    waits: list[float]

    @property
    def amplification(self) -> float:
        """Attempts a call."""
        return self.attempts / self.calls

    def worst_second(self, load: float) -> float:
        """The attempts of the fullest second against the calls of an average one."""
        return max(self.seconds.values()) / load

    def fullest_share(self, longest: float) -> float:
        """The share of first retries in the fullest twentieth of the longest wait."""
        if not self.waits:
            return 0.0
        bins = Counter(min(BINS - 1, int(w / longest * BINS)) for w in self.waits)
        return max(bins.values()) / len(self.waits)


def simulate(
    serves: Server,
    *,
    calls: int,
    load: float,
    seed: int = 1,
    policy: RetryPolicy | None = None,
    budget: RetryBudget | None = None,
    together: bool = False,
) -> Figures:
    """Let calls arrive while a server fails.

    Args:
        serves: The server.
        calls: How many arrive.
        load: How many arrive a second, at random times.
        seed: Of arrivals, jitter and the server's moods.
        policy: The default one unless given.
        budget: The default one unless given.
        together: Whether all arrive in the first instant instead.

    Returns:
        What it cost.
    """
    rng = random.Random(seed)  # noqa: S311
    policy = RetryPolicy() if policy is None else policy
    budget = RetryBudget() if budget is None else budget
    error = status_error(503, {}, b"")
    figures = Figures(calls=calls, attempts=0, answered=0, seconds=Counter(), waits=[])
    now = 0.0
    due: list[tuple[float, int, int]] = []
    for call in range(calls):
        now += 0.0 if together else rng.expovariate(load)
        due.append((now, call, 1))
    while due:
        now, call, number = heapq.heappop(due)
        if number == 1:
            budget.earn()
        figures.attempts += 1
        figures.seconds[int(now)] += 1
        if serves(now, rng):
            figures.answered += 1
            continue
        failed_at = now + ATTEMPT
        wait = policy.wait(number, error, rng.uniform)
        if wait is not None and budget.spend(failed_at):
            if number == 1:
                figures.waits.append(wait)
            heapq.heappush(due, (failed_at + wait, call, number + 1))
    return figures


def main() -> int:
    """Print the figures of every outage under every load."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    policy = RetryPolicy()
    print(f"{options.calls} calls each; {policy}")
    print(
        f"{'outage':18}{'calls/s':>9}{'attempts/call':>15}{'without budget':>16}"
        f"{'worst second':>14}{'answered':>10}{'fullest 1/20':>14}"
    )
    worst = 0.0
    for name, serves in OUTAGES.items():
        for load in LOADS:
            run = functools.partial(
                simulate, serves, calls=options.calls, load=load, seed=options.seed
            )
            found = run()
            free = run(budget=RetryBudget(reserve=1e9, ceiling=2e9))
            worst = max(worst, found.amplification)
            print(
                f"{name:18}{load:>9.0f}{found.amplification:>15.3f}"
                f"{free.amplification:>16.3f}{found.worst_second(load):>14.2f}"
                f"{found.answered / found.calls:>10.1%}"
                f"{found.fullest_share(policy.base):>14.3f}"
            )
    print(f"worst: {worst:.3f} attempts a call")
    return 0 if worst <= 1.2 else 1


if __name__ == "__main__":
    sys.exit(main())
