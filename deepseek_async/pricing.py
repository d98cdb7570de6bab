"""What an answer costs: one dated price table, peak hours, exact arithmetic.

Prices as published on 2026-11-15 at https://api-docs.deepseek.com/quick_start/pricing
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from msgspec import Struct

PRICES_AS_OF: Final = date(2026, 11, 15)
"""When the built-in table was read off the price page."""

_BEIJING: Final = timezone(timedelta(hours=8))
_MILLION: Final = 1_000_000
_PEAK_HOURS_UTC: Final = ((1, 4), (6, 10))
_SATURDAY: Final = 5


class Price(Struct, frozen=True, kw_only=True):
    """The off-peak price of a model in US dollars per million tokens.

    Attributes:
        cache_hit: Input read from the context cache.
        cache_miss: Other input.
        output: Output, reasoning included.
        peak_factor: What everything costs more at peak hours.
    """

    cache_hit: Decimal
    cache_miss: Decimal
    output: Decimal
    peak_factor: Decimal = Decimal(2)


_FLASH: Final = Price(
    cache_hit=Decimal("0.003"), cache_miss=Decimal("0.15"), output=Decimal("0.60")
)
_PRO: Final = Price(
    cache_hit=Decimal("0.022"), cache_miss=Decimal("0.66"), output=Decimal("1.98")
)

PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "deepseek-flash": _FLASH,
        "deepseek-v4-flash": _FLASH,
        "deepseek-v4-flash-vision-exp": _FLASH,
        "deepseek-v4-pro": _PRO,
        # Retired names; what answers under them today is billed as flash.
        "deepseek-chat": _FLASH,
        "deepseek-reasoner": _FLASH,
    }
)
"""Model name to price; pass a mapping of your own where it is out of date."""


def _days(first: tuple[int, int, int], days: int) -> list[date]:
    return [date(*first) + timedelta(days=offset) for offset in range(days)]


HOLIDAYS: Final[frozenset[date]] = frozenset(
    _days((2026, 1, 1), 3)
    + _days((2026, 2, 15), 9)
    + _days((2026, 4, 4), 3)
    + _days((2026, 5, 1), 5)
    + _days((2026, 6, 19), 3)
    + _days((2026, 9, 25), 3)
    + _days((2026, 10, 1), 7)
)
"""Chinese public holidays known to this version, by Beijing date: no peak hours then.

The calendar of a year is announced late in the year before; an unlisted holiday is
counted as an ordinary day, which errs on the expensive side.
"""


def is_peak(at: datetime, *, holidays: Collection[date] = HOLIDAYS) -> bool:
    """Whether peak prices apply.

    Peak hours are 01:00-04:00 and 06:00-10:00 UTC, Monday to Friday.

    Args:
        at: A time with a time zone.
        holidays: Beijing dates without peak hours.

    Raises:
        ValueError: The time has no time zone.
    """
    if at.tzinfo is None:
        message = "a time without a time zone cannot be priced"
        raise ValueError(message)
    local = at.astimezone(_BEIJING)
    if local.weekday() >= _SATURDAY or local.date() in holidays:
        return False
    hour = at.astimezone(UTC).hour
    return any(first <= hour < last for first, last in _PEAK_HOURS_UTC)


class TokenCounts(Protocol):
    """What a price is computed from; `Usage` has it."""

    @property
    def prompt_tokens(self) -> int:
        """Input tokens, cache hits and misses together."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Input tokens served from the context cache."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Output tokens, reasoning included."""
        ...


def cost(
    usage: TokenCounts,
    model: str,
    *,
    at: datetime | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Decimal | None:
    """What an answer cost in US dollars.

    Args:
        usage: Its token counts.
        model: The model asked for.
        at: When it was asked; now if not given.
        prices: The price table, `PRICES` if not given.

    Returns:
        The exact amount, or `None` for a model that is not in the table.

    Raises:
        ValueError: The time has no time zone.
    """
    price = (PRICES if prices is None else prices).get(model)
    if price is None:
        return None
    return _amount(usage, price, is_peak=is_peak(at or datetime.now(UTC)))


def sum_costs(*costs: Decimal | None) -> Decimal | None:
    """Add what several answers cost.

    Args:
        *costs: US dollars, `None` for an answer without a price.

    Returns:
        The sum; `None` if one of them is not known.
    """
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if len(known) == len(costs) else None


def _amount(usage: TokenCounts, price: Price, *, is_peak: bool) -> Decimal:
    # The counts come from the server: a negative one must not give money back.
    hit = max(0, usage.cached_tokens)
    miss = max(0, usage.prompt_tokens - hit)
    output = max(0, usage.completion_tokens)
    return Rate(price=price, is_peak=is_peak).amount(hit, miss, output)


class Rate(Struct, frozen=True, kw_only=True):
    """A price at a time of day.

    Attributes:
        price: The price.
        is_peak: Whether peak prices apply.
    """

    price: Price
    is_peak: bool

    def amount(self, hit: int, miss: int, output: int) -> Decimal:
        """What tokens cost at this rate, in US dollars.

        Args:
            hit: Input tokens read from the context cache.
            miss: Other input tokens.
            output: Output tokens.
        """
        price = self.price
        amount = (
            hit * price.cache_hit + miss * price.cache_miss + output * price.output
        ) / _MILLION
        return amount * price.peak_factor if self.is_peak else amount


@lru_cache(maxsize=256)
def _rate(price: Price, hour: int) -> Rate:
    return Rate(price=price, is_peak=_is_peak_hour(hour))


@lru_cache(maxsize=64)
def _is_peak_hour(hour: int) -> bool:
    """Whether an hour, counted from the Unix epoch, has peak prices."""
    try:
        return is_peak(datetime.fromtimestamp(hour * 3_600, UTC))
    except (ValueError, OverflowError, OSError):
        return True  # no real time: err on the expensive side


class Bill(Struct, frozen=True, kw_only=True):
    """What decides the price of one call besides its token counts.

    Attributes:
        model: The model asked for.
        at: When it was asked, as Unix time in seconds.
        prices: The client's own price table, `None` for `PRICES`.
        is_free: Whether nothing is charged: the answer came from a cache.
    """

    model: str
    at: float
    prices: Mapping[str, Price] | None = None
    is_free: bool = False

    def cost(self, usage: TokenCounts) -> Decimal | None:
        """What the call cost in US dollars.

        Args:
            usage: The token counts of its answer.

        Returns:
            The exact amount, or `None` where the model has no price.
        """
        if self.is_free:
            return Decimal(0)
        rate = self.rate()
        if rate is None:
            return None
        return _amount(usage, rate.price, is_peak=rate.is_peak)

    def rate(self) -> Rate | None:
        """The rate the call is charged at, `None` where the model has no price."""
        price = (PRICES if self.prices is None else self.prices).get(self.model)
        return None if price is None else _rate(price, int(self.at // 3_600))
