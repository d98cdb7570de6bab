"""The numbers at the end of a command."""

from __future__ import annotations

from decimal import Decimal

from deepseek_async import Usage
from deepseek_async.cli.tally import money, usage_line


def test_money() -> None:
    """Small amounts keep the digits that matter; an unknown one says so."""
    assert money(Decimal("0.00005")) == "$0.000050"
    assert money(Decimal("1.5")) == "$1.5000"
    assert "cost unknown" in usage_line(Usage(), "somebody-else", 1.0)
