"""The runner: retries, outages, ceilings, controls, and what the reader gets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from batch.fakes import (
    QUICK,
    FakeWire,
    answer_to,
    ask,
    asks,
    collect,
    make,
    refusal,
)
from deepseek_async import (
    AuthenticationError,
    BadRequestError,
    ChatCompletion,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeepSeekError,
    DeepSeekWarning,
    EmptyResponseError,
    InsufficientBalanceError,
    InternalServerError,
    ResponseHeadTimeoutError,
    RetryPolicy,
    ServiceUnavailableError,
    UnexpectedContentTypeError,
)
from deepseek_async.batch import (
    BatchFailed,
    BatchOk,
    BatchStoppedError,
    Budget,
    CancelledItemError,
    Limit,
    Progress,
    Rates,
)
from deepseek_async.request import WireRequest


def mixed(generator: random.Random) -> DeepSeekError | None:
    """One of six faults in every twenty requests."""
    return generator.choice(
        [
            InternalServerError("oops", status=500),
            ServiceUnavailableError("busy", status=503),
            ConnectionLostError("reset"),
            EmptyResponseError("nothing"),
            UnexpectedContentTypeError("half"),
            ResponseHeadTimeoutError("silence", limit=1.0),
        ]
    )


async def test_mixed_faults_cost_few_requests_and_no_row() -> None:
    """With faults on 5 % of the requests all rows are answered, with few repeats."""
    generator = random.Random(3)  # noqa: S311 - a simulation
    wire = FakeWire()
    wire.fail(lambda _: mixed(generator) if generator.random() < 0.05 else None)
    batch = make(wire, asks(2_000), 50)

    done = await collect(batch)

    assert all(result.ok for result in done)
    assert sum(wire.seen.values()) <= 2_000 * 1.1
    assert batch.report.retries == sum(wire.seen.values()) - 2_000
    tried = next(result for result in done if len(result.attempts) > 1)
    assert tried.attempts[-1].outcome == "ok"
    assert [a.number for a in tried.attempts] == list(range(1, len(tried.attempts) + 1))


async def test_a_retry_waits_outside_its_slot() -> None:
    """While a failed request waits, its slot serves others."""
    wire = FakeWire(RetryPolicy(attempts=2, base=3600.0, cap=3600.0))
    wire.fail(lambda text: ConnectError("no") if text.endswith(" 0") else None)
    batch = make(wire, asks(20), 1)

    async with batch:
        early = [(await anext(aiter(batch))).index for _ in range(19)]
        assert sorted(early) == list(range(1, 20))


async def test_refusals_are_not_failures() -> None:
    """A request may be refused more often than it has attempts."""
    wire = FakeWire(RetryPolicy(attempts=2, base=0.001, cap=0.001))
    refused = 0

    def error(text: str) -> DeepSeekError | None:
        nonlocal refused
        if text.endswith(" 1") and refused < 6:
            refused += 1
            return refusal()
        return None

    wire.fail(error)
    batch = make(wire, asks(4), 4)

    done = await collect(batch)

    assert all(result.ok for result in done)
    assert batch.report.refused == 6
    assert batch.report.retries == 0


async def test_one_attempt_means_one_attempt() -> None:
    """Without retries a refusal is the request's own failure."""
    wire = FakeWire(RetryPolicy(attempts=1))
    wire.fail(lambda _: refusal())

    (failed,) = await collect(make(wire, asks(1)))

    assert isinstance(failed, BatchFailed)
    assert [a.status for a in failed.attempts] == [429]


async def test_a_stated_limit_is_obeyed_at_once() -> None:
    """After the first refusal that states a limit, that many are on the wire."""
    wire = FakeWire()
    begun = admitted = most_after = 0
    have_all_begun = asyncio.Event()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        nonlocal begun, admitted, most_after
        begun += 1
        if begun == 64:
            have_all_begun.set()
        if batch.report.refused:
            most_after = max(most_after, limit.in_flight)
        try:
            if admitted >= 25:
                await have_all_begun.wait()
                raise refusal(25)
            admitted += 1
            await asyncio.sleep(0.1)
            admitted -= 1
            return answer_to(request)
        finally:
            begun -= 1

    wire.reply = reply
    limit = Limit.adaptive(start=64, most=64)
    batch = make(wire, asks(400), limit)

    done = await collect(batch)

    assert all(result.ok for result in done)
    # One probe above it is paid for by the answers so far.
    assert most_after <= 25 + 2
    assert batch.report.refused <= 64 - 25 + 8


async def test_an_outage_costs_no_attempts() -> None:
    """While nobody is answered, rows wait for the server instead of failing."""
    wire = FakeWire(RetryPolicy(attempts=2, base=0.001, cap=0.002))
    is_down = False
    sends_while_down = 0

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        nonlocal sends_while_down
        if is_down:
            sends_while_down += 1
            raise ConnectError("no route")
        await asyncio.sleep(0.002)
        return answer_to(request)

    def come_back() -> None:
        nonlocal is_down
        is_down = False

    wire.reply = reply
    batch = make(wire, asks(3_000), 32)
    done: list[Any] = []
    async with batch:
        async for result in batch:
            done.append(result)
            if len(done) == 200:
                is_down = True
                asyncio.get_running_loop().call_later(1.5, come_back)

    assert len(done) == 3_000
    failed = [result for result in done if not result.ok]
    assert len(failed) <= 32  # those whose attempts were spent when it began
    assert sends_while_down < 200


@pytest.mark.parametrize("order", ["input", "completed"])
@pytest.mark.parametrize("places", [1, 2, 3])
async def test_a_low_limit_sees_an_outage_too(places: int, order: str) -> None:
    """As many rows are tried as it takes to tell, and none of them fails."""
    wire = FakeWire(RetryPolicy(attempts=5, base=0.02, cap=0.1))
    limit = Limit.fixed(places)
    probes = 0

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        nonlocal probes
        if wire.seen.total() >= 10 and probes < 2:
            probes += limit.admission.in_outage
            raise ServiceUnavailableError("no", status=503)
        return answer_to(request)

    wire.reply = reply
    done = await collect(make(wire, asks(40), limit, order=order))

    assert probes == 2
    assert [result for result in done if not result.ok] == []


class WatchedWire(FakeWire):
    """Counts how often an engine looks for something to send."""

    looks = 0

    def other_calls(self) -> int:
        self.looks += 1
        return 0

    async def looks_in(self, seconds: float) -> int:
        before = self.looks
        await asyncio.sleep(seconds)
        return self.looks - before


async def test_many_bad_rows_and_a_slow_reader_are_waited_for() -> None:
    """Not looked at again and again until the reader goes on."""
    wire = WatchedWire()
    done: list[bool] = []
    async with make(wire, [{"model": 3}] * 600, 2) as batch:
        async for result in batch:
            done.append(result.ok)
            if len(done) == 1:
                assert await wire.looks_in(0.2) < 10

    assert done == [False] * 600


async def test_a_group_that_may_go_and_a_slow_reader_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests with a common beginning are not looked at before there is room."""
    monkeypatch.setattr("deepseek_async.batch.runner.SETTLE", 0.01)
    wire = WatchedWire()
    rows = asks(30)
    for number, row in enumerate(rows):
        beginning = f"{number % 3} is what it is about. " * 400
        row["messages"].insert(0, {"role": "system", "content": beginning})
    done: list[bool] = []
    async with make(wire, rows, 2) as batch:
        async for result in batch:
            done.append(result.ok)
            if len(done) == 1:
                assert await wire.looks_in(0.5) < 20

    assert done == [True] * 30


async def test_probes_that_hang_are_waited_for() -> None:
    """In an outage, with every place taken, there is nothing to look at."""
    wire = WatchedWire(RetryPolicy(attempts=99, base=0.001, cap=0.01))
    limit = Limit.fixed(2)
    hanging = asyncio.Event()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        if not limit.admission.in_outage:
            raise ServiceUnavailableError("no", status=503)
        if wire.now == 2:
            hanging.set()
        await asyncio.Event().wait()
        return answer_to(request)

    wire.reply = reply
    async with make(wire, asks(40), limit) as batch:
        await hanging.wait()
        assert await wire.looks_in(1.5) < 20
        batch.stop(drain=False)


async def test_a_server_that_stays_away_ends_the_batch() -> None:
    """After `patience` without an answer the batch ends, and says so."""
    wire = FakeWire()
    answered = 0

    def error(_: str) -> DeepSeekError | None:
        nonlocal answered
        answered += 1
        return None if answered <= 5 else ConnectError("no route")

    wire.fail(error)
    with pytest.raises(BatchStoppedError, match="stopped answering") as caught:
        await collect(make(wire, asks(1_000), 8, patience=0.3))
    assert caught.value.reason == "stalled"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AuthenticationError("bad key", status=401), "authentication"),
        (InsufficientBalanceError("no money", status=402), "balance"),
    ],
)
async def test_a_refused_account_ends_the_batch(
    error: DeepSeekError, reason: str, tmp_path: Path
) -> None:
    """Nothing more is sent, and the rows stay open in the journal."""
    wire = FakeWire()
    wire.fail(lambda _: error)

    with pytest.raises(BatchStoppedError) as caught:
        await collect(make(wire, asks(1_000), 4, tmp_path / "j"))

    assert caught.value.reason == reason
    assert sum(wire.seen.values()) < 10
    again = FakeWire()
    assert len(await collect(make(again, asks(1_000), 4, tmp_path / "j"))) == 1_000


async def test_a_systematic_failure_ends_the_batch() -> None:
    """When the first requests all fail alike, the rest is not wasted."""
    wire = FakeWire()
    wire.fail(lambda _: BadRequestError("model not exist", status=400))

    with pytest.raises(BatchStoppedError, match=r"alike.*model not exist"):
        await collect(make(wire, asks(1_000), 4))

    assert sum(wire.seen.values()) < 40


async def test_the_cost_ceiling_is_never_passed() -> None:
    """With random output up to `max_tokens`, over fifty runs, the sum stays below."""
    for seed in range(50):
        generator = random.Random(seed)  # noqa: S311 - a simulation
        wire = FakeWire()

        async def reply(
            request: WireRequest, _: str, generator: random.Random = generator
        ) -> ChatCompletion:
            await asyncio.sleep(0)
            if generator.random() < 0.05:
                raise ConnectionLostError("who knows")
            return answer_to(
                request,
                prompt=generator.randint(20, len(request.body)),
                output=generator.randint(0, 100),
            )

        wire.reply = reply
        ceiling = Decimal("0.002")
        batch = make(
            wire, asks(400, max_tokens=100), 16, budget=Budget(max_cost=ceiling)
        )
        with pytest.raises(BatchStoppedError, match="max_cost"):
            await collect(batch)

        report = batch.report
        assert report.cost + report.uncertain_cost <= ceiling
        assert report.cost + report.uncertain_cost > ceiling * Decimal("0.9")


async def test_the_ceiling_counts_what_runs_before_have_cost(tmp_path: Path) -> None:
    """A resumed journal has the same ceiling, not a fresh one."""
    budget = Budget(max_cost="0.0006")
    wire = FakeWire()
    with pytest.raises(BatchStoppedError):
        await collect(make(wire, asks(500, max_tokens=5), 4, tmp_path, budget=budget))
    spent = sum(wire.seen.values())
    again = FakeWire()
    with pytest.raises(BatchStoppedError):
        await collect(make(again, asks(500, max_tokens=5), 4, tmp_path, budget=budget))

    assert spent > 10
    assert sum(again.seen.values()) <= 2


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(max_tokens=2_000), "tokens"),
        (Budget(max_failures=5), "failures"),
        (Budget(max_failure_ratio=0.2), "failure_ratio"),
        (Budget(wall_time=0.05), "wall_time"),
    ],
)
async def test_every_ceiling_ends_the_batch(budget: Budget, reason: str) -> None:
    """Tokens, failures, their ratio and time have ceilings too."""
    wire = FakeWire()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        await asyncio.sleep(0.001)
        if int(text.split()[1]) % 3 == 1 and budget.max_tokens is None:
            raise BadRequestError("no", status=400)
        return answer_to(request)

    wire.reply = reply
    with pytest.raises(BatchStoppedError) as caught:
        await collect(make(wire, asks(10_000, max_tokens=10), 4, budget=budget))

    assert caught.value.reason == reason
    assert sum(wire.seen.values()) < 5_000


@pytest.mark.parametrize("most", [200_000, 200_000.0, 199_999.5])
async def test_the_ceiling_counts_output_asked_for_in_any_way(most: float) -> None:
    """Also a float that goes past the checks in `extra_body`."""
    wire = FakeWire()
    row = ask("q", extra_body={"max_tokens": most})

    with pytest.raises(BatchStoppedError) as caught:
        await collect(make(wire, [row], budget=Budget(max_cost="0.01")))

    assert caught.value.reason == "cost"
    assert not wire.seen


async def test_a_model_without_a_price_cannot_have_a_ceiling() -> None:
    """Such a row fails before it is sent."""
    wire = FakeWire()
    rows = [{**ask("x"), "model": "mystery"}, ask("y", max_tokens=5)]

    done = await collect(make(wire, rows, budget=Budget(max_cost=1)))

    assert sorted(result.ok for result in done) == [False, True]
    assert list(wire.seen) == ["y"]


async def test_identical_requests_are_sent_once() -> None:
    """At temperature 0 and by request, doubles get the answer of the first."""
    wire = FakeWire()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await asyncio.sleep(0.01)
        return answer_to(request)

    wire.reply = reply
    rows = [ask(f"q{n % 5}", temperature=0) for n in range(60)]
    rows += [ask("warm", temperature=0.7)] * 3
    batch = make(wire, rows, 4, dedupe=True)

    done = await collect(batch)

    assert len(done) == 63
    assert all(result.ok for result in done)
    assert {text: count for text, count in wire.seen.items() if text != "warm"} == {
        f"q{n}": 1 for n in range(5)
    }
    assert wire.seen["warm"] == 3
    assert batch.report.deduped == 55


async def test_a_double_of_a_failed_request_goes_itself() -> None:
    """A failure is not fanned out."""
    wire = FakeWire()
    failures = 0

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        nonlocal failures
        await asyncio.sleep(0.01)
        failures += 1
        if failures == 1:
            raise BadRequestError("no", status=400)
        return answer_to(request)

    wire.reply = reply
    done = await collect(make(wire, [ask("q", temperature=0)] * 4, 4, dedupe=True))

    assert sorted(result.ok for result in done) == [False, True, True, True]


async def test_a_deadline_spans_all_attempts() -> None:
    """A row that is not answered in time fails, its waits included."""
    wire = FakeWire(RetryPolicy(attempts=50, base=0.05, cap=0.05))
    wire.fail(lambda text: ConnectError("no") if text.endswith(" 0") else None)

    done = await collect(make(wire, asks(3), deadline=0.1))

    (failed,) = [result for result in done if not result.ok]
    assert isinstance(failed, BatchFailed)
    assert type(failed.error).__name__ == "DeadlineExceededError"
    assert failed.latency < 1


async def test_one_request_can_be_cancelled() -> None:
    """It ends with an error of its own, on the wire or waiting; the rest goes on."""
    wire = FakeWire()
    gate = asyncio.Event()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        if text.endswith(" 1"):
            await gate.wait()
        return answer_to(request)

    wire.reply = reply
    batch = make(wire, asks(5), 2)
    async with batch:
        first = await anext(aiter(batch))
        while not wire.seen["question 1"]:  # noqa: ASYNC110 - it is counted, not told
            await asyncio.sleep(0)
        assert batch.cancel("1")
        assert not batch.cancel("no such key")
        done = [first, *[result async for result in batch]]

    (failed,) = [result for result in done if not result.ok]
    assert isinstance(failed, BatchFailed)
    assert isinstance(failed.error, CancelledItemError)
    assert failed.key == "1"
    assert len(done) == 5


async def test_pause_and_resume() -> None:
    """While paused nothing is sent; afterwards it goes on."""
    wire = FakeWire()
    batch = make(wire, asks(100), 2)
    async with batch:
        await anext(aiter(batch))
        batch.pause()
        for _ in range(50):
            await asyncio.sleep(0)
        sent = sum(wire.seen.values())
        assert batch.progress.state == "paused"
        await asyncio.sleep(0.02)
        assert sum(wire.seen.values()) == sent
        batch.resume()
        rest = [result async for result in batch]
    assert len(rest) == 99


@pytest.mark.parametrize("how", ["pause", "stop", "wall_time"])
async def test_a_slow_request_function_cannot_outrun_it(how: str) -> None:
    """Not a whole round of rows is made once nothing more is to be sent."""
    made: list[int] = []

    def request(row: int) -> dict[str, Any]:
        made.append(row)
        if how == "wall_time":
            sleep(0.02)  # it blocks, as a function that renders or tokenizes does
        elif row == 10:
            batch.pause() if how == "pause" else batch.stop()
            loop.call_soon(lambda: loop.call_soon(batch.stop))
        return ask(str(row))

    loop = asyncio.get_running_loop()
    budget = Budget(wall_time=0.1) if how == "wall_time" else None
    batch = make(FakeWire(), range(400), 300, request=request, budget=budget)
    with suppress(BatchStoppedError):
        await collect(batch)

    assert len(made) <= 11


async def test_the_limit_can_be_changed_live() -> None:
    """A raised limit takes effect at once: as many come as wait for one another."""
    wire, all_there = FakeWire(), asyncio.Event()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        if batch.limit.capacity == 20:
            if wire.now == 20:
                all_there.set()
            await all_there.wait()
        await asyncio.sleep(0.005)
        return answer_to(request)

    wire.reply = reply
    batch = make(wire, asks(200), 2)
    async with asyncio.timeout(5.0), batch:
        async for result in batch:
            if result.index == 10:
                assert wire.most_seen == 2
                batch.set_limit(20)
    assert wire.most_seen == 20


async def test_a_report_knows_how_far_a_limit_grew() -> None:
    """Steady growth is no change in the history, but it is in the sums."""
    wire = FakeWire()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await asyncio.sleep(0.05)
        return answer_to(request)

    wire.reply = reply
    limit = Limit.adaptive(start=4)
    batch = make(wire, asks(150), limit)

    await collect(batch)

    assert limit.capacity > 4
    assert [change.reason for change in batch.report.limits] == ["start", "end"]
    assert f"4 to {limit.capacity}\n" in batch.report.to_table()


async def test_stop_drains_what_is_on_the_wire() -> None:
    """After `stop` no request begins, and those under way are handed out."""
    wire = FakeWire()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await asyncio.sleep(0.01)
        return answer_to(request)

    wire.reply = reply
    batch = make(wire, asks(1_000), 5)
    async with batch:
        first = await anext(aiter(batch))
        sent = sum(wire.seen.values())
        batch.stop()
        rest = [result async for result in batch]

    assert sum(wire.seen.values()) == sent
    assert len([first, *rest]) == sent
    assert batch.report.stop_reason == "stopped"


async def test_stop_at_once_records_what_is_complete(tmp_path: Path) -> None:
    """Without draining, requests on the wire stay open in the journal."""
    wire = FakeWire()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        if int(text.split()[1]) >= 10:
            await asyncio.Event().wait()
        return answer_to(request)

    wire.reply = reply
    batch = make(wire, asks(100), 5, tmp_path)
    async with batch:
        done = [await anext(aiter(batch)) for _ in range(10)]
        batch.stop(drain=False)
        rest = [result async for result in batch]

    assert (len(done), rest) == (10, [])
    assert wire.now == 0
    again = FakeWire()
    assert len(await collect(make(again, asks(100), 5, tmp_path))) == 90


@pytest.mark.filterwarnings("always")
def test_a_warning_of_a_row_names_who_started_the_loop() -> None:
    """A batch is a task: of its frames, asyncio's say nothing to its user."""

    async def run() -> None:
        await collect(make(FakeWire(), [ask("q", max_completion_tokens=10)]))

    with pytest.warns(DeepSeekWarning, match="max_tokens") as caught:
        asyncio.run(run())

    assert {warning.filename for warning in caught} == {__file__}


async def test_two_batches_share_a_limit() -> None:
    """Together they never exceed it, and neither starves."""
    wire = FakeWire()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await asyncio.sleep(0.001)
        return answer_to(request)

    wire.reply = reply
    limit = Limit.fixed(6)
    order: list[str] = []

    async def run(name: str) -> None:
        async with make(wire, asks(300), limit) as batch:
            async for _ in batch:
                order.append(name)  # noqa: PERF401

    await asyncio.gather(run("a"), run("b"))

    assert wire.most_seen == 6
    assert limit.in_flight == 0
    half = order[:300].count("a")
    assert 75 <= half <= 225


async def test_other_calls_of_the_client_go_first() -> None:
    """What others have under way is taken from the batch's slots."""
    wire = FakeWire()
    wire.others = 7

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await asyncio.sleep(0.001)
        return answer_to(request)

    wire.reply = reply
    batch = make(wire, asks(50), 8)
    async with batch:
        for _ in range(10):
            await anext(aiter(batch))
        assert wire.most_seen == 1
        wire.others = 0
        _ = [result async for result in batch]
    assert wire.most_seen == 8


async def test_a_paused_batch_takes_no_turn() -> None:
    """It wanted a slot before, but does not keep it from the other batch."""
    wire, limit = FakeWire(), Limit.fixed(1)
    paused, going = make(wire, asks(50), limit), make(wire, asks(50), limit)
    async with asyncio.timeout(5.0), paused, going:
        for _ in range(3):
            await anext(aiter(paused))
            await anext(aiter(going))
        paused.pause()
        done = [result async for result in going]
        paused.resume()
        done += [result async for result in paused]

    assert len(done) == 2 * 50 - 2 * 3


async def test_rates_are_kept() -> None:
    """With requests per minute, a second's worth goes at once and no more."""
    wire = FakeWire()
    batch = make(wire, asks(50), 50, rates=Rates(requests_per_minute=600))
    async with batch:
        await asyncio.sleep(0.3)
        assert 10 <= sum(wire.seen.values()) <= 16


async def test_off_peak_waits_for_the_price() -> None:
    """At peak hours nothing is sent."""
    wire = FakeWire()
    now = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)
    batch = make(wire, asks(5), off_peak=True, now=lambda: now)
    async with batch:
        await asyncio.sleep(0.05)
        assert not wire.seen
        assert batch.progress.state == "off-peak"
        now = datetime(2026, 11, 18, 5, 0, tzinfo=UTC)
        assert len([result async for result in batch]) == 5


async def test_progress_is_shown() -> None:
    """The function given is told how far it is, and the report agrees."""
    shown: list[Progress] = []
    wire = FakeWire()
    batch = make(wire, asks(30), progress=shown.append)

    await collect(batch)

    assert shown
    assert "in flight" in str(shown[0])
    report = batch.report
    assert (report.ok, report.failed, report.attempts) == (30, 0, 30)
    assert report.prompt_tokens == 600
    assert report.cost > 0
    assert "answered" in report.to_table()
    assert b'"ok":30' in report.to_json()


async def test_a_batch_that_ends_early_foretells_nothing() -> None:
    """The rest of the input is not to come, so no time and no cost is told for it."""
    wire = FakeWire()
    batch = make(wire, asks(100), 2, total=100)
    async with batch:
        assert batch.progress.eta is None  # nothing is known yet
        for _ in range(10):
            await anext(batch)
        before = batch.progress
        batch.stop()
        after = batch.progress
        rest = [result async for result in batch]

    assert len(rest) < 90
    assert before.eta is not None
    assert before.projected_cost is not None
    assert (after.eta, after.projected_cost) == (None, None)
    assert "to go" in str(before)
    assert "to go" not in str(after)


async def test_an_answer_the_server_gave_up_is_asked_for_again() -> None:
    """`insufficient_system_resource` is no answer."""
    wire = FakeWire()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        answer = answer_to(request)
        if wire.seen[text] == 1:
            answer.choices[0].finish_reason = "insufficient_system_resource"
        return answer

    wire.reply = reply
    (done,) = await collect(make(wire, asks(1)))

    assert isinstance(done, BatchOk)
    assert done.completion.finish_reason == "stop"


async def test_a_fault_of_the_wire_itself_is_raised() -> None:
    """An exception that is no error of the API ends the batch with itself."""
    wire = FakeWire()

    async def reply(*_: object) -> ChatCompletion:
        raise ZeroDivisionError

    wire.reply = reply
    with pytest.raises(ZeroDivisionError):
        await collect(make(wire, asks(100)))


async def test_a_slow_async_source_does_not_hold_up_retries() -> None:
    """While the source waits, retries go on."""
    wire = FakeWire(QUICK)
    first = True

    def error(_: str) -> DeepSeekError | None:
        nonlocal first
        failed, first = first, False
        return ConnectError("no") if failed else None

    wire.fail(error)
    gate = asyncio.Event()

    async def source() -> AsyncIterator[dict[str, Any]]:
        yield ask("one")
        await gate.wait()
        yield ask("two")

    batch = make(wire, source())
    async with batch:
        assert (await anext(aiter(batch))).ok
        gate.set()
        assert (await anext(aiter(batch))).ok


@pytest.mark.parametrize(
    "options",
    [
        {"order": "random"},
        {"shard": (2, 2)},
        {"deadline": 0},
        {"patience": -1},
        {"unknown": 1},
        {"request": 5},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """They are refused when the batch is made."""
    with pytest.raises(ConfigurationError):
        make(FakeWire(), [], **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"order": ["input"]}, "order must be 'completed' or 'input'"),
        ({"journal": 5}, "journal must be the path"),
        ({"key": 5}, "key must be the name of a column"),
        ({"defaults": 5}, "defaults must be a mapping"),
        ({"overrides": [1]}, "overrides must be a mapping"),
        ({"total": -1}, "total must be a whole number"),
        ({"total": 1.5}, "total must be a whole number"),
        ({"retry": 3}, r"retry must be a RetryPolicy, such as RetryPolicy\("),
        ({"retry_failed": None}, "retry_failed must be True or False"),
        ({"budget": 1.5}, r"budget must be a Budget, such as Budget\(max_cost"),
        ({"deadline": "x"}, "deadline must be a positive number of seconds"),
        ({"deadline": True}, "deadline must be a positive number of seconds"),
        ({"off_peak": 1}, "off_peak must be True or False"),
        ({"rates": 60}, r"rates must be a Rates, such as Rates\("),
        ({"prices": 3}, "prices must be a mapping"),
        ({"prices": {"m": 1}}, "the price of 'm' must be a Price"),
        ({"prefix_order": "no"}, "prefix_order must be True or False"),
        ({"dedupe": "no"}, "dedupe must be True or False"),
        ({"progress": 3}, "progress must be True, False or a function"),
        ({"signals": "yes"}, "signals must be True or False"),
        ({"patience": None}, "patience must be a positive number of seconds"),
        ({"on_progress": print}, "no option 'on_progress': did you mean progress?"),
        ({"max_cost": 1}, "no option 'max_cost'$"),
        ({"concurency": 1}, "no option 'concurency': did you mean concurrency?"),
    ],
)
def test_a_wrong_option_is_told_with_what_it_takes(
    options: dict[str, Any], told: str
) -> None:
    """The message names the option, before anything is sent."""
    wire = FakeWire()

    with pytest.raises(ConfigurationError, match=told):
        make(wire, [ask("a")], **options)

    assert not wire.seen


@pytest.mark.parametrize("rate", [0, -1, "60", True, float("nan")])
def test_rates_that_make_no_sense_are_refused(rate: Any) -> None:
    """A rate is a number above 0."""
    with pytest.raises(ConfigurationError, match=r"Rates.requests_per_minute"):
        Rates(requests_per_minute=rate)


@pytest.mark.parametrize(
    "fields", [{"max_cost": -1}, {"max_cost": "x"}, {"max_tokens": -5}]
)
def test_budgets_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    """A ceiling is a number of at least 0."""
    with pytest.raises(ConfigurationError):
        Budget(**fields)
