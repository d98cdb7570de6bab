"""What a batch came to."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Struct

from .admission import LimitChange
from .results import BatchFailed, Tokens

_SHOWN: Final = 240


class BatchReport(Struct, kw_only=True, frozen=True):
    """The sums of a run.

    Attributes:
        read: Rows read from the source.
        ok: Requests answered in this run.
        failed: Requests that failed in this run.
        skipped: Requests a previous run had finished.
        failed_before: Those of them that had failed and were not to be tried again.
        deduped: Requests answered by an identical one.
        other_shards: Rows that belong to other shards.
        attempts: Requests sent.
        retries: Requests sent again after a failure, refusals not counted.
        refused: 429 answers.
        prompt_tokens: Input tokens.
        cache_hit_tokens: Those served from the cache.
        completion_tokens: Output tokens, reasoning included.
        reasoning_tokens: Reasoning tokens.
        cost: US dollars that the answers cost.
        uncertain_cost: US dollars, at most, for requests that died on their way and
            may have been billed, in this run or, by the journal, in one before.
        previous_cost: US dollars that previous runs on the journal cost.
        unpriced: Answers of models without a known price.
        seconds: From start to end.
        goodput: Answers a second.
        failures: How often which error was the last word.
        examples: The first failure of each of these kinds: key and message.
        prefix_order: Whether cache-aware order was at work to the end.
        stop_reason: Why the batch ended early, or `None`.
        cut: Bytes of an interrupted write that were cut off the journal's end.
        limits: The changes of the limit.
    """

    read: int
    ok: int
    failed: int
    skipped: int
    failed_before: int
    deduped: int
    other_shards: int
    attempts: int
    retries: int
    refused: int
    prompt_tokens: int
    cache_hit_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: Decimal
    uncertain_cost: Decimal
    previous_cost: Decimal
    unpriced: int
    seconds: float
    goodput: float
    failures: dict[str, int]
    examples: dict[str, str]
    prefix_order: bool
    stop_reason: str | None
    cut: int
    limits: list[LimitChange]

    @property
    def cache_hit_ratio(self) -> float:
        """Share of the input tokens that the cache served."""
        return self.cache_hit_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def to_json(self) -> bytes:
        """The report as JSON."""
        return msgspec.json.encode(self)

    def to_table(self) -> str:
        """The report as text, for people."""
        limits = [change.capacity for change in self.limits]
        lines = [
            ("answered", f"{self.ok:,} ({self.goodput:.2f}/s)"),
            ("failed", f"{self.failed:,}{_named(self.failures)}"),
            ("sent", f"{self.attempts:,}, {self.retries:,} retries"),
            ("refused", f"{self.refused:,} (429)"),
            ("limit", _span(limits)),
            ("input tokens", f"{self.prompt_tokens:,}"),
            ("from cache", f"{self.cache_hit_ratio:.1%}"),
            (
                "output tokens",
                f"{self.completion_tokens:,} ({self.reasoning_tokens:,} reasoning)",
            ),
            ("cost", f"${self.cost:.6f}"),
            ("time", f"{self.seconds:.1f} s"),
        ]
        if self.skipped:
            told = f"{self.skipped:,} finished before{self._failed_before()}"
            lines.insert(2, ("skipped", told))
        if self.deduped:
            lines.append(("identical", f"{self.deduped:,} answered by another"))
        if self.uncertain_cost:
            lines.append(("possibly billed", f"up to ${self.uncertain_cost:.6f} more"))
        if self.previous_cost:
            lines.append(("runs before", f"${self.previous_cost:.6f}"))
        if self.unpriced:
            lines.append(("without a price", f"{self.unpriced:,}"))
        if self.cut:
            lines.append(("journal", f"{self.cut:,} bytes of a torn write cut off"))
        if self.stop_reason:
            lines.append(("stopped", self.stop_reason))
        width = max(len(name) for name, _ in lines)
        shown = [f"{name:<{width}}  {value}" for name, value in lines]
        shown += [
            printable(f"first {kind}: {text}") for kind, text in self.examples.items()
        ]
        return "\n".join(shown)

    def _failed_before(self) -> str:
        return f", {self.failed_before:,} of them failed" if self.failed_before else ""


def printable(text: str) -> str:
    """One line of text, with escapes for what a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _span(values: list[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _named(failures: dict[str, int]) -> str:
    named = ", ".join(f"{count} {name}" for name, count in failures.items())
    return f": {named}" if named else ""


class Tally:
    """Counts while a batch runs.

    Attributes: as in `BatchReport`.
    """

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.skipped = 0
        self.failed_before = 0
        self.deduped = 0
        self.other_shards = 0
        self.attempts = 0
        self.retries = 0
        self.refused = 0
        self.prompt = 0
        self.hit = 0
        self.output = 0
        self.reasoning = 0
        self.failures: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    @property
    def done(self) -> int:
        """Finished requests."""
        return self.ok + self.failed

    def fail(self, failed: BatchFailed) -> None:
        """Count a request that failed for good."""
        kind = type(failed.error).__name__
        self.failed += 1
        self.failures[kind] += 1
        message = failed.error.message
        named = f"{failed.key}: ", f"{failed.key} "
        if not message.startswith(named):  # with its place, if no key can be told
            message = f"{failed.key}: {message}"
        self.examples.setdefault(kind, message[:_SHOWN])

    def use(self, tokens: Tokens) -> None:
        """Count the tokens of an answer."""
        prompt, hit, _, output, reasoning = tokens
        self.prompt += prompt
        self.hit += hit
        self.output += output
        self.reasoning += reasoning
