"""What a client has used and spent: totals by model and by tag, and a limit.

The meter counts what the server reports. A stream that ends before its last chunk
never tells its token counts: it is counted as `unfinished`, and what it cost is not
in the totals. The same holds for attempts that failed after the server had begun.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from decimal import Decimal, InvalidOperation
from time import time
from typing import Final, TypeVar, cast

from msgspec import Struct

from .errors import ConfigurationError, SpendLimitError
from .pricing import PRICES, Bill, Price, Rate
from .types.usage import CompletionTokensDetails, PromptTokensDetails, Usage

K = TypeVar("K", bound=Hashable)

OTHER_TAGS: Final = "(other tags)"
"""Where calls are counted whose tag is new when `max_tags` tags are known."""

_NOTHING: Final = Usage()


class Totals(Struct, frozen=True, kw_only=True):
    """What a number of calls came to.

    Attributes:
        calls: Answers received from the server, whole or cut.
        cached: Answers from the client's own response cache; they cost nothing and
            are not among `calls`.
        unfinished: Streams among `calls` that ended before their token counts came.
        unpriced: Answers among `calls` of models without a price.
        usage: Token counts.
        cost: US dollars.
    """

    calls: int = 0
    cached: int = 0
    unfinished: int = 0
    unpriced: int = 0
    usage: Usage = _NOTHING
    cost: Decimal = Decimal(0)

    def __add__(self, other: Totals) -> Totals:
        """Add the totals of other calls."""
        return Totals(
            calls=self.calls + other.calls,
            cached=self.cached + other.cached,
            unfinished=self.unfinished + other.unfinished,
            unpriced=self.unpriced + other.unpriced,
            usage=self.usage + other.usage,
            cost=self.cost + other.cost,
        )


class _Tally:
    """The running totals of one model and tag: plain counts, priced when asked for."""

    __slots__ = ("at_rate", "cached", "calls", "reasoning", "unfinished", "unpriced")

    def __init__(self) -> None:
        self.calls = self.cached = self.unfinished = self.unpriced = 0
        self.reasoning = 0
        #: What determines the rate -> tokens of cache hits, cache misses, output.
        self.at_rate: dict[Rate | None, list[int]] = {}

    def add(self, usage: Usage, rate: Rate | None) -> None:
        # The counts come from the server: a negative one must not take any away.
        hit, prompt = usage.cached_tokens, usage.prompt_tokens
        counts = self.at_rate.get(rate)
        if counts is None:
            counts = self.at_rate[rate] = [0, 0, 0]
        if hit > 0:
            counts[0] += hit
            prompt -= hit
        if prompt > 0:
            counts[1] += prompt
        if usage.completion_tokens > 0:
            counts[2] += usage.completion_tokens
        if usage.reasoning_tokens > 0:
            self.reasoning += usage.reasoning_tokens

    def cost(self) -> Decimal:
        return sum(
            (
                rate.amount(hit, miss, output)
                for rate, (hit, miss, output) in self.at_rate.items()
                if rate is not None
            ),
            Decimal(0),
        )

    def totals(self) -> Totals:
        hit, miss, output = (
            sum(counts[place] for counts in self.at_rate.values()) for place in range(3)
        )
        return Totals(
            calls=self.calls,
            cached=self.cached,
            unfinished=self.unfinished,
            unpriced=self.unpriced,
            cost=self.cost(),
            usage=Usage(
                prompt_tokens=hit + miss,
                completion_tokens=output,
                total_tokens=hit + miss + output,
                prompt_cache_hit_tokens=hit,
                prompt_cache_miss_tokens=miss,
                prompt_tokens_details=PromptTokensDetails(cached_tokens=hit),
                completion_tokens_details=CompletionTokensDetails(
                    reasoning_tokens=self.reasoning
                ),
            ),
        )


class Charge:
    """One call's entry in the meter, made once however the call ends.

    Attributes:
        bill: What the call's price depends on.
    """

    __slots__ = ("_is_settled", "_meter", "_tag", "bill")

    def __init__(self, meter: UsageMeter, bill: Bill, tag: str | None) -> None:
        self._meter = meter
        self._tag = tag
        self._is_settled = False
        self.bill = bill

    def settle(self, usage: Usage | None) -> None:
        """The call is over.

        Args:
            usage: Its token counts, `None` if they never came.
        """
        if not self._is_settled:
            self._is_settled = True
            self._meter.count(self.bill, usage, self._tag)

    def receipt(self) -> Charge:
        """The same bill, for an answer that is counted already."""
        made = Charge(self._meter, self.bill, self._tag)
        made._is_settled = True
        return made


_meters: weakref.WeakSet[UsageMeter] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child, a lock may be held by a thread that is not there."""
    for meter in list(_meters):
        meter.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class UsageMeter:
    """Counts tokens and money, by model and by the `tag=` of each call.

    Every client has one, as `client.meter`; pass one meter to several clients to
    count (and to limit) them together. It may be read and reset from any thread.

        >>> meter = UsageMeter(spend_limit="5.00")
        >>> meter.spent, meter.remaining
        (Decimal('0'), Decimal('5.00'))

    Args:
        prices: The price table, `PRICES` if not given.
        spend_limit: US dollars. Once they are spent, further calls are refused with
            `SpendLimitError` before a byte is sent. Calls under way are finished,
            and only then is known what they cost, so that many calls at once can
            overshoot the limit by what they cost together.
        max_tags: The most tags to tell apart; further ones are counted together.

    Raises:
        ConfigurationError: The limit is not an amount of money, or `prices` not a
            mapping of names to `Price`, each a finite `Decimal` of at least 0.
    """

    __slots__ = (
        "__weakref__",
        "_limit",
        "_lock",
        "_spent",
        "_tags",
        "_tallies",
        "max_tags",
        "prices",
    )

    def __init__(
        self,
        *,
        prices: Mapping[str, Price] | None = None,
        spend_limit: Decimal | float | str | None = None,
        max_tags: int = 10_000,
    ) -> None:
        self.prices = None if prices is None else price_table(prices)
        self.max_tags = max_tags
        self._lock = threading.Lock()
        _meters.add(self)
        self._limit: Decimal | None = None
        self._clear()
        self.spend_limit = spend_limit

    def renew_lock(self) -> None:
        """Forget a lock that was inherited from another process."""
        self._lock = threading.Lock()

    def _clear(self) -> None:
        self._tallies: dict[tuple[str, str | None], _Tally] = {}
        self._tags: set[str | None] = set()
        #: Kept up to date only while there is a limit to hold it against.
        self._spent = Decimal(0)

    def __repr__(self) -> str:
        limit = "" if self._limit is None else f" of {self._limit}"
        return f"UsageMeter({self.spent}{limit} USD)"

    # -- what is known -------------------------------------------------------------

    @property
    def spent(self) -> Decimal:
        """US dollars spent since the start or the last reset."""
        with self._lock:
            return self._sum()

    def _sum(self) -> Decimal:
        """What has been spent; the lock is held, for calls in other threads count."""
        return sum((tally.cost() for tally in self._tallies.values()), Decimal(0))

    @property
    def spend_limit(self) -> Decimal | None:
        """US dollars that may be spent; may be changed at any time."""
        return self._limit

    @spend_limit.setter
    def spend_limit(self, limit: Decimal | float | str | None) -> None:
        amount = None if limit is None else _money(limit)
        with self._lock:
            self._limit, self._spent = amount, self._sum()

    @property
    def remaining(self) -> Decimal | None:
        """US dollars left of the limit, `None` without one."""
        limit = self._limit
        return None if limit is None else max(Decimal(0), limit - self.spent)

    @property
    def total(self) -> Totals:
        """Everything together."""
        return self._by(lambda _model, _tag: None).get(None, Totals())

    def by_model(self) -> dict[str, Totals]:
        """Totals by the model asked for."""
        return self._by(lambda model, _tag: model)

    def by_tag(self) -> dict[str | None, Totals]:
        """Totals by the calls' `tag`, `None` for calls without one."""
        return self._by(lambda _model, tag: tag)

    def by_model_and_tag(self) -> dict[tuple[str, str | None], Totals]:
        """Totals by both."""
        return self._by(lambda model, tag: (model, tag))

    def _by(self, key_of: Callable[[str, str | None], K]) -> dict[K, Totals]:
        with self._lock:
            counted = [(key, tally.totals()) for key, tally in self._tallies.items()]
        found: dict[K, Totals] = {}
        for key, totals in counted:
            name = key_of(*key)
            found[name] = found[name] + totals if name in found else totals
        return found

    def reset(self) -> Totals:
        """Begin anew, for the spend limit too.

        Returns:
            What had been counted.
        """
        with self._lock:
            tallies = list(self._tallies.values())
            self._clear()
        return sum((tally.totals() for tally in tallies), Totals())

    # -- what the client tells it --------------------------------------------------

    def open(self, model: str | None, tag: str | None = None) -> Charge:
        """Begin a call, unless the spend limit forbids it.

        Args:
            model: The model to be asked.
            tag: The call's tag.

        Raises:
            SpendLimitError: The limit is used up.
            ConfigurationError: There is a limit, and the model has no price by
                which its calls could be counted against it.
        """
        name = model if type(model) is str else ""
        limit = self._limit
        if limit is not None:
            if self._spent >= limit:
                raise SpendLimitError(limit=limit, spent=self._spent)
            if name not in (PRICES if self.prices is None else self.prices):
                message = f"a spend limit needs a price for {name!r:.80}: pass prices="
                raise ConfigurationError(message)
        return Charge(self, Bill(model=name, at=time(), prices=self.prices), tag)

    def open_free(self, model: str | None, tag: str | None = None) -> Charge:
        """Begin a call that the client's cache answers.

        Args:
            model: The model it would have asked.
            tag: The call's tag.
        """
        name = model if type(model) is str else ""
        return Charge(self, Bill(model=name, at=time(), is_free=True), tag)

    def count(self, bill: Bill, usage: Usage | None, tag: str | None) -> None:
        """Count one answer.

        Args:
            bill: What its price depends on.
            usage: Its token counts, `None` if they never came.
            tag: The call's tag.
        """
        with self._lock:
            tally = self._tally(bill.model, tag)
            if bill.is_free:
                tally.cached += usage is not None
                return
            tally.calls += 1
            if usage is None:
                tally.unfinished += 1
                return
            rate = bill.rate()
            tally.add(usage, rate)
            if rate is None:
                tally.unpriced += 1
            elif self._limit is not None:
                self._spent += bill.cost(usage) or 0

    def _tally(self, model: str, tag: str | None) -> _Tally:
        found = self._tallies.get((model, tag))
        if found is not None:
            return found
        if tag is not None and tag not in self._tags:
            if len(self._tags) < self.max_tags:
                self._tags.add(tag)
            else:
                tag = OTHER_TAGS
        return self._tallies.setdefault((model, tag), _Tally())


def price_table(prices: object) -> dict[str, Price]:
    """A price table, checked before an answer is paid for that it cannot price.

    Args:
        prices: What a caller gave as one.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(prices, Mapping):
        message = "prices must be a mapping of names of models to Price"
        raise ConfigurationError(message)
    found = dict(cast("Mapping[object, object]", prices))
    for name, price in found.items():
        if type(name) is not str or not isinstance(price, Price):
            message = f"the price of {name!r:.80} must be a Price(...)"
            raise ConfigurationError(message)
        _check(price, name)
    return cast("dict[str, Price]", found)


def _check(price: Price, model: str) -> None:
    for field in price.__struct_fields__:
        amount: object = getattr(price, field)
        if not isinstance(amount, Decimal) or not amount.is_finite() or amount < 0:
            message = f'{field} of Price of {model!r:.80} must be as Decimal("0.15")'
            raise ConfigurationError(message)


def _money(amount: Decimal | float | str) -> Decimal:
    try:
        found = Decimal(str(amount))
    except InvalidOperation:
        found = Decimal("NaN")
    if type(amount) is bool or not math.isfinite(found) or found < 0:
        message = "spend_limit must be a finite number of US dollars, 0 or more"
        raise ConfigurationError(message)
    return found
