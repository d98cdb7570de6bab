"""A simulated account in virtual time, to judge limits without waiting."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from deepseek_async.batch.admission import Admission

ROUND_TRIP = 0.15


class Account:
    """Admits up to `limit(now)` requests of any number of senders."""

    def __init__(
        self,
        senders: list[Admission],
        limit: Callable[[float], int],
        latency: float,
        *,
        sigma: float = 0.0,
        is_stating: bool = True,
        seed: int = 0,
        starts: list[float] | None = None,
    ) -> None:
        self.senders = senders
        self.limit = limit
        self.latency = latency
        self.sigma = sigma
        self.is_stating = is_stating
        self.random = random.Random(seed)  # noqa: S311 - a simulation
        self.running = [0] * len(senders)
        self.done = [0] * len(senders)
        self.refused = [0] * len(senders)
        self.used = 0.0
        self.events: list[tuple[float, int, int, float, int | None, str]] = []
        self.starts = starts or [0.0] * len(senders)
        self.serial = 0
        self.shares: list[tuple[float, list[int]]] = []

    def run(self, seconds: float, *, from_: float = 0.0) -> float:
        """Run for so long; the admitted share of the limit since `from_`."""
        now, ideal = 0.0, 0.0
        while now < seconds:
            self._send(now)
            then = min(
                self.events[0][0] if self.events else seconds, now + 0.02, seconds
            )
            if now >= from_:
                running = min(sum(self.running), self.limit(now))
                self.used += running * (then - now)
                ideal += self.limit(now) * (then - now)
            now = then
            while self.events and self.events[0][0] <= now:
                self._deliver(heapq.heappop(self.events), now)
        return self.used / ideal

    def _send(self, now: float) -> None:
        order = list(range(len(self.senders)))
        self.random.shuffle(order)
        for who in order:
            sender = self.senders[who]
            while now >= self.starts[who] and sender.admits(now):
                sender.sent(now)
                self.serial += 1
                limit = self.limit(now)
                if sum(self.running) >= limit:
                    stated = limit if self.is_stating else None
                    event = (now + ROUND_TRIP, self.serial, who, now, stated, "429")
                else:
                    self.running[who] += 1
                    spread = self.random.lognormvariate(0.0, self.sigma)
                    event = (
                        now + self.latency * spread,
                        self.serial,
                        who,
                        now,
                        None,
                        "ok",
                    )
                heapq.heappush(self.events, event)

    def _deliver(
        self, event: tuple[float, int, int, float, int | None, str], now: float
    ) -> None:
        _, _, who, sent_at, stated, outcome = event
        if outcome == "ok":
            self.running[who] -= 1
            self.done[who] += 1
            self.senders[who].answered(now)
        else:
            self.refused[who] += 1
            self.senders[who].rejected(now, sent_at, stated)
