"""Results out of a journal: in input order, without loading them all.

JSON lines are those of OpenAI's batch output, failures in a file of their own.

https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

import csv
import importlib
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Literal

import msgspec
from msgspec import Raw, Struct

from ..errors import BatchError, MissingExtraError
from .journal import Index, Torn, read_manifest, scan, segments, torn_end
from .record import Failure, Record, completion_body, decode_record, to_result
from .results import BatchFailed, BatchResult
from .storage import private

Format = Literal["jsonl", "csv", "parquet"]

_SEGMENT_BITS: Final = 40
_ROW_GROUP: Final = 1_000
_encode: Final = msgspec.json.Encoder().encode
COLUMNS: Final[tuple[str, ...]] = (
    "index",
    "key",
    "ok",
    "text",
    "reasoning",
    "finish_reason",
    "error",
    "prompt_tokens",
    "cache_hit_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_ms",
    "attempts",
)
"""The columns of a CSV or Parquet export."""


class Catalogue:
    """Where the record that counts for each row is: eighteen bytes a row.

    Args:
        directory: A journal; it may be in use.

    Attributes:
        index: What is finished.
        bad: Places where no whole record is.
    """

    def __init__(self, directory: Path) -> None:
        read_manifest(directory)
        self.index = Index()
        self.bad: list[Torn] = []
        self._paths = segments(directory)
        self._places = array("Q")
        for number, path in enumerate(self._paths):
            for offset, line in scan(path, self.bad):
                self._add(number, offset, line)

    def _add(self, number: int, offset: int, line: bytes) -> None:
        mark = self.index.read(line)
        if mark is None:
            return
        missing = len(self.index.statuses) - len(self._places)
        self._places.frombytes(bytes(8 * missing))
        self._places[mark.index] = number << _SEGMENT_BITS | offset

    def check(self) -> None:
        """See that no result is lost.

        A write that is under way, or was interrupted, at the end is none.

        Raises:
            JournalError: The journal is damaged.
        """
        torn_end(self._paths, self.bad)

    def lines(self) -> Iterator[bytes]:
        """The records that count, in input order."""
        with ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for row, status in enumerate(self.index.statuses):
                if not status:
                    continue
                number, offset = divmod(self._places[row], 1 << _SEGMENT_BITS)
                if number not in files:
                    opened = self._paths[number].open("rb")
                    files[number] = stack.enter_context(opened)
                files[number].seek(offset)
                yield files[number].readline()

    def records_in_order(self) -> Iterator[Record]:
        """The records that count, in input order, decoded."""
        for line in self.lines():
            yield decode_record(line)


def read_results(directory: str | os.PathLike[str]) -> Iterator[BatchResult]:
    """The results in a journal, in input order, one at a time.

    Args:
        directory: The journal; a run may be at work on it.

    Raises:
        JournalError: It is none, is damaged, or cannot be read.
    """
    catalogue = Catalogue(Path(directory))
    catalogue.check()
    for record in catalogue.records_in_order():
        yield to_result(record)


class Exported(Struct):
    """What an export wrote: answered and failed requests."""

    ok: int = 0
    failed: int = 0


def export(
    directory: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    errors: str | os.PathLike[str] | None = None,
    format: Format | None = None,  # noqa: A002 - the word for it
) -> Exported:
    """Write the results of a journal to a file, in input order.

    Args:
        directory: The journal.
        output: The file.
        errors: A file for failed requests; with JSON lines only. If not given, they
            are among the others.
        format: What to write, told by the file's name if not given.

    Returns:
        How many of each there were.

    Raises:
        JournalError: The journal cannot be read, or is damaged; nothing is written.
        BatchError: The format is unknown, or the file cannot be written.
        MissingExtraError: Parquet, without the extra `parquet`.
    """
    path = Path(output)
    kind = format or path.suffix.removeprefix(".")
    writers: dict[str, Callable[[Catalogue, Path, Path | None], Exported]] = {
        "jsonl": _write_lines,
        "csv": _write_csv,
        "parquet": _write_parquet,
    }
    if kind not in writers:
        message = f"{path.name}: known formats are jsonl, csv and parquet"
        raise BatchError(message)
    if errors is not None and kind != "jsonl":
        message = "a file for errors goes with jsonl; the others have a column for them"
        raise BatchError(message)
    catalogue = Catalogue(Path(directory))
    catalogue.check()
    try:
        return writers[kind](catalogue, path, None if errors is None else Path(errors))
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        raise BatchError(message) from error


def to_batch_line(done: Record | BatchResult) -> dict[str, Any]:
    """A record of a journal, or a result, as a line of OpenAI's batch output.

    A refusal by the server has both its `response`, as OpenAI writes it, and an
    `error`, so that either tells it from an answer.

    Args:
        done: What became of a request.
    """
    line: dict[str, Any] = {
        "id": f"batch_req_{done.index}",
        "custom_id": done.key,
        "response": None,
        "error": None,
    }
    found = _of_record(done) if isinstance(done, Record) else _of_result(done)
    if not isinstance(found, Failure):
        line["response"] = found
        return line
    if found.status is not None:
        names = ("message", "type", "param", "code")
        line["response"] = {
            "status_code": found.status,
            "request_id": found.request_id or "",
            "body": {"error": {name: getattr(found, name) for name in names}},
        }
    line["error"] = {"code": found.kind, "message": found.message}
    return line


def _of_record(record: Record) -> dict[str, Any] | Failure:
    if record.status != "ok":
        return msgspec.json.decode(record.body, type=Failure)
    # Not the server's trace id, which a journal does not keep for answers.
    return _answer(msgspec.json.decode(record.body, type=_Id).id, record.body)


def _of_result(result: BatchResult) -> dict[str, Any] | Failure:
    if isinstance(result, BatchFailed):
        return Failure.of(result.error)
    completion = result.completion
    request_id = completion.request_id or completion.id
    return _answer(request_id, Raw(completion_body(completion)))


def _answer(request_id: str, body: Raw) -> dict[str, Any]:
    return {"status_code": 200, "request_id": request_id, "body": body}


class _Id(Struct):
    id: str = ""


def _write_lines(catalogue: Catalogue, path: Path, errors: Path | None) -> Exported:
    done = Exported()
    with ExitStack() as stack:
        good: IO[bytes] = stack.enter_context(open(path, "wb", opener=private))
        bad = good
        if errors is not None:
            bad = stack.enter_context(open(errors, "wb", opener=private))
        for record in catalogue.records_in_order():
            is_ok = record.status == "ok"
            file = good if is_ok else bad
            file.write(_encode(to_batch_line(record)) + b"\n")
            done.ok += is_ok
            done.failed += not is_ok
    return done


def to_row(record: Record) -> dict[str, Any]:
    """A record as a flat row of `COLUMNS`."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    prompt, hit, _, output, _ = record.tokens
    row |= {
        "index": record.index,
        "key": record.key,
        "ok": record.status == "ok",
        "prompt_tokens": prompt,
        "cache_hit_tokens": hit,
        "completion_tokens": output,
        "cost_usd": None if record.cost < 0 else record.cost / 1e9,
        "latency_ms": record.latency_ms,
        "attempts": record.attempts,
    }
    result = to_result(record)
    if isinstance(result, BatchFailed):
        row["error"] = str(result.error)
        return row
    row["text"] = result.completion.text
    row["finish_reason"] = result.completion.finish_reason
    if result.completion.choices:
        row["reasoning"] = result.completion.choices[0].message.reasoning_content
    return row


def _write_csv(catalogue: Catalogue, path: Path, errors: Path | None) -> Exported:
    del errors
    done = Exported()
    with open(path, "w", encoding="utf-8", newline="", opener=private) as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for record in catalogue.records_in_order():
            row = to_row(record)
            writer.writerow(row)
            done.ok += row["ok"]
            done.failed += not row["ok"]
    return done


def _write_parquet(catalogue: Catalogue, path: Path, errors: Path | None) -> Exported:
    del errors
    try:
        arrow: Any = importlib.import_module("pyarrow")  # untyped
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        msg = "writing Parquet"
        raise MissingExtraError(msg, "parquet") from error
    schema = arrow.schema([(name, _arrow_type(arrow, name)) for name in COLUMNS])
    done = Exported()
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(path, schema) as writer:
        for record in catalogue.records_in_order():
            rows.append(to_row(record))
            done.ok += rows[-1]["ok"]
            done.failed += not rows[-1]["ok"]
            if len(rows) == _ROW_GROUP:
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                rows.clear()
        writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
    path.chmod(0o600)
    return done


def _arrow_type(arrow: Any, name: str) -> Any:  # noqa: ANN401 - untyped
    if name == "ok":
        return arrow.bool_()
    if name == "cost_usd":
        return arrow.float64()
    texts = {"key", "text", "reasoning", "finish_reason", "error"}
    return arrow.string() if name in texts else arrow.int64()
