"""`deepseek-async batch`."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from deepseek_async.testing import DeepSeekEmulator, Pace, Status

from .conftest import COMMAND, KEY, Opens, RunsCLI


def write(path: Path, *rows: object) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(text: str) -> dict[str, Any]:
    """Lines of results by their keys."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(set(x) == {"id", "custom_id", "response", "error"} for x in lines)
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["custom_id"]: line for line in lines}


def chat(content: str) -> list[dict[str, str]]:
    """One user message."""
    return [{"role": "user", "content": content}]


def said(line: dict[str, Any]) -> str:
    """The text of an answered row."""
    text: str = line["response"]["body"]["choices"][0]["message"]["content"]
    return text


def echo(body: dict[str, Any]) -> str:
    """Answer with model and question."""
    return f"{body['model']}: {body['messages'][-1]['content']}"


async def test_openai_lines(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Lines of the OpenAI batch format become lines of its output format."""
    api.answer = echo
    rows = [
        {
            "custom_id": f"row-{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "deepseek-v4-pro", "messages": chat(f"q{i}")},
        }
        for i in range(5)
    ]
    source, target = write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    run = await cli("batch", source, target)
    results = read(target.read_text("utf-8"))

    assert run.code == 0
    assert run.out == ""
    assert re.search(r"answered +5 ", run.err)
    assert re.search(r"failed +0\n", run.err)
    assert sorted(results) == [f"row-{i}" for i in range(5)]
    assert said(results["row-3"]) == "deepseek-v4-pro: q3"
    assert results["row-3"]["error"] is None
    assert results["row-3"]["response"]["status_code"] == 200
    assert len(results["row-3"]["response"]["request_id"]) == 32
    assert results["row-3"]["response"]["body"]["usage"]["total_tokens"] > 0


async def test_bare_requests_through_pipes(cli: RunsCLI, api: DeepSeekEmulator) -> None:
    """Requests come from stdin and results go to stdout; keys number the rows."""
    api.answer = echo
    rows = [
        {"messages": chat("a")},
        {"custom_id": 7, "messages": chat("b"), "model": "deepseek-v4-pro"},
    ]
    stdin = b"\xef\xbb\xbf" + b"\r\n\n".join(json.dumps(row).encode() for row in rows)
    run = await cli("batch", "-", "-", stdin=stdin)
    results = read(run.out)

    assert said(results["request-1"]) == "deepseek-flash: a"
    assert said(results["7"]) == "deepseek-v4-pro: b"


async def test_template_over_csv(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Columns fill the prompt, line breaks and odd names included."""
    api.answer = lambda body: " / ".join(m["content"] for m in body["messages"])
    source = tmp_path / "in.csv"
    source.write_text('\ufeffid,my.text\n1,"a, b\nc"\n2,{id}\n', "utf-8")
    run = await cli(
        *("batch", source, "-", "--system", "S", "-p", "{{{id}}} {my.text}!")
    )

    assert run.code == 0
    assert {said(line) for line in read(run.out).values()} == {
        "S / {1} a, b\nc!",
        "S / {2} {id}!",
    }


async def test_template_over_jsonl(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Values that are no text are written as JSON; a given model is asked."""
    api.answer = echo
    source = write(tmp_path / "in.jsonl", {"n": 1, "list": [1, "é"]})
    run = await cli("batch", source, "-", "-p", "{n} {list}", "-m", "deepseek-v4-pro")

    assert said(read(run.out)["request-1"]) == 'deepseek-v4-pro: 1 [1,"é"]'


@pytest.mark.usefixtures("api")
async def test_some_rows_fail(cli: RunsCLI, tmp_path: Path) -> None:
    """Rows that fail are lines with an error, and the exit code says so."""
    source = write(
        tmp_path / "in.jsonl",
        {"custom_id": "good", "messages": chat("a")},
        {"custom_id": "bad model", "messages": chat("a"), "model": "nonesuch"},
    )
    run = await cli("batch", source, "-")
    results = read(run.out)

    assert run.code == 1
    assert re.search(r"failed +1: 1 UnknownModelError\n", run.err)
    assert results["good"]["error"] is None
    refused = results["bad model"]
    assert refused["response"]["status_code"] == 400
    assert len(refused["response"]["request_id"]) == 32
    body = refused["response"]["body"]["error"]
    assert body["type"] == "invalid_request_error"
    assert body["message"] == refused["error"]["message"]
    assert refused["error"]["code"] == "UnknownModelError"


@pytest.mark.parametrize("status", [401, 402])
async def test_fatal_refusal_stops(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path, status: int
) -> None:
    """A refused key or an empty account ends the batch, not only a row."""
    api.fault = lambda _: Status(status=status)
    rows = [{"messages": chat(str(i))} for i in range(200)]
    run = await cli("batch", write(tmp_path / "in.jsonl", *rows), "-", "-c", "4")

    assert run.code == 4
    assert f"stopped with {len(read(run.out))} of 200 rows written" in run.err
    assert {401: "API key", 402: "money"}[status] in run.error
    assert 1 <= len(read(run.out)) < 20
    assert len(api.requests) < 20


BAD_FILES = {
    "invalid JSON": (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "a"}]}\n\n{oops\n',
        "line 3 column 2: not valid JSON",
    ),
    "not UTF-8": ("a.jsonl", b'{"messages": "\xff"}\n', "line 1: not valid JSON"),
    "not an object": ("a.jsonl", "[1]\n", "line 1 must be a dict"),
    "no request": ("a.jsonl", '{"question": "x"}\n', "line 1: neither"),
    "other endpoint": (
        "a.jsonl",
        '{"url": "/v1/embeddings", "body": {}}\n',
        "line 1: only /chat/completions is run in batches, not /v1/embeddings",
    ),
    "other method": (
        "a.jsonl",
        '{"method": "GET", "body": {}}\n',
        "line 1: method must be POST, not GET",
    ),
    "body no object": ("a.jsonl", '{"body": 1}\n', "line 1: body must be"),
    "no value of its field": (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "a"}], "temperature": "hot"}\n',
        "line 1: temperature",
    ),
    "call options": (
        "a.jsonl",
        '{"messages": [], "extra_headers": {"a": "b"}, "timeout": 1}\n',
        "line 1: a row of a file cannot set extra_headers, timeout",
    ),
    "streaming": (
        "a.jsonl",
        '{"messages": [], "stream": true}\n',
        "line 1: a batch does not stream",
    ),
    "key twice": (
        "a.jsonl",
        '{"custom_id": "k", "messages": [{"role": "user", "content": "a"}]}\n' * 2,
        "duplicate key 'k': a.jsonl line 1 and a.jsonl line 2",
    ),
    "key of another row": (
        "a.jsonl",
        '{"custom_id": "request-2", "messages": [{"role": "user", "content": "a"}]}\n'
        '{"messages": [{"role": "user", "content": "a"}]}\n',
        "duplicate key 'request-2': a.jsonl line 1 and a.jsonl line 2",
    ),
    "several": ("a.jsonl", "[1]\n" * 3, "line 1 must be a dict or a ChatCompletion"),
    "key no text": ("a.jsonl", '{"custom_id": [], "messages": []}\n', "custom_id must"),
    "empty": ("a.jsonl", "\n\n", "has no rows"),
    "too deep": ("a.jsonl", "[" * 100_000 + "\n", "line 1: not valid JSON"),
    "no suffix": ("rows", "{oops\n", "rows line 1 column 2: not valid JSON"),
}


@pytest.mark.parametrize(
    ("name", "content", "complaint"), BAD_FILES.values(), ids=BAD_FILES
)
async def test_bad_input(
    cli: RunsCLI,
    api: DeepSeekEmulator,
    tmp_path: Path,
    name: str,
    content: str | bytes,
    complaint: str,
) -> None:
    """A wrong line is named, with its file, and nothing is sent or written."""
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    run = await cli("batch", source, target)

    assert run.code == 2
    assert name in run.error
    assert complaint in run.error
    assert not target.exists()
    assert not api.requests


BAD_CSV = {
    "missing column": (
        "a,b\n1,2\n",
        "line 2: no column 'q' for the template; the row has: a, b",
    ),
    "short row": ("a,q\n1,2\n3\n", "line 3: fewer fields than the header"),
    "long row": ("q\n1\n1,2\n", "line 3: more fields than the header"),
    "open quote": ('q\n"1\n', "in.csv cannot be read after line 1: unexpected end"),
    "not UTF-8": (b"q\n\xff\n", "in.csv cannot be read after line 0: 'utf-8'"),
    "empty": ("", "has no rows"),
    "header only": ("q\n", "has no rows"),
}


@pytest.mark.parametrize(("content", "complaint"), BAD_CSV.values(), ids=BAD_CSV)
async def test_bad_csv(
    cli: RunsCLI,
    api: DeepSeekEmulator,
    tmp_path: Path,
    content: str | bytes,
    complaint: str,
) -> None:
    """A wrong row of a CSV file is named by its line."""
    source = tmp_path / "in.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    run = await cli("batch", source, tmp_path / "out.jsonl", "-p", "{q}")

    assert run.code == 2
    assert complaint in run.error
    assert not api.requests


async def test_null_column(cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path) -> None:
    """A column that is null fills no prompt."""
    source = write(tmp_path / "in.jsonl", {"q": "a"}, {"q": None})
    run = await cli("batch", source, tmp_path / "out.jsonl", "-p", "{q}")

    assert run.code == 2
    assert "in.jsonl line 2: column 'q' is null" in run.error
    assert not api.requests


async def test_packed_and_columnar_files(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Whatever the library reads, the command reads: gzip, Zstandard, Parquet."""
    zstd = pytest.importorskip("backports.zstd")
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    api.answer = echo
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"q": "gz"}\n'))
    (tmp_path / "a.csv.zst").write_bytes(zstd.compress(b"q\nzst\n"))
    parquet.write_table(arrow.table({"q": ["columns"]}), tmp_path / "a.parquet")

    for name, text in (("jsonl.gz", "gz"), ("csv.zst", "zst"), ("parquet", "columns")):
        run = await cli("batch", tmp_path / f"a.{name}", "-", "-p", "{q}")

        assert run.code == 0
        assert said(read(run.out)["request-1"]) == f"deepseek-flash: {text}"


async def test_model_and_literal_system(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path
) -> None:
    """--model goes before the rows' own; braces in --system are only braces."""
    api.answer = lambda body: f"{body['model']}: {body['messages'][0]['content']}"
    body = {"model": "gpt-4o-mini", "messages": chat("a"), "stream": False}
    source = write(tmp_path / "a.jsonl", {"custom_id": "k", "body": body})
    table = tmp_path / "b.csv"
    table.write_text("q\na\n", "utf-8")
    own = await cli("batch", source, "-", "-m", "deepseek-v4-pro")
    system = await cli("batch", table, "-", "-p", "{q}", "-s", 'As {"json": {q}}')

    assert said(read(own.out)["k"]) == "deepseek-v4-pro: a"
    assert said(read(system.out)["request-1"]) == 'deepseek-flash: As {"json": {q}}'


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("-p", "no column"), "names no column"),
        (("-p", "{open"), "--prompt: "),
        (("--system", "S"), "--system goes with --prompt"),
        (("-c", "0"), "--concurrency"),
    ],
)
async def test_bad_options(
    cli: RunsCLI,
    api: DeepSeekEmulator,
    tmp_path: Path,
    argv: tuple[str, ...],
    complaint: str,
) -> None:
    """A wrong option is told in one line that names it."""
    source = write(tmp_path / "in.jsonl", {"messages": chat("a")})
    run = await cli("batch", source, tmp_path / "out.jsonl", *argv)

    assert run.code == 2
    assert complaint in run.error
    assert not api.requests


@pytest.mark.usefixtures("api")
async def test_files_are_not_lost(cli: RunsCLI, tmp_path: Path) -> None:
    """Neither the input nor earlier results are replaced unasked."""
    source = write(tmp_path / "in.jsonl", {"messages": chat("a")})
    target = tmp_path / "out.jsonl"
    target.write_text("earlier\n", "utf-8")

    same = await cli("batch", source, source, "--overwrite")
    kept = await cli("batch", source, target)
    replaced = await cli("batch", source, target, "--overwrite")

    assert (same.code, kept.code, replaced.code) == (2, 2, 0)
    assert "same file" in same.error
    assert "--overwrite" in kept.error
    assert len(read(target.read_text("utf-8"))) == 1


@pytest.mark.parametrize("what", ["source", "target"])
async def test_unusable_paths(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path, what: str
) -> None:
    """A missing input and an output in no directory are told with their paths."""
    source = write(tmp_path / "in.jsonl", {"messages": chat("a")})
    nowhere = tmp_path / "nowhere" / "file.jsonl"
    paths = (nowhere, "-") if what == "source" else (source, nowhere)
    run = await cli("batch", *paths)

    assert run.code == 2
    assert str(nowhere) in run.error
    assert "No such file" in run.error
    assert not api.requests


@pytest.mark.usefixtures("api")
async def test_reads_a_pipe_by_name(process: RunsCLI) -> None:
    """An input that can be read once only is kept for its second reading."""
    row = json.dumps({"messages": chat("a")}).encode()
    run = await process("batch", "/dev/stdin", "/dev/stdout", stdin=row)

    assert run.code == 0
    assert list(read(run.out)) == ["request-1"]


async def test_no_copy_of_a_pipe_has_a_name(
    cli: RunsCLI,
    api: DeepSeekEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the command ends, no prompt is left behind in a file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found: list[Path] = []

    def answer(body: dict[str, Any]) -> str:
        found.extend(path for path in tmp_path.rglob("*") if not path.is_dir())
        return echo(body)

    api.answer = answer
    row = json.dumps({"messages": chat("a")}).encode()
    run = await cli("batch", "-", "-", stdin=row)

    assert said(read(run.out)["request-1"]) == "deepseek-flash: a"
    assert not found
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - nothing else runs


@pytest.mark.usefixtures("api")
async def test_bad_pipe(process: RunsCLI) -> None:
    """What came through a pipe is named after it."""
    for name in ("-", "/dev/stdin"):
        run = await process("batch", name, "-", stdin=b"\n[]\n")

        assert run.code == 2
        assert "stdin line 2 must be" in run.error


@pytest.mark.usefixtures("api")
async def test_full_disk(process: RunsCLI) -> None:
    """Results that cannot be written end the batch with one line."""
    row = json.dumps({"messages": chat("a")}).encode()
    run = await process("batch", "-", "/dev/full", stdin=row)

    assert run.code == 2
    assert "No space left" in run.error


async def test_progress_and_interrupt(
    terminal: Opens, emulator: DeepSeekEmulator, tmp_path: Path
) -> None:
    """On a terminal there is progress; Ctrl-C keeps the rows that are done."""
    emulator.pace = Pace(latency=0.2, tokens_per_second=0)
    rows = [{"messages": chat(str(i))} for i in range(100)]
    source, target = write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("batch", source, target, "-c", "2", env=env) as screen:
        await screen.shows("4/100")
        screen.interrupt()
        code = await screen.ends()
    await emulator.idle()
    done = len(read(target.read_text("utf-8")))

    assert code == 130
    assert 4 <= done < 100
    assert f"stopped with {done} of 100 rows written".encode() in screen.screen
    assert screen.screen.endswith(b"interrupted\r\n")
    assert b"\x1b[?25h" in screen.screen  # the cursor is back


async def test_results_on_a_terminal(
    terminal: Opens, emulator: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Lines that go to the terminal share it with no display, only with the sums."""
    emulator.pace = Pace(latency=0.7, tokens_per_second=0)
    source = write(tmp_path / "in.jsonl", {"messages": chat("a")})
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("batch", source, "-", env=env) as screen:
        await screen.shows('"custom_id":"request-1"')
        await screen.shows("answered       1 (")
        code = await screen.ends()

    assert code == 0
    assert b"in flight" not in screen.screen


@pytest.mark.usefixtures("api")
async def test_reader_gone(tmp_path: Path) -> None:
    """When the reader of stdout leaves, the command ends without a traceback."""
    rows = [{"messages": chat(str(i))} for i in range(200)]
    source = write(tmp_path / "in.jsonl", *rows)
    reading, writing = os.pipe()
    child = await asyncio.create_subprocess_exec(
        *(*COMMAND, "batch", str(source), "-"),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    os.close(reading)
    _, err = await child.communicate()

    assert child.returncode == 1
    assert err == b""


async def test_concurrency_has_one_name(process: RunsCLI) -> None:
    """`--limit` is no second name of it, and the help tells each command's default."""
    for command in (("batch", "file"), ("batch", "run"), ("batch", "plan"), ("demo",)):
        asked = await process(*command, "--help")
        text = " ".join(asked.out.split())

        assert "--concurrency N The most requests at once" in text
        assert ("account's limit" in text) == (command == ("batch", "run"))
        assert ("--limit" in text) == (command == ("demo",))
