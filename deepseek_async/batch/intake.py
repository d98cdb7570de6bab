"""From rows to requests: what is to be sent, what is done already, what is wrong."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from msgspec import Raw, Struct

from ..errors import DeepSeekError, InvalidRequestError, JournalMismatchError
from ..request import WireRequest, chat_request
from ..retry import RetryPolicy
from .budget import Tariff
from .dedupe import body_fields, is_deterministic
from .index import OK, Index
from .item import Item
from .keys import Keys
from .options import Settings
from .prefix import SHORTEST, prefixes
from .report import Tally
from .results import BatchFailed
from .source import Row
from .template import digest_of

ONCE = RetryPolicy(attempts=1)
_DIGITS: Final = 20
_SAYS_MORE: Final = frozenset({"max_completion_tokens", "n", "extra_body"})


class Rejected(Struct):
    """A row that will not be sent, and why; `digest` is what the journal needs."""

    result: BatchFailed
    digest: str


Taken: TypeAlias = Item | Rejected | None
"""A request to send, one refused at once, or nothing to do."""


class Intake:
    """Makes requests of rows.

    Args:
        settings: The batch's options.
        policy: The retry policy of requests that bring none.
        index: What previous runs finished, if there is a journal.
        tariff: Knows which models have a price.
        tally: Counts what is skipped.
    """

    def __init__(
        self,
        settings: Settings,
        policy: RetryPolicy,
        index: Index | None,
        tariff: Tariff,
        tally: Tally,
    ) -> None:
        self.reading = settings.reading()
        self._index = index
        self._tariff = tariff
        self._tally = tally
        self._policy = policy
        self._keys = Keys()
        #: How many rows, from the first on, have their numbers as keys.
        self._unnamed = 0
        self._part, self._parts = settings.shard
        self._retry_failed = settings.retry_failed
        self._dedupe = settings.dedupe
        self._must_price = (
            settings.budget is not None and settings.budget.max_cost is not None
        )
        self._look_for_prefixes = settings.prefix_order and settings.order != "input"

    def take(self, row: Row) -> Taken:
        """Make a request of a row.

        Raises:
            JournalMismatchError: A previous run had another request there.
        """
        key, digest = row.where, ""  # its number may well be the key of another row
        failure: Exception
        is_mine = False
        try:
            if isinstance(row.value, InvalidRequestError):
                raise row.value  # noqa: TRY301 - the reader's verdict, as any other's
            given = self.reading.key_of(row)
            own = str(row.index) if given is None else given
            if self._parts > 1 and not self._is_mine(own):
                self._tally.other_shards += 1
                return None
            is_mine = True
            self._check_key(own, row, is_own=given is not None)
            key = own
            params = self.reading.params_of(row)
            wire = None
            if (found := digest_of([given, params])) is None:
                # JSON has no such values, but the request may be made of them.
                wire = _wire(params)
                found = digest_of([given, Raw(wire.body)])
            digest = found or ""
            return self._made(row, key, digest, params, wire)
        except JournalMismatchError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller's own functions, too
            failure = error
        if is_mine or self._parts == 1 or self._is_mine(key):
            return self._rejected(row, key, digest or "0" * 16, failure)
        self._tally.other_shards += 1
        return None

    def _made(
        self,
        row: Row,
        key: str,
        digest: str,
        params: dict[str, Any],
        wire: WireRequest | None,
    ) -> Item | None:
        index = self._index
        if (
            index is not None
            and row.index < index.rows
            and self._skips(row, digest, index)
        ):
            return None
        wire = wire or _wire(params)
        model = wire.model or ""
        if self._must_price and not self._tariff.knows(model):
            message = f"{row.where}: no price is known for model {model!r}; see prices="
            raise InvalidRequestError(message, param="model")
        policy = wire.retry or self._policy
        wire.retry = ONCE
        item = Item(
            index=row.index,
            key=key,
            digest=digest,
            wire=wire,
            policy=policy,
            max_tokens=most_output(params),
            is_deterministic=self._dedupe and is_deterministic(params),
        )
        if self._look_for_prefixes and len(wire.body) >= SHORTEST:
            item.prefixes = prefixes(wire.body)
        return item

    def _rejected(
        self, row: Row, key: str, digest: str, failure: Exception
    ) -> Rejected | None:
        if not isinstance(failure, DeepSeekError):
            kind = type(failure).__name__
            message = f"{row.where}: making the request raised {kind}"
            failure = InvalidRequestError(message, param=row.where)
        failure.__context__ = failure.__cause__ = None  # its frames hold the request
        index = self._index
        if index is not None and (status := index.status(row.index)):
            if not self._skips(row, digest, index):
                self._count_skipped(status)
            return None
        key = key.encode("utf-8", "backslashreplace").decode()
        failed = BatchFailed(
            index=row.index, key=key, error=failure.with_traceback(None), latency=0.0
        )
        return Rejected(failed, digest)

    def _skips(self, row: Row, digest: str, index: Index) -> bool:
        """Whether an earlier run has finished the row, which is counted then."""
        status = index.status(row.index)
        if status != OK and (self._retry_failed or not status):
            return False  # a failed row may have been mended meanwhile
        if not index.has(row.index, digest):
            message = (
                f"{row.where} is another request than the one the journal has for it, "
                "or has another key: the input or the request function has changed. "
                "Take another directory, or the old input"
            )
            raise JournalMismatchError(message)
        self._count_skipped(status)
        return True

    def _count_skipped(self, status: int) -> None:
        self._tally.skipped += 1
        self._tally.failed_before += status != OK

    def _is_mine(self, key: str) -> bool:
        return zlib.crc32(key.encode("utf-8", "replace")) % self._parts == self._part

    def _check_key(self, key: str, row: Row, *, is_own: bool) -> None:
        if not is_own and row.index == self._unnamed:
            self._unnamed += 1
            return  # so far all keys are the rows' numbers, which differ
        if is_own and _is_number_below(key, self._unnamed):
            message = f"{row.where}: the key {key!r} is that of a row without a key"
            raise InvalidRequestError(message, param="key")
        if not key.isascii() and key.encode("utf-8", "replace").decode() != key:
            message = f"{row.where}: the key {key!r} is not valid Unicode"
            raise InvalidRequestError(message, param="key")
        first = self._keys.add(key, row.number)
        if first is not None:
            message = f"duplicate key {key!r}: {row.place(first)} and {row.where}"
            raise InvalidRequestError(message, param="key")


def _is_number_below(key: str, count: int) -> bool:
    is_number = len(key) < _DIGITS and key.isascii() and key.isdecimal()
    return is_number and str(int(key)) == key and int(key) < count


def _wire(params: Mapping[str, Any]) -> WireRequest:
    if "stream" in params:
        params = {**params, "stream": None}
    made = chat_request(params)
    if isinstance(made, DeepSeekError):
        raise made
    return made


def most_output(params: Mapping[str, Any]) -> int | None:
    """The most output tokens a request asks for, `None` if it does not say."""
    if _SAYS_MORE.isdisjoint(params):
        return _count(params.get("max_tokens")) or None
    fields = body_fields(params)
    most = _count(fields.get("max_tokens"))
    most = max(most, _count(fields.get("max_completion_tokens")))
    return most * (_count(fields.get("n")) or 1) or None


def _count(value: object) -> int:
    if isinstance(value, float) and math.isfinite(value):
        value = math.ceil(value)  # in `extra_body`; the server may take it
    return value if isinstance(value, int) and value > 0 else 0
