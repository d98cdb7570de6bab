"""Where rows come from, what they become, and what is said of bad ones."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batch.fakes import FakeWire, answer_to, ask, asks, collect, make
from deepseek_async import (
    ChatCompletion,
    ConfigurationError,
    InvalidRequestError,
    MissingExtraError,
    UserMessage,
)
from deepseek_async.batch import BatchFailed, Settings, SourceError
from deepseek_async.batch.files import count_of
from deepseek_async.batch.keys import Keys
from deepseek_async.batch.plan import make_plan
from deepseek_async.batch.source import Source
from deepseek_async.batch.template import columns_of, fill
from deepseek_async.request import WireRequest

LINES = b"".join(
    msgspec.json.encode({"id": f"r{n}", "text": str(n)}) + b"\n" for n in range(700)
)


async def read(given: Any) -> list[tuple[str, Any]]:
    return [(row.where, row.value) async for row in Source(given).rows()]


async def test_json_lines_plain_and_packed(tmp_path: Path) -> None:
    """The same rows come out of a file, of gzip and of zstd."""
    zstd = pytest.importorskip("backports.zstd")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "a.ndjson.zst").write_bytes(zstd.compress(LINES))

    for name in ("a.jsonl", "a.jsonl.gz", "a.ndjson.zst"):
        rows = await read(tmp_path / name)
        assert len(rows) == 700
        assert rows[699] == (f"{name} line 700", {"id": "r699", "text": "699"})


async def test_csv(tmp_path: Path) -> None:
    """Quoted line ends count as lines, a bad row fails alone, a field may be long."""
    path = tmp_path / "a.csv"
    long = "x" * 200_000
    path.write_text(f'id,text\n1,"two\nlines"\n2\n3,plain\n4,a,b\n5,{long}\n')

    rows = await read(str(path))

    assert rows[0] == ("a.csv line 3", {"id": "1", "text": "two\nlines"})
    assert isinstance(rows[1][1], InvalidRequestError)
    assert "a.csv line 4: fewer fields than" in str(rows[1][1])
    assert rows[2] == ("a.csv line 5", {"id": "3", "text": "plain"})
    assert "a.csv line 6: more fields than" in str(rows[3][1])
    assert rows[4] == ("a.csv line 7", {"id": "5", "text": long})


async def test_parquet(tmp_path: Path) -> None:
    """Rows of a Parquet file, by its own library."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"id": list(range(600)), "text": ["x"] * 600})
    parquet.write_table(table, tmp_path / "a.parquet")

    rows = await read(tmp_path / "a.parquet")

    assert len(rows) == 600
    assert rows[599] == ("a.parquet row 600", {"id": 599, "text": "x"})


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.jsonl.gz",
            gzip.compress(LINES)[:-400],
            r"a\.jsonl\.gz cannot be read after line \d+",
        ),
        ("b.jsonl.gz", b"no gzip at all", r"b\.jsonl\.gz cannot be read after line 0"),
        ("c.csv", b"id\n\xff\xfe\n", r"c\.csv cannot be read after line"),
        ("d.txt", b"x", r"d\.txt: known are"),
        ("e.parquet", b"PAR1 not", r"e\.parquet cannot be read after row 0"),
    ],
    ids=["truncated", "not gzip", "not text", "unknown", "not parquet"],
)
async def test_an_unreadable_file_is_named(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    """File and place are told."""
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(SourceError, match=message):
        await read(path)


async def test_a_truncated_file_gives_its_rows_first(tmp_path: Path) -> None:
    """What comes before the damage is answered; then the error."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES, compresslevel=0)[:-4000])
    wire = FakeWire()
    done = 0
    with pytest.raises(SourceError, match="cannot be read after line"):  # noqa: PT012
        async with make(wire, path, request="{text}", defaults={"model": "m"}) as batch:
            async for result in batch:
                done += result.ok

    assert 300 < done < 700


async def test_a_missing_file_is_told_at_once(tmp_path: Path) -> None:
    """Before a journal is made."""
    with pytest.raises(SourceError, match="nowhere"):
        await collect(
            make(FakeWire(), tmp_path / "nowhere.jsonl", journal=tmp_path / "j")
        )
    assert not (tmp_path / "j").exists()


async def test_bad_rows_fail_alone_and_are_named(tmp_path: Path) -> None:
    """Line and column, both lines of a doubled key, and the missing column."""
    path = tmp_path / "in.jsonl"
    path.write_text(
        '{"id":"a","text":"x"}\n{"id":"b", text}\n\n{"id":"a","text":"y"}\n'
        '{"id":"c","txt":"y"}\n{"id":"d","text":"z"}\n'
    )
    wire = FakeWire()
    batch = make(wire, path, request="{text}", key="id", defaults={"model": "m"})

    done = sorted(await collect(batch), key=lambda result: result.index)

    assert [result.ok for result in done] == [True, False, False, False, True]
    failed = [str(r.error) for r in done if isinstance(r, BatchFailed)]
    assert "in.jsonl line 2 column 12" in failed[0]
    assert "duplicate key 'a': in.jsonl line 1 and in.jsonl line 4" in failed[1]
    assert "in.jsonl line 5: no column 'text'" in failed[2]
    assert failed[2].endswith("the row has: id, txt")
    assert done[3].key == "c"


async def test_a_key_is_never_that_of_a_row_without_one() -> None:
    """Rows without a key have their number as key: no other row may have it too."""
    wire = FakeWire()
    rows: list[Any] = [
        ask("a"),
        ask("b"),
        ("x", ask("c")),
        ("1", ask("d")),  # the second row's
        ("01", ask("e")),
        ("6", ask("f")),
        ask("g"),  # its number has been given to the row before
        ("7", ask("h")),
        ("9" * 5000, ask("i")),
    ]

    done = sorted(await collect(make(wire, rows)), key=lambda result: result.index)

    failed = {r.index: str(r.error) for r in done if isinstance(r, BatchFailed)}
    assert failed.keys() == {3, 6}
    assert "requests[3]: the key '1' is that of a row without a key" in failed[3]
    assert "duplicate key '6': requests[5] and requests[6]" in failed[6]
    good = [result.key for result in done if result.ok]
    assert len(good) == len(set(good)) == 7


@pytest.mark.parametrize("how", ["column", "custom_id"])
async def test_a_row_without_a_key_takes_none_of_another_row(
    tmp_path: Path, how: str
) -> None:
    """Where rows have keys, one that can have none is named by its place."""
    path = tmp_path / "in.jsonl"
    name = "id" if how == "column" else "custom_id"

    def request(row: dict[str, Any]) -> dict[str, Any]:
        return {"model": row["model"], "messages": row["messages"]}

    rows = [msgspec.json.encode({name: str(n), **ask(f"q{n}")}) for n in range(1, 9)]
    rows[2:2] = [b"{broken", rows[0]]
    path.write_bytes(b"\n".join(rows))
    made: dict[str, Any] = {"order": "input"}
    if how == "column":
        made |= {"key": "id", "request": request}

    whole = make(FakeWire(), path, **made)
    done = await collect(whole)
    parts = [
        await collect(make(FakeWire(), path, shard=(part, 2), **made))
        for part in (0, 1)
    ]

    keys = {result.key: result.ok for result in done}
    assert len(keys) == len(done) == 10
    assert [key for key, ok in keys.items() if not ok] == [
        "in.jsonl line 3",
        "in.jsonl line 4",
    ]
    assert "duplicate key '1'" in str([r for r in done if isinstance(r, BatchFailed)])
    assert whole.report.examples["InvalidRequestError"].count("line 3") == 1
    assert sorted(r.index for part in parts for r in part) == list(range(10))


async def test_the_shards_of_rows_with_and_without_keys_are_the_whole() -> None:
    """What one shard does not look at makes no row of another one wrong."""
    rows: list[Any] = [("1004", ask("a")), ask("b"), ("0", ask("c")), ask("d")]
    rows += [("3", ask("e"))]

    async def found(**options: Any) -> dict[int, bool]:
        done = await collect(make(FakeWire(), rows, **options))
        return {result.index: result.ok for result in done}

    whole = await found()
    parts = [await found(shard=(part, 2)) for part in (0, 1)]

    assert whole == {0: True, 1: True, 2: True, 3: True, 4: False}
    assert parts[0] | parts[1] == whole


async def test_a_row_that_cannot_be_read_among_rows_without_keys(
    tmp_path: Path,
) -> None:
    """The row whose key is the number of an unreadable one is answered."""
    path = tmp_path / "in.jsonl"
    line = msgspec.json.encode(ask("q"))
    keyed = msgspec.json.encode({"custom_id": "1", **ask("r")})
    path.write_bytes(b"\n".join([line, b"{", line, keyed]))

    done = sorted(await collect(make(FakeWire(), path)), key=lambda r: r.index)

    assert [result.ok for result in done] == [True, False, True, True]


async def test_rows_that_make_their_values_when_asked() -> None:
    """A dict of another kind is read as its class wants to be read."""

    class Lazy(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            return super().__getitem__(name)()

    row = Lazy({name: lambda value=value: value for name, value in ask("q").items()})
    wire = FakeWire()

    (done,) = await collect(make(wire, [row]))

    assert done.ok
    assert wire.seen == {"q": 1}


async def test_a_row_that_cannot_be_read_takes_no_key(tmp_path: Path) -> None:
    """Its number as a key is a makeshift: the row whose key it is is answered."""
    path = tmp_path / "in.csv"
    path.write_text("id,text\n1,x\n2\n0,y\n")
    wire = FakeWire()
    batch = make(wire, path, request="{text}", key="id", defaults={"model": "m"})

    done = sorted(await collect(batch), key=lambda result: result.index)

    assert [result.ok for result in done] == [True, False, True]
    assert isinstance(done[1], BatchFailed)
    assert "fewer fields" in str(done[1].error)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\n", b"\n"])
async def test_a_mark_is_no_row(tmp_path: Path, data: bytes) -> None:
    """A file of a byte-order mark and blank lines is as empty as one of nothing."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)

    with pytest.raises(SourceError, match="has no rows"):
        await read(path)


async def test_lines_of_the_openai_batch_format() -> None:
    """`custom_id` is the key, `body` the request; other endpoints are refused."""
    wire = FakeWire()
    rows = [
        {
            "custom_id": "one",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": ask("q"),
        },
        {"custom_id": "two", "url": "/v1/embeddings", "body": ask("q")},
        {"custom_id": "three", "method": "GET", "body": ask("q")},
        {"custom_id": "four", "body": 1},
        {"custom_id": "five", "body": ask("q", extra_headers={"a": "b"})},
        {"custom_id": ["six"], "body": ask("q")},
        {"custom_id": 8.5, **ask("a bare request")},
        {"question": "q"},
    ]

    done = {result.key: result for result in await collect(make(wire, rows))}

    assert done["one"].ok
    assert done["8.5"].ok
    assert wire.seen == {"q": 1, "a bare request": 1}
    failed = {r.key: str(r.error) for r in done.values() if isinstance(r, BatchFailed)}
    assert "embeddings" in failed["two"]
    assert "method must be POST, not GET" in failed["three"]
    assert "body must be a request, not int" in failed["four"]
    assert "cannot set extra_headers" in failed["five"]
    assert "custom_id must be text or a number" in failed["requests[5]"]
    assert "neither a request with messages nor a batch line" in failed["7"]


async def test_rows_of_a_file_set_no_call_options(tmp_path: Path) -> None:
    """A file is data: it sends no headers and sets no clocks; its caller may."""
    path = tmp_path / "in.jsonl"
    rows = [ask("a", timeout=1, tag="t"), ask("b", stream=True), ask("c", stream=False)]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))

    done = sorted(await collect(make(FakeWire(), path)), key=lambda one: one.index)
    own = await collect(make(FakeWire(), [ask("a", timeout=1, tag="t")]))

    assert [result.ok for result in done] == [False, False, True]
    failed = [str(r.error) for r in done if isinstance(r, BatchFailed)]
    assert "in.jsonl line 1: a row of a file cannot set tag, timeout" in failed[0]
    assert "in.jsonl line 2: a batch does not stream" in failed[1]
    assert own[0].ok


async def test_messages_may_be_defaults() -> None:
    """Bare rows may leave them out then; batch lines stay what they are."""
    wire = FakeWire()
    rows = [{"temperature": 0.5}, {"custom_id": "k", "body": {"temperature": 0.5}}]

    done = await collect(make(wire, rows, defaults=ask("the same for all")))

    assert sorted(result.key for result in done if result.ok) == ["0", "k"]


async def test_defaults_and_overrides() -> None:
    """What a row says goes before the defaults, and the overrides before both."""
    wire = FakeWire()
    models: dict[str, str | None] = {}

    async def reply(request: WireRequest, text: str) -> ChatCompletion:
        models[text] = request.model
        return answer_to(request)

    wire.reply = reply
    rows = [{**ask("a"), "model": "gpt"}, {"messages": ask("b")["messages"]}]
    await collect(make(wire, rows, defaults={"model": "m"}))
    filled = dict(models)
    await collect(make(wire, rows, defaults={"model": "m"}, overrides={"model": "o"}))

    assert filled == {"a": "gpt", "b": "m"}
    assert models == {"a": "o", "b": "o"}
    assert (
        Settings(overrides={"model": "o"}).reading().fingerprint()
        != Settings().reading().fingerprint()
    )


async def test_an_open_file(tmp_path: Path) -> None:
    """JSON lines of an open file are named by its name, and it is left open."""
    path = tmp_path / "rows"
    path.write_bytes(LINES + b"{oops\n")
    with path.open("rb") as file:
        rows = await read(file)
        assert not file.closed

    assert rows[699] == ("rows line 700", {"id": "r699", "text": "699"})
    assert "rows line 701 column" in str(rows[700][1])


@pytest.mark.parametrize(
    ("name", "data"), [("a.jsonl", b"\n \n"), ("a.csv", b"id,text\n"), ("b.csv", b"")]
)
async def test_a_file_without_rows_is_told(
    tmp_path: Path, name: str, data: bytes
) -> None:
    """Nobody means a header alone; an empty list is nothing wrong."""
    (tmp_path / name).write_bytes(data)

    with pytest.raises(SourceError, match=f"{name} has no rows"):
        await collect(make(FakeWire(), tmp_path / name))
    with pytest.raises(SourceError, match=f"{name} has no rows"):
        await make_plan(tmp_path / name, Settings())
    assert await collect(make(FakeWire(), [])) == []


async def test_a_display_may_know_the_total(tmp_path: Path) -> None:
    """From a list, a file that is quick to count, or `total=`, before it is read."""
    path, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    path.write_bytes(b"\n" + LINES + b" \n")
    packed.write_bytes(gzip.compress(LINES))
    seen: list[int | None] = []
    plain: dict[str, Any] = {"request": "{text}", "defaults": {"model": "m"}}
    shown: dict[str, Any] = {"progress": [].append}
    cases: list[tuple[Any, dict[str, Any]]] = [
        (asks(700), {}),
        (path, {**plain, "total": 701, **shown}),
        (path, {**plain, **shown}),
        (path, plain),
        (packed, {**plain, **shown}),
        (iter(asks(700)), shown),
    ]
    for given, more in cases:
        async with make(FakeWire(), given, 1, **more) as batch:
            await anext(aiter(batch))
            seen.append(batch.progress.total)

    assert seen == [700, 701, 700, None, None, None]


def test_rows_that_are_quick_to_count(tmp_path: Path) -> None:
    """Those of Parquet and of JSON lines; what cannot be read has no count."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"id": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not")
    (tmp_path / "a.csv").write_text("id\n1\n")

    counts = [
        count_of(tmp_path / name)
        for name in ("a.parquet", "bad.parquet", "a.csv", "none.jsonl")
    ]

    assert counts == [2, None, None, None]


async def test_a_function_makes_requests() -> None:
    """Its exception fails its own row and is named, without the row's content."""
    wire = FakeWire()

    def request(row: int) -> dict[str, Any]:
        if row == 2:
            raise KeyError("secret column")
        return {"model": "m", "messages": [UserMessage(content=str(row))]}

    def key(row: int) -> str:
        return f"k{row}"

    done = await collect(make(wire, range(4), request=request, key=key))

    failed = {r.key: r.error for r in done if isinstance(r, BatchFailed)}
    assert list(failed) == ["k2"]
    assert "KeyError" in str(failed["k2"])
    assert "secret" not in str(failed["k2"])


async def test_a_source_that_fails_halfway_loses_nothing() -> None:
    """Results of everything before it come, then the source's own exception."""

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in asks(30):
            yield row
        message = "the database went away"
        raise ConnectionAbortedError(message)

    done = 0
    with pytest.raises(ConnectionAbortedError):  # noqa: PT012
        async with make(FakeWire(), rows()) as batch:
            async for result in batch:
                done += result.ok
    assert done == 30


async def test_little_is_read_ahead() -> None:
    """A reader that stops early has caused little reading."""
    taken = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for row in asks(100_000):
            taken += 1
            yield row

    async with make(FakeWire(), rows(), 8) as batch:
        for _ in range(100):
            await anext(aiter(batch))

    assert taken <= 100 + 16 + 8


def test_templates() -> None:
    """Columns fill their places once; doubled braces are braces; values are text."""
    row = {"a": "{b}", "b": 5, "c": ["x"]}

    filled = fill({"t": "{a} {b} {{a}} {c}", "n": 3, "l": ["{b}"]}, row, "here")

    assert filled == {"t": '{b} 5 {a} ["x"]', "n": 3, "l": ["5"]}
    with pytest.raises(InvalidRequestError, match="here: no column 'd'"):
        fill("{d}", row, "here")
    with pytest.raises(InvalidRequestError, match="here: column 'd' is null"):
        fill("{d}", {"d": None}, "here")


def test_columns_of_a_template() -> None:
    """They can be asked for; a brace on its own is refused before anything is read."""
    template = {"t": "{a} {{b}} {c d}", "l": [{"t": "{e}"}], "n": 3}

    assert columns_of(template) == {"a", "c d", "e"}
    assert columns_of("{{}}") == frozenset()
    for text in ("{open", "close}", "{a{b}"):
        with pytest.raises(ConfigurationError, match="on its own in the template"):
            make(FakeWire(), [], request=text)


async def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra to install is told."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("deepseek_async.batch.files.importlib.import_module", missing)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"deepseek-async\[parquet\]"):
        await read(tmp_path / "a.parquet")
    with pytest.raises(MissingExtraError, match=r"deepseek-async\[datasets\]"):
        await read("hf:some/thing")


async def test_data_sets_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf:NAME:SPLIT` is read by the library for it, one row at a time."""

    class Library:
        @staticmethod
        def load_dataset(name: str, *, split: str, streaming: bool) -> Any:
            assert (name, split, streaming) == ("org/set", "test", True)
            return ({"text": str(number)} for number in range(3))

    def found(_: str) -> type[Library]:
        return Library

    monkeypatch.setattr("deepseek_async.batch.files.importlib.import_module", found)
    rows = await read("hf:org/set:test")

    assert rows[2] == ("org/set:test row 3", {"text": "2"})


def test_keys_remember_their_first_place() -> None:
    """Every key is new once, and its double finds it."""
    keys = Keys()

    assert all(keys.add(f"key {n}", n) is None for n in range(5_000))
    assert all(keys.add(f"key {n}", 9) == n for n in range(5_000))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is told apart from one that cannot be read."""
    with pytest.raises(SourceError, match=r"nope\.jsonl does not exist$"):
        Source(tmp_path / "nope.jsonl")
    with pytest.raises(SourceError, match=r"is no ordinary file$"):
        Source(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"a": "b', "column 9: not valid JSON: "),
        (b'{"a": [1, 2', "column 12: not valid JSON: Expecting ',' delimiter"),
        (rb'{"a": "x\ud800y"}', "column 9: not valid JSON: half of a surrogate pair"),
        (rb'{"a": "\ud83d\ude00\ud83dx"}', "column 20: not valid JSON: half"),
        (rb'{"a": "\udc00"}', "column 14: not valid JSON: "),
    ],
)
async def test_every_error_of_json_has_a_column(
    tmp_path: Path, line: bytes, told: str
) -> None:
    """Also those that the decoder does not locate."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(line + b"\n")
    (result,) = await collect(make(FakeWire(), str(path)))

    assert isinstance(result, BatchFailed)
    assert f"in.jsonl line 1 {told}" in str(result.error)


def test_a_file_of_very_many_lines_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for a number that is only shown."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\n" * 10_000)
    assert count_of(path) == 10_000
    monkeypatch.setattr("deepseek_async.batch.files._COUNTING", -1.0)
    assert count_of(path) is None
