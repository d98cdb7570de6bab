"""Sends the requests of a batch: the loop that decides, and the attempts.

One task decides what goes next; every attempt is a task of its own and holds a slot
only while it is on the wire. What failed waits in a heap for its time and then goes
before anything new. What is on the wire and what is answered but not yet durable
together never exceed the limit, so that a crash repeats at most that many requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from ..errors import DeepSeekError
from ..timeouts import Timeouts
from .admission import Admission
from .attempts import Attempts
from .budget import Ledger
from .cover import Cover
from .dedupe import Twins
from .item import Item
from .options import Settings
from .queueing import Fresh
from .rates import Pacer

_ROUND: Final = 0.005
"""Seconds for which to send, making requests of rows, before others have a turn."""

_LOOK: Final = 1.0
_SHORT_LOOK: Final = 0.02
_NEVER_ANSWERED: Final = 30.0
_NO_PAYMENT_WAIT: Final = 0.5


class Engine:
    """Sends requests until there are none, or until it is told to stop.

    Args:
        attempts: Makes the attempts.
        limit: How many may be on the wire.
        settings: The batch's options.
        ledger: The money.
        cover: Writes down what may be billed, if there is a journal.
        twins: Knows identical requests, if those are wanted.
        timeouts: The clocks of requests that bring none.
        others: How many calls of the same client are of no batch.
        most: The most of this batch on the wire, whatever the limit says.
        unread: How many results wait for the reader.
        is_ahead: Whether a slow row holds back the reader; in input order only.
        is_stuck: Whether the journal cannot be written now.

    Attributes:
        uncommitted: Results that are not durable yet.
        stop_reason: Why it ended early, or `None`.
        last_error: The error that ended it, if one did.
        wake: To be called when more may be sent.
    """

    def __init__(  # noqa: PLR0913 - what it joins, keyword-only
        self,
        *,
        attempts: Attempts,
        limit: Admission,
        settings: Settings,
        ledger: Ledger,
        cover: Cover | None,
        twins: Twins | None,
        timeouts: Timeouts,
        others: Callable[[], int],
        most: int,
        unread: Callable[[], int],
        is_ahead: Callable[[], bool] | None,
        is_stuck: Callable[[], bool],
    ) -> None:
        self.uncommitted = 0
        self.stop_reason: str | None = None
        self.last_error: DeepSeekError | None = None
        self._attempts = attempts
        self._limit = limit
        self._settings = settings
        self._ledger = ledger
        self._cover = cover
        self._twins = twins
        self._timeouts = timeouts
        self._others = others
        self._most = most
        self._unread = unread
        self._is_ahead = is_ahead
        self._is_stuck = is_stuck
        self._pacer = Pacer(settings.rates) if settings.rates else None
        self._held_back: Item | None = None
        self._wake = asyncio.Event()
        self.wake = self._wake.set
        self._loop = asyncio.get_running_loop()
        self._is_paused = False
        wall_time = settings.budget.wall_time if settings.budget else None
        self._ends = inf if wall_time is None else self._loop.time() + wall_time

    @property
    def crash(self) -> Exception | None:
        """A fault of this library, to be raised."""
        return self._attempts.crash

    @property
    def fatal(self) -> tuple[str, DeepSeekError] | None:
        """Why no further request can succeed, by the latest outcome."""
        return self._attempts.fatal

    # Control

    def stop(self, reason: str, *, drain: bool = True) -> None:
        """Send nothing new; without `drain`, give up what is on the wire too."""
        self.stop_reason = self.stop_reason or reason
        if not drain:
            for item in list(self._attempts.live.values()):
                self._give_up(item)
        self.wake()

    def pause(self, *, on: bool) -> None:
        """Send nothing new for a while, or go on."""
        self._is_paused = on
        self.wake()

    def cancel(self, key: str) -> bool:
        """Give up one request; it ends with `CancelledItemError`."""
        for item in self._attempts.live.values():
            if item.key == key:
                self._cancel(item)
                self.wake()
                return True
        return False

    def _cancel(self, item: Item) -> None:
        item.is_cancelled = True
        if item.task is not None:
            self._give_up(item)
            return
        if self._held_back is item:
            self._held_back = None
        if self._twins is not None:
            self._twins.leave(item)
        self._attempts.drop(item)

    def _give_up(self, item: Item) -> None:
        if item.task is not None:
            # Not before it has begun: a task cancelled earlier runs no line at all.
            self._loop.call_soon(item.task.cancel)

    # The loop that decides

    async def run(self, fresh: Fresh) -> None:
        """Send until all is done or stopped, and nothing is on the wire."""
        self._limit.listeners.append(self.wake)
        try:
            while True:
                self._wake.clear()
                pause = self._send_what_fits(fresh)
                if self._is_over(fresh):
                    return
                await self._rest(pause)
        finally:
            self._limit.listeners.remove(self.wake)
            self._limit.hungry.discard(self.wake)

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        timer = (
            None if seconds == inf else self._loop.call_later(seconds, self._wake.set)
        )
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _is_over(self, fresh: Fresh) -> bool:
        if self._attempts.on_wire:
            return False
        if self._is_ending:
            return True
        return fresh.is_over and not self._attempts.live

    def _send_what_fits(self, fresh: Fresh) -> float:
        """Send what may be sent; returns seconds until it is worth another look."""
        attempts, others, now = self._attempts, self._others(), self._loop.time()
        self._limit.hungry.discard(self.wake)
        self._ledger.tariff.look(now)
        self._look_at_clocks(now)
        self._expire(now)
        is_waiting, until = self.waiting_for is not None, now + _ROUND
        while now < until:
            if self.stop_reason is not None or attempts.crash is not None:
                return inf
            is_waiting = is_waiting or self._is_paused
            pause = _LOOK if is_waiting else self._closed_for(now, others)
            if pause:
                return min(pause, self._next_alarm(now))
            item = self._next(fresh, now)
            if item is None:
                return self._until_next(fresh, now)
            if not self._launch(item, now):
                return self._next_alarm(now)
            now = self._loop.time()
        return 0.0

    @property
    def _is_ending(self) -> bool:
        return self.stop_reason is not None or self._attempts.crash is not None

    def _look_at_clocks(self, now: float) -> None:
        if self.stop_reason is not None:
            return
        if now >= self._ends:
            self.stop("wall_time")
        elif self.waiting_for is None and self._gives_up(now):
            self.last_error = self._attempts.last_failure
            self.stop("stalled")

    def _expire(self, now: float) -> None:
        """End the requests whose deadline has passed while they waited."""
        if self._is_ending:
            return
        while (item := self._attempts.retries.expired(now)) is not None:
            self._attempts.expire(item)
        held = self._held_back
        if held is not None and held.deadline is not None and now >= held.deadline:
            self._held_back = None
            self._attempts.expire(held)

    def _next_alarm(self, now: float) -> float:
        """Seconds until the batch's time is over, or that of a request that waits."""
        ends, held = self._ends, self._held_back
        if held is not None and held.deadline is not None:
            ends = min(ends, held.deadline)
        return min(ends - now, self._attempts.retries.expires_after(now))

    def _closed_for(self, now: float, others: int) -> float:
        """Seconds for which nothing may be sent, 0 if something may."""
        limit, on_wire = self._limit, self._attempts.on_wire
        if limit.hungry and limit.owes(on_wire, self.wake, others):
            return _SHORT_LOOK
        used = on_wire + self.uncommitted
        if used >= limit.capacity or used >= self._most:
            limit.admits(now, others)  # a full house is what a limit grows by
            return limit.recheck_after(now) or _LOOK
        if not limit.admits(now, others):
            limit.hungry.add(self.wake)
            wait = limit.recheck_after(now) or _SHORT_LOOK
            return min(wait, _SHORT_LOOK) if others else wait
        return self._pacer.wait(now) if self._pacer else 0.0

    @property
    def waiting_for(self) -> str | None:
        """Why nothing is sent though there would be something, or `None`."""
        if self._is_paused:
            return "paused"
        if self._is_stuck():
            return "full disk"
        if self._settings.off_peak and self._ledger.tariff.at_peak:
            return "off-peak"
        return None

    def _gives_up(self, now: float) -> bool:
        silent = self._limit.unanswered_for(now)
        if not silent:
            return False
        limit, attempts = self._limit, self._attempts
        patience = self._settings.patience
        if limit.in_outage:
            if not attempts.has_answered:
                patience = min(patience, _NEVER_ANSWERED)
            return silent > patience
        # Refusals only: others may have all of the account. What is on the wire for
        # long was let in, and may be answered yet.
        return (
            silent > patience
            and limit.is_refusing
            and attempts.oldest_on_wire(now) > now - patience
        )

    def _next(self, fresh: Fresh, now: float) -> Item | None:
        item, self._held_back = self._held_back, None
        item = item or self._attempts.retries.due(now)
        if item is not None:
            return item
        return None if self._has_enough() else fresh.take(now)

    def _has_enough(self) -> bool:
        """Whether nothing new is wanted until something is answered or read."""
        attempts, limit = self._attempts, self._limit
        at_hand = len(attempts.live) + self._unread()
        if at_hand >= 2 * limit.capacity or at_hand >= 2 * self._most:
            # What waits for another attempt takes no place, up to as many requests as
            # make an outage: otherwise a low limit would never see one.
            at_hand -= min(len(attempts.retries), limit.outage_streak)
            if at_hand >= 2 * min(limit.capacity, self._most):
                return True
        return self._is_ahead is not None and self._is_ahead()

    def _until_next(self, fresh: Fresh, now: float) -> float:
        due = self._attempts.retries.next_after(now)
        if not self._has_enough():
            due = 0.0 if fresh.is_looking else min(due, fresh.opens_after(now))
        return min(due, self._next_alarm(now))

    def _launch(self, item: Item, now: float) -> bool:
        """Send a request; whether another one may be tried after it."""
        if item.deadline is not None and now >= item.deadline:
            self._attempts.expire(item)
            return True
        if self._twins is not None and item.started is None and self._is_twin(item):
            return True
        if item.counted and not self._attempts.payments.spend(now):
            self._attempts.retries.add(item, now + _NO_PAYMENT_WAIT)
            return True
        if not self._pay(item):
            return False
        self._set_clocks(item, now)
        if self._pacer is not None:
            self._pacer.sent(now, len(item.wire.body) // 4 + (item.max_tokens or 0))
        self._attempts.begin(item, now, self._limit.freed)
        if len(self._limit.listeners) > 1:
            self._limit.served(self.wake)
        return True

    def _set_clocks(self, item: Item, now: float) -> None:
        timeouts = item.wire.timeouts or self._timeouts
        if item.started is None:
            item.started = now
            limit = self._settings.deadline or timeouts.deadline
            item.deadline = None if limit is None else now + limit
        if item.deadline is not None:
            left = max(0.001, item.deadline - now)
            item.wire.timeouts = msgspec.structs.replace(timeouts, deadline=left)

    def _pay(self, item: Item) -> bool:
        """Set aside what the request can cost; whether it may be sent now."""
        ledger = self._ledger
        asked = ledger.reserve(item.wire.body, item.wire.model or "", item.max_tokens)
        exceeded = ledger.exceeded_by(asked) if ledger.has_ceilings else None
        if exceeded is not None and not self._attempts.on_wire:
            self.stop(exceeded)
            return False
        if exceeded is None and (self._cover is None or self._cover.allows(asked)):
            ledger.set_aside(asked)
            item.held = asked
            return True
        # What comes back may leave enough, and the journal takes a moment.
        self._held_back = self._attempts.live[item.index] = item
        return False

    def _is_twin(self, item: Item) -> bool:
        if self._twins is None or not item.is_deterministic:
            return False
        answer = self._twins.answer_for(item)
        if answer is not None:
            self._attempts.copy(item, answer)
            return True
        if self._twins.follows(item):
            self._attempts.live[item.index] = item
            return True
        return False
