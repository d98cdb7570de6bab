"""What a journal says: which requests are finished, and what they have cost."""

from __future__ import annotations

from array import array
from typing import Final

import msgspec

from ..errors import JournalError
from .record import HELD, Mark, held_in, mark_of

OK: Final = 1
FAILED: Final = 2
_MAX_INDEX: Final = 1 << 33


class Index:
    """Which requests are finished: nine bytes for each.

    Attributes:
        statuses: One byte a row.
        hashes: The hash of each finished request.
        rows: The first row after all finished ones.
        ok: Answered requests.
        failed: Failed ones.
        records: Records, superseded ones included.
        cost: Nano-dollars of all of them.
        tokens: Tokens of all of them.
        held_cost: Nano-dollars that may have been billed beside.
        held_tokens: Tokens that may have been.
        most_cost: Nano-dollars of the dearest record.
        most_tokens: Tokens of the longest one.
    """

    __slots__ = (
        "cost",
        "failed",
        "hashes",
        "held_cost",
        "held_tokens",
        "most_cost",
        "most_tokens",
        "ok",
        "records",
        "rows",
        "statuses",
        "tokens",
    )

    def __init__(self) -> None:
        self.statuses = bytearray()
        self.hashes = array("Q")
        self.rows = 0
        self.ok = 0
        self.failed = 0
        self.records = 0
        self.cost = 0
        self.tokens = 0
        self.held_cost = 0
        self.held_tokens = 0
        self.most_cost = 0
        self.most_tokens = 0

    def read(self, line: bytes) -> Mark | None:
        """Take in a whole line of a journal.

        Returns:
            What a record says, if it is the one that counts for its row so far.
        """
        if line.startswith(HELD):
            self.held_cost, self.held_tokens = held_in(line)
            return None
        try:
            mark = mark_of(line)
        except msgspec.ValidationError as error:
            message = f"a line of the journal is of an unknown kind: {error}"
            raise JournalError(message) from None
        self.records += 1
        cost = 0 if mark.cost < 0 else mark.cost
        tokens = mark.tokens[0] + mark.tokens[3]
        self.cost += cost
        self.tokens += tokens
        if cost > self.most_cost:
            self.most_cost = cost
        if tokens > self.most_tokens:
            self.most_tokens = tokens
        return mark if self._counts(mark) else None

    def status(self, index: int) -> int:
        """0 for an open request, else `OK` or `FAILED`."""
        return self.statuses[index] if index < len(self.statuses) else 0

    def has(self, index: int, digest: str) -> bool:
        """Whether a finished request has this hash."""
        return self.hashes[index] == int(digest, 16)

    def _counts(self, mark: Mark) -> bool:
        """Note a finished request; an answer stands against every other record."""
        index, status = mark.index, OK if mark.status == "ok" else FAILED
        if not 0 <= index < _MAX_INDEX:
            message = f"a record of the journal names the impossible row {index}"
            raise JournalError(message)
        known = len(self.statuses)
        if index >= known:
            more = max(index + 1 - known, known // 8, 1024)
            self.statuses.extend(bytes(more))
            self.hashes.frombytes(bytes(8 * more))
        if index >= self.rows:
            self.rows = index + 1
        before = self.statuses[index]
        if before == OK:
            return False
        self.ok += status == OK
        self.failed += (status == FAILED) - (before == FAILED)
        self.statuses[index] = status
        self.hashes[index] = int(mark.hash, 16)
        return True
