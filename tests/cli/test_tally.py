"""The numbers at the end of a command."""

from __future__ import annotations

from decimal import Decimal

from deepseek_async import BatchFailed, BatchOk, ChatCompletion, DeepSeekError, Usage
from deepseek_async.cli.tally import Tally, money, usage_line


def answered(model: str, usage: Usage) -> BatchOk:
    """An answered row."""
    completion = ChatCompletion(model=model, usage=usage)
    return BatchOk(index=0, key="k", completion=completion, latency=1.0)


def test_sums_up() -> None:
    """Tokens add up, and answers without a known price are told apart."""
    tally = Tally()
    usage = Usage(
        prompt_tokens=10, completion_tokens=1_000_000, prompt_cache_hit_tokens=4
    )
    tally.add(answered("deepseek-flash", usage))
    tally.add(answered("somebody-else", usage))
    tally.add(BatchFailed(index=1, key="x", error=DeepSeekError("no"), latency=1.0))
    tally.stop()

    assert (tally.ok, tally.failed, tally.done) == (2, 1, 3)
    assert (tally.usage.prompt_tokens, tally.usage.cached_tokens) == (20, 8)
    assert Decimal("0.5") < tally.cost < Decimal("1.3")  # peak hours cost twice
    assert tally.spent.endswith("(+ 1 answers of unknown price)")
    assert tally.rate == tally.done / tally.wall


def test_money() -> None:
    """Small amounts keep the digits that matter; an unknown one says so."""
    assert money(Decimal("0.00005")) == "$0.000050"
    assert money(Decimal("1.5")) == "$1.5000"
    assert "cost unknown" in usage_line(Usage(), "somebody-else", 1.0)
