"""What a hostile server, file, caller or moment does to a batch."""

# Small local files, read and made between the runs.
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from batch.fakes import FakeWire, answer_to, ask, asks, collect, make, refusal
from deepseek_async import (
    AuthenticationError,
    BadRequestError,
    ChatCompletion,
    ConfigurationError,
    ConnectionLostError,
    DeepSeekWarning,
    InternalServerError,
    InvalidRequestError,
    PermissionDeniedError,
    RetryPolicy,
    ServiceUnavailableError,
)
from deepseek_async.batch import (
    BatchError,
    BatchFailed,
    BatchOk,
    BatchStoppedError,
    Budget,
    CancelledItemError,
    JournalError,
    JournalMismatchError,
    Progress,
    Settings,
    SourceError,
)
from deepseek_async.batch.catalogue import Catalogue, read_results
from deepseek_async.batch.export import export
from deepseek_async.batch.journal import Journal, read_manifest, segments
from deepseek_async.batch.plan import make_plan
from deepseek_async.batch.record import is_whole, seal
from deepseek_async.batch.storage import is_locked
from deepseek_async.batch.upkeep import merge, repair, status
from deepseek_async.request import WireRequest


async def never(*_: object) -> ChatCompletion:
    await asyncio.Event().wait()
    raise AssertionError


# Requests


async def test_the_retry_policy_of_the_batch_counts() -> None:
    """`retry=` stands above the client's own."""
    wire = FakeWire(RetryPolicy(attempts=5, base=0.001, cap=0.001))
    wire.fail(lambda _: InternalServerError("oops", status=500))

    (failed,) = await collect(make(wire, asks(1), retry=RetryPolicy(attempts=1)))

    assert not failed.ok
    assert sum(wire.seen.values()) == 1


@pytest.mark.parametrize("is_iterator", [False, True])
async def test_a_changed_request_is_seen_whatever_it_is_made_of(
    tmp_path: Path, *, is_iterator: bool
) -> None:
    """Values that JSON does not have do not hide that the prompt is another."""

    def rows(what: str) -> list[dict[str, Any]]:
        message = {"role": "user", "content": what}
        messages = iter([message]) if is_iterator else [message]
        headers = MappingProxyType({"x-team": "a"})
        return [
            {
                "model": "deepseek-flash",
                "messages": messages,
                "extra_headers": headers,
            }
        ]

    await collect(make(FakeWire(), rows("translate"), journal=tmp_path))
    again = FakeWire()
    await collect(make(again, rows("translate"), journal=tmp_path))
    assert not again.seen

    with pytest.raises(JournalMismatchError):
        await collect(make(FakeWire(), rows("summarise"), journal=tmp_path))


@pytest.mark.parametrize("options", [{}, {"order": "input"}])
async def test_a_key_that_is_no_unicode_is_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Such a row fails before it is sent, and the others are answered."""
    rows = [("a", ask("1")), ("\ud800x", ask("2")), ("c", ask("3"))]
    wire = FakeWire()

    done = await collect(make(wire, rows, 1, tmp_path, **options))

    assert sorted(r.ok for r in done) == [False, True, True]
    assert "2" not in wire.seen
    assert [r.ok for r in read_results(tmp_path)] == [True, False, True]


async def test_a_fault_while_a_result_is_taken_ends_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised to the reader, who does not wait for ever."""

    def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("deepseek_async.batch.runner.to_line", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(collect(make(FakeWire(), asks(9), 1, tmp_path)), 10)
    assert not status(tmp_path).is_running


# Sources


async def test_a_source_that_raises_when_closed_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    """The reader gets the error, and the journal is free again."""

    async def source() -> AsyncIterator[dict[str, Any]]:
        try:
            for row in asks(100):
                yield row
        finally:
            raise ZeroDivisionError

    async def read() -> None:
        async with make(FakeWire(), source(), 2, tmp_path) as batch:
            async for _ in batch:
                batch.stop()

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(read(), 10)
    assert not status(tmp_path).is_running


async def test_a_source_that_is_cancelled_is_not_at_its_end() -> None:
    """A `CancelledError` of its own is told like any other failure."""

    async def source() -> AsyncIterator[dict[str, Any]]:
        yield ask("1")
        inner = asyncio.create_task(asyncio.Event().wait())
        inner.cancel()
        await inner

    with pytest.raises(SourceError, match="cancelled"):
        await collect(make(FakeWire(), source()))


async def test_a_truncated_zst_file_is_told(tmp_path: Path) -> None:
    """Half a file is not taken for a whole one."""
    zstd = pytest.importorskip("backports.zstd")
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in asks(1_000))
    packed = zstd.compress(lines)
    path = tmp_path / "in.jsonl.zst"
    path.write_bytes(packed[: len(packed) // 2])

    with pytest.raises(SourceError, match=r"cannot be read|no rows"):
        await collect(make(FakeWire(), path))


async def test_columns_of_one_name_are_told(tmp_path: Path) -> None:
    """One of two columns would be lost otherwise."""
    path = tmp_path / "in.csv"
    path.write_text("text,text\na,b\n")

    with pytest.raises(SourceError, match="several columns of the name 'text'"):
        await collect(make(FakeWire(), path, request="{text}"))


async def test_dates_and_decimals_stand_in_prompts_as_they_are() -> None:
    """Tables have them, and JSON would put quotes round them."""
    wire = FakeWire()
    rows = [{"price": Decimal("1.50")}]
    defaults = {"model": "deepseek-flash"}

    await collect(make(wire, rows, request="costs {price}", defaults=defaults))

    assert list(wire.seen) == ["costs 1.50"]


# Money


async def test_negative_limits_and_counts_lower_no_sum() -> None:
    """Neither a row with a negative `max_tokens` nor an answer's usage does."""
    wire = FakeWire()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        if msgspec.json.decode(request.body)["max_tokens"] < 0:
            await asyncio.sleep(0.01)
            raise BadRequestError("Invalid max_tokens value", status=400)
        output = -(10**6) if text.endswith(" 3") else 100
        return answer_to(request, output=output)

    wire.reply = reply
    rows = asks(200, max_tokens=100)
    rows[1]["max_tokens"] = -(10**7)
    budget = Budget(max_cost="0.003")
    batch = make(wire, rows, 4, budget=budget)

    with pytest.raises(BatchStoppedError, match="max_cost"):
        await collect(batch)

    assert 0 < batch.report.cost <= Decimal("0.003")


@pytest.mark.parametrize(
    "fields",
    [
        {"max_cost": float("inf")},
        {"max_cost": float("nan")},
        {"max_tokens": "100"},
        {"max_tokens": 1.5},
        {"max_failures": "1"},
    ],
)
def test_ceilings_are_finite_numbers(fields: dict[str, Any]) -> None:
    """Others are refused when they are given."""
    with pytest.raises(ConfigurationError):
        Budget(**fields)


@pytest.mark.parametrize("shard", [(1,), ("0", "2"), None, (0.5, 2), (True, 2)])
def test_shards_are_two_whole_numbers(shard: Any) -> None:
    """Others are refused when the batch is made."""
    with pytest.raises(ConfigurationError, match="shard"):
        make(FakeWire(), [], shard=shard)


async def test_merging_keeps_what_superseded_records_cost(tmp_path: Path) -> None:
    """A row that failed at a price and then succeeded has cost both."""
    wire = FakeWire()

    async def give_up(request: WireRequest, _: str) -> ChatCompletion:
        answer = answer_to(request, output=5_000)
        answer.choices[0].finish_reason = "aborted"
        return answer

    wire.reply = give_up
    (failed,) = await collect(make(wire, asks(1), journal=tmp_path / "a"))
    assert not failed.ok
    await collect(make(FakeWire(), asks(1), journal=tmp_path / "a"))
    before = status(tmp_path / "a")

    merged = merge(tmp_path / "all", [tmp_path / "a"])

    assert merged.ok == 1
    assert before.cost > Decimal("0.001")
    assert merged.cost + merged.uncertain_cost == before.cost + before.uncertain_cost
    with pytest.raises(JournalError, match="twice"):
        merge(tmp_path / "b", [tmp_path / "a", tmp_path / "all" / ".." / "a"])


async def test_copies_use_no_tokens(tmp_path: Path) -> None:
    """Fifty rows answered by one request count as one, also when resumed."""
    rows = [ask("same", temperature=0)] * 50
    await collect(make(FakeWire(), rows, 4, tmp_path, dedupe=True))

    assert status(tmp_path).tokens == 25
    assert all(result.usage.prompt_tokens == 20 for result in read_results(tmp_path))


async def test_a_schema_that_mentions_a_temperature_is_not_one() -> None:
    """Only the request's own temperature makes it deterministic."""
    schema = {"type": "object", "default": {"temperature": 0}}
    function = {"name": "f", "parameters": schema}
    tools = [{"type": "function", "function": function}]
    wire = FakeWire()

    rows = [ask("same", temperature=1, tools=tools)] * 5
    await collect(make(wire, rows, dedupe=True))

    assert wire.seen["same"] == 5


async def test_repairs_do_not_make_a_job_cheaper(tmp_path: Path) -> None:
    """A lost record counts as the dearest one left, and no backup is overwritten."""
    journal = tmp_path / "j"
    await collect(make(FakeWire(), asks(5), journal=journal))
    before = status(journal)
    for _ in range(2):
        segment = segments(journal)[0]
        whole = bytearray(segment.read_bytes())
        whole[whole.index(b'"s":"ok"') + 5] ^= 1
        segment.write_bytes(whole)
        assert len(repair(journal)) == 1

    after = status(journal)
    assert after.ok == before.ok - 2
    assert after.cost + after.uncertain_cost >= before.cost
    assert len(list(journal.glob("*.damaged*"))) == 2


# Journals


async def test_a_missing_segment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are not lost in silence when a file goes."""
    monkeypatch.setattr("deepseek_async.batch.journal.SEGMENT_SIZE", 1_000)
    journal = tmp_path / "j"
    await collect(make(FakeWire(), asks(40), journal=journal))
    segments(journal)[1].unlink()

    with pytest.raises(JournalError, match=r"000001\.jsonl is missing"):
        status(journal)
    with pytest.raises(JournalError, match=r"000001\.jsonl is missing"):
        list(read_results(journal))
    with pytest.raises(JournalError, match="missing"):
        await collect(make(FakeWire(), asks(40), journal=journal))


async def test_a_line_of_an_unknown_kind_is_told(tmp_path: Path) -> None:
    """It may be of a later version, and its checksum is right."""
    await collect(make(FakeWire(), asks(2), journal=tmp_path))
    with segments(tmp_path)[0].open("ab") as file:
        file.write(seal(b'{"what":1}'))

    with pytest.raises(JournalError, match="unknown kind"):
        Journal(tmp_path, read_manifest(tmp_path).job)


@pytest.mark.parametrize("harm", ["remove", "truncate"])
async def test_a_journal_that_goes_while_in_use_is_told(
    tmp_path: Path, harm: str
) -> None:
    """A run does not end well when its results are not there any more."""
    journal = tmp_path / "j"
    with pytest.raises(JournalError, match="somebody else"):  # noqa: PT012
        async with make(FakeWire(), asks(500), 4, journal) as batch:
            done = 0
            async for _ in batch:
                done += 1
                if done == 20 and harm == "remove":
                    shutil.rmtree(journal)
                elif done == 20:
                    segments(journal)[0].write_bytes(b"")


async def test_a_journal_that_goes_at_the_very_end_is_told(tmp_path: Path) -> None:
    """Nor does it end well when only the closing line finds it gone."""
    journal = tmp_path / "j"
    done = 0

    async def source() -> AsyncIterator[dict[str, Any]]:
        try:
            for row in asks(100):
                yield row
        finally:
            while status(journal).records < done or not done:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)
            shutil.rmtree(journal)

    with pytest.raises(JournalError, match="somebody else"):  # noqa: PT012
        async with make(FakeWire(), source(), 1, journal) as batch:
            async for _ in batch:
                done += 1
                batch.stop()


async def test_exports_overwrite_nothing_they_need(tmp_path: Path) -> None:
    """Neither the journal nor one of two outputs is written over."""
    journal = tmp_path / "j"
    await collect(make(FakeWire(), asks(3), journal=journal))
    output = tmp_path / "o.jsonl"

    with pytest.raises(BatchError, match="inside of the journal"):
        export(journal, segments(journal)[0])
    with pytest.raises(BatchError, match="same file"):
        export(journal, output, errors=tmp_path / "." / "o.jsonl")

    assert status(journal).ok == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j"]


async def test_an_export_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is replaced by a whole one or not at all."""
    journal, output = tmp_path / "j", tmp_path / "o.jsonl"
    await collect(make(FakeWire(), asks(3), journal=journal))
    output.write_bytes(b"old")

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deepseek_async.batch.export.to_batch_line", fail)
    with pytest.raises(BatchError, match="No space"):
        export(journal, output)

    assert output.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j", "o.jsonl"]


async def test_looking_at_a_journal_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between runs the lock is not even tried, and during one it is seen."""
    await collect(make(FakeWire(), asks(1), journal=tmp_path))

    def fail(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr("deepseek_async.batch.storage.fcntl.flock", fail)
        assert not status(tmp_path).is_running
    async with make(FakeWire(), asks(3), journal=tmp_path):
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


async def test_a_lock_that_is_a_link_is_an_error_of_the_journal(tmp_path: Path) -> None:
    """No raw error of the system comes out of `status`."""
    journal = tmp_path / "j"
    await collect(make(FakeWire(), asks(1), journal=journal))
    (journal / "lock").unlink()
    (journal / "lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(JournalError, match="lock"):
        status(journal)


# Ends


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AuthenticationError("bad key", status=401), "authentication"),
        (PermissionDeniedError("not allowed", status=403), "permission"),
    ],
)
async def test_a_refused_key_is_told_of_one_row_too(error: Any, reason: str) -> None:
    """The row's own failure comes first, then the reason why all fail."""
    wire = FakeWire()
    wire.fail(lambda _: error)
    done: list[Any] = []

    with pytest.raises(BatchStoppedError) as caught:  # noqa: PT012
        async with make(wire, asks(1)) as batch:
            async for result in batch:
                done.append(result)  # noqa: PERF401 - raises at its end

    assert caught.value.reason == reason
    assert [result.ok for result in done] == [False]


async def test_refusals_for_ever_end_the_batch() -> None:
    """A limit that others use up makes no batch that never ends."""
    wire = FakeWire()
    wire.fail(lambda _: refusal(1))

    with pytest.raises(BatchStoppedError) as caught:
        await asyncio.wait_for(collect(make(wire, asks(50), 8, patience=0.5)), 20)

    assert caught.value.reason == "stalled"


async def test_refusals_do_not_end_what_is_being_answered() -> None:
    """While a request is on the wire for long, refusals of others are no stall."""
    wire = FakeWire()
    gate = asyncio.Event()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        if text.endswith(" 0"):
            await gate.wait()
        elif not gate.is_set():
            raise refusal(1)
        return answer_to(request)

    wire.reply = reply
    asyncio.get_running_loop().call_later(1.0, gate.set)
    done = await collect(make(wire, asks(20), 4, patience=0.3))

    assert all(result.ok for result in done)


async def test_the_first_failure_of_each_kind_is_told() -> None:
    """A report says which row failed and why, not only how many."""
    wire = FakeWire()
    wire.fail(
        lambda text: (
            BadRequestError("too hot", status=400) if text.endswith(" 2") else None
        )
    )
    batch = make(wire, [*asks(4), {"model": "deepseek-flash"}])

    await collect(batch)

    report = batch.report
    assert report.examples["BadRequestError"] == "2: too hot"
    assert "first BadRequestError: 2: too hot" in report.to_table()
    assert "requests[4]" in report.examples["InvalidRequestError"]


# Controls


async def test_a_request_that_waits_for_its_retry_can_be_cancelled() -> None:
    """It ends at once, not when its retry is due, and also while paused."""
    wire = FakeWire(RetryPolicy(attempts=2, base=3600.0, cap=3600.0))
    wire.fail(lambda _: ServiceUnavailableError("busy", status=503))
    batch = make(wire, asks(1))
    async with batch:
        while not batch.report.retries:  # noqa: ASYNC110 - it is counted, not told
            await asyncio.sleep(0)
        batch.pause()
        assert batch.cancel("0")
        result = await asyncio.wait_for(anext(aiter(batch)), 5)

    assert isinstance(result, BatchFailed)
    assert isinstance(result.error, CancelledItemError)


async def test_a_copy_can_be_cancelled() -> None:
    """A row that waits for the answer of an identical one ends without it."""
    wire = FakeWire()
    gate = asyncio.Event()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await gate.wait()
        return answer_to(request)

    wire.reply = reply
    batch = make(wire, [ask("same", temperature=0)] * 3, 4, dedupe=True)
    async with batch:
        while not wire.seen:  # noqa: ASYNC110 - it is counted, not told
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batch.cancel("1")
        gate.set()
        done = {result.index: result async for result in batch}

    assert wire.seen["same"] == 1
    assert isinstance(done[1], BatchFailed)
    assert isinstance(done[1].error, CancelledItemError)
    assert isinstance(done[0], BatchOk)
    assert isinstance(done[2], BatchOk)


async def test_a_batch_runs_once() -> None:
    """A second run would have nothing to send, and says so."""
    batch = make(FakeWire(), asks(2))
    await collect(batch)

    with pytest.raises(InvalidRequestError, match="once"):
        await collect(batch)


async def test_a_display_that_fails_stops_no_batch() -> None:
    """What is paid for goes on, and the failure is told once."""

    def show(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.warns(DeepSeekWarning, match="ZeroDivisionError") as warned:
        done = await collect(make(FakeWire(), asks(20), progress=show))

    assert len(done) == 20
    assert len(warned) == 1


async def test_the_end_is_shown() -> None:
    """The last that a display is told is the end."""
    shown: list[Progress] = []
    await collect(make(FakeWire(), asks(50), progress=shown.append))

    assert shown[-1].done == shown[-1].total == 50


async def test_two_batches_hear_one_signal() -> None:
    """When one of them ends, the other still drains on Ctrl-C."""
    inner, outer = FakeWire(), FakeWire()
    gate = asyncio.Event()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        await gate.wait()
        return answer_to(request)

    outer.reply = reply
    async with make(outer, asks(10), 2, signals=True) as waiting:
        await collect(make(inner, asks(3), signals=True))
        while not outer.now:  # noqa: ASYNC110 - it is counted, not told
            await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        gate.set()
        done = [result async for result in waiting]

    assert len(done) == 2
    assert waiting.report.stop_reason == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_in_order_a_slow_row_holds_back_no_more_than_it_must() -> None:
    """Others go on while it is awaited, up to four times the limit."""
    wire = FakeWire()
    gate = asyncio.Event()

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        if text.endswith(" 0"):
            await gate.wait()
        return answer_to(request)

    wire.reply = reply
    async with make(wire, asks(200), 8, order="input") as batch:
        last = -1
        while sum(wire.seen.values()) != last:
            last = sum(wire.seen.values())
            await asyncio.sleep(0.05)
        assert 3 * 8 <= last <= 4 * 8 + 1
        gate.set()
        assert [result.index async for result in batch] == list(range(200))


async def test_possible_cost_of_lost_requests_is_kept_in_the_journal(
    tmp_path: Path,
) -> None:
    """What was lost in one run counts against the ceiling of the next."""
    wire = FakeWire(RetryPolicy(attempts=1))
    wire.fail(lambda _: ConnectionLostError("lost"))
    rows = asks(3, max_tokens=1_000)
    batch = make(wire, rows, journal=tmp_path)
    await collect(batch)
    lost = batch.report.uncertain_cost
    assert lost > Decimal("0.001")
    index = Catalogue(tmp_path).index
    assert index.held_cost == lost * 10**9

    budget = Budget(max_cost=lost)
    with pytest.raises(BatchStoppedError, match="max_cost"):
        await collect(make(FakeWire(), rows, journal=tmp_path, budget=budget))


# Runs that ended early, and what the next one makes of it


async def test_rows_that_failed_before_do_not_end_the_next_run(tmp_path: Path) -> None:
    """Twenty bad rows at the start are told once; the next run gets past them."""
    wire = FakeWire()
    wire.fail(
        lambda text: (
            BadRequestError("no", status=400)
            if int(text.removeprefix("question ")) < 30
            else None
        )
    )
    with pytest.raises(BatchStoppedError, match="alike"):
        await make(wire, asks(40), 1, tmp_path).run()

    report = await make(wire, asks(40), 1, tmp_path).run()
    assert (report.ok, report.failed) == (10, 30)


async def test_a_dead_server_is_told_by_its_last_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That nobody answers says less than why."""
    monkeypatch.setattr("deepseek_async.batch.engine._NEVER_ANSWERED", 0.2)
    wire = FakeWire()
    wire.fail(lambda _: ServiceUnavailableError("the cable is cut", status=503))
    with pytest.raises(BatchStoppedError, match="the cable is cut") as caught:
        await make(wire, asks(40), 8).run()
    assert caught.value.reason == "stalled"


def test_a_share_is_at_most_one() -> None:
    """A ratio of failures above 1 would never be reached."""
    with pytest.raises(ConfigurationError, match="share"):
        Budget(max_failure_ratio=2)


# What people are shown


async def test_the_total_of_a_shard_is_that_of_the_shard(tmp_path: Path) -> None:
    """Before all rows are read it is an estimate, not the number of all rows."""
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in asks(800)))
    seen: list[Progress] = []
    async with make(
        FakeWire(), str(source), 4, shard=(0, 4), progress=seen.append
    ) as batch:
        first = batch.progress.total
        count = len([result async for result in batch])

    assert first == 200
    assert seen[-1].total == count
    assert 150 < count < 250


async def test_more_rows_than_were_said() -> None:
    """A total that is too small is none."""
    totals: list[int | None] = []
    async with make(FakeWire(), iter(asks(60)), 2, total=10) as batch:
        async for _ in batch:
            progress = batch.progress
            totals.append(progress.total)
            assert progress.total is None or progress.total >= progress.done

    assert None in totals


async def test_a_table_obeys_nobody() -> None:
    """What a server or a row says is shown, escapes and all, as text."""
    wire = FakeWire()
    wire.fail(lambda _: BadRequestError("bad \x1b[31mred\r", status=400))
    report = await make(wire, [("k\x1b]0;pwn\x07", ask("x"))]).run()
    table = report.to_table()

    assert "\x1b" not in table
    assert r"bad \x1b[31mred\r" in table
    assert r"k\x1b]0;pwn\x07" in table


async def test_a_plan_says_what_is_a_guess() -> None:
    """Without `max_tokens` nothing bounds an answer."""
    bounded = await make_plan(asks(3, max_tokens=10), Settings())
    assert "at most 30" in bounded.to_table()
    guessed = await make_plan([*asks(2), ask("x", max_tokens=10)], Settings())

    assert guessed.unbounded == 2
    table = guessed.to_table()
    assert "at most" not in table
    assert "2, each taken for 8,192 tokens" in table


def test_a_checksum_has_one_spelling() -> None:
    """A flipped bit in the checksum itself is found, too."""
    line = seal(b'{"k":"a","n":1')
    assert is_whole(line)
    at = line.index(b',"x":"') + 6
    for place in range(at, at + 8):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            assert not is_whole(bytes(flipped))


async def test_a_job_that_is_often_killed_keeps_its_budget(tmp_path: Path) -> None:
    """Room is taken for what is sent, not once more for what was left before."""
    left: list[Decimal] = []
    for _ in range(6):
        wire = FakeWire()
        wire.reply = never
        async with make(wire, asks(1, max_tokens=100), 1, tmp_path) as batch:
            while not wire.now:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            copy = tmp_path.with_name(f"{tmp_path.name}-{len(left)}")
            shutil.copytree(tmp_path, copy)
            assert batch.progress.in_flight == 1
        left.append(status(copy).uncertain_cost)
        shutil.rmtree(tmp_path)
        shutil.copytree(copy, tmp_path)
        (tmp_path / "lock").unlink(missing_ok=True)

    steps = [after - before for before, after in itertools.pairwise(left)]
    assert steps[0] > 0
    assert max(steps) <= min(steps) * Decimal("1.01")
