"""`deepseek-async batch run|plan|status|export|merge|verify`."""

from __future__ import annotations

import errno
import gzip
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from deepseek_async import BatchReport, JournalError
from deepseek_async.batch.journal import segments
from deepseek_async.cli import jobs, main
from deepseek_async.cli.exits import ExitCode
from deepseek_async.cli.jobs import _going_on

CLI: TypeAlias = Callable[..., int]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [msgspec.json.encode({"id": f"r{n}", "text": str(n)}) for n in range(12)]
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.fixture
def run(rows: Path) -> CLI:
    def run(*more: object, source: Path = rows) -> int:
        shape = ("-p", "Say {text}", "--key", "id", "--max-tokens", "3", "--emulate")
        arguments = ("batch", "run", source, *shape, "--concurrency", "6", *more)
        return main([str(argument) for argument in arguments])

    return run


def batch(*arguments: object) -> int:
    return main(["batch", *(str(argument) for argument in arguments)])


def test_a_job_runs_resumes_and_is_exported(
    run: CLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run sends nothing, and the export has every key in input order."""
    journal, out = tmp_path / "job", tmp_path / "out.jsonl"

    assert run("--journal", journal) == 0
    assert run("--journal", journal, "--json", "-o", out) == 0

    report = msgspec.json.decode(capsys.readouterr().out)
    assert (report["skipped"], report["attempts"]) == (12, 0)
    lines = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(12)]
    assert batch("export", journal, tmp_path / "out.csv") == 0
    assert batch("status", journal) == 0
    assert "answered  12" in capsys.readouterr().out


def test_failed_rows_and_ceilings_have_their_exit_codes(
    run: CLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 for failed rows, 5 for a ceiling, 2 for what cannot be read or used."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id":"a","text":"x"}\n{"id":"b"}\n')

    assert run("--journal", tmp_path / "a", source=bad) == 1
    assert run("--journal", tmp_path / "b", "--max-cost", "0.000001") == 5
    assert run("--journal", tmp_path / "c", source=tmp_path / "none.jsonl") == 2
    assert run("--journal", bad / "d") == 2
    assert run("--journal", tmp_path / "e", "--shard", "3/2") == 2
    assert run("--journal", tmp_path / "f", "--max-cost", "much") == 2
    errors = capsys.readouterr().err
    assert "max_cost" in errors
    assert "Traceback" not in errors


def test_a_plan_sends_nothing(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs no key, and bad rows make its exit code 1."""
    assert batch("plan", rows, "-p", "Say {text}") == 0
    assert "requests       12" in capsys.readouterr().out
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{oops}\n")
    assert batch("plan", bad, "-p", "Say {text}") == 1
    assert "bad.jsonl line 1 column" in capsys.readouterr().out


def test_shards_merge_and_damage_is_repaired(
    run: CLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two shards make the whole; a flipped byte is found, told, and left out."""
    parts = [tmp_path / "0", tmp_path / "1"]
    for number, part in enumerate(parts):
        assert run("--journal", part, "--shard", f"{number}/2") == 0
    whole = tmp_path / "whole"
    assert batch("merge", whole, *parts) == 0
    assert "answered  12" in capsys.readouterr().out

    (segment,) = segments(whole)
    data = bytearray(segment.read_bytes())
    data[20] ^= 1
    segment.write_bytes(data)
    assert batch("verify", whole) == 1
    assert "offset 0 line 1" in capsys.readouterr().out
    assert batch("verify", whole, "--repair") == 0
    assert run("--journal", whole) == 0


def test_what_an_unreadable_input_leaves_is_told_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows before the damage are paid for: they are counted, and written."""
    lines = b"".join(b'{"text":"%d"}\n' % number for number in range(3000))
    source = tmp_path / "rows.jsonl.gz"
    source.write_bytes(gzip.compress(lines, compresslevel=0)[:-5000])
    out = tmp_path / "out.jsonl"
    shape = ("-p", "{text}", "--max-tokens", "1", "--emulate", "-c", "50")

    code = batch("run", source, *shape, "--journal", tmp_path / "j", "-o", out)

    errors = capsys.readouterr().err
    assert code == 2
    assert "cannot be read after line" in errors
    assert "answered" in errors
    assert len(out.read_bytes().splitlines()) > 1000


def test_of_two_failures_both_are_told(
    run: CLI,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run's own is not lost when its results cannot be written either."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(jobs, "export_journal", fail)
    source = tmp_path / "rows.jsonl.gz"
    source.write_bytes(gzip.compress(b'{"id":"a","text":"x"}\n' * 3)[:-9])

    code = run("--journal", tmp_path / "j", "-o", tmp_path / "o.jsonl", source=source)

    errors = capsys.readouterr().err
    assert code == 2
    assert "cannot be read after line" in errors
    assert "Read-only file system" in errors


def test_an_interrupted_job_ends_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    """Also if the journal failed meanwhile, which is told."""
    fields: dict[str, Any] = dict.fromkeys(BatchReport.__struct_fields__, 0)
    fields["stop_reason"] = "interrupted"

    code = jobs.exit_code(BatchReport(**fields), JournalError("the disk is full"))

    assert code == ExitCode.INTERRUPTED
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ("--max-cost", "-5"),
        ("--wall-time", "-1"),
        ("--deadline", "0"),
        ("-o", "out.xyz"),
        ("-o", "out.jsonl", "--errors", "out.jsonl"),
    ],
)
def test_wrong_usage_has_one_exit_code(
    run: CLI, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Options that cannot be meant are wrong usage, and nothing is sent."""
    assert run("--journal", tmp_path / "j", *options) == 2


@pytest.mark.parametrize("stderr", ["closed", "unread"])
def test_nobody_need_read_what_is_told(rows: Path, tmp_path: Path, stderr: str) -> None:
    """The job is done, exported and ends well without a stderr."""
    out = tmp_path / "out.jsonl"
    command = [
        *(sys.executable, "-m", "deepseek_async", "batch", "run", str(rows)),
        *("-p", "{text}", "--max-tokens", "1", "--emulate", "-o", str(out)),
        *("--journal", str(tmp_path / "j")),
    ]
    redirected = "2>&-" if stderr == "closed" else "2>&1 >/dev/null | true"
    script = f"set -o pipefail; {shlex.join(command)} {redirected}"
    ran = subprocess.run(  # noqa: S603
        ["/bin/bash", "-c", script], check=False, timeout=30
    )

    assert ran.returncode == 0
    assert len(out.read_bytes().splitlines()) == 12


@pytest.mark.parametrize(
    ("stopped", "hint"),
    [("cost", "with a higher limit"), ("balance", "once that is mended")],
)
def test_what_to_do_next(stopped: str, hint: str) -> None:
    """The same command does not go on by itself after every end."""
    assert hint in _going_on(stopped)
    assert hint not in _going_on("interrupted")
