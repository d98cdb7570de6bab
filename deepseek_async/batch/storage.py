"""Files that survive a crash, are their owner's only, and have one writer."""

from __future__ import annotations

import os
import sys
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
    """Take a lock file; close the descriptor to unlock.

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


def sync_directory(path: Path) -> None:
    """Make new names in a directory durable, where the system can."""
    if sys.platform == "win32":
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
