"""Files that survive a crash, are their owner's only, and have one writer."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import JournalError, JournalLockedError

if sys.platform != "win32":
    import fcntl

NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
"""Symbolic links are refused, and children get no descriptor."""


def private(path: str, flags: int) -> int:
    """An opener of files for their owner only, as answers may be private."""
    return os.open(path, flags, 0o600)


def open_for_reading(path: Path) -> BinaryIO:
    """Open a file of a journal.

    Raises:
        JournalError: It cannot be read, or is a symbolic link.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | NO_FOLLOW), "rb", 1 << 20)
    except OSError as error:
        message = f"the journal's {path} cannot be read: {error.strerror}"
        raise JournalError(message) from error


def locked(path: Path) -> int:
    """Take a lock file; `unlock` gives it back.

    Raises:
        JournalLockedError: Another process has it.
        OSError: The file cannot be opened.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o600)
    if sys.platform == "win32":
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(file)
        message = f"{path.parent} is in use by another runner (process {pid})"
        raise JournalLockedError(message) from None
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return file


def unlock(file: int) -> None:
    """Give a lock file back.

    Args:
        file: What `locked` returned.
    """
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
    os.close(file)


def is_locked(path: Path) -> bool:
    """Whether a process has a lock file, found out without getting in its way.

    Raises:
        JournalError: It cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | NO_FOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise JournalError(message) from error
    try:
        # Trying the lock would make a runner that begins just now fail. It names its
        # process there, so the lock is tried only if that one is alive.
        return _is_alive(os.pread(file, 20, 0)) and not _is_free(file)
    finally:
        os.close(file)


def _is_alive(process: bytes) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def _is_free(file: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_durably(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all."""
    draft = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_FOLLOW
    file = os.open(draft, flags, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)
    draft.replace(path)
    sync_directory(path.parent)


@contextlib.contextmanager
def drafted(path: Path) -> Generator[Path]:
    """A file to write in place of another one, which it replaces once it is whole.

    Args:
        path: The file to be; what is no ordinary file, such as a pipe, is written
            itself.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(file)
    draft = Path(name)
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make new names in a directory durable, where the system can."""
    if sys.platform == "win32":
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
