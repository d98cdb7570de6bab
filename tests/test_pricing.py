"""What an answer costs: exact amounts, peak hours, holidays."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from deepseek_async.pricing import PRICES, PRICES_AS_OF, Bill, Price, cost, is_peak
from deepseek_async.types import PromptTokensDetails, Usage

QUIET = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)  # a Wednesday
PEAK = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)
MILLION = Usage(
    prompt_tokens=2_000_000,
    completion_tokens=1_000_000,
    prompt_cache_hit_tokens=1_000_000,
    prompt_cache_miss_tokens=1_000_000,
)


@pytest.mark.parametrize(
    ("model", "quiet"),
    [
        ("deepseek-flash", "0.753"),
        ("deepseek-v4-flash", "0.753"),
        ("deepseek-chat", "0.753"),
        ("deepseek-v4-pro", "2.662"),
    ],
)
def test_published_prices(model: str, quiet: str) -> None:
    """A million tokens of each kind cost what the price page says, twice at peak."""
    assert cost(MILLION, model, at=QUIET) == Decimal(quiet)
    assert cost(MILLION, model, at=PEAK) == 2 * Decimal(quiet)


def test_amounts_are_exact() -> None:
    """A single token costs its exact fraction, and amounts add up."""
    single = Usage(prompt_tokens=1, completion_tokens=1)

    amount = cost(single, "deepseek-flash", at=QUIET)

    assert amount == Decimal("0.00000075")
    assert amount is not None
    assert sum([amount] * 1_000_000, Decimal(0)) == Decimal("0.75")


def test_cached_tokens_count_wherever_they_are_reported() -> None:
    """Hits in the details only are priced as hits."""
    usage = Usage(
        prompt_tokens=1_000_000,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=1_000_000),
    )

    assert cost(usage, "deepseek-flash", at=QUIET) == Decimal("0.003")


def test_nonsense_counts_never_pay_back() -> None:
    """More hits than input do not make the rest negative."""
    usage = Usage(prompt_tokens=5, prompt_cache_hit_tokens=1_000_000)

    assert cost(usage, "deepseek-flash", at=QUIET) == Decimal("0.003")


def test_unknown_models_have_no_price() -> None:
    """No price is better than a wrong one; a table of one's own has it."""
    assert cost(MILLION, "deepseek-v9", at=QUIET) is None
    mine = Price(cache_hit=Decimal(1), cache_miss=Decimal(2), output=Decimal(3))
    assert cost(MILLION, "deepseek-v9", at=QUIET, prices={"deepseek-v9": mine}) == 6


def test_without_a_time_it_is_now() -> None:
    """The present decides between peak and off-peak."""
    usage = Usage(completion_tokens=1_000_000)

    assert cost(usage, "deepseek-flash") in {Decimal("0.60"), Decimal("1.20")}


@pytest.mark.parametrize(
    ("at", "peak"),
    [
        ((2026, 11, 18, 0, 59, 59), False),
        ((2026, 11, 18, 1, 0, 0), True),
        ((2026, 11, 18, 3, 59, 59), True),
        ((2026, 11, 18, 4, 0, 0), False),
        ((2026, 11, 18, 5, 59, 0), False),
        ((2026, 11, 18, 6, 0, 0), True),
        ((2026, 11, 18, 9, 59, 59), True),
        ((2026, 11, 18, 10, 0, 0), False),
        ((2026, 11, 16, 2, 0, 0), True),  # Monday
        ((2026, 11, 20, 2, 0, 0), True),  # Friday
        ((2026, 11, 21, 2, 0, 0), False),  # Saturday
        ((2026, 11, 22, 2, 0, 0), False),  # Sunday
        ((2026, 10, 1, 2, 0, 0), False),  # a public holiday
        ((2026, 10, 8, 2, 0, 0), True),  # the day after the last
    ],
)
def test_peak_hours(at: tuple[int, int, int, int, int, int], peak: bool) -> None:  # noqa: FBT001
    """Weekdays 01:00-04:00 and 06:00-10:00 UTC, holidays excepted."""
    moment = datetime(*at, tzinfo=UTC)

    assert is_peak(moment) is peak
    assert is_peak(moment.astimezone(timezone(timedelta(hours=-9)))) is peak


def test_holidays_are_the_callers_to_add() -> None:
    """A calendar of one's own replaces the built-in one."""
    assert is_peak(PEAK)
    assert not is_peak(PEAK, holidays={date(2026, 11, 18)})
    assert is_peak(datetime(2026, 10, 1, 2, tzinfo=UTC), holidays=())


def test_a_time_without_a_zone_has_no_price() -> None:
    """Local time of an unknown place is refused rather than guessed."""
    with pytest.raises(ValueError, match="time zone"):
        is_peak(datetime(2026, 11, 18, 2))  # noqa: DTZ001
    with pytest.raises(ValueError, match="time zone"):
        cost(MILLION, "deepseek-flash", at=datetime(2026, 11, 18, 2))  # noqa: DTZ001


def test_the_table_is_dated_and_fixed() -> None:
    """The built-in prices say of when they are, and cannot be changed by accident."""
    assert date(2026, 11, 15) == PRICES_AS_OF
    with pytest.raises(TypeError):
        PRICES["deepseek-flash"] = PRICES["deepseek-v4-pro"]  # type: ignore[index]


def test_a_bill_keeps_what_the_price_depends_on() -> None:
    """The same tokens cost what model, hour and table of their call say."""
    quiet = Bill(model="deepseek-flash", at=QUIET.timestamp())
    peak = Bill(model="deepseek-flash", at=PEAK.timestamp())
    mine = Price(cache_hit=Decimal(1), cache_miss=Decimal(2), output=Decimal(3))
    own = Bill(model="mine", at=QUIET.timestamp(), prices={"mine": mine})

    assert quiet.cost(MILLION) == Decimal("0.753")
    assert peak.cost(MILLION) == Decimal("1.506")
    assert own.cost(MILLION) == 6
    assert Bill(model="unheard of", at=0).cost(MILLION) is None
    assert Bill(model="deepseek-flash", at=0, is_free=True).cost(MILLION) == 0


def test_an_absurd_time_is_priced_on_the_expensive_side() -> None:
    """A time no calendar has does not make an answer cheap, or fail."""
    assert Bill(model="deepseek-flash", at=1e18).cost(MILLION) == Decimal("1.506")


def test_negative_counts_are_nothing() -> None:
    """A server that counts backwards pays nobody."""
    usage = Usage(prompt_tokens=-5, completion_tokens=-7, prompt_cache_hit_tokens=-9)

    assert cost(usage, "deepseek-flash", at=QUIET) == 0
