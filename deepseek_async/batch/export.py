"""Results out of a journal: in input order, without loading them all.

JSON lines are those of OpenAI's batch output, failures in a file of their own.

https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

import csv
import importlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from ..codec import Codec
from ..errors import BatchError, MissingExtraError
from .catalogue import Catalogue
from .record import Failure, Record, completion_body, to_result
from .results import BatchFailed, BatchResult
from .storage import drafted

Format = Literal["jsonl", "csv", "parquet"]

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
    catalogue = Catalogue(Path(directory))
    catalogue.check()
    write = writer_of(directory, output, errors=errors, format=format)
    with ExitStack() as stack:
        try:
            path = stack.enter_context(drafted(Path(output)))
            other = None
            if errors is not None:
                other = stack.enter_context(drafted(Path(errors)))
            done = write(catalogue, path, other)
            stack.close()
        except OSError as error:
            message = f"{output} cannot be written: {error.strerror or error}"
            raise BatchError(message) from error
    return done


def writer_of(
    directory: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    errors: str | os.PathLike[str] | None = None,
    format: Format | None = None,  # noqa: A002 - the word for it
) -> _Writer:
    """What writes an export, if it can be; see `export`.

    Raises:
        BatchError: The format is unknown, or there cannot be such files.
        MissingExtraError: Parquet, without the extra `parquet`.
    """
    path = Path(output)
    kind = format or path.suffix.removeprefix(".")
    if kind not in _WRITERS:
        message = f"{path.name}: known formats are jsonl, csv and parquet"
        raise BatchError(message)
    if errors is not None and kind != "jsonl":
        message = "a file for errors goes with jsonl; the others have a column for them"
        raise BatchError(message)
    if kind == "parquet" and find_spec("pyarrow") is None:
        msg = "writing Parquet"
        raise MissingExtraError(msg, "parquet")
    _check_places(Path(directory), [path] if errors is None else [path, Path(errors)])
    return _WRITERS[kind]


def _check_places(journal: Path, outputs: list[Path]) -> None:
    places = [path.resolve() for path in outputs]
    for path, place in zip(outputs, places, strict=True):
        if not place.parent.is_dir():
            message = f"{path} cannot be written: there is no directory for it"
            raise BatchError(message)
        if place.is_relative_to(journal.resolve()):
            message = f"{path} is inside of the journal, which nothing else may write"
            raise BatchError(message)
    if len(set(places)) < len(places):
        message = "results and errors cannot go to the same file"
        raise BatchError(message)


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
    return _answer(_ID.decode_strictly(record.body).id, record.body)


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


_ID: Final = Codec(_Id)


def _write_lines(catalogue: Catalogue, path: Path, errors: Path | None) -> Exported:
    done = Exported()
    with ExitStack() as stack:
        good: IO[bytes] = stack.enter_context(path.open("wb"))
        bad = good
        if errors is not None:
            bad = stack.enter_context(errors.open("wb"))
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
    with path.open("w", encoding="utf-8", newline="") as file:
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
    arrow: Any = importlib.import_module("pyarrow")  # untyped
    parquet: Any = importlib.import_module("pyarrow.parquet")
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
    return done


def _arrow_type(arrow: Any, name: str) -> Any:  # noqa: ANN401 - untyped
    if name == "ok":
        return arrow.bool_()
    if name == "cost_usd":
        return arrow.float64()
    texts = {"key", "text", "reasoning", "finish_reason", "error"}
    return arrow.string() if name in texts else arrow.int64()


_Writer: TypeAlias = Callable[[Catalogue, Path, Path | None], Exported]
_WRITERS: Final[dict[str, _Writer]] = {
    "jsonl": _write_lines,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
