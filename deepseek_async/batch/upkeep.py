"""Looking after journals: what is in one, whether it is sound, several into one."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from ..errors import JournalError, JournalLockedError, JournalMismatchError
from .budget import dollars
from .export import Catalogue
from .journal import (
    LOCK,
    MANIFEST,
    Journal,
    Manifest,
    Torn,
    read_manifest,
    scan,
    segments,
)
from .storage import locked, private, sync_directory, write_durably


class JournalStatus(Struct, kw_only=True, frozen=True):
    """What is in a journal.

    Attributes:
        ok: Answered requests.
        failed: Failed ones.
        records: Records, those superseded included.
        cost: US dollars of all records.
        tokens: Input and output tokens of all records.
        size: Bytes of all segments.
        shard: Which part of how many it is.
        is_running: Whether a runner is at work on it.
        damage: Places where no whole record is.
    """

    ok: int
    failed: int
    records: int
    cost: Decimal
    tokens: int
    size: int
    shard: str
    is_running: bool
    damage: list[Torn]

    @property
    def is_sound(self) -> bool:
        """Whether every byte is part of a whole record."""
        return not self.damage


def status(directory: str | os.PathLike[str]) -> JournalStatus:
    """What is in a journal, checked byte for byte.

    Raises:
        JournalError: It is none, or cannot be read.
    """
    path = Path(directory)
    manifest = read_manifest(path)
    catalogue = Catalogue(path)
    return JournalStatus(
        ok=catalogue.index.ok,
        failed=catalogue.index.failed,
        records=catalogue.records,
        cost=dollars(catalogue.index.cost),
        tokens=catalogue.index.tokens,
        size=sum(part.stat().st_size for part in segments(path)),
        shard=manifest.shard,
        is_running=_is_running(path),
        damage=catalogue.bad,
    )


def _is_running(path: Path) -> bool:
    try:
        held = locked(path / LOCK)
    except JournalLockedError:
        return True
    os.close(held)
    return False


def repair(directory: str | os.PathLike[str]) -> list[Torn]:
    """Rewrite the segments that hold damage, keeping every whole record.

    The old file stays beside the new one as `NAME.damaged`.

    Returns:
        What was left out.

    Raises:
        JournalLockedError: A runner is at work on it.
        JournalError: It is none, or cannot be read or written.
    """
    path = Path(directory)
    read_manifest(path)
    held = locked(path / LOCK)
    try:
        found = [torn for part in segments(path) for torn in _repaired(part)]
        sync_directory(path)
    except OSError as error:
        message = f"the journal {path} cannot be repaired: {error.strerror}"
        raise JournalError(message) from error
    finally:
        os.close(held)
    return found


def _repaired(path: Path) -> list[Torn]:
    bad: list[Torn] = []
    for _ in scan(path, bad):
        pass
    if not bad:
        return bad
    draft = path.with_suffix(".new")
    with open(draft, "wb", opener=private) as file:
        for _, line in scan(path, []):
            file.write(line)
        _sync(file)
    path.rename(path.with_name(path.name + ".damaged"))
    draft.rename(path)
    return bad


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def merge(
    target: str | os.PathLike[str], sources: list[str | os.PathLike[str]]
) -> JournalStatus:
    """Put the records of several journals of one job into a new one.

    Of several records for one request an answer counts before a failure, and the
    first answer before later ones.

    Args:
        target: A directory that holds no journal yet.
        sources: The journals, usually those of the shards.

    Returns:
        What the new journal holds.

    Raises:
        JournalMismatchError: They are not of one job.
        JournalError: One cannot be read, or there is a journal at `target`.
    """
    path = Path(target)
    if (path / MANIFEST).exists():
        message = f"{path} holds a journal already"
        raise JournalError(message)
    first = read_manifest(Path(sources[0]))
    for source in sources[1:]:
        changed = _differences(first, read_manifest(Path(source)))
        if changed:
            message = f"{source} is of another job than {sources[0]}: {changed}"
            raise JournalMismatchError(message)
    journal = Journal(path, first.job)
    try:
        for source in sources:
            _append(journal, Catalogue(Path(source)))
    except OSError as error:
        message = f"{journal.position} cannot be written: {error.strerror}"
        raise JournalError(message) from error
    finally:
        journal.close()
    merged = Manifest(created=first.created, job=first.job)
    write_durably(path / MANIFEST, msgspec.json.encode(merged))
    return status(path)


def _differences(one: Manifest, other: Manifest) -> str:
    names = one.job.keys() | other.job.keys()
    return ", ".join(sorted(n for n in names if one.job.get(n) != other.job.get(n)))


def _append(journal: Journal, catalogue: Catalogue) -> None:
    part: list[bytes] = []
    size = 0
    for line in catalogue.lines():
        part.append(line)
        size += len(line)
        if size >= 1 << 20:
            journal.commit(b"".join(part))
            part, size = [], 0
    journal.commit(b"".join(part))
