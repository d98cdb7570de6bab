"""What a batch may cost, and the arithmetic that never exceeds it.

Before a request is sent, the most it can cost is set aside; its real cost replaces
that afterwards. A request that died on its way may have been billed all the same, so
what was set aside for it stays spent. The sum therefore never passes the ceiling, as
long as requests say `max_tokens`; without it, the output is guessed.

Money is counted in whole nano-dollars: at the published prices every token costs a
whole number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Final, TypeAlias

from msgspec import Struct

from ..errors import ConfigurationError
from ..pricing import Price, is_peak
from .results import Finished, Tokens

NANO: Final = 1_000_000_000
_PER_TOKEN: Final = 1000  # dollars per million tokens -> nano-dollars per token
GUESSED_OUTPUT: Final = 8192
"""Tokens that an answer without a bound is taken for, until longer ones come."""

_BOUNDARY: Final = timedelta(minutes=15)
_IMAGE: Final = b'"image_url"'
_IMAGE_TOKENS: Final = 4096


Prices: TypeAlias = tuple[int, int, int]
"""Nano-dollars for a token: cache hit, cache miss, output."""


class Budget(Struct, kw_only=True, frozen=True):
    """Ceilings of a batch; `None` means none.

    Attributes:
        max_cost: US dollars, what a resumed journal has cost before included.
        max_tokens: Input and output tokens together, those of before included.
        max_failures: Failed requests.
        max_failure_ratio: Failed requests as a share of all finished ones, judged
            from the 20th on.
        wall_time: Seconds from the start of the run, after which nothing more is
            sent; what is on the wire then is waited for.
    """

    max_cost: Decimal | float | str | None = None
    max_tokens: int | None = None
    max_failures: int | None = None
    max_failure_ratio: float | None = None
    wall_time: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "max_failure_ratio" and _is_ceiling(value) and value > 1:
                message = "Budget.max_failure_ratio is a share: at most 1"
                raise ConfigurationError(message)
            if value is None or (_is_ceiling(value) and name in _MAY_BE_BROKEN):
                continue
            if not (_is_ceiling(value) and isinstance(value, int)):
                kind = "number" if name in _MAY_BE_BROKEN else "whole number"
                message = f"Budget.{name} must be a finite {kind} of at least 0"
                raise ConfigurationError(message)


_MAY_BE_BROKEN: Final = frozenset({"max_cost", "max_failure_ratio", "wall_time"})


def _is_ceiling(value: object) -> bool:
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return False
    return amount.is_finite() and amount >= 0


class Amount(Struct, gc=False):
    """What requests use, or may use: nano-dollars and tokens."""

    cost: int = 0
    tokens: int = 0


class Tariff:
    """Prices in nano-dollars, at peak or off peak.

    Args:
        prices: Model to price.
        now: The wall clock, with its time zone.
    """

    def __init__(
        self, prices: Mapping[str, Price], now: Callable[[], datetime]
    ) -> None:
        self._now = now
        self._prices: dict[tuple[str, bool], Prices] = {
            (model, peak): _prices(price, peak=peak)
            for model, price in prices.items()
            for peak in (False, True)
        }
        self._peak = False
        self._peak_soon = False
        self._known_until = 0.0

    def look(self, loop_time: float) -> None:
        """Read the wall clock, at most once a second."""
        if loop_time < self._known_until:
            return
        self._known_until = loop_time + 1.0
        now = self._now()
        self._peak = is_peak(now)
        self._peak_soon = self._peak or is_peak(now + _BOUNDARY)

    @property
    def at_peak(self) -> bool:
        """Whether peak prices applied at the last look."""
        return self._peak

    def knows(self, model: str) -> bool:
        """Whether the model is in the table."""
        return (model, False) in self._prices

    def both(self, model: str) -> tuple[Prices, Prices] | None:
        """The prices of a token off peak and at peak: hit, miss, output."""
        if not self.knows(model):
            return None
        return self._prices[model, False], self._prices[model, True]

    def cost(self, tokens: Tokens, model: str) -> int | None:
        """The cost of an answer in nano-dollars, `None` for an unknown model."""
        price = self._prices.get((model, self._peak))
        if price is None:
            return None
        _, hit, miss, output, _ = tokens
        return hit * price[0] + miss * price[1] + output * price[2]

    def most(self, model: str, prompt: int, output: int) -> int:
        """The most so many tokens can cost; 0 for an unknown model."""
        price = self._prices.get((model, self._peak_soon))
        return prompt * price[1] + output * price[2] if price else 0


def _prices(price: Price, *, peak: bool) -> Prices:
    factor = price.peak_factor if peak else Decimal(1)
    return (
        _nano(price.cache_hit * factor),
        _nano(price.cache_miss * factor),
        _nano(price.output * factor),
    )


def _nano(amount: Decimal) -> int:
    return int((amount * _PER_TOKEN).to_integral_value(ROUND_CEILING))


def dollars(nano: int) -> Decimal:
    """Nano-dollars as dollars."""
    return Decimal(nano) / NANO


class Ledger:
    """What was spent, what may have been, and what is set aside.

    Args:
        budget: The ceilings.
        tariff: The prices.

    Attributes:
        spent_before: Nano-dollars in the journal's records of runs before.
        tokens_before: Tokens in them.
        spent: Nano-dollars that answers cost.
        tokens: Tokens of the answers.
        uncertain: Nano-dollars that may or may not have been billed, those that runs
            before have left included.
        uncertain_tokens: Tokens of the same requests.
        reserved: Nano-dollars set aside.
        reserved_tokens: Tokens set aside.
        recorded: Nano-dollars in the journal's records of this run.
        recorded_tokens: Tokens in them.
        unpriced: Answers of models without a known price.
        has_ceilings: Whether there is a ceiling for either.
    """

    def __init__(self, budget: Budget, tariff: Tariff) -> None:
        self.tariff = tariff
        self.spent_before = self.tokens_before = 0
        self.spent = self.tokens = 0
        self.uncertain = self.uncertain_tokens = 0
        self.reserved = self.reserved_tokens = 0
        self.recorded = self.recorded_tokens = 0
        self.unpriced = 0
        self._largest_output = GUESSED_OUTPUT
        limit = budget.max_cost
        self.max_cost = None if limit is None else int(Decimal(str(limit)) * NANO)
        self.max_tokens = budget.max_tokens
        self.has_ceilings = limit is not None or budget.max_tokens is not None

    def resume(self, used: Amount, held: Amount) -> None:
        """Go on after other runs.

        Args:
            used: What they used, by their records.
            held: What they may have used beside.
        """
        self.spent_before, self.tokens_before = used.cost, used.tokens
        self.uncertain, self.uncertain_tokens = held.cost, held.tokens

    def unrecorded(self) -> tuple[int, int]:
        """The most that may have been billed, or will be, without a record of it.

        In nano-dollars and in tokens.
        """
        cost = self.spent + self.uncertain + self.reserved - self.recorded
        tokens = self.tokens + self.uncertain_tokens + self.reserved_tokens
        return cost, tokens - self.recorded_tokens

    def reserve(self, body: bytes, model: str, max_tokens: int | None) -> Amount:
        """The most a request can use.

        A token is at least one byte of text, and the JSON around a message is longer
        than the tokens that separate messages, so the input has at most as many
        tokens as the body has bytes.
        """
        prompt = len(body) + _IMAGE_TOKENS * body.count(_IMAGE)
        output = self._largest_output if max_tokens is None else max_tokens
        return Amount(self.tariff.most(model, prompt, output), prompt + output)

    def exceeded_by(self, asked: Amount) -> str | None:
        """The ceiling that a further reservation would pass, or `None`."""
        if self.max_cost is not None:
            cost = self.spent_before + self.spent + self.uncertain
            if cost + self.reserved + asked.cost > self.max_cost:
                return "cost"
        if self.max_tokens is not None:
            tokens = self.tokens_before + self.tokens + self.uncertain_tokens
            if tokens + self.reserved_tokens + asked.tokens > self.max_tokens:
                return "tokens"
        return None

    def set_aside(self, asked: Amount) -> None:
        """Make a reservation."""
        self.reserved += asked.cost
        self.reserved_tokens += asked.tokens

    def release(self, held: Amount) -> None:
        """Undo a reservation: the request was not billed."""
        self.reserved -= held.cost
        self.reserved_tokens -= held.tokens

    def forfeit(self, held: Amount) -> None:
        """The request may have been billed: count all that was set aside."""
        self.release(held)
        self.uncertain += held.cost
        self.uncertain_tokens += held.tokens

    def settle(self, held: Amount, tokens: Tokens, model: str) -> int | None:
        """Replace a reservation by the real cost.

        Returns:
            The cost in nano-dollars, or `None` for a model without a price.
        """
        self.reserved -= held.cost
        self.reserved_tokens -= held.tokens
        prompt, _, _, output, _ = tokens
        self.tokens += prompt + output
        if output > self._largest_output:
            self._largest_output = output
        cost = self.tariff.cost(tokens, model)
        if cost is None:
            self.unpriced += 1
        else:
            self.spent += cost
        return cost

    def record(self, group: Iterable[Finished]) -> None:
        """Records of the journal speak of so much from now on."""
        for finished in group:
            self.recorded += finished.cost or 0
            prompt, _, _, output, _ = finished.used
            self.recorded_tokens += prompt + output
