"""What may be billed beside the records of the journal, written down before it can be.

A request under way, lost or given up leaves no record, but may cost money. So that a
killed run leaves no cost unknown, the journal says beforehand how much that can be,
with some room for more; only when that is durable are they sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .budget import Amount, Ledger
from .record import held_line

_ROOM_SHARE: Final = 8
"""The room that is asked for beside what is needed, as a part of it: 1/8."""


class Cover:
    """Asks for room in the journal as more is needed.

    Args:
        ledger: Knows what has no record.
        write: Makes a line durable, then calls back.
    """

    __slots__ = ("_cost", "_is_asking", "_ledger", "_left", "_tokens", "_write")

    def __init__(
        self, ledger: Ledger, write: Callable[[bytes, Callable[[], None]], None]
    ) -> None:
        self._ledger = ledger
        self._write = write
        self._is_asking = False
        # Nothing is sent yet: what runs before have left, which needs no room.
        self._cost, self._tokens = self._left = ledger.unrecorded()

    def allows(self, asked: Amount) -> bool:
        """Whether a request may be sent; if not, what it takes is asked for.

        Args:
            asked: The most it can use.
        """
        cost, tokens = self._ledger.unrecorded()
        cost += asked.cost
        tokens += asked.tokens
        if cost <= self._cost and tokens <= self._tokens:
            return True
        if not self._is_asking:
            self._ask(cost, tokens)
        return False

    def _ask(self, cost: int, tokens: int) -> None:
        self._is_asking = True
        # Requests may be sent under the line before while this one is written.
        cost = max(self._cost, cost + (cost - self._left[0]) // _ROOM_SHARE)
        tokens = max(self._tokens, tokens + (tokens - self._left[1]) // _ROOM_SHARE)
        self._write(held_line(cost, tokens), lambda: self._allow(cost, tokens))

    def _allow(self, cost: int, tokens: int) -> None:
        self._is_asking = False
        self._cost, self._tokens = cost, tokens

    def last_line(self) -> bytes | None:
        """The line that closes a run, `None` if the latest says the same.

        Nothing is under way then, so it says no more than needed.
        """
        cost, tokens = self._ledger.unrecorded()
        if (cost, tokens) == (self._cost, self._tokens):
            return None
        return held_line(max(0, cost), max(0, tokens))
