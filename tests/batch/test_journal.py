"""The journal's promises, tried at every byte."""

# Small local files, read and made between the runs.
# ruff: noqa: ASYNC240, S603, S607

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import deepseek_async
from batch.fakes import FakeWire, ask, asks, collect, make
from deepseek_async import (
    APIStatusError,
    AsyncDeepSeek,
    BadRequestError,
    ContentRiskError,
    DeepSeekWarning,
)
from deepseek_async.batch import (
    BatchFailed,
    BatchOk,
    JournalError,
    JournalLockedError,
    JournalMismatchError,
)
from deepseek_async.batch.catalogue import read_results
from deepseek_async.batch.export import export
from deepseek_async.batch.journal import Journal, read_manifest, segments
from deepseek_async.batch.record import is_whole
from deepseek_async.batch.upkeep import merge, repair, status
from deepseek_async.testing import DeepSeekEmulator, Pace


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "job"


async def fill(journal: Path, count: int = 5, **options: Any) -> FakeWire:
    wire = FakeWire()
    done = await collect(make(wire, asks(count), journal=journal, **options))
    assert len(done) == count
    return wire


async def test_a_second_run_sends_nothing_that_is_finished(journal: Path) -> None:
    """What is in the journal is neither sent nor handed out again."""
    await fill(journal)
    wire = FakeWire()
    batch = make(wire, asks(8), journal=journal)

    done = await collect(batch)

    assert sorted(result.index for result in done) == [5, 6, 7]
    assert sum(wire.seen.values()) == 3
    assert batch.report.skipped == 5
    kept = list(read_results(journal))
    assert [result.key for result in kept] == [str(n) for n in range(8)]
    texts = [result.completion.text for result in kept if isinstance(result, BatchOk)]
    assert texts == [f"re: question {n}" for n in range(8)]


async def test_files_are_for_their_owner_only(journal: Path) -> None:
    """Answers may be private: 0600 for files, 0700 for the directory."""
    await fill(journal)

    assert stat.S_IMODE(journal.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in journal.iterdir()} == {0o600}


async def test_the_journal_holds_no_request_and_no_key(journal: Path) -> None:
    """Questions are kept as hashes only."""
    wire = FakeWire()

    async def reply(*_: object) -> Any:
        raise BadRequestError("no", status=400)

    wire.reply = reply
    await collect(make(wire, [ask("a very private question")], journal=journal))

    assert b"private" not in b"".join(p.read_bytes() for p in journal.iterdir())


async def test_a_link_in_place_of_a_segment_is_not_followed(
    journal: Path, tmp_path: Path
) -> None:
    """A planted symbolic link makes an error, not a write elsewhere."""
    await fill(journal)
    target = tmp_path / "elsewhere"
    segment = segments(journal)[0]
    segment.rename(target)
    segment.symlink_to(target)

    with pytest.raises(JournalError, match="000000"):
        await collect(make(FakeWire(), asks(5), journal=journal))


def lines(journal: Path) -> list[bytes]:
    return segments(journal)[0].read_bytes().splitlines(keepends=True)


def last_record(journal: Path) -> int:
    """How many lines there are up to the last record: a line on money ends a run."""
    found = lines(journal)
    assert found[-1].startswith(b'{"held"')
    assert not found[-2].startswith(b'{"held"')
    return len(found) - 1


async def test_a_torn_tail_is_cut_at_every_byte(journal: Path, tmp_path: Path) -> None:
    """However much of the last record is there, only its own request is repeated."""
    await fill(journal, 4)
    count = last_record(journal)
    before = len(b"".join(lines(journal)[: count - 1]))
    record = len(lines(journal)[count - 1])

    for size in range(before, before + record):
        copy = tmp_path / f"copy{size}"
        shutil.copytree(journal, copy)
        os.truncate(segments(copy)[0], size)
        assert [r.index for r in read_results(copy)] == [0, 1, 2]
        wire = FakeWire()
        batch = make(wire, asks(4), journal=copy)
        await collect(batch)
        assert sum(wire.seen.values()) == 1
        assert batch.report.cut == size - before
        assert [r.index for r in read_results(copy)] == [0, 1, 2, 3]
        assert status(copy).is_sound
        shutil.rmtree(copy)


async def test_zeros_that_a_power_cut_leaves_are_cut(journal: Path) -> None:
    """A file system may have made the file longer without writing the bytes."""
    await fill(journal, 3)
    with segments(journal)[0].open("ab") as file:
        file.write(bytes(300))
    wire = FakeWire()
    batch = make(wire, asks(3), journal=journal)
    await collect(batch)

    assert not wire.seen
    assert batch.report.cut == 300
    assert "300 bytes of a torn write" in batch.report.to_table()


async def test_a_flipped_byte_is_detected_wherever_it_is(journal: Path) -> None:
    """A damaged record is named by file, line and offset, also at the very end."""
    await fill(journal, 3)
    segment = segments(journal)[0]
    whole = segment.read_bytes()
    count = last_record(journal)
    until = len(b"".join(lines(journal)[:count]))
    starts = [0]
    for line in lines(journal)[:count]:
        starts.append(starts[-1] + len(line))

    for end in (len(whole), until):  # with the closing line, and without
        for number in (count - 1, count):
            for at in range(starts[number - 1], starts[number]):
                flipped = bytes([whole[at] ^ 1])
                segment.write_bytes(whole[:at] + flipped + whole[at + 1 : end])
                named = rf"000000.*offset \d+ \(line {number}"
                with pytest.raises(JournalError, match=named):
                    Journal(journal, read_manifest(journal).job)


async def test_a_damaged_journal_is_not_read_as_if_it_were_whole(
    journal: Path, tmp_path: Path
) -> None:
    """Exports, results and merges say so before they write anything."""
    await fill(journal, 5)
    segment = segments(journal)[0]
    whole = bytearray(segment.read_bytes())
    whole[len(b"".join(lines(journal)[:3])) + 9] ^= 4
    segment.write_bytes(whole)
    output = tmp_path / "out.jsonl"
    output.write_bytes(b"older")

    with pytest.raises(JournalError, match=r"damaged.*line 4.*repair"):
        export(journal, output)
    with pytest.raises(JournalError, match="damaged"):
        list(read_results(journal))
    with pytest.raises(JournalError, match="damaged"):
        merge(tmp_path / "all", [journal])

    assert output.read_bytes() == b"older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job", "out.jsonl"]


async def test_repair_keeps_the_good_records(journal: Path) -> None:
    """After a repair only the damaged request is open again."""
    await fill(journal, 5)
    segment = segments(journal)[0]
    whole = bytearray(segment.read_bytes())
    damaged = last_record(journal) - 1
    whole[len(b"".join(lines(journal)[: damaged - 1])) + 9] ^= 4
    segment.write_bytes(whole)

    assert len(status(journal).damage) == 1
    (left_out,) = repair(journal)

    assert left_out.line == damaged
    wire = FakeWire()
    await collect(make(wire, asks(5), journal=journal))
    assert sum(wire.seen.values()) == 1
    assert [r.index for r in read_results(journal)] == [0, 1, 2, 3, 4]


async def test_a_second_runner_is_refused(journal: Path) -> None:
    """The lock names the process that has it."""
    async with make(FakeWire(), asks(2), journal=journal):
        with pytest.raises(JournalLockedError, match=f"process {os.getpid()}"):
            await collect(make(FakeWire(), asks(2), journal=journal))
        assert status(journal).is_running
    assert not status(journal).is_running


async def test_changed_input_is_named(journal: Path) -> None:
    """The first row that differs is named, and nothing is sent for it."""
    await fill(journal, 4)
    changed = asks(6)
    changed[2] = ask("something else")
    wire = FakeWire()

    with pytest.raises(JournalMismatchError, match=r"requests\[2\]"):
        await collect(make(wire, changed, journal=journal))

    assert "something else" not in wire.seen


async def test_changed_keys_are_named(journal: Path) -> None:
    """The same request under another key is another row."""
    await collect(
        make(FakeWire(), [(f"k{n}", r) for n, r in enumerate(asks(4))], journal=journal)
    )
    renamed = [(f"k{n}" if n != 2 else "other", r) for n, r in enumerate(asks(4))]

    with pytest.raises(JournalMismatchError, match=r"requests\[2\].*another key"):
        await collect(make(FakeWire(), renamed, journal=journal))


async def test_a_shortened_input_is_told(journal: Path) -> None:
    """Rows that are gone from the input are not forgotten in silence."""
    await fill(journal, 6)

    with pytest.raises(JournalMismatchError, match=r"4 rows.*up to row 6.*shortened"):
        await collect(make(FakeWire(), asks(4), journal=journal))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("defaults", {"max_tokens": 5}),
        ("request", dict),
        ("key", str),
        ("shard", (0, 2)),
    ],
)
async def test_changed_arguments_are_named(
    journal: Path, option: str, value: Any
) -> None:
    """Other parameters make another job, whatever the input."""
    await fill(journal, 2)

    with pytest.raises(JournalMismatchError, match=option):
        await collect(make(FakeWire(), asks(2), journal=journal, **{option: value}))


async def test_failed_requests_are_tried_again_by_default(journal: Path) -> None:
    """A resumed run repeats failures, unless it is told not to; an answer stands."""
    wire = FakeWire()
    wire.fail(lambda text: ContentRiskError("no", status=400) if "3" in text else None)
    await collect(make(wire, asks(5), journal=journal))

    quiet = FakeWire()
    batch = make(quiet, asks(5), journal=journal, retry_failed=False)
    await collect(batch)
    assert not quiet.seen
    assert (batch.report.skipped, batch.report.failed_before) == (5, 1)
    again = FakeWire()
    done = await collect(make(again, asks(5), journal=journal))

    assert list(again.seen) == ["question 3"]
    assert [r.index for r in done] == [3]
    assert all(r.ok for r in read_results(journal))


async def test_a_failure_comes_back_as_what_it_was(journal: Path) -> None:
    """Class, message, status and reason survive the journal."""
    wire = FakeWire()
    error = ContentRiskError("content exists risk", status=400, reason="content_risk")
    wire.fail(lambda _: error)
    await collect(make(wire, asks(1), journal=journal))

    (kept,) = read_results(journal)

    assert isinstance(kept, BatchFailed)
    assert type(kept.error) is ContentRiskError
    assert isinstance(kept.error, APIStatusError)
    assert (kept.error.status, kept.error.reason) == (400, "content_risk")
    assert str(kept.error) == str(error)


async def test_an_unwritable_directory_is_told_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    """A path that cannot be a directory is an error that names it."""
    path = tmp_path / "file"
    path.write_text("x")
    wire = FakeWire()

    with pytest.raises(JournalError, match="file"):
        await collect(make(wire, asks(1), journal=path / "journal"))

    assert not wire.seen


class Failing:
    """Makes writes or syncs fail for a while."""

    def __init__(self, code: int, call: str, times: int) -> None:
        self.code = code
        self.times = times
        self.call = call
        self.real = getattr(os, call)

    def __call__(self, file: int, *data: Any) -> Any:
        if self.times > 0:
            self.times -= 1
            if data:
                self.real(file, bytes(data[0])[: len(data[0]) // 2])
            raise OSError(self.code, os.strerror(self.code))
        return self.real(file, *data)


@pytest.fixture(params=["write-full", "sync-broken"])
def failing(request: pytest.FixtureRequest, monkeypatch: Any) -> Iterator[Failing]:
    if request.param == "write-full":
        disk = Failing(errno.ENOSPC, "write", 3)
        monkeypatch.setattr("deepseek_async.batch.journal.os.write", disk)
    else:
        disk = Failing(errno.EIO, "fdatasync", 2)
        monkeypatch.setattr("deepseek_async.batch.journal._sync", disk)
    return iter([disk])


async def test_a_disk_that_fails_for_a_while_costs_nothing(
    journal: Path, failing: Iterator[Failing]
) -> None:
    """No result is lost, none is asked for twice, and no half record stays."""
    disk = next(failing)
    times, disk.times = disk.times, 0
    wire = FakeWire()
    batch = make(wire, asks(30), journal=journal)
    async with batch:
        disk.times = times
        done = [result async for result in batch]

    assert len(done) == 30
    assert set(wire.seen.values()) == {1}
    assert disk.times == 0
    assert [r.index for r in read_results(journal)] == list(range(30))
    assert status(journal).is_sound
    again = FakeWire()
    await collect(make(again, asks(30), journal=journal))
    assert not again.seen


async def test_a_disk_that_stays_full_ends_the_batch_with_its_results(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was paid for is handed out, then the error names file and offset."""
    monkeypatch.setattr("deepseek_async.batch.runner.PATIENCE", 0.2)
    wire = FakeWire()
    batch = make(wire, asks(100), journal=journal)
    done: list[str] = []
    with pytest.raises(JournalError, match=r"000000\.jsonl, offset \d+"):  # noqa: PT012
        async with batch:
            disk = Failing(errno.ENOSPC, "write", 1_000_000)
            async for result in batch:
                done.append(result.key)
                monkeypatch.setattr("deepseek_async.batch.journal.os.write", disk)

    assert sorted(done) == sorted(text.removeprefix("question ") for text in wire.seen)
    assert 0 < len(done) <= 3 * 8


async def test_nothing_is_sent_before_the_journal_can_be_written(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a disk that is full from the start nothing is paid for."""
    monkeypatch.setattr("deepseek_async.batch.runner.PATIENCE", 0.2)
    wire = FakeWire()
    with pytest.raises(JournalError, match="cannot be written"):  # noqa: PT012
        async with make(wire, asks(10), journal=journal) as batch:
            disk = Failing(errno.ENOSPC, "write", 1_000_000)
            monkeypatch.setattr("deepseek_async.batch.journal.os.write", disk)
            await anext(aiter(batch))

    assert not wire.seen


async def test_segments_rotate_and_are_read_back(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many segments are one journal."""
    monkeypatch.setattr("deepseek_async.batch.journal.SEGMENT_SIZE", 1_000)
    await fill(journal, 40)

    assert len(segments(journal)) > 3
    wire = FakeWire()
    await collect(make(wire, asks(40), journal=journal))
    assert not wire.seen
    assert [r.index for r in read_results(journal)] == list(range(40))


async def test_shards_share_the_rows_and_merge(tmp_path: Path) -> None:
    """Every row is in exactly one shard; merged they are the whole."""
    seen = 0
    for part in range(3):
        wire = FakeWire()
        path = tmp_path / str(part)
        await collect(make(wire, asks(60), journal=path, shard=(part, 3)))
        assert 5 < len(wire.seen) < 40
        seen += len(wire.seen)
    assert seen == 60

    found = merge(tmp_path / "all", [tmp_path / str(part) for part in range(3)])

    assert (found.ok, found.shard) == (60, "0/1")
    assert [r.index for r in read_results(tmp_path / "all")] == list(range(60))
    wire = FakeWire()
    await collect(make(wire, asks(60), journal=tmp_path / "all"))
    assert not wire.seen


async def test_a_merge_says_which_shards_it_lacks(tmp_path: Path) -> None:
    """What is merged is not the whole, and that is told."""
    for part in (0, 2):
        path = tmp_path / str(part)
        await collect(make(FakeWire(), asks(60), journal=path, shard=(part, 3)))

    with pytest.warns(DeepSeekWarning, match="1/3"):
        found = merge(tmp_path / "all", [tmp_path / "0", tmp_path / "2"])

    assert 0 < found.ok < 60


async def test_journals_of_different_inputs_do_not_merge(tmp_path: Path) -> None:
    """Two requests for one row are a mistake, and nothing is left behind."""
    await fill(tmp_path / "a")
    changed = asks(5)
    changed[3] = ask("something else")
    await collect(make(FakeWire(), changed, journal=tmp_path / "b"))

    with pytest.raises(JournalMismatchError, match="row 3"):
        merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])

    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


async def test_a_merge_goes_to_a_new_place_only(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    await fill(tmp_path / "a")

    with pytest.raises(JournalError, match="new directory"):
        merge(tmp_path / "a", [tmp_path / "a"])


async def test_unreadable_rows_belong_to_one_shard(tmp_path: Path) -> None:
    """A row that is no JSON fails once over all shards, not once in each."""
    source = tmp_path / "in.jsonl"
    good = [msgspec.json.encode(row) + b"\n" for row in asks(20)]
    source.write_bytes(b"".join([*good, b"{bad\n", b"nor this\n", *good]))
    failed: list[int] = []
    for part in range(3):
        path = tmp_path / str(part)
        batch = make(FakeWire(), source, journal=path, shard=(part, 3))
        failed += [r.index for r in await collect(batch) if not r.ok]
        report = batch.report
        assert report.ok + report.failed + report.other_shards == 42

    assert sorted(failed) == [20, 21]


async def test_journals_of_different_jobs_do_not_merge(tmp_path: Path) -> None:
    """The argument that differs is named."""
    await fill(tmp_path / "a")
    await fill(tmp_path / "b", defaults={"max_tokens": 7})

    with pytest.raises(JournalMismatchError, match="defaults"):
        merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])


async def test_lines_are_plain_json_with_a_checksum(journal: Path) -> None:
    """A record is one JSON object on a line, its CRC last."""
    await fill(journal, 2)

    for line in lines(journal):
        msgspec.json.decode(line)
        assert is_whole(line)
        assert not is_whole(line[:-1])
        assert not is_whole(line.replace(b":", b";", 1))


def test_a_full_disk_is_survived_on_a_real_one(tmp_path: Path) -> None:
    """On a tmpfs of 256 KiB that is freed in time, no row is lost or repeated."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("full_disk.py")), place],
            check=False,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def test_a_journal_is_read_by_the_public_name(journal: Path) -> None:
    """A resumed batch hands out what is new, `read_results` all that is there."""
    async with (
        DeepSeekEmulator(pace=Pace.instant()) as emulator,
        AsyncDeepSeek(api_key=emulator.api_key, base_url=emulator.base_url) as client,
    ):
        for count, new in ((3, [0, 1, 2]), (5, [3, 4])):
            async with client.batch(asks(count), journal=journal) as batch:
                found = [result async for result in batch]
            assert sorted(result.index for result in found) == new

    kept = list(deepseek_async.read_results(journal))
    assert [result.index for result in kept] == [0, 1, 2, 3, 4]
    assert all(isinstance(r, BatchOk) and r.completion.text for r in kept)
    with pytest.raises(JournalError, match="journal"):
        list(deepseek_async.read_results(journal / "none"))


async def test_who_cannot_wait_for_the_disk_does_not(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second signal ends the waiting for a full disk."""
    wire = FakeWire()
    interrupted: list[Callable[[int], None]] = []

    class Told:
        def __init__(self, tell: Callable[[int], None]) -> None:
            interrupted.append(tell)

        def close(self) -> None:
            pass

    monkeypatch.setattr("deepseek_async.batch.runner.Interrupt", Told)
    batch = make(wire, asks(10), journal=journal, signals=True)
    disk = Failing(errno.ENOSPC, "write", 1_000_000)
    began = time.monotonic()
    with pytest.raises(JournalError, match="cannot be written"):  # noqa: PT012
        async with batch:
            monkeypatch.setattr("deepseek_async.batch.journal.os.write", disk)
            while batch.progress.state != "full disk":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            interrupted[0](1)
            interrupted[0](2)
            async for _ in batch:
                pass

    assert time.monotonic() - began < 5
