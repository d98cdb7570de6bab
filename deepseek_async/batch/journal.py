"""The journal: a directory that makes a batch survive anything.

::

    manifest.json     what job this is: fingerprints, no prompts, no key
    lock              held by the runner at work
    000000.jsonl      records (see `record`), append only; a new file every 256 MiB

A record counts once it is written and `fdatasync` has returned; only then is its
result handed out. Results are kept here, requests are not: of those the journal holds
a hash. Files are readable by their owner only, for answers may be private.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from .._version import __version__
from ..decoders import make_ready
from ..errors import JournalError, JournalMismatchError
from .index import Index
from .record import is_whole
from .storage import (
    NO_FOLLOW,
    locked,
    open_for_reading,
    sync_directory,
    unlock,
    write_durably,
)

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
LOCK: Final = "lock"
SEGMENT_SIZE: Final = 256 * 1024 * 1024


class Manifest(Struct, kw_only=True):
    """What job a journal belongs to.

    Attributes:
        format: The version of the journal's format.
        library: The version of this library that made it.
        created: Unix time.
        job: Names of what must not change between runs, with their fingerprints.
        shard: Which part of how many, as in `0/4`.
    """

    format: int = FORMAT
    library: str = __version__
    created: float = 0.0
    job: dict[str, str] = field(default_factory=dict[str, str])
    shard: str = "0/1"


class Torn(Struct, frozen=True):
    """A place in a segment where no whole record is.

    Attributes:
        segment: The file's name.
        offset: Where the line begins, in bytes.
        line: Its number, from 1.
        size: Its length in bytes.
        is_torn: Whether it is what an interrupted write leaves: no end, or bytes that
            never reached the disk. Anything else has been changed afterwards.
    """

    segment: str
    offset: int
    line: int
    size: int
    is_torn: bool


def segments(directory: Path) -> list[Path]:
    """The segments of a journal, oldest first.

    Raises:
        JournalError: One between others is not there.
    """
    found = sorted(directory.glob("[0-9]" * 6 + ".jsonl"))
    for number, path in enumerate(found, int(found[0].stem) if found else 0):
        if path.name != _name(number):
            message = (
                f"{directory / _name(number)} is missing: put it back, or rename the "
                "files after it so that none is left out"
            )
            raise JournalError(message)
    return found


def scan(path: Path, bad: list[Torn]) -> Iterator[tuple[int, bytes]]:
    """The whole records of a segment with their offsets.

    Args:
        path: The segment.
        bad: Gets what is not a whole record.
    """
    offset = 0
    with open_for_reading(path) as file:
        for number, line in enumerate(file, 1):
            if is_whole(line):
                yield offset, line
            else:
                bad.append(Torn(path.name, offset, number, len(line), _is_torn(line)))
            offset += len(line)


def _is_torn(line: bytes) -> bool:
    """Whether a line can be what an interrupted write leaves.

    That is the beginning of a record, or bytes that never reached the disk: zeros at
    the end, or for a sector. A whole record with another last byte has been changed.
    """
    if line[-1:] == b"\n":
        return _SECTOR in line
    return line[-1:] == b"\0" or not is_whole(line[:-1] + b"\n")


def torn_end(found: list[Path], bad: list[Torn]) -> Torn | None:
    """The interrupted write at the end of a journal, if that is all that is wrong.

    Args:
        found: Its segments, oldest first.
        bad: The places in them where no whole record is.

    Raises:
        JournalError: Something else is wrong, which loses results.
    """
    if not bad:
        return None
    first = bad[0]
    if len(bad) > 1 or not first.is_torn or first.segment != found[-1].name:
        raise _corrupt(found[-1].parent, first)
    return first


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a journal.

    Raises:
        JournalError: There is none, or it is of another format.
    """
    path = directory / MANIFEST
    make_ready(Manifest)
    try:
        with open_for_reading(path) as file:
            found = msgspec.json.decode(file.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        message = f"{path} is not the manifest of a journal: {error}"
        raise JournalError(message) from error
    if found.format != FORMAT:
        message = f"{path} is of format {found.format}; this version knows {FORMAT}"
        raise JournalError(message)
    return found


class Journal:
    """An open journal, locked for this process.

    Args:
        directory: Made if it is not there.
        job: What must not change between runs.
        shard: Which part of how many.

    Attributes:
        directory: Where it is.
        index: What is finished.
        cut: The torn end that was cut off at opening, if there was one.
        offset: The size of what is durable in the newest segment.

    Raises:
        JournalError: It cannot be made, read or repaired by cutting its end.
        JournalLockedError: Another runner has it.
        JournalMismatchError: It belongs to another job.
    """

    def __init__(
        self, directory: Path, job: Mapping[str, str], shard: str = "0/1"
    ) -> None:
        self.directory = directory
        self.index = Index()
        self.cut: Torn | None = None
        self.offset = 0
        self._segment = 0
        self._file: int | None = None
        self._lock: int | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = locked(directory / LOCK)
            self._claim(dict(job), shard)
            self._recover()
            self._file = self._open_segment()
        except OSError as error:
            self.close()
            message = f"the journal {directory} cannot be written: {error.strerror}"
            raise JournalError(message) from error
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> str:
        """The file and offset that the next record goes to."""
        return f"{self.directory / _name(self._segment)}, offset {self.offset}"

    def _claim(self, job: dict[str, str], shard: str) -> None:
        path = self.directory / MANIFEST
        if not path.exists():
            if segments(self.directory):
                message = f"{self.directory} has records but no {MANIFEST}"
                raise JournalError(message)
            made = Manifest(created=time.time(), job=job, shard=shard)
            write_durably(path, msgspec.json.encode(made))
            return
        found = read_manifest(self.directory)
        names = found.job.keys() | job.keys()
        changed = sorted(n for n in names if found.job.get(n) != job.get(n))
        if found.shard != shard:
            changed.append(f"shard ({found.shard} then, {shard} now)")
        if changed:
            message = (
                f"the journal {self.directory} is of another job; changed since: "
                f"{', '.join(changed)}. Take another directory, or the old arguments"
            )
            raise JournalMismatchError(message)

    def _recover(self) -> None:
        found = segments(self.directory)
        bad: list[Torn] = []
        for path in found:
            for _, line in scan(path, bad):
                if bad:
                    raise _corrupt(self.directory, bad[0])
                self.index.read(line)
        self.cut = torn_end(found, bad)
        if self.cut is not None:
            self._cut(found[-1], self.cut)
        self._segment = int(found[-1].stem) if found else 0

    @staticmethod
    def _cut(path: Path, torn: Torn) -> None:
        file = os.open(path, os.O_WRONLY | NO_FOLLOW)
        try:
            os.ftruncate(file, torn.offset)
            os.fsync(file)
        finally:
            os.close(file)

    def _open_segment(self) -> int:
        path = self.directory / _name(self._segment)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_FOLLOW
        file = os.open(path, flags, 0o600)
        self.offset = os.fstat(file).st_size
        sync_directory(self.directory)
        return file

    def commit(self, data: bytes) -> None:
        """Write records and wait until they are durable. Blocks.

        Raises:
            OSError: They are not; `recover_from` must run before the next try.
            JournalError: The segment is not what it was.
        """
        if self._file is None or self.offset >= SEGMENT_SIZE:
            self._next_segment()
        assert self._file is not None  # noqa: S101 - opened just now
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        _sync(self._file)
        self.offset += len(data)
        found = os.fstat(self._file)
        if not found.st_nlink or found.st_size != self.offset:
            message = (
                f"somebody else has removed or changed {self.directory} while it was "
                f"in use ({_name(self._segment)}); results written to it may be lost"
            )
            raise JournalError(message)

    def recover_from(self, error: OSError) -> None:
        """Undo half a write, so that the same records can be written again. Blocks.

        A full disk leaves the segment usable. After any other error nobody knows what
        the file holds, so the records go to a new segment.
        """
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self.offset)
            if error.errno in _FULL:
                return
        self._close_segment()

    def _next_segment(self) -> None:
        self._close_segment()
        if (self.directory / _name(self._segment)).exists():
            self._segment += 1
        self._file = self._open_segment()

    def _close_segment(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                os.close(file)

    def close(self) -> None:
        """Let go of the files and the lock."""
        self._close_segment()
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None


_FULL: Final = frozenset({28, 122})  # ENOSPC, EDQUOT
_SECTOR: Final = bytes(512)


def _name(segment: int) -> str:
    return f"{segment:06d}.jsonl"


def _corrupt(directory: Path, torn: Torn) -> JournalError:
    message = (
        f"{directory / torn.segment} is damaged at offset {torn.offset} (line "
        f"{torn.line}, {torn.size} bytes); `deepseek-async batch verify --repair` "
        "keeps what is good"
    )
    return JournalError(message)


_sync: Final = getattr(os, "fdatasync", os.fsync)
