"""Where the results in a journal are: read in input order, without loading them all."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

from .index import Index
from .journal import Torn, read_manifest, scan, segments, torn_end
from .record import Record, decode_record, to_result
from .results import BatchResult

_SEGMENT_BITS: Final = 40


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

        for result in read_results("job"):
            if isinstance(result, BatchOk):
                print(result.key, result.completion.text)

    A batch that is resumed hands out only what is new; here is all of it. The files
    are read in the calling thread.

    Args:
        directory: The journal; a run may be at work on it.

    Yields:
        For each row that has a result the newest one, a `BatchOk` or a `BatchFailed`.

    Raises:
        JournalError: It is none, is damaged, or cannot be read.
    """
    catalogue = Catalogue(Path(directory))
    catalogue.check()
    for record in catalogue.records_in_order():
        yield to_result(record)
