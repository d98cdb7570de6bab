"""A dry run: what a batch would send, cost and take, without sending anything."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from ..errors import DeepSeekError
from ..retry import RetryPolicy
from ..tokens import EstimatedTokens, count_tokens
from ..types.discreet import Discreet
from .budget import GUESSED_OUTPUT, Tariff, dollars
from .index import Index
from .intake import Intake
from .item import Item
from .options import Settings
from .report import Tally, printable
from .source import BatchSource, Source

_BYTES_PER_TOKEN: Final = 3.6
"""Bytes of a request for one token, where its messages are of an unknown kind."""

_ERROR: Final = 0.35
_SHOWN: Final = 100
_IN_TABLE: Final = 10
_TYPICAL_SECONDS: Final = 8.0


class InvalidRow(Struct, frozen=True):
    """A row that makes no request, and why; the reason names the line."""

    index: int
    reason: str


class Plan(Struct, kw_only=True, frozen=True):
    """What a batch would be.

    Attributes:
        requests: Requests to send.
        skipped: Requests that the journal has.
        other_shards: Rows of other shards.
        invalid: How many rows make no request.
        invalid_rows: The first hundred of them.
        duplicates: Requests that equal an earlier one to the last byte.
        prompt_tokens: Estimated input tokens, as by `count_tokens`: up to 35 % too
            many or too few, depending on language and mark-up.
        prompt_tokens_low: The lower end.
        prompt_tokens_high: The upper end.
        output_tokens_most: Output tokens if every request used all of `max_tokens`;
            8,192 where it says nothing.
        cost_low: US dollars off peak: the low estimate of the input, all of it from
            the cache, and a quarter of the output.
        cost_off_peak: The most it costs off peak.
        cost_peak: The most it costs at peak hours.
        unpriced: Requests for models without a known price.
        seconds: Time if a request takes `latency` at `concurrency` at a time, and no
            less than one takes.
        unbounded: Requests without `max_tokens`: their answers may be longer, and the
            upper figures are guesses.
    """

    requests: int
    skipped: int
    other_shards: int
    invalid: int
    invalid_rows: list[InvalidRow]
    duplicates: int
    prompt_tokens: int
    prompt_tokens_low: int
    prompt_tokens_high: int
    output_tokens_most: int
    cost_low: Decimal
    cost_off_peak: Decimal
    cost_peak: Decimal
    unpriced: int
    seconds: float
    unbounded: int = 0

    def to_table(self) -> str:
        """The plan as text, for people."""
        is_priced = not self.unpriced or self.unpriced < self.requests
        most = "at most" if not self.unbounded else "about"
        lines = [
            ("requests", f"{self.requests:,}"),
            ("invalid", f"{self.invalid:,}"),
            ("identical", f"{self.duplicates:,}"),
            (
                "input tokens",
                f"{self.prompt_tokens:,} "
                f"({self.prompt_tokens_low:,} to {self.prompt_tokens_high:,})",
            ),
            ("output tokens", f"{most} {self.output_tokens_most:,}"),
            (
                "cost off peak",
                f"${self.cost_low:.6f} to ${self.cost_off_peak:.6f}"
                if is_priced
                else "unknown",
            ),
            (
                "cost at peak",
                f"{most} ${self.cost_peak:.6f}" if is_priced else "unknown",
            ),
            ("time", f"about {self.seconds:,.0f} s"),
        ]
        if self.skipped:
            lines.insert(1, ("done before", f"{self.skipped:,}"))
        if self.unbounded:
            told = f"{self.unbounded:,}, each taken for {GUESSED_OUTPUT:,} tokens"
            lines.append(("no max_tokens", told))
        if self.unpriced:
            lines.append(("without a price", f"{self.unpriced:,}"))
        width = max(len(name) for name, _ in lines)
        shown = [f"{name:<{width}}  {value}" for name, value in lines]
        shown += [printable(row.reason) for row in self.invalid_rows[:_IN_TABLE]]
        if self.invalid > _IN_TABLE:
            shown.append(f"... and {self.invalid - _IN_TABLE:,} more that are invalid")
        return "\n".join(shown)


class _Prompt(Discreet, Struct):
    messages: list[dict[str, Any]]
    tools: Raw = Raw(b"")


_prompts: Final = msgspec.json.Decoder(_Prompt)


def _prompt_tokens(body: bytes) -> float:
    """The estimated input tokens of a request."""
    try:
        prompt = _prompts.decode(body)
        tools = EstimatedTokens().count(bytes(prompt.tools).decode())
        return count_tokens(prompt.messages).tokens + tools
    except (msgspec.MsgspecError, DeepSeekError):
        return len(body) / _BYTES_PER_TOKEN


class _Sums:
    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0.0
        self.output = 0
        self.low = self.off_peak = self.peak = 0.0
        self.unpriced = 0
        self.unbounded = 0


async def make_plan(
    requests: BatchSource,
    settings: Settings,
    *,
    index: Index | None = None,
    concurrency: int = 500,
    latency: float = _TYPICAL_SECONDS,
) -> Plan:
    """Read a source to its end and add up what it would take.

    Args:
        requests: The source.
        settings: The batch's options.
        index: What a journal has already.
        concurrency: Requests at a time.
        latency: Seconds a request takes.

    Raises:
        SourceError: The source cannot be read.
        JournalMismatchError: The journal is of another job.
        Exception: What the source itself raises.
    """
    source = Source(requests)
    tally = Tally()
    tariff = Tariff(settings.price_table, settings.now)
    intake = Intake(settings, RetryPolicy(), index, tariff, tally)
    sums = _Sums()
    invalid: list[InvalidRow] = []
    rejected = 0
    seen: set[int] = set()
    duplicates = 0
    async for row in source.rows():
        made = intake.take(row)
        if isinstance(made, Item):
            duplicates += hash(made.wire.body) in seen
            seen.add(hash(made.wire.body))
            _add(sums, made, tariff)
        elif made is not None:
            rejected += 1
            if len(invalid) < _SHOWN:
                reason = str(made.result.error)
                named = reason if row.where in reason else f"{row.where}: {reason}"
                invalid.append(InvalidRow(row.index, named))
    tokens = sums.tokens
    return Plan(
        requests=sums.requests,
        skipped=tally.skipped,
        other_shards=tally.other_shards,
        invalid=rejected,
        invalid_rows=invalid,
        duplicates=duplicates,
        prompt_tokens=round(tokens),
        prompt_tokens_low=round(tokens * (1 - _ERROR)),
        prompt_tokens_high=round(tokens * (1 + _ERROR)),
        output_tokens_most=sums.output,
        cost_low=dollars(round(sums.low)),
        cost_off_peak=dollars(round(sums.off_peak)),
        cost_peak=dollars(round(sums.peak)),
        unpriced=sums.unpriced,
        seconds=max(sums.requests / concurrency, min(sums.requests, 1)) * latency,
        unbounded=sums.unbounded,
    )


def _add(sums: _Sums, item: Item, tariff: Tariff) -> None:
    tokens = _prompt_tokens(item.wire.body)
    most = GUESSED_OUTPUT if item.max_tokens is None else item.max_tokens
    sums.unbounded += item.max_tokens is None
    sums.requests += 1
    sums.tokens += tokens
    sums.output += most
    prices = tariff.both(item.wire.model or "")
    if prices is None:
        sums.unpriced += 1
        return
    (hit, miss, output), (_, miss_peak, output_peak) = prices
    sums.low += tokens * (1 - _ERROR) * hit + most / 4 * output
    sums.off_peak += tokens * (1 + _ERROR) * miss + most * output
    sums.peak += tokens * (1 + _ERROR) * miss_peak + most * output_peak
