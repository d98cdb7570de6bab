"""Looking after journals: what is in one, whether it is sound, several into one."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

from ..errors import (
    DeepSeekWarning,
    JournalError,
    JournalMismatchError,
)
from .budget import dollars
from .catalogue import Catalogue
from .journal import (
    LOCK,
    Journal,
    Manifest,
    Torn,
    read_manifest,
    scan,
    segments,
)
from .record import Mark, held_line, mark_of
from .storage import is_locked, locked, private, sync_directory, unlock

_AT_ONCE: Final = 1 << 20


class JournalStatus(Struct, kw_only=True, frozen=True):
    """What is in a journal.

    Attributes:
        ok: Answered requests.
        failed: Failed ones.
        records: Records, those superseded included.
        cost: US dollars of all records.
        uncertain_cost: US dollars, at most, that may have been billed beside them; of
            a run at work, those that its requests under way may cost.
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
    uncertain_cost: Decimal
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
        records=catalogue.index.records,
        cost=dollars(catalogue.index.cost),
        uncertain_cost=dollars(catalogue.index.held_cost),
        tokens=catalogue.index.tokens,
        size=sum(part.stat().st_size for part in segments(path)),
        shard=manifest.shard,
        is_running=is_locked(path / LOCK),
        damage=catalogue.bad,
    )


def repair(directory: str | os.PathLike[str]) -> list[Torn]:
    """Rewrite the segments that hold damage, keeping every whole record.

    The old file stays beside the new one as `NAME.damaged`. What a lost record cost is
    not known, so each counts as the dearest of the others, among what may have been
    billed.

    Returns:
        What was left out.

    Raises:
        JournalLockedError: A runner is at work on it.
        JournalError: It is none, or cannot be read or written.
    """
    path = Path(directory)
    manifest = read_manifest(path)
    held = locked(path / LOCK)
    try:
        found = [torn for part in segments(path) for torn in _repaired(part)]
        sync_directory(path)
    except OSError as error:
        message = f"the journal {path} cannot be repaired: {error.strerror}"
        raise JournalError(message) from error
    finally:
        unlock(held)
    lost = sum(not torn.is_torn for torn in found)
    if lost:
        _hold_for(lost, Journal(path, manifest.job, manifest.shard))
    return found


def _hold_for(lost: int, journal: Journal) -> None:
    """Count lost records among what may have been billed."""
    known = journal.index
    cost = known.held_cost + lost * known.most_cost
    tokens = known.held_tokens + lost * known.most_tokens
    try:
        journal.commit(held_line(cost, tokens))
    finally:
        journal.close()


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
    os.link(path, _unused(path.with_name(path.name + ".damaged")))
    draft.replace(path)  # at no moment is there no segment of that name
    return bad


def _unused(path: Path) -> Path:
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}{number}")
    return found


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def merge(
    target: str | os.PathLike[str], sources: list[str | os.PathLike[str]]
) -> JournalStatus:
    """Put the records of several journals of one job into a new one.

    Of several records for one request an answer counts before a failure, and the
    first answer before later ones. A shard that is not among them is a
    `DeepSeekWarning`.

    Args:
        target: A directory that is empty or not there yet.
        sources: The journals, usually those of the shards.

    Returns:
        What the new journal holds.

    Raises:
        JournalMismatchError: They are not of one job, or of different inputs.
        JournalError: One is damaged or cannot be read, or `target` is taken; nothing
            is left behind.
    """
    path = Path(target)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        message = f"{path} is taken; give the name of a new directory"
        raise JournalError(message)
    if len({Path(source).resolve() for source in sources}) < len(sources):
        message = "a journal is among the sources twice"
        raise JournalError(message)
    manifests = [read_manifest(Path(source)) for source in sources]
    for source, manifest in zip(sources, manifests, strict=True):
        changed = _differences(manifests[0], manifest)
        if changed:
            message = f"{source} is of another job than {sources[0]}: {changed}"
            raise JournalMismatchError(message)
    _warn_about_missing_shards([manifest.shard for manifest in manifests])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{path.name}."))
        try:
            _join(draft, manifests[0].job, [Path(source) for source in sources])
            draft.rename(path)
        except BaseException:
            shutil.rmtree(draft)
            raise
    except OSError as error:
        message = f"the journal {path} cannot be written: {error.strerror or error}"
        raise JournalError(message) from error
    return status(path)


def _differences(one: Manifest, other: Manifest) -> str:
    names = one.job.keys() | other.job.keys()
    return ", ".join(sorted(n for n in names if one.job.get(n) != other.job.get(n)))


def _warn_about_missing_shards(given: list[str]) -> None:
    parts = {shard.partition("/")[2] for shard in given}
    wanted = {f"{part}/{n}" for n in parts for part in range(int(n))}
    missing = sorted(wanted.difference(given))
    if missing:
        message = f"shards that are not among the journals: {', '.join(missing)}"
        warnings.warn(message, DeepSeekWarning, stacklevel=3)


def _join(directory: Path, job: dict[str, str], sources: list[Path]) -> None:
    journal = Journal(directory, job)
    cost = tokens = 0
    try:
        for source in sources:
            catalogue = Catalogue(source)
            catalogue.check()
            _append(journal, catalogue, source)
            found = catalogue.index
            cost += found.held_cost + found.cost
            tokens += found.held_tokens + found.tokens
        # Records that another one supersedes stay behind; what they cost does not.
        kept = journal.index
        journal.commit(held_line(cost - kept.cost, tokens - kept.tokens))
    finally:
        journal.close()


def _append(journal: Journal, catalogue: Catalogue, source: Path) -> None:
    part: list[bytes] = []
    size = 0
    for line in catalogue.lines():
        _compare(journal, mark_of(line), source)
        journal.index.read(line)
        part.append(line)
        size += len(line)
        if size >= _AT_ONCE:
            journal.commit(b"".join(part))
            part, size = [], 0
    journal.commit(b"".join(part))


def _compare(journal: Journal, mark: Mark, source: Path) -> None:
    known = journal.index
    if known.status(mark.index) and not known.has(mark.index, mark.hash):
        message = (
            f"row {mark.index} (from 0) is another request in {source} than in the "
            "journals before it: the inputs were different"
        )
        raise JournalMismatchError(message)
