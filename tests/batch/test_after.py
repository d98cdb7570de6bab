"""Before a batch and after it: plans, exports, cache-aware order."""

from __future__ import annotations

import asyncio
import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch.fakes import FakeWire, answer_to, ask, asks, collect, make
from deepseek_async import (
    BadRequestError,
    ChatCompletion,
    ConnectError,
    ContextLengthExceededError,
    RetryPolicy,
    count_tokens,
)
from deepseek_async.batch import BatchError, JournalError, Settings
from deepseek_async.batch.catalogue import Catalogue
from deepseek_async.batch.export import COLUMNS, export, to_batch_line
from deepseek_async.batch.plan import make_plan
from deepseek_async.batch.upkeep import status
from deepseek_async.request import WireRequest

LONG = "A long document. " * 400


def lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


async def filled(journal: Path) -> None:
    wire = FakeWire()
    error = ContextLengthExceededError("too long", status=400)
    wire.fail(lambda text: error if text.endswith(" 2") else None)
    await collect(
        make(wire, [(f"k{n}", row) for n, row in enumerate(asks(5))], journal=journal)
    )


async def test_export_as_lines(tmp_path: Path) -> None:
    """OpenAI's output format in input order, failures in a file of their own."""
    await filled(tmp_path / "j")

    done = export(tmp_path / "j", tmp_path / "o.jsonl", errors=tmp_path / "e.jsonl")

    assert (done.ok, done.failed) == (4, 1)
    good = lines(tmp_path / "o.jsonl")
    assert [line["custom_id"] for line in good] == ["k0", "k1", "k3", "k4"]
    body = good[0]["response"]["body"]
    assert good[0]["response"]["status_code"] == 200
    assert body["choices"][0]["message"]["content"] == "re: question 0"
    (bad,) = lines(tmp_path / "e.jsonl")
    assert bad["custom_id"] == "k2"
    assert bad["response"]["status_code"] == 400
    assert bad["error"]["code"] == "ContextLengthExceededError"
    assert (tmp_path / "o.jsonl").stat().st_mode & 0o777 == 0o600


async def test_results_and_records_make_the_same_lines(tmp_path: Path) -> None:
    """One writer serves both; a refusal keeps status, trace id and error body."""
    wire = FakeWire()
    refused = BadRequestError(
        "no", status=400, code="c", type="t", param="p", request_id="trace"
    )
    errors = {"question 1": refused, "question 2": ConnectError("nobody there")}
    wire.fail(errors.get)
    rows = [*asks(3), {"bad": 1}]

    done = await collect(
        make(wire, rows, journal=tmp_path / "j", retry=RetryPolicy(attempts=1))
    )
    of_results = [to_batch_line(one) for one in sorted(done, key=lambda one: one.index)]
    of_records = list(map(to_batch_line, Catalogue(tmp_path / "j").records_in_order()))

    lines_of_results = msgspec.json.encode(of_results)
    assert lines_of_results == msgspec.json.encode(of_records)
    assert b'"prompt_cache_hit_tokens":0' in lines_of_results
    assert of_results[0]["response"]["request_id"] == "x"
    assert of_results[1]["response"] == {
        "status_code": 400,
        "request_id": "trace",
        "body": {"error": {"message": "no", "type": "t", "param": "p", "code": "c"}},
    }
    assert of_results[1]["error"] == {"code": "BadRequestError", "message": "no"}
    assert [line["response"] for line in of_results[2:]] == [None, None]
    assert of_results[2]["error"]["code"] == "ConnectError"


async def test_export_as_tables(tmp_path: Path) -> None:
    """CSV and Parquet have the same rows, failures among them."""
    parquet = pytest.importorskip("pyarrow.parquet")
    await filled(tmp_path / "j")

    export(tmp_path / "j", tmp_path / "o.csv")
    export(tmp_path / "j", tmp_path / "o.parquet")

    with (tmp_path / "o.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(5)]
    assert rows[2]["error"] == "400: too long"
    table = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    assert list(table[0]) == list(COLUMNS)
    assert [row["ok"] for row in table] == [True, True, False, True, True]
    assert table[0]["text"] == "re: question 0"


async def test_exports_that_cannot_be(tmp_path: Path) -> None:
    """Unknown formats, unwritable files and things that are no journal are told."""
    await filled(tmp_path / "j")

    with pytest.raises(BatchError, match="jsonl, csv and parquet"):
        export(tmp_path / "j", tmp_path / "o.xlsx")
    with pytest.raises(BatchError, match="nowhere"):
        export(tmp_path / "j", tmp_path / "nowhere" / "o.jsonl")
    with pytest.raises(JournalError, match="manifest"):
        export(tmp_path, tmp_path / "o.jsonl")
    with pytest.raises(JournalError, match="manifest"):
        status(tmp_path)


async def test_a_plan_adds_up() -> None:
    """Counts, doubles, bad rows and the bounds of the cost, without sending."""
    rows = [*asks(10, max_tokens=100), ask("question 0", max_tokens=100), {"bad": 1}]

    plan = await make_plan(rows, Settings(), concurrency=10, latency=2.0)

    assert (plan.requests, plan.duplicates, plan.invalid) == (11, 1, 1)
    assert "requests[11]" in plan.invalid_rows[0].reason
    assert plan.output_tokens_most == 1_100
    assert plan.prompt_tokens_low < plan.prompt_tokens < plan.prompt_tokens_high
    assert Decimal(0) < plan.cost_low < plan.cost_off_peak
    assert plan.cost_peak == pytest.approx(2 * plan.cost_off_peak, rel=Decimal("1e-6"))
    assert plan.seconds == pytest.approx(2.2)
    assert "requests[11]" in plan.to_table()


async def test_a_plan_counts_tokens_as_count_tokens_does() -> None:
    """Of texts, not of the JSON around them; Chinese ones and tools included."""
    tool = {"type": "function", "function": {"name": "look"}}
    rows = [ask("Is 221 prime?"), ask("这是一个关于中文的问题。" * 50)]
    said = [count_tokens(row["messages"]).tokens for row in rows]

    plan = await make_plan(rows, Settings())
    with_tools = await make_plan([{**rows[0], "tools": [tool]}], Settings())
    unknown = await make_plan([ask("a", extra_body={"messages": 1})], Settings())

    assert plan.prompt_tokens == sum(said)
    assert said[0] < with_tools.prompt_tokens < said[0] + 40
    assert unknown.prompt_tokens > 0


async def test_a_plan_of_little() -> None:
    """One request takes as long as it takes; what has no price costs nothing known."""
    one = await make_plan(asks(1), Settings(), concurrency=500, latency=8.0)
    none = await make_plan([], Settings())
    other = await make_plan([{**ask("a"), "model": "gpt"}], Settings())

    assert (one.seconds, none.seconds) == (8.0, 0.0)
    assert other.to_table().count("unknown") == 2
    assert "unknown" not in one.to_table() + none.to_table()


async def test_the_table_of_a_plan_is_short() -> None:
    """Of many bad rows the first few are named, and the rest counted."""
    plan = await make_plan([{"bad": 1}] * 200, Settings())

    assert (plan.invalid, len(plan.invalid_rows)) == (200, 100)
    lines = plan.to_table().splitlines()
    assert lines[-2].startswith("requests[9]: ")
    assert lines[-1] == "... and 190 more that are invalid"


def grouped(groups: int, members: int) -> list[dict[str, object]]:
    return [
        {
            "model": "deepseek-flash",
            "messages": [
                {"role": "system", "content": f"{group} {LONG}"},
                {"role": "user", "content": f"g{group} q{number}"},
            ],
        }
        for group in range(groups)
        for number in range(members)
    ]


class CachingWire(FakeWire):
    """Knows which groups it has answered twice."""

    def __init__(self, *, works: bool = True) -> None:
        super().__init__()
        self.answered: dict[str, int] = {}
        self.misses: dict[str, int] = {}

        async def reply(request: WireRequest, text: str) -> ChatCompletion:
            group = text.split(maxsplit=1)[0]
            hit = works and self.answered.get(group, 0) >= 2
            self.misses[group] = self.misses.get(group, 0) + (not hit)
            await asyncio.sleep(0.002)
            self.answered[group] = self.answered.get(group, 0) + 1
            return answer_to(request, prompt=2_000, hit=1_920 if hit else 0)

        self.reply = reply


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek_async.batch.runner.SETTLE", 0.01)


@pytest.mark.usefixtures("settled")
async def test_two_scouts_warm_the_cache() -> None:
    """Of each group two requests miss, whatever the order and the concurrency."""
    wire = CachingWire()
    batch = make(wire, grouped(20, 30), 40)

    done = await collect(batch)

    assert len(done) == 600
    assert all(result.ok for result in done)
    assert set(wire.misses.values()) == {2}
    assert batch.report.cache_hit_ratio > 0.85
    assert batch.report.prefix_order


@pytest.mark.usefixtures("settled")
async def test_order_without_effect_ends_itself() -> None:
    """If the scouts warm nothing, nothing is held back any more."""
    wire = CachingWire(works=False)
    batch = make(wire, grouped(10, 30), 20)

    done = await collect(batch)

    assert len(done) == 300
    assert not batch.report.prefix_order


async def test_order_can_be_switched_off() -> None:
    """Without it, rows go as they come."""
    wire = CachingWire()
    await collect(make(wire, grouped(3, 30), 30, prefix_order=False))

    assert max(wire.misses.values()) > 2


@pytest.mark.usefixtures("settled")
async def test_rows_of_few_are_not_held() -> None:
    """Groups too small to be worth it go at once: the first waits for the last."""
    wire, all_there = FakeWire(), asyncio.Event()

    async def reply(request: WireRequest, _: str) -> ChatCompletion:
        if wire.now == 60:
            all_there.set()
        await all_there.wait()
        return answer_to(request)

    wire.reply = reply
    async with asyncio.timeout(5.0):
        done = await collect(make(wire, grouped(20, 3), 60))

    assert len(done) == 60
