"""Whether to try again, and after how long; and that an outage is not amplified."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from deepseek_async import errors
from deepseek_async.codec import status_error, stream_error
from deepseek_async.errors import ConfigurationError, DeepSeekError
from deepseek_async.retry import RETRIED_STATUS, RetryBudget, RetryPolicy

BUSY = status_error(503, {}, b"")
TIMEOUTS = [
    errors.ConnectTimeoutError,
    errors.ResponseHeadTimeoutError,
    errors.FirstPayloadTimeoutError,
    errors.PayloadGapTimeoutError,
    errors.SilenceTimeoutError,
]


def most(low: float, high: float) -> float:
    """Jitter that always draws the greatest wait."""
    assert low == 0
    return high


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_statuses_are_retried(status: int) -> None:
    """What may work the next time is tried again."""
    assert RetryPolicy().allows(status_error(status, {}, b""))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 422, 501, 505])
def test_lasting_statuses_are_not_retried(status: int) -> None:
    """What will fail again is not repeated."""
    assert not RetryPolicy().allows(status_error(status, {}, b""))
    assert status not in RETRIED_STATUS


@pytest.mark.parametrize(
    ("error", "allowed"),
    [
        (errors.ConnectError("x"), True),
        (errors.ConnectionLostError("x"), True),
        (errors.StreamInterruptedError("x"), True),
        (errors.EmptyResponseError("x"), True),
        (errors.DeadlineExceededError("x", limit=1), False),
        (errors.UnexpectedContentTypeError("x"), False),
        (errors.ResponseTooLargeError("x"), False),
        (errors.ResponseDecodeError("x"), False),
        (errors.InvalidRequestError("x"), False),
        (errors.ClientClosedError(), False),
        (errors.StreamClosedError(), False),
        (stream_error({"type": "server_error"}, b""), True),
        (stream_error({"type": "invalid_request_error"}, b""), False),
        *((cls("x", limit=1), False) for cls in TIMEOUTS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_the_kind_of_error_decides(error: DeepSeekError, allowed: bool) -> None:  # noqa: FBT001
    """Lost connections and empty answers are repeated, nonsense and our own are not."""
    assert RetryPolicy().allows(error) is allowed


@pytest.mark.parametrize("cls", TIMEOUTS)
def test_timeouts_are_repeated_on_request(cls: type[errors.APITimeoutError]) -> None:
    """Whoever does not fear to be billed twice can have clocks repeated."""
    assert RetryPolicy(timeouts=True).allows(cls("x", limit=1))
    late = errors.DeadlineExceededError("x", limit=1)
    assert not RetryPolicy(timeouts=True).allows(late)


def test_attempts_bound_the_retries() -> None:
    """After the last attempt there is none, and one attempt means no retry."""
    policy = RetryPolicy(attempts=3, base=0)

    assert [policy.wait(n, BUSY) for n in (1, 2, 3, 4)] == [0, 0, None, None]
    assert RetryPolicy(attempts=1).wait(1, BUSY) is None
    assert policy.wait(1, status_error(401, {}, b"")) is None


def test_waits_double_up_to_the_cap() -> None:
    """The greatest wait doubles at each attempt and then stays."""
    policy = RetryPolicy(attempts=10_000, base=0.5, cap=8)

    assert [policy.wait(n, BUSY, most) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert policy.wait(9_999, BUSY, most) == 8


def test_jitter_is_full() -> None:
    """Waits are spread over the whole range, so that clients do not march in step."""
    rng = random.Random(1)  # noqa: S311
    policy = RetryPolicy(base=1, cap=8)
    waits = [policy.wait(1, BUSY, rng.uniform) or 0.0 for _ in range(2_000)]

    assert 0 <= min(waits) < 0.01
    assert 0.99 < max(waits) <= 1
    assert sum(waits) / len(waits) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("3", 3),  # more than the backoff
        ("0.1", 0.5),  # less than the backoff
        ("0", 0.5),
        ("60", 60),
        ("60.1", None),  # too long to wait for
        ("86400000", None),
        ("-5", 0.5),  # nonsense is as if not sent
        ("nan", 0.5),
        ("inf", 0.5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.5),
        ("Fri, 01 Jan 2999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_the_least_wait(asked: str, expected: float | None) -> None:
    """The server's wish is respected within bounds; beyond them there is no retry."""
    error = status_error(429, {"retry-after": asked}, b"")

    assert RetryPolicy(base=0.5).wait(1, error, most) == expected


@pytest.mark.parametrize(
    "kwargs",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"attempts": 2.0},
        {"attempts": True},
        {"attempts": None},
        {"base": -0.1},
        {"base": math.inf},
        {"base": math.nan},
        {"base": "1"},
        {"cap": -1},
        {"cap": math.inf},
        {"cap": True},
        {"retry_after_cap": -1},
        {"retry_after_cap": math.nan},
        {"retry_after_cap": None},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(kwargs: dict[str, Any]) -> None:
    """Nonsense is found when the policy is made, and the field is named."""
    with pytest.raises(ConfigurationError, match=f"RetryPolicy.{next(iter(kwargs))}"):
        RetryPolicy(**kwargs)


def attempts_in_outage(calls: int, per_second: float, attempts: int = 6) -> int:
    """Attempts that many calls make while the server answers none."""
    policy, budget = RetryPolicy(attempts=attempts, base=0), RetryBudget()
    made, now = 0, 1_000.0
    for _ in range(calls):
        now += 1 / per_second
        budget.earn()
        for number in range(1, attempts + 1):
            made += 1
            if policy.wait(number, BUSY) is None or not budget.spend(now):
                break
    return made


@pytest.mark.parametrize("per_second", [10, 100, 5_000])
def test_an_outage_is_not_amplified(per_second: float) -> None:
    """However patient the policy, an outage costs at most 1.2 attempts a call."""
    assert attempts_in_outage(20_000, per_second) / 20_000 <= 1.2


def test_a_quiet_client_has_all_its_retries() -> None:
    """A call now and then is retried as often as its policy says."""
    assert attempts_in_outage(50, per_second=0.01, attempts=4) == 200


def test_a_budget_of_one_client_does_not_run_dry_in_good_times() -> None:
    """Calls that succeed earn retries, up to a ceiling."""
    budget = RetryBudget(ceiling=12)
    for _ in range(1_000):
        budget.earn()

    assert budget.balance == pytest.approx(12, abs=0.11)
    assert sum(budget.spend(5.0) for _ in range(50)) == 12


def test_time_refills_the_reserve_and_no_more() -> None:
    """An idle client gets its reserve back; a clock that goes back earns nothing."""
    budget = RetryBudget(reserve=3, per_second=1)
    assert [budget.spend(10.0) for _ in range(4)] == [True, True, True, False]

    assert not budget.spend(10.5)
    assert not budget.spend(3.0)
    assert budget.spend(5.0)
    budget.spend(1_000.0)
    assert budget.balance == 2
    assert repr(budget) == "RetryBudget(balance=2.0)"
