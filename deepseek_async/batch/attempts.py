"""One attempt after the other: what it tells about the server, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, TypeAlias

import msgspec

from ..errors import (
    APIError,
    CancelledItemError,
    DeadlineExceededError,
    DeepSeekError,
    RateLimitError,
)
from ..request import WireRequest
from ..retry import RetryBudget
from ..timeouts import deadline_error
from ..types.chat import ChatCompletion
from ..types.meta import Attempt
from .admission import Admission
from .budget import Amount, Ledger
from .dedupe import Twins
from .item import Item
from .outcome import (
    Kind,
    fatal_reason,
    is_unavailable,
    kind_of,
    may_be_billed,
    unfinished,
    wait_after_refusal,
    wait_before_retry,
)
from .prefix import PrefixPlan
from .queueing import Retries
from .report import Tally
from .results import NO_TOKENS, BatchFailed, BatchOk, Finished, Tokens, tokens_of

Send: TypeAlias = Callable[[WireRequest], Awaitable[ChatCompletion]]
"""Sends a request once."""

_LONGEST_OUTAGE_WAIT: Final = 2.0
_GRACE: Final = 30.0
"""Seconds for which a request that finds no server is tried, whatever its policy."""

_NAME: Final = "an attempt of a batch"
"""Of every one's task: to number them would cost as much as to send."""

_FATAL: Final = 3
"""Refusals of the key or the balance, one after the other, that end a batch."""


class Attempts:
    """Makes attempts and draws the consequences.

    Args:
        send: Sends a request once.
        limit: Learns how each attempt ended.
        ledger: Learns what it cost.
        tally: Counts it.
        plan: Learns when scouts are back.
        twins: Knows identical requests, if those are wanted.
        finish: Takes the results.
        stop: Called with a reason and an error when no request can succeed.

    Attributes:
        on_wire: Attempts under way.
        live: Requests that have begun, by row.
        retries: Requests that wait for another attempt.
        payments: What retries are paid from.
        has_answered: Whether there was any answer.
        last_failure: The latest failure of an attempt.
        crash: A fault of this library or of `send`, to be raised.
        fatal: Why no further request can succeed, by the latest outcome, with its
            error.
    """

    def __init__(
        self,
        *,
        send: Send,
        limit: Admission,
        ledger: Ledger,
        tally: Tally,
        plan: PrefixPlan,
        twins: Twins | None,
        finish: Callable[[Finished], None],
        stop: Callable[[str, DeepSeekError], None],
    ) -> None:
        self.on_wire = 0
        self.live: dict[int, Item] = {}
        self.retries = Retries()
        self.payments = RetryBudget(
            ratio=0.2, reserve=100.0, per_second=10.0, ceiling=1000.0
        )
        self._loop = asyncio.get_running_loop()
        self.has_answered = False
        self.last_failure: DeepSeekError | None = None
        self.crash: Exception | None = None
        self.fatal: tuple[str, DeepSeekError] | None = None
        self._send = send
        self._limit = limit
        self._ledger = ledger
        self._tally = tally
        self._plan = plan
        self._twins = twins
        self._finish = finish
        self._stop = stop
        self._fatal = 0

    def begin(self, item: Item, now: float, ended: Callable[[], None]) -> None:
        """Put an attempt on the wire.

        Args:
            item: The request.
            now: The loop time.
            ended: Called when the slot is free again.
        """
        self.live[item.index] = item
        self.on_wire += 1
        self._tally.attempts += 1
        self._limit.sent(now)
        item.sent_at = now
        attempt = self._attempt(item, now, ended)
        item.task = self._loop.create_task(attempt, name=_NAME)

    async def _attempt(
        self, item: Item, sent_at: float, ended: Callable[[], None]
    ) -> None:
        try:
            try:
                completion = await self._send(item.wire)
            except DeepSeekError as error:
                self._failed(item, error, sent_at)
            except BaseException as error:
                self._given_up(item)
                if not isinstance(error, asyncio.CancelledError):
                    raise
            else:
                self._answered(item, completion, sent_at)
        except Exception as error:  # noqa: BLE001 - raised to the reader
            self.crash = error
        finally:
            item.task = None
            self.on_wire -= 1
            ended()

    def _given_up(self, item: Item) -> None:
        """The attempt was cancelled: by name, or because everything ends."""
        self._limit.withdrawn()
        self._forfeit(item)
        if item.is_cancelled:
            self.drop(item)
        else:
            del self.live[item.index]

    def drop(self, item: Item) -> None:
        """End a request that was cancelled by name."""
        self.retries.remove(item)
        self.fail(item, CancelledItemError("the request was cancelled"))

    def oldest_on_wire(self, now: float) -> float:
        """The loop time at which the oldest attempt under way began, else `now`."""
        live = self.live.values()
        return min((i.sent_at for i in live if i.task is not None), default=now)

    def _answered(self, item: Item, completion: ChatCompletion, sent_at: float) -> None:
        now = self._loop.time()
        usage = completion.usage
        tokens = NO_TOKENS if usage is None else tokens_of(usage)
        if usage is None:
            self._forfeit(item)
        else:
            item.pay(self._ledger.settle(_held(item), tokens, item.wire.model or ""))
            self._tally.use(tokens)
        self.has_answered = True
        self._fatal, self.fatal = 0, None
        gave_up = unfinished(completion)
        if gave_up is not None:
            self._overloaded(item, now, sent_at)
            self._retry_or_fail(item, gave_up, Kind.OVERLOAD, sent_at)
            return
        self._limit.answered(now, sent_at)
        self.payments.earn()
        if item.attempts:
            _list_attempts(item, completion, now - sent_at)
        self.succeed(item, completion, now, tokens)
        if item.group is not None:
            self._plan.finished(item, now, tokens[1])

    def succeed(
        self,
        item: Item,
        completion: ChatCompletion,
        now: float,
        used: Tokens = NO_TOKENS,
    ) -> None:
        """End a request, and those that waited for its answer, with the answer.

        Args:
            item: The request.
            completion: The answer.
            now: The loop time.
            used: Tokens that it used itself.
        """
        self.live.pop(item.index, None)
        started = now if item.started is None else item.started
        result = BatchOk(
            index=item.index,
            key=item.key,
            completion=completion,
            latency=now - started,
        )
        self._finish(Finished(result, item.digest, item.cost, used))
        if self._twins is not None:
            for follower in self._twins.answered(item, completion):
                self._tally.deduped += 1
                self.succeed(follower, completion, now)

    def _failed(self, item: Item, error: DeepSeekError, sent_at: float) -> None:
        now = self._loop.time()
        if isinstance(error, DeadlineExceededError) and item.deadline is not None:
            error = _deadline_passed(item)  # its own says what was left of it
        self.last_failure = error
        kind = kind_of(error)
        if isinstance(error, RateLimitError):
            self._limit.rejected(now, sent_at, error.concurrency_limit)
            self._tally.refused += 1
        elif kind is Kind.OVERLOAD:
            self._overloaded(item, now, sent_at)
        elif kind is Kind.WITHDRAWN:
            self._limit.withdrawn()
        else:
            self._limit.answered(now, sent_at)
        if may_be_billed(error):
            self._forfeit(item)
        else:
            self._ledger.release(_held(item))
        reason = fatal_reason(error)
        self._fatal = 0 if reason is None else self._fatal + 1
        self.fatal = None if reason is None else (reason, error)
        if reason is not None and self._fatal >= _FATAL:
            self._stop(reason, error)
        self._retry_or_fail(item, error, kind, sent_at)

    def _overloaded(self, item: Item, now: float, sent_at: float) -> None:
        limit = self._limit
        item.failed(sent_at, limit.served_until)
        is_new = not item.is_suspect and item.streak != limit.streak
        item.streak = limit.streak
        limit.failed(now, is_new=is_new)

    def _forfeit(self, item: Item) -> None:
        """The attempt may have been billed."""
        self._ledger.forfeit(_held(item))

    def _retry_or_fail(
        self, item: Item, error: DeepSeekError, kind: Kind, sent_at: float
    ) -> None:
        now = self._loop.time()
        wait = self._wait_for(item, error, kind)
        ends = inf if item.deadline is None else item.deadline
        if wait is not None and now + wait >= ends:
            error, wait = _deadline_passed(item), None
        item.attempts += (
            Attempt(
                number=len(item.attempts) + 1,
                elapsed=now - sent_at,
                outcome=type(error).__name__,
                status=getattr(error, "status", None),
                request_id=getattr(error, "request_id", None),
                wait=wait or 0.0,
            ),
        )
        if wait is None:
            self.fail(item, error)
            return
        self._tally.retries += kind is not Kind.REFUSED
        self.retries.add(item, now + wait)

    def _wait_for(self, item: Item, error: DeepSeekError, kind: Kind) -> float | None:
        if isinstance(error, RateLimitError) and item.policy.attempts > 1:
            item.refusals += 1
            return wait_after_refusal(item.policy, item.refusals, error)
        item.counted += 1
        wait = wait_before_retry(item.policy, item.counted, error)
        if kind is Kind.OVERLOAD and self._is_blameless(item, error):
            item.counted -= 1
            return min(_LONGEST_OUTAGE_WAIT, wait or _LONGEST_OUTAGE_WAIT)
        return wait

    def _is_blameless(self, item: Item, error: DeepSeekError) -> bool:
        """Whether nobody is answered, so that the failure costs the request nothing.

        Where there are too few requests to make an outage, it is enough for a while
        that there was no server, again, and that none sent meanwhile was answered.
        """
        if self.has_answered and self._limit.in_outage:
            return True
        return (
            is_unavailable(error)
            and item.fails_again
            and not item.is_suspect
            and self._loop.time() < item.failing_since + _GRACE
        )

    def expire(self, item: Item) -> None:
        """End a request whose deadline has passed while it waited."""
        self.fail(item, _deadline_passed(item))

    def fail(self, item: Item, error: DeepSeekError, *, was_sent: bool = True) -> None:
        """End a request with an error."""
        now = self._loop.time()
        self.live.pop(item.index, None)
        if isinstance(error, APIError):
            error.attempts = item.attempts  # of one call there is one; this has more
        result = BatchFailed(
            index=item.index,
            key=item.key,
            error=error.with_traceback(None),
            latency=now - (now if item.started is None else item.started),
        )
        self._finish(
            Finished(
                result,
                item.digest,
                item.cost,
                was_sent=was_sent and bool(item.attempts),
                is_durable=fatal_reason(error) is None,
            )
        )
        self._plan.finished(item, now, 0)
        if self._twins is not None:
            for follower in self._twins.failed(item):
                self.retries.add(follower, now)

    def copy(self, item: Item, completion: ChatCompletion) -> None:
        """End a request with the answer an identical one has got."""
        self._tally.deduped += 1
        self.succeed(item, completion, self._loop.time())


def _deadline_passed(item: Item) -> DeepSeekError:
    return deadline_error((item.deadline or 0.0) - (item.started or 0.0))


def _held(item: Item) -> Amount:
    held, item.held = item.held or Amount(), None
    return held


def _list_attempts(item: Item, completion: ChatCompletion, elapsed: float) -> None:
    meta = completion.meta
    last = Attempt(
        number=len(item.attempts) + 1,
        elapsed=elapsed,
        outcome="ok",
        status=meta.status,
        request_id=meta.request_id,
    )
    attempts = (*item.attempts, last)
    completion.set_meta(msgspec.structs.replace(meta, attempts=attempts))
