"""Where the requests come from: read lazily, in order, one row after the other."""

from __future__ import annotations

import asyncio
import io
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

import anyio
from msgspec import Struct

from ..errors import ConfigurationError, DeepSeekError, SourceError
from ..types.discreet import Discreet
from .files import FileRow, count_of, dataset_rows, is_dataset, open_rows, rows

BatchSource: TypeAlias = Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str]
"""Rows: an iterable, an async iterable, a file (`.jsonl`, `.csv`, `.parquet`, the first
two also `.gz` or `.zst`), an open binary file of JSON lines, or `hf:NAME:SPLIT` for a
Hugging Face data set."""

_READ_AHEAD: Final = 256


class Row(Discreet, Struct, gc=False):
    """One row of the input.

    Attributes:
        index: Its number, from 0.
        name: What counts the rows of this source, for people; empty if `index` does,
            as it does for rows of the caller's own code, that are of no file.
        number: Its number there.
        value: The row, or an error in its stead.
    """

    index: int
    name: str
    number: int
    value: Any

    @property
    def where(self) -> str:
        """Its place, for people."""
        return self.place(self.number)

    def place(self, number: int) -> str:
        """The place of another row of the same source."""
        return f"{self.name} {number}" if self.name else f"requests[{number}]"


class Source:
    """Hands out rows.

    Args:
        rows: See `BatchSource`.
        total: How many rows there are, if the caller knows.

    Attributes:
        is_exhausted: Whether nothing is left.
        failure: What the source raised, if it did.
        count: How many rows were handed out.
        total: How many rows there are, as far as is known beforehand.
    """

    def __init__(self, rows: BatchSource, total: int | None = None) -> None:
        self.is_exhausted = False
        self.failure: Exception | None = None
        self.count = 0
        self.total = total
        self._ahead: deque[FileRow] = deque()
        self._sync: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        self._file: Iterator[FileRow] | None = None
        self._path: Path | None = None
        self._open(rows)

    def _open(self, given: BatchSource) -> None:
        if isinstance(given, str | os.PathLike):
            name = os.fspath(given)
            if is_dataset(name):
                self._file = dataset_rows(name)
                return
            if not Path(name).is_file():
                is_there = Path(name).exists()
                problem = "is no ordinary file" if is_there else "does not exist"
                message = f"{name} {problem}"
                raise SourceError(message)
            self._path = Path(name)
            self._file = rows(self._path)
        elif isinstance(given, io.BufferedIOBase | io.RawIOBase):
            self._file = open_rows(cast("BinaryIO", given))
        elif isinstance(given, AsyncIterable):
            self._async = aiter(given)
        elif isinstance(cast("object", given), Iterable):
            self._sync = iter(given)
            if self.total is None and isinstance(given, Sized):
                self.total = len(given)
        else:
            kind = type(cast("object", given)).__name__
            message = f"requests must be rows or the path of a file, not {kind}"
            raise ConfigurationError(message)

    async def look_ahead(self) -> None:
        """See how many rows a file has, where that is quick."""
        if self.total is None and self._path is not None:
            self.total = await anyio.to_thread.run_sync(count_of, self._path)

    def take(self) -> Row | None:
        """The next row at hand.

        Returns:
            The row; `None` if there is none, and then `fill` waits for more unless
            the source is exhausted.
        """
        if self._ahead:
            return self._row(*self._ahead.popleft())
        if self._sync is None or self.is_exhausted:
            return None
        try:
            value = next(self._sync)
        except StopIteration:
            self.is_exhausted = True
        except Exception as error:  # noqa: BLE001 - the caller's own code; raised later
            self._fail(error)
        else:
            index = self.count
            self.count += 1
            return Row(index, "", index, value)
        return None

    def _row(self, name: str, number: int, value: object) -> Row:
        index = self.count
        self.count += 1
        return Row(index, name, number, value)

    def _fail(self, error: Exception) -> None:
        self.is_exhausted = True
        if not isinstance(error, DeepSeekError) and self._file is not None:
            cause = error
            error = SourceError(f"the input cannot be read on: {cause}")
            error.__cause__ = cause
        self.failure = error

    async def fill(self) -> None:
        """Wait for further rows."""
        try:
            if self._async is not None:
                self._ahead.append(("", self.count, await anext(self._async)))
            elif self._file is not None:
                await self._read_file(self._file)
        except StopAsyncIteration:
            self.is_exhausted = True
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._fail(SourceError("the source of requests was cancelled"))
        except Exception as error:  # noqa: BLE001 - the caller's own code; raised later
            self._fail(error)

    async def rows(self) -> AsyncIterator[Row]:
        """Every row that is left.

        Raises:
            SourceError: The source cannot be read on.
            Exception: What the source itself raised.
        """
        while self.has_rows:
            row = self.take()
            if row is not None:
                yield row
            elif self.has_rows:
                await self.fill()
        if self.failure is not None:
            raise self.failure

    async def _read_file(self, file: Iterator[FileRow]) -> None:
        found: list[FileRow] = []
        try:
            # What was read before an error stays read.
            await anyio.to_thread.run_sync(
                found.extend, islice(file, _READ_AHEAD), abandon_on_cancel=False
            )
        finally:
            self._ahead.extend(found)
        if len(found) < _READ_AHEAD:
            self.is_exhausted = True

    @property
    def has_rows(self) -> bool:
        """Whether `take` may still give a row."""
        return bool(self._ahead) or not self.is_exhausted

    async def aclose(self) -> None:
        """Close what was left early; what that raises is a failure of the source."""
        for given in (self._async, self._file):
            close = getattr(given, "aclose", None) or getattr(given, "close", None)
            try:
                if close is not None and (ended := close()) is not None:
                    await ended
            except Exception as error:  # noqa: BLE001 - the caller's own code
                self.failure = self.failure or error
