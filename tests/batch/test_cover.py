"""What may be billed is in the journal before it can be, whenever the run is killed."""

from __future__ import annotations

import asyncio
import random
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from batch.fakes import QUICK, FakeWire, answer_to, asks, collect, make
from deepseek_async import ChatCompletion, ConnectionLostError, ServiceUnavailableError
from deepseek_async.batch import BatchStoppedError, Budget
from deepseek_async.batch.catalogue import Catalogue
from deepseek_async.batch.upkeep import merge, status
from deepseek_async.request import WireRequest

MISS, OUTPUT = 150, 600
"""Nano-dollars a token of `deepseek-flash` off peak; see `off_peak`."""


class BillingWire(FakeWire):
    """Knows what the server bills, from the moment a request is sent.

    Attributes:
        billed: Nano-dollars so far, those of answers that nobody got included.
        images: What a journal would have told after a kill at each send.
    """

    def __init__(self, seed: int, journal: Path) -> None:
        super().__init__(QUICK)
        self.billed = 0
        self.images: list[tuple[int, int]] = []
        self.generator = random.Random(seed)  # noqa: S311 - a simulation
        self.reply = self._reply
        self._journal = journal

    async def _reply(self, request: WireRequest, _: str) -> ChatCompletion:
        generator = self.generator
        prompt = generator.randint(20, len(request.body))
        output = generator.randint(0, 100)
        fate = generator.random()
        if fate > 0.05:
            self.billed += prompt * MISS + output * OUTPUT
        self._look()
        await asyncio.sleep(generator.choice([0, 0.001]))
        self._look()
        if fate <= 0.05:
            raise ServiceUnavailableError("busy", status=503)
        if fate <= 0.15:
            raise ConnectionLostError("nobody knows")
        answer = answer_to(request, prompt=prompt, output=output)
        if fate <= 0.2:
            answer.choices[0].finish_reason = "insufficient_system_resource"
        return answer

    def _look(self) -> None:
        if self.generator.random() < 0.2:
            index = Catalogue(self._journal).index
            self.images.append((self.billed, index.cost + index.held_cost))


@pytest.fixture
def off_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> bool:
        return False

    monkeypatch.setattr("deepseek_async.batch.budget.is_peak", never)


@pytest.mark.usefixtures("off_peak")
@pytest.mark.parametrize("seed", range(10))
async def test_at_no_moment_is_more_billed_than_the_journal_says(
    seed: int, tmp_path: Path
) -> None:
    """Whenever a run is killed, records and the line on money cover the bill."""
    wire = BillingWire(seed, tmp_path)
    batch = make(wire, asks(150, max_tokens=100), 16, tmp_path)

    async with batch:
        async for result in batch:
            if result.index % 40 == 7:
                batch.cancel(str(result.index + 20))

    assert len(wire.images) > 20
    assert all(billed <= known for billed, known in wire.images)
    index = Catalogue(tmp_path).index
    assert wire.billed <= index.cost + index.held_cost
    report = batch.report
    assert index.cost + index.held_cost == (report.cost + report.uncertain_cost) * 10**9


@pytest.mark.usefixtures("off_peak")
@pytest.mark.parametrize("seed", range(10))
async def test_the_ceiling_holds_over_any_number_of_kills(
    seed: int, tmp_path: Path
) -> None:
    """Runs killed at random moments and resumed never bill more than the ceiling."""
    ceiling = Decimal("0.006")
    generator = random.Random(seed)  # noqa: S311 - a simulation
    billed = runs = killed_at = 0
    place = tmp_path / "0"
    stop: str | None = None
    while stop is None:
        wire = BillingWire(generator.randrange(10**6), place)
        budget = Budget(max_cost=ceiling)
        batch = make(wire, asks(300, max_tokens=100), 8, place, budget=budget)
        image = tmp_path / str(runs + 1)
        kill_after = generator.randint(1, 40)
        try:
            async with batch:
                async for _ in batch:
                    kill_after -= 1
                    if kill_after == 0:
                        # A copy of the directory is what a kill leaves behind.
                        shutil.copytree(place, image)
                        killed_at = wire.billed
                        break
                else:
                    stop = "done"
        except BatchStoppedError as stopped:
            stop = stopped.reason
        billed += wire.billed if stop else killed_at
        place, runs = image, runs + 1

    assert stop == "cost"
    assert runs > 2
    assert billed <= ceiling * 10**9


async def test_what_was_possibly_billed_is_told(tmp_path: Path) -> None:
    """A resumed run reports it, and so does `status`; merging adds it up."""
    for name in ("a", "b"):
        wire = FakeWire()
        wire.fail(
            lambda text: ConnectionLostError("lost") if text.endswith(" 1") else None
        )
        await collect(make(wire, asks(4, max_tokens=100), journal=tmp_path / name))
    before = status(tmp_path / "a").uncertain_cost

    batch = make(FakeWire(), asks(4, max_tokens=100), journal=tmp_path / "a")
    await collect(batch)

    assert before > 0
    assert batch.report.uncertain_cost == before
    assert "possibly billed" in batch.report.to_table()
    other = status(tmp_path / "b").uncertain_cost
    merged = merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert merged.uncertain_cost == before + other
