"""The clocks: limits, and the arithmetic of when one runs out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from deepseek_async import errors
from deepseek_async.errors import ConfigurationError
from deepseek_async.timeouts import (
    NEVER,
    BodyClock,
    Timeouts,
    connect_error,
    deadline_error,
    head_error,
)

LIMITS = Timeouts(first_payload=60, payload_gap=20, silence=30)


@pytest.mark.parametrize("name", Timeouts.__struct_fields__)
@pytest.mark.parametrize(
    "value", [0, -1, 0.0, math.nan, True, "5", [], -math.inf], ids=repr
)
def test_a_limit_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    """Only positive numbers and `None` are limits, and the field is named."""
    with pytest.raises(ConfigurationError, match=f"Timeouts.{name}"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("value", [1, 0.001, None, math.inf])
def test_limits_are_numbers_or_none(value: float | None) -> None:
    """Whole numbers, fractions, infinity and `None` are taken."""
    for name in Timeouts.__struct_fields__:
        assert getattr(Timeouts(**{name: value}), name) == value


def test_the_defaults_let_a_queued_request_live() -> None:
    """The server may queue for ten minutes, and no default ends a healthy stream."""
    defaults = Timeouts()

    assert defaults.first_payload is not None
    assert defaults.first_payload > 600
    assert defaults.deadline is None


@pytest.mark.parametrize(("seconds", "connect"), [(5, 5), (60, 10), (None, 10)])
def test_one_number_limits_every_wait(seconds: float | None, connect: float) -> None:
    """`timeout=` means each wait on the server and not the whole call."""
    made = Timeouts.uniform(seconds)

    assert made.connect == connect
    assert made.head == made.first_payload == made.silence == seconds
    assert made.payload_gap == seconds
    assert made.deadline is None


@pytest.mark.parametrize("seconds", [0, -3, math.nan])
def test_one_number_must_make_sense(seconds: float) -> None:
    """Nonsense is refused here too."""
    with pytest.raises(ConfigurationError):
        Timeouts.uniform(seconds)


def test_nothing_is_due_while_the_reader_is_busy() -> None:
    """A slow reader is not the server's fault; only the deadline runs on."""
    clock = BodyClock(LIMITS)
    assert clock.due() == (NEVER, "deadline")

    clock = BodyClock(LIMITS, deadline_at=500)
    clock.wait(100)
    clock.received(10)
    assert clock.due() == (500, "deadline")
    assert clock.waited(130) == 30


def test_silence_is_wound_by_any_byte() -> None:
    """Keep-alives move the silence clock, and no other."""
    clock = BodyClock(LIMITS)
    clock.wait(100)
    assert clock.due() == (130, "silence")

    for now in (110, 120, 125):
        clock.received(1)
        clock.wait(now)
    assert clock.due() == (155, "silence")

    clock.received(1)
    clock.wait(140)
    assert clock.due() == (160, "first_payload")
    assert clock.waited(145) == 45
    assert clock.bytes_received == 4


def test_endless_keep_alives_do_not_keep_a_dead_stream_alive() -> None:
    """Fed every second for ever, the first-payload clock still runs out."""
    clock = BodyClock(LIMITS)
    now = 0.0
    clock.wait(now)
    while clock.due()[0] > now:
        now += 1
        clock.received(14)
        clock.wait(now)

    assert clock.due() == (60, "first_payload")
    assert now == 60


def test_the_gap_begins_with_the_wait_for_the_next_payload() -> None:
    """Once content has come, the gap clock stands in for the first-payload clock."""
    clock = BodyClock(LIMITS)
    clock.wait(100)
    clock.received(50)
    clock.paid(2)
    assert clock.waited(105) == 0
    clock.wait(110)
    assert clock.due() == (130, "payload_gap")

    clock.received(14)
    clock.wait(125)
    assert clock.due() == (130, "payload_gap")
    assert clock.payloads == 2


def test_the_deadline_wins_when_it_is_first() -> None:
    """Whichever comes first is the one that is due."""
    clock = BodyClock(LIMITS, deadline_at=105)
    clock.wait(100)

    assert clock.due() == (105, "deadline")


def test_switched_off_clocks_are_never_due() -> None:
    """With every clock off a wait may last for ever."""
    clock = BodyClock(Timeouts(first_payload=None, payload_gap=None, silence=None))
    clock.wait(100)
    assert clock.due()[0] == NEVER
    assert clock.smallest == NEVER
    clock.paid(1)
    clock.wait(200)
    assert clock.due()[0] == NEVER
    assert BodyClock(LIMITS).smallest == 20


@pytest.mark.parametrize(
    ("name", "cls", "limit"),
    [
        ("first_payload", errors.FirstPayloadTimeoutError, 60),
        ("payload_gap", errors.PayloadGapTimeoutError, 20),
        ("silence", errors.SilenceTimeoutError, 30),
        ("deadline", errors.DeadlineExceededError, math.inf),
    ],
)
def test_each_clock_has_its_error(name: str, cls: type, limit: float) -> None:
    """The error names the clock and tells what had arrived."""
    clock = BodyClock(LIMITS)
    clock.received(99)
    clock.paid(3)
    clock.keep_alives = 7

    error = clock.error(name, "trace-1")

    assert type(error) is cls
    assert error.clock == name
    assert error.limit == limit
    assert (error.bytes_received, error.keep_alives, error.payloads) == (99, 7, 3)
    assert error.request_id == "trace-1"
    assert f"Timeouts.{name}" in str(error)
    assert "7 keep-alives" in str(error)


def test_an_error_says_when_there_was_no_keep_alive() -> None:
    """Queued or dead: the text tells one from the other."""
    assert "no keep-alive" in str(BodyClock(LIMITS).error("silence", None))


@pytest.mark.parametrize(
    ("make", "cls"),
    [
        (connect_error, errors.ConnectTimeoutError),
        (head_error, errors.ResponseHeadTimeoutError),
        (deadline_error, errors.DeadlineExceededError),
    ],
)
def test_the_clocks_before_the_body_have_errors_too(make: Any, cls: Any) -> None:
    """Each names its limit and its setting."""
    error = make(2.5)

    assert type(error) is cls
    assert error.limit == 2.5
    assert f"2.5 s; see Timeouts.{cls.clock}" in str(error)
