"""Outages simulated on a clock of their own: retries neither pile up nor march in step.

The figures are printed by `python -m benchmarks.outage`.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

from deepseek_async.retry import RetryBudget, RetryPolicy

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.outage import (
    BINS,
    LOADS,
    OUTAGES,
    Figures,
    is_browned_out,
    is_down,
    simulate,
)

CALLS = 5_000


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("seed", range(3))
def test_an_outage_costs_little_more_than_a_call_each(
    outage: str, load: float, seed: int
) -> None:
    """With the defaults no outage costs more than 1.2 attempts a call."""
    found = simulate(OUTAGES[outage], calls=CALLS, load=load, seed=seed)

    assert 1.0 < found.amplification <= 1.2


def test_without_a_budget_it_would_cost_more() -> None:
    """It is the budget that bounds it: the policy alone makes three attempts."""
    unbounded = RetryBudget(reserve=1e9, ceiling=2e9)
    found = simulate(is_down, calls=500, load=100.0, budget=unbounded)

    assert found.amplification == 3.0


@pytest.mark.parametrize("attempts", [2, 5, 50])
def test_patience_of_a_policy_does_not_matter(attempts: int) -> None:
    """However often a policy would try, the budget bounds what is sent."""
    policy = RetryPolicy(attempts=attempts)
    found = simulate(is_down, calls=CALLS, load=100.0, policy=policy)

    assert found.amplification <= 1.2


def test_no_second_is_flooded() -> None:
    """Under a busy load no second sees much more than was asked of it."""
    found = simulate(is_down, calls=20_000, load=1_000.0)

    assert found.worst_second(1_000.0) < 1.3


def spread(found: Figures) -> float:
    """The share of first retries in the fullest twentieth of the longest wait."""
    return found.fullest_share(RetryPolicy().base)


def test_calls_that_fail_together_are_not_repeated_together() -> None:
    """Of calls that fail in the same instant the retries are spread evenly."""
    unbounded = RetryBudget(reserve=1e9, ceiling=2e9)
    found = simulate(
        is_browned_out, calls=CALLS, load=1.0, budget=unbounded, together=True
    )

    assert len(found.waits) > CALLS / 3
    assert spread(found) < 1.5 / BINS
    assert min(found.waits) < 0.01
    assert max(found.waits) > 0.49
    # A uniform spread over the half second has a deviation of 0.5 / sqrt(12).
    assert statistics.stdev(found.waits) == pytest.approx(0.1443, abs=0.01)


def test_spread_would_show_retries_in_step() -> None:
    """The measure of spread is 1 for waits without jitter, so that it can fail."""
    found = simulate(is_down, calls=100, load=100.0)
    found.waits = [RetryPolicy().base] * 100

    assert spread(found) == 1.0


def test_a_crowd_that_fails_at_once_spends_what_it_has_earned() -> None:
    """A burst has one reserve for all: ten retries and a tenth of its calls."""
    found = simulate(is_down, calls=1_000, load=1.0, together=True)

    assert found.attempts <= 1_000 + 10 + 100 + 1
    assert found.attempts >= 1_000 + 100


def test_recovery_comes_by_itself() -> None:
    """After a long outage the first calls that succeed pay for retries again."""
    budget = RetryBudget()
    simulate(is_down, calls=1_000, load=1_000.0, budget=budget)
    assert budget.balance < 1

    found = simulate(
        lambda _now, rng: rng.random() < 0.95, calls=CALLS, load=100.0, budget=budget
    )

    assert found.answered / CALLS > 0.99
    assert found.amplification < 1.1


def test_the_simulation_repeats() -> None:
    """The same seed gives the same figures, another seed other ones."""
    runs = [simulate(is_browned_out, calls=300, load=50.0, seed=s) for s in (1, 1, 2)]

    assert runs[0] == runs[1] != runs[2]
