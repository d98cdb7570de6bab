"""Rows of a file, one at a time: JSON lines, CSV, Parquet, data sets. Blocks."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

import msgspec

from ..errors import InvalidRequestError, MissingExtraError, SourceError

FileRow: TypeAlias = tuple[str, int, Any]
"""What counts the rows, a row's number, and the row: a JSON value or an error."""

DATASET_PREFIX: Final = "hf:"
_MAX_LINE: Final = 256 * 1024 * 1024
_ROWS_AT_ONCE: Final = 256
_BOM: Final = b"\xef\xbb\xbf"
_BYTE: Final = re.compile(r"\(byte (\d+)\)")


def rows(path: Path) -> Iterator[FileRow]:
    """The rows of a file, by what its name ends in.

    Args:
        path: `.jsonl` or `.ndjson`, `.csv` (each also with `.gz` or `.zst`), or
            `.parquet`.

    Raises:
        SourceError: It is none of these, or cannot be read (on).
        MissingExtraError: A library for it is not installed.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes[-1:] in ([".gz"], [".zst"]) else ""
    kind = suffixes[-1] if suffixes else ""
    readers: dict[str, Callable[[Path, str], Iterator[FileRow]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    if kind not in readers:
        message = f"{path.name}: known are .jsonl, .csv (.gz, .zst) and .parquet"
        raise SourceError(message)
    return readers[kind](path, packing)


def is_dataset(name: str) -> bool:
    """Whether a name is that of a data set rather than of a file."""
    return name.startswith(DATASET_PREFIX)


def dataset_rows(name: str) -> Iterator[FileRow]:
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
            library = _library("zstandard", f"reading {path.name}", "zstd")
            return cast("BinaryIO", io.BufferedReader(library.open(path, "rb")))
        return path.open("rb")
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        raise SourceError(message) from error


def _lines(path: Path, packing: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    with _opened(path, packing) as file:
        while True:
            try:
                line = file.readline(_MAX_LINE)
            except Exception as error:  # each packing's library has its own
                if not _is_reading_error(error):
                    raise
                message = f"{path} cannot be read after line {number}: {error}"
                raise SourceError(message) from error
            if not line:
                return
            number += 1
            if len(line) >= _MAX_LINE:
                message = f"{path} line {number} is longer than {_MAX_LINE} bytes"
                raise SourceError(message)
            yield number, line


def _is_reading_error(error: Exception) -> bool:
    known = OSError | EOFError | zlib.error
    return isinstance(error, known) or type(error).__name__ == "ZstdError"


def _json_lines(path: Path, packing: str) -> Iterator[FileRow]:
    decode = msgspec.json.Decoder().decode
    for number, line in _lines(path, packing):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.isspace():
            continue
        row: Any
        try:
            row = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            row = _invalid(f"{path.name} line {number}", error)
        yield f"{path.name} line", number, row


def _invalid(where: str, error: Exception) -> InvalidRequestError:
    found = _BYTE.search(str(error))
    column = f" column {int(found[1]) + 1}" if found else ""
    what = _BYTE.sub("", str(error)).strip()
    return InvalidRequestError(f"{where}{column}: not valid JSON: {what}")


def _csv_rows(path: Path, packing: str) -> Iterator[FileRow]:
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
            name, number = f"{path.name} line", reader.line_num
            if None in row or None in row.values():
                what = "another number of columns than the header has"
                yield name, number, InvalidRequestError(f"{name} {number}: {what}")
            else:
                yield name, number, row


def _parquet_rows(path: Path, packing: str) -> Iterator[FileRow]:
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
