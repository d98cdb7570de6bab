"""The numbers of one answer: tokens, cost, time."""

from __future__ import annotations

from decimal import Decimal

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
