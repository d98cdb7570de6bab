"""Limits judged in virtual time against a simulated account."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from batch.fleet import Account
from deepseek_async import ConfigurationError
from deepseek_async.batch import Limit
from deepseek_async.batch.admission import Admission


@pytest.mark.parametrize("is_stating", [True, False])
@pytest.mark.parametrize(
    ("limit", "latency", "seconds", "share"),
    [
        (64, 1.0, 60, 0.94),
        (500, 2.0, 90, 0.93),
        (3, 1.0, 60, 0.95),
        (500, 40.0, 300, 0.93),
    ],
)
def test_a_constant_limit_is_used(
    limit: int, latency: float, seconds: float, share: float, *, is_stating: bool
) -> None:
    """Nearly all of what is admitted is used, whether or not the limit is stated."""
    for sigma in (0.0, 0.6):
        account = Account(
            [Limit.adaptive().admission],
            lambda _: limit,
            latency,
            sigma=sigma,
            is_stating=is_stating,
        )
        assert account.run(seconds) >= share


def test_refusals_are_rare_at_a_constant_stated_limit() -> None:
    """A stated limit costs at most one refusal in fifty answers."""
    for limit, latency, seconds in ((64, 1.0, 120), (500, 2.0, 120), (3, 1.0, 60)):
        account = Account(
            [Limit.adaptive().admission], _always(limit), latency, sigma=0.3
        )
        account.run(seconds)
        assert account.refused[0] <= 0.02 * account.done[0]


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_few_go_ahead_of_the_rest(*, is_answered: bool) -> None:
    """The rest waits for a moment, or for the first answer, whichever is sooner."""
    limit = Limit.adaptive(start=64).admission
    for _ in range(4):
        assert limit.admits(0.0)
        limit.sent(0.0)

    assert not limit.admits(0.1)
    assert 0 < limit.recheck_after(0.1) <= 0.05
    if is_answered:
        limit.answered(0.1)
        assert limit.admits(0.1)
    else:
        assert limit.admits(0.15)


def _always(limit: int) -> Callable[[float], int]:
    return lambda _: limit


def test_a_moving_limit_is_followed() -> None:
    """Down within a round trip, and up again within seconds."""
    account = Account(
        [Limit.adaptive().admission],
        lambda t: 16 if 30 <= t < 60 else 64,
        1.0,
        sigma=0.3,
    )
    assert account.run(90) >= 0.9


@pytest.mark.parametrize("starts", [[0.0, 0.0], [0.0, 20.0]])
@pytest.mark.parametrize("is_stating", [True, False])
def test_two_senders_share_an_account(starts: list[float], *, is_stating: bool) -> None:
    """Neither starves, even one that comes late, and little is left unused."""
    account = Account(
        [Limit.adaptive().admission, Limit.adaptive().admission],
        lambda _: 64,
        1.0,
        sigma=0.3,
        starts=starts,
        is_stating=is_stating,
    )
    used = account.run(140, from_=20)
    before = list(account.done)
    assert used >= 0.93
    account_total = sum(account.running)
    least = 0.35 if is_stating else 0.25
    assert all(now >= least * account_total for now in account.running)
    assert all(before)


def test_a_stated_limit_holds_at_once() -> None:
    """After a 429 that states a limit no more than that is admitted."""
    limit = Limit.adaptive(start=64).admission
    limit.sent(-0.2)  # the moment in which only a few may go is over
    limit.withdrawn()
    for _ in range(64):
        assert limit.admits(0.0)
        limit.sent(0.0)
    limit.rejected(0.1, 0.0, 25)

    assert limit.capacity == 25
    assert not limit.admits(0.11)
    for _ in range(38):
        limit.rejected(0.12, 0.0, 25)
    assert limit.in_flight == 25
    assert not limit.admits(1.0)
    limit.answered(1.0)
    assert limit.admits(1.0)


def test_a_stalled_loop_is_no_assent() -> None:
    """A probe counts as admitted after a silence of the server's, not of the loop's."""
    limit = Limit.adaptive(start=64).admission
    for _ in range(64):
        limit.sent(0.0)
    for _ in range(39):
        limit.rejected(0.005, 0.0, 25)
    now = 1.0
    while limit.capacity == 25:
        now += 0.02
        limit.answered(now)
        limit.sent(now)
    limit.sent(now)
    assert (limit.capacity, limit.in_flight) == (26, 26)

    now += 1.0  # its refusal lies in the socket meanwhile
    assert not limit.admits(now)
    for _ in range(4):
        now += 0.04
        limit.admits(now)
    assert limit.capacity == 28


def test_refusals_without_a_number_are_counted() -> None:
    """What was not refused had been admitted: that is the new limit, less a little."""
    limit = Limit.adaptive(start=100).admission
    for _ in range(100):
        limit.sent(0.0)
    for _ in range(40):
        limit.rejected(0.1, 0.0, None)

    assert not limit.admits(0.15)
    assert not limit.admits(0.3)
    assert limit.capacity == 57


def test_refusals_sent_before_the_cut_do_not_cut_again() -> None:
    """One burst is one cut, however large it was and however late it comes."""
    limit = Limit.adaptive(start=100).admission
    for _ in range(100):
        limit.sent(0.0)
    for _ in range(40):
        limit.rejected(0.1, 0.0, None)
    limit.admits(0.3)
    before = limit.capacity
    limit.rejected(0.31, 0.0, None)
    limit.admits(0.9)

    assert limit.capacity == before


def test_overload_is_no_refusal() -> None:
    """Failures of the server lower the limit once in a while, not one by one."""
    limit = Limit.adaptive(start=100).admission
    for _ in range(100):
        limit.sent(0.0)
    for number in range(50):
        limit.answered(0.2) if number % 3 else limit.failed(0.2)

    assert limit.capacity == 70


def test_an_outage_is_probed_by_one_request_a_second() -> None:
    """When nobody is answered, one request a second goes, until one is answered."""
    limit = Limit.fixed(20).admission
    for _ in range(20):
        limit.sent(0.0)
    for _ in range(20):
        limit.failed(1.0)

    assert limit.in_outage
    assert limit.admits(1.0)
    limit.sent(1.0)
    assert not limit.admits(1.5)
    assert limit.recheck_after(1.5) == pytest.approx(0.5)
    assert limit.admits(2.0)
    limit.answered(2.1)
    assert limit.admits(2.1)
    assert limit.recheck_after(2.1) == inf


def test_one_request_that_always_fails_is_no_outage() -> None:
    """Repeated failures of the same request do not count."""
    limit = Limit.fixed(4).admission
    for _ in range(50):
        limit.sent(0.0)
        limit.failed(0.0, is_new=False)

    assert not limit.in_outage


def test_other_calls_take_from_what_batches_may_use() -> None:
    """Requests that are not of a batch go first."""
    limit = Limit.fixed(10).admission

    assert limit.admits(0.0, others=9)
    assert not limit.admits(0.0, others=10)


@pytest.mark.parametrize("limit", [Limit.fixed(10), Limit.adaptive(start=10, most=10)])
def test_other_calls_starve_no_batch(limit: Limit) -> None:
    """Where they leave nothing, one request at a time goes after a moment."""
    admission = limit.admission
    assert not admission.admits(5.0, others=10)
    assert not admission.admits(5.2, others=10)
    assert admission.admits(5.25, others=10)
    admission.sent(5.25)
    assert not admission.admits(8.0, others=10)
    admission.answered(9.0)
    assert not admission.admits(9.0, others=10)
    assert admission.admits(9.25, others=10)


def test_starving_begins_anew_after_a_while() -> None:
    """Room that nobody wanted, or a pause, is no time spent waiting for it."""
    admission = Limit.fixed(1).admission
    assert not admission.admits(10.0, others=1)
    assert not admission.admits(100.0, others=1)
    assert admission.admits(100.25, others=1)


def _first() -> None:
    """The listener of a batch."""


def _second() -> None:
    """That of another."""


def test_a_place_that_cannot_be_shared_goes_to_each_in_turn() -> None:
    """Whoever was served longest ago has it, if it wants it."""
    admission = Limit.fixed(3).admission
    admission.listeners += [_first, _second]
    admission.hungry = {_second}
    assert not admission.owes(0, _first)
    assert not admission.owes(1, _first)
    assert admission.owes(2, _first)

    admission.served(_first)
    assert admission.listeners == [_second, _first]
    assert admission.owes(1, _first)
    admission.hungry = {_first}
    assert not admission.owes(1, _second)


def test_other_calls_make_shares_smaller() -> None:
    """What they take is taken from each batch."""
    admission = Limit.fixed(4).admission
    admission.listeners += [_first, _second]
    admission.hungry = {_second}
    assert not admission.owes(1, _first)
    assert admission.owes(1, _first, others=2)


def test_set_changes_it_at_once() -> None:
    """A limit can be changed while it is in use."""
    limit = Limit.adaptive(start=4, most=8)
    limit.set(20)

    assert limit.capacity == 20
    assert limit.history[-1].reason == "set"
    assert "0 of 20" in repr(limit)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limit.fixed(0),
        lambda: Limit.fixed(True),  # noqa: FBT003 - refused, that is the point
        lambda: Limit.adaptive(start=0),
        lambda: Limit.adaptive(most=3, least=4),
        lambda: Limit.fixed(5).set(0),
    ],
    ids=["zero", "bool", "start", "order", "set"],
)
def test_nonsense_is_refused(make: Callable[[], object]) -> None:
    """A limit is a whole number of at least 1."""
    with pytest.raises(ConfigurationError):
        make()


# The first requests, and what they tell


def _first_four(start: int = 32) -> Admission:
    limit = Limit.adaptive(start=start).admission
    for _ in range(4):
        assert limit.admits(0.0)
        limit.sent(0.0)
    assert not limit.admits(0.0)
    return limit


def _fill(limit: Admission, now: float) -> int:
    """Send what is admitted; how many are on the wire then."""
    while limit.admits(now):
        limit.sent(now)
    return limit.in_flight


def test_one_refusal_among_the_first_is_soon_outgrown() -> None:
    """Of four requests one learns whether there is room, not how much."""
    limit = _first_four()
    limit.rejected(0.01, 0.0, None)

    seen = [_fill(limit, 0.05 * tick) for tick in range(1, 40)]

    assert max(seen[:10]) <= 3
    assert seen[-1] >= 32


def test_a_failure_among_the_first_says_nothing_of_room() -> None:
    """The rest follows at once: only answers among many end a streak of failures."""
    limit = _first_four()
    limit.failed(0.01)

    assert _fill(limit, 0.01) == 32


def test_the_first_are_waited_for_from_when_they_are_sent() -> None:
    """However long the first row takes."""
    limit = Limit.adaptive(start=32).admission
    assert limit.admits(0.0)
    assert _fill(limit, 5.0) == 4
    assert _fill(limit, 5.1) == 4
    assert _fill(limit, 5.2) == 32


def test_a_given_number_needs_no_feeling() -> None:
    """Who sets the limit knows it."""
    limit = _first_four()
    limit.set(100, 0.0)

    assert _fill(limit, 0.0) == 100
