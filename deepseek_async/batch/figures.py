"""The figures of a batch, while it runs and afterwards."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Final

from .admission import Admission, LimitChange
from .budget import Ledger, dollars
from .engine import Engine
from .journal import Journal
from .prefix import PrefixPlan
from .progress import Progress, Pulse
from .report import BatchReport, Tally
from .source import Source

_CENTS_OF_A_CENT: Final = Decimal("0.000001")


class Figures:
    """Makes figures of what the parts of a batch have counted.

    Args:
        tally: Requests and tokens.
        ledger: Money.
        limit: The limit and its history.
        plan: The cache-aware order.
        shards: Among how many the rows are shared.
    """

    def __init__(
        self,
        tally: Tally,
        ledger: Ledger,
        limit: Admission,
        plan: PrefixPlan,
        shards: int,
    ) -> None:
        self._tally = tally
        self._ledger = ledger
        self._limit = limit
        self._plan = plan
        self._shards = shards
        self._pulse = Pulse()
        self._source: Source | None = None
        self._cut = 0
        self._started = self._ended = 0.0

    def start(self, source: Source, journal: Journal | None) -> None:
        """The batch begins."""
        self._source = source
        self._cut = journal.cut.size if journal is not None and journal.cut else 0
        self._started = asyncio.get_running_loop().time()

    def end(self) -> None:
        """The batch has ended."""
        self._ended = asyncio.get_running_loop().time()

    def _elapsed(self) -> float:
        if not self._started:
            return 0.0
        return (self._ended or asyncio.get_running_loop().time()) - self._started

    def _total(self) -> int | None:
        source = self._source
        if source is None:
            return None
        ours = source.count - self._tally.other_shards
        if not source.has_rows:
            return ours
        if source.total is None or source.total < source.count:
            return None  # it has grown since, or the caller has miscounted
        return ours + (source.total - source.count) // self._shards

    def progress(self, engine: Engine | None) -> Progress:
        """How far it is."""
        tally, limit = self._tally, self._limit
        elapsed = self._elapsed()
        per_second, output = self._pulse.rates(elapsed, tally.done, tally.output)
        total = self._total()
        stop_reason = engine.stop_reason if engine else None
        left = None  # also of a batch that ends early, and does not come to the rest
        if total is not None and stop_reason is None:
            left = max(0, total - tally.done - tally.skipped)
        cost = dollars(self._ledger.spent)
        projected = None
        if left is not None and tally.done:
            projected = cost * (tally.done + left) / tally.done
            projected = projected.quantize(_CENTS_OF_A_CENT)
        return Progress(
            done=tally.done,
            skipped=tally.skipped,
            total=total,
            ok=tally.ok,
            failed=tally.failed,
            in_flight=limit.in_flight,
            limit=limit.capacity,
            refused=tally.refused,
            per_second=per_second,
            output_per_second=output,
            cache_hit_ratio=tally.hit / tally.prompt if tally.prompt else 0.0,
            cost=cost,
            projected_cost=projected,
            eta=left / per_second if left is not None and per_second else None,
            elapsed=elapsed,
            state=self._state(engine),
            stop_reason=stop_reason,
        )

    def _state(self, engine: Engine | None) -> str:
        if engine is None or engine.stop_reason is not None:
            return "draining"
        return "outage" if self._limit.in_outage else engine.waiting_for or "running"

    def report(self, engine: Engine | None) -> BatchReport:
        """The sums."""
        tally, ledger = self._tally, self._ledger
        seconds = self._elapsed()
        return BatchReport(
            read=self._source.count if self._source else 0,
            ok=tally.ok,
            failed=tally.failed,
            skipped=tally.skipped,
            failed_before=tally.failed_before,
            deduped=tally.deduped,
            other_shards=tally.other_shards,
            attempts=tally.attempts,
            retries=tally.retries,
            refused=tally.refused,
            prompt_tokens=tally.prompt,
            cache_hit_tokens=tally.hit,
            completion_tokens=tally.output,
            reasoning_tokens=tally.reasoning,
            cost=dollars(ledger.spent),
            uncertain_cost=dollars(ledger.uncertain),
            previous_cost=dollars(ledger.spent_before),
            unpriced=ledger.unpriced,
            seconds=seconds,
            goodput=tally.ok / seconds if seconds else 0.0,
            failures=dict(tally.failures),
            examples=dict(tally.examples),
            prefix_order=self._plan.is_active,
            stop_reason=engine.stop_reason if engine else None,
            cut=self._cut,
            limits=self._changes(),
        )

    def _changes(self) -> list[LimitChange]:
        changes, now = self._limit.changes, self._limit.capacity
        if changes[-1].capacity != now:
            changes.append(LimitChange(self._started + self._elapsed(), now, "end"))
        return changes
