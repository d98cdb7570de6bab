"""Rows of a file, one at a time: JSON lines, CSV, Parquet, data sets. Blocks."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Final, TypeAlias, cast

import msgspec

from ..errors import InvalidRequestError, MissingExtraError, SourceError

FileRow: TypeAlias = tuple[str, int, Any]
"""What counts the rows, a row's number, and the row: a JSON value or an error."""

Rows: TypeAlias = Generator[FileRow, None, None]

DATASET_PREFIX: Final = "hf:"
_MAX_LINE: Final = 256 * 1024 * 1024
_ROWS_AT_ONCE: Final = 256
_BOM: Final = b"\xef\xbb\xbf"
_BYTE: Final = r"\(byte (\d+)\)"
_HALF: Final = rb"(?i)\\ud[89ab]..(?!\\ud[c-f])"
_COUNTED: Final = 256 * 1024 * 1024
"""JSON lines up to this size, in bytes, are counted beforehand."""

_COUNTING: Final = 1.0
"""For how long, in seconds; a file of very many lines has no count."""


def rows(path: Path) -> Rows:
    """The rows of a file, by what its name ends in.

    Args:
        path: `.jsonl` or `.ndjson`, `.csv` (each also with `.gz` or `.zst`), or
            `.parquet`.

    Raises:
        SourceError: It is none of these, has no rows, or cannot be read (on).
        MissingExtraError: A library for it is not installed.
    """
    kind, packing = _kind_of(path)
    if kind not in _READERS:
        message = f"{path.name}: known are .jsonl, .csv (.gz, .zst) and .parquet"
        raise SourceError(message)
    return _at_least_one(_READERS[kind](path, packing), str(path))


def count_of(path: Path) -> int | None:
    """How many rows a file has, where that is quick to see; else `None`. Blocks.

    Args:
        path: See `rows`.
    """
    kind, packing = _kind_of(path)
    try:
        if kind == ".parquet":
            library = _library("pyarrow.parquet", "counting rows", "parquet")
            return int(library.read_metadata(path).num_rows)
        is_plain = _READERS.get(kind) is _json_lines and not packing
        if is_plain and path.stat().st_size <= _COUNTED:
            with path.open("rb") as file:
                return _count_lines(file)
    except (OSError, ValueError, MissingExtraError):
        pass  # told by whoever reads the rows
    return None


def _count_lines(file: BinaryIO) -> int | None:
    count, until = 0, monotonic() + _COUNTING
    for number, line in enumerate(file):
        count += not line.isspace()
        if not number % 4096 and monotonic() > until:
            return None
    return count


def open_rows(file: BinaryIO) -> Rows:
    """The rows of an open file: JSON lines, from where it stands.

    Args:
        file: Opened in binary mode; its owner closes it.

    Raises:
        SourceError: It has no rows, or cannot be read (on).
    """
    name = Path(str(getattr(file, "name", "input"))).name
    return _at_least_one(_json_rows(file, name, name), name)


def is_known(path: Path) -> bool:
    """Whether the name of a file tells how its rows are read."""
    return _kind_of(path)[0] in _READERS


def _kind_of(path: Path) -> tuple[str, str]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes[-1:] in ([".gz"], [".zst"]) else ""
    return (suffixes[-1] if suffixes else ""), packing


def _at_least_one(found: Rows, name: str) -> Rows:
    """The rows, of which there must be some: a header alone is a mistake."""
    with closing(found):
        is_empty = True
        for row in found:
            is_empty = False
            yield row
    if is_empty:
        message = f"{name} has no rows"
        raise SourceError(message)


def is_dataset(name: str) -> bool:
    """Whether a name is that of a data set rather than of a file."""
    return name.startswith(DATASET_PREFIX)


def dataset_rows(name: str) -> Rows:
    """The rows of a Hugging Face data set, streamed.

    Args:
        name: `hf:NAME` or `hf:NAME:SPLIT`; the split is `train` if not given.

    Raises:
        MissingExtraError: `datasets` is not installed.
    """
    repository, _, split = name.removeprefix(DATASET_PREFIX).partition(":")
    library = _library("datasets", f"the data set {repository}", "datasets")
    split = split or "train"
    found = library.load_dataset(repository, split=split, streaming=True)
    for number, row in enumerate(found, 1):
        yield f"{repository}:{split} row", number, row


def _library(name: str, feature: str, extra: str) -> Any:  # noqa: ANN401 - untyped
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(feature, extra) from error


def _opened(path: Path, packing: str) -> BinaryIO:
    try:
        if packing == ".gz":
            return cast("BinaryIO", gzip.open(path, "rb"))
        if packing == ".zst":
            # Unlike others, these tell a file that is cut short.
            is_new = sys.version_info >= (3, 14)
            name = "compression.zstd" if is_new else "backports.zstd"
            library = _library(name, f"reading {path.name}", "zstd")
            return cast("BinaryIO", library.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        raise SourceError(message) from error


def _lines(file: BinaryIO, place: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while True:
        try:
            line = file.readline(_MAX_LINE)
        except Exception as error:  # each packing's library has its own
            if not _is_reading_error(error):
                raise
            message = f"{place} cannot be read after line {number}: {error}"
            raise SourceError(message) from error
        if not line:
            return
        number += 1
        if len(line) >= _MAX_LINE:
            message = f"{place} line {number} is longer than {_MAX_LINE} bytes"
            raise SourceError(message)
        yield number, line


def _is_reading_error(error: Exception) -> bool:
    known = OSError | EOFError | zlib.error
    return isinstance(error, known) or type(error).__name__ == "ZstdError"


def _json_lines(path: Path, packing: str) -> Rows:
    with _opened(path, packing) as file:
        yield from _json_rows(file, path.name, str(path))


def _json_rows(file: BinaryIO, name: str, place: str) -> Rows:
    decode = msgspec.json.Decoder().decode
    for number, line in _lines(file, place):
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text or text.isspace():
            continue
        row: Any
        try:
            row = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            row = _invalid(f"{name} line {number}", text, error)
        yield f"{name} line", number, row


def _invalid(where: str, text: bytes, error: Exception) -> InvalidRequestError:
    found = re.search(_BYTE, str(error))
    column = f" column {int(found[1]) + 1}" if found else ""
    what = re.sub(_BYTE, "", str(error)).strip()
    if found is None and isinstance(error, msgspec.DecodeError):
        number, what = _unlocated(text) or (None, what)
        column = f" column {number}" if number is not None else ""
    return InvalidRequestError(f"{where}{column}: not valid JSON: {what}")


def _unlocated(text: bytes) -> tuple[int, str] | None:
    """Where an error is that msgspec does not locate, and what; `None` if unknown."""
    try:
        json.loads(text.rstrip(b"\r\n"))
    except json.JSONDecodeError as error:
        return error.colno, error.msg
    except (UnicodeDecodeError, RecursionError):
        pass
    else:
        found = re.search(_HALF, text)
        if found is not None:
            return found.start() + 1, "half of a surrogate pair"
    return None


def _csv_rows(path: Path, packing: str) -> Rows:
    # The module's limit of 128 KiB, which only it can change, is less than a prompt.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE))
    with _opened(path, packing) as packed:
        text = io.TextIOWrapper(packed, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except Exception as error:
                if not (
                    isinstance(error, csv.Error | UnicodeDecodeError)
                    or _is_reading_error(error)
                ):
                    raise
                message = f"{path} cannot be read after line {reader.line_num}: {error}"
                raise SourceError(message) from error
            if len(row) < len(names := reader.fieldnames or ()):
                _refuse_doubles(names, path)
            name, number = f"{path.name} line", reader.line_num
            if None in row or None in row.values():
                than = "more" if None in row else "fewer"
                what = f"{than} fields than the header has columns"
                yield name, number, InvalidRequestError(f"{name} {number}: {what}")
            else:
                yield name, number, row


def _refuse_doubles(names: Sequence[str], path: Path) -> None:
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        message = f"{path} has several columns of the name {doubles[0]!r}"
        raise SourceError(message)


def _parquet_rows(path: Path, packing: str) -> Rows:
    del packing
    library = _library("pyarrow.parquet", f"reading {path.name}", "parquet")
    number = 0
    try:
        with library.ParquetFile(path) as file:
            for part in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in part.to_pylist():
                    number += 1
                    yield f"{path.name} row", number, row
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        message = f"{path} cannot be read after row {number}: {error}"
        raise SourceError(message) from error


_READERS: Final[Mapping[str, Callable[[Path, str], Rows]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
