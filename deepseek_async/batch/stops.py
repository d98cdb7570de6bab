"""When a batch ends before its input does."""

from __future__ import annotations

from typing import Final

from ..errors import BatchStoppedError, DeepSeekError
from .budget import Budget
from .report import Tally

_SAME_FAILURE: Final = 20
_JUDGED: Final = 20

MESSAGES: Final = {
    "authentication": "the server refuses the API key",
    "permission": "the API key may not do this",
    "balance": "the account has run out of money",
    "spend_limit": "the client's spend limit is used up",
    "systematic": f"the first {_SAME_FAILURE} requests all failed alike",
    "cost": "a further request could exceed Budget.max_cost; max_tokens= bounds it",
    "tokens": "a further request could exceed Budget.max_tokens",
    "failures": "Budget.max_failures is exceeded",
    "failure_ratio": "Budget.max_failure_ratio is exceeded",
    "wall_time": "Budget.wall_time is over",
    "stalled": "the server has stopped answering; see patience=",
}

REQUESTED: Final = frozenset({"stopped", "interrupted"})
"""Reasons that are no error: somebody asked for it."""


class Watch:
    """Judges failures as they come.

    Args:
        budget: The ceilings.
        tally: The counts.
    """

    __slots__ = ("_budget", "_first", "_same", "_tally")

    def __init__(self, budget: Budget, tally: Tally) -> None:
        self._budget = budget
        self._tally = tally
        self._first: tuple[str, str] | None = None
        self._same = 0

    def judge(self, error: DeepSeekError, *, is_news: bool) -> str | None:
        """Whether the batch must end after a request failed for good.

        Args:
            error: How it failed.
            is_news: Whether it was sent, and had not failed in an earlier run.

        Returns:
            The reason, or `None`.
        """
        tally, budget = self._tally, self._budget
        if budget.max_failures is not None and tally.failed > budget.max_failures:
            return "failures"
        if (
            budget.max_failure_ratio is not None
            and tally.done >= _JUDGED
            and tally.failed > budget.max_failure_ratio * tally.done
        ):
            return "failure_ratio"
        return self._systematic(error) if is_news and not tally.ok else None

    def _systematic(self, error: DeepSeekError) -> str | None:
        seen = type(error).__name__, error.message[:200]
        self._same = self._same + 1 if seen == self._first else 1
        self._first = seen
        return "systematic" if self._same >= _SAME_FAILURE else None


def stopped(reason: str, last: DeepSeekError | None) -> BatchStoppedError:
    """The error for a batch that had to end."""
    message = f"the batch ended early: {MESSAGES.get(reason, reason)}"
    if last is not None:
        message += f" ({type(last).__name__}: {str(last)[:300]})"
    return BatchStoppedError(message, reason=reason)
