"""The numbers at the end: tokens, cost, speed."""

from __future__ import annotations

from decimal import Decimal
from time import monotonic

from rich.table import Table

from ..batch import BatchFailed, BatchResult
from ..pricing import cost
from ..types.usage import Usage


def money(amount: Decimal | None) -> str:
    """An amount of US dollars as text."""
    if amount is None:
        return "cost unknown"
    return f"${amount:.6f}" if amount < Decimal("0.01") else f"${amount:.4f}"


def usage_line(usage: Usage, model: str, seconds: float) -> str:
    """Tokens, cost and time of one answer.

    Args:
        usage: Its token counts.
        model: The model asked for.
        seconds: How long it took.
    """
    parts = [
        f"{usage.prompt_tokens:,} in ({usage.cached_tokens:,} cached)",
        f"{usage.completion_tokens:,} out ({usage.reasoning_tokens:,} reasoning)",
        money(cost(usage, model)),
        f"{seconds:.1f} s",
    ]
    return " · ".join(parts)


class Tally:
    """Counts the results of a batch.

    Attributes:
        ok: Rows answered.
        failed: Rows that failed.
        usage: Tokens of all answers.
        cost: US dollars of the answers whose model has a price.
        unpriced: Answers whose model has none.
    """

    __slots__ = ("_ended", "_started", "cost", "failed", "ok", "unpriced", "usage")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.unpriced = 0
        self.usage = Usage()
        self.cost = Decimal(0)
        self._started = monotonic()
        self._ended: float | None = None

    def add(self, result: BatchResult) -> None:
        """Count one result."""
        if isinstance(result, BatchFailed):
            self.failed += 1
            return
        self.ok += 1
        self.usage += result.usage
        price = cost(result.usage, result.completion.model)
        if price is None:
            self.unpriced += 1
        else:
            self.cost += price

    def stop(self) -> None:
        """Stop the clock."""
        self._ended = monotonic()

    @property
    def done(self) -> int:
        """Rows that have a result."""
        return self.ok + self.failed

    @property
    def wall(self) -> float:
        """Seconds since the start, or from start to stop."""
        return (self._ended or monotonic()) - self._started

    @property
    def rate(self) -> float:
        """Results per second."""
        return self.done / self.wall if self.wall else 0.0

    @property
    def spent(self) -> str:
        """The cost as text, with what is not in it."""
        note = f" (+ {self.unpriced} answers of unknown price)" if self.unpriced else ""
        return money(self.cost) + note

    def table(self) -> Table:
        """A summary."""
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, value in self._lines():
            table.add_row(name, value)
        return table

    def _lines(self) -> list[tuple[str, str]]:
        usage = self.usage
        return [
            ("ok / failed", f"{self.ok:,} / {self.failed:,}"),
            ("prompt tokens", f"{usage.prompt_tokens:,}"),
            ("  of these cached", f"{usage.cached_tokens:,}"),
            ("output tokens", f"{usage.completion_tokens:,}"),
            ("  of these reasoning", f"{usage.reasoning_tokens:,}"),
            ("cost", self.spent),
            ("requests per second", f"{self.rate:.1f}"),
            ("wall time", f"{self.wall:.1f} s"),
        ]
