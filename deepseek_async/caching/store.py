"""Where answers are kept: in memory, or in a file.

Both keep whole, finished answers only, as JSON. The file is an SQLite database of
the standard library, readable by its owner alone; nothing in it is ever unpickled.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from ..decoders import decoder_of
from ..errors import ConfigurationError, DeepSeekWarning
from ..salvage import is_array
from ..types.meta import Extensible

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

_HOUR: Final = 3_600.0
_MEBIBYTE: Final = 1024 * 1024
_BUSY_SECONDS: Final = 5.0
"""How long to wait for another process that writes to the file."""

_CULL_EVERY: Final = 32
"""Culling looks at every entry, so it is not done for every answer."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    stored REAL NOT NULL,
    used REAL NOT NULL
) WITHOUT ROWID
"""
_CULL: Final = """
DELETE FROM answers WHERE key IN (
    SELECT key FROM (
        SELECT key,
            SUM(LENGTH(value)) OVER newest AS size,
            COUNT(*) OVER newest AS place
        FROM answers WINDOW newest AS (ORDER BY used DESC, key)
    ) WHERE size > ? OR place > ?
)
"""


class ResponseCache(ABC):
    """Keeps encoded answers by key; a subclass may keep them anywhere.

    Pass one as `AsyncDeepSeek(cache=...)`. A failure to read or write, and
    a store that is slow, are no failure of the call: it is a `DeepSeekWarning` or a
    miss, and the answer is handed out while it is still being written.

    Args:
        scope: Set it apart from other users of the same store. Answers are found by
            clients of the same scope and base URL only, whatever their API keys.
    """

    def __init__(self, *, scope: str = "") -> None:
        self.scope = scope

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """The answer kept under a key, if there is one that is fresh enough."""

    @abstractmethod
    async def set(self, key: str, value: bytes) -> None:
        """Keep an answer, in place of an older one."""

    @abstractmethod
    async def clear(self) -> None:
        """Forget everything."""


def _check(**limits: float) -> None:
    for name, limit in limits.items():
        if type(limit) not in {int, float} or not limit > 0:
            message = f"{name} must be a number above 0"
            raise ConfigurationError(message)


class MemoryCache(ResponseCache):
    """Keeps the answers used last, in memory. Any thread may use it.

    Args:
        ttl: Seconds for which an answer is fresh.
        max_entries: The most answers to keep.
        max_bytes: The most bytes of answers to keep.
        scope: See `ResponseCache`.
        clock: Tells the time, in seconds.

    Raises:
        ConfigurationError: A limit is not above 0.
    """

    def __init__(
        self,
        *,
        ttl: float = _HOUR,
        max_entries: int = 1_000,
        max_bytes: int = 64 * _MEBIBYTE,
        scope: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(ttl=ttl, max_entries=max_entries, max_bytes=max_bytes)
        super().__init__(scope=scope)
        self.ttl = ttl
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._size = 0

    def __repr__(self) -> str:
        return f"MemoryCache({len(self._kept)} answers, {self._size} bytes)"

    async def get(self, key: str) -> bytes | None:
        """The answer kept under a key, if it is fresh."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            stored, value = found
            if self._clock() - stored >= self.ttl:
                self._drop(key)
                return None
            self._kept.move_to_end(key)
            return value

    async def set(self, key: str, value: bytes) -> None:
        """Keep an answer; those used longest ago make room."""
        with self._lock:
            if key in self._kept:
                self._drop(key)
            self._kept[key] = self._clock(), value
            self._size += len(value)
            while self._size > self.max_bytes or len(self._kept) > self.max_entries:
                self._drop(next(iter(self._kept)))

    async def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _drop(self, key: str) -> None:
        _, value = self._kept.pop(key)
        self._size -= len(value)


def _sqlite() -> tuple[Callable[..., sqlite3.Connection], type[Exception]]:
    try:
        import sqlite3  # noqa: PLC0415 - a part that some builds of Python lack
    except ImportError:
        message = "FileCache needs the module sqlite3, which this Python lacks"
        raise ConfigurationError(message) from None
    return sqlite3.connect, sqlite3.Error


class FileCache(ResponseCache):
    """Keeps the answers used last in a file, which several processes may share.

    The file is created with mode 0600 (and an existing one is given it), since
    answers may hold what nobody else should read. Reading and writing happen in a
    worker thread. A damaged or unwritable file makes no call fail: it is warned of
    and then is like an empty one.

    Args:
        path: The file; its directory is created (mode 0700) if it is missing.
        ttl: Seconds for which an answer is fresh.
        max_entries: The most answers to keep. This and the next limit are enforced
            with every 32nd answer, and with the first of each process.
        max_bytes: The most bytes of answers to keep.
        scope: See `ResponseCache`.
        clock: Tells the Unix time, in seconds.

    Raises:
        ConfigurationError: A limit is not above 0, or this Python was built without
            SQLite.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float = 24 * _HOUR,
        max_entries: int = 100_000,
        max_bytes: int = 1024 * _MEBIBYTE,
        scope: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check(ttl=ttl, max_entries=max_entries, max_bytes=max_bytes)
        super().__init__(scope=scope)
        self._connect, self._error = _sqlite()
        self.path = Path(path)
        self.ttl = ttl
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._is_prepared = False
        self._sets = 0

    def __repr__(self) -> str:
        return f"FileCache({str(self.path)!r})"

    async def get(self, key: str) -> bytes | None:
        """The answer kept under a key, if it is fresh."""
        return await asyncio.to_thread(self._guarded, self._get, key)

    async def set(self, key: str, value: bytes) -> None:
        """Keep an answer; those used longest ago make room."""
        await asyncio.to_thread(self._guarded, self._set, key, value)

    async def clear(self) -> None:
        """Forget everything."""
        await asyncio.to_thread(self._guarded, self._clear)

    def _guarded(self, work: Callable[..., T], *args: object) -> T | None:
        try:
            with self._lock:
                return work(*args)
        except (self._error, OSError) as error:
            problem = type(error).__name__
        message = f"the response cache cannot be used: {problem} ({self.path.name})"
        warnings.warn(message, DeepSeekWarning, stacklevel=1)
        return None

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection, None, None]:
        # Opened anew each time: a connection survives no fork, and keeps a deleted
        # file alive.
        if not self._is_prepared or not self.path.exists():
            self._prepare()
        with (
            closing(self._connect(self.path, timeout=_BUSY_SECONDS)) as connection,
            connection,
        ):
            yield connection

    def _prepare(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a directory that others may write to, a link could lead anywhere.
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if os.name != "nt":
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        with closing(self._connect(self.path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute(_SCHEMA)
        self._is_prepared = True

    def _get(self, key: str) -> bytes | None:
        now = self._clock()
        with self._open() as connection:
            row: tuple[object, float] | None = connection.execute(
                "SELECT value, stored FROM answers WHERE key = ?", (key,)
            ).fetchone()
            # A time in the future is no better than one too long ago.
            if row is None or not 0 <= now - row[1] < self.ttl:
                return None
            connection.execute("UPDATE answers SET used = ? WHERE key = ?", (now, key))
        return row[0] if isinstance(row[0], bytes) else None

    def _set(self, key: str, value: bytes) -> None:
        now = self._clock()
        with self._open() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                (key, value, now, now),
            )
            if self._sets % _CULL_EVERY == 0:
                connection.execute(
                    "DELETE FROM answers WHERE stored <= ?", (now - self.ttl,)
                )
                connection.execute(_CULL, (self.max_bytes, self.max_entries))
        self._sets += 1

    def _clear(self) -> None:
        with self._open() as connection:
            connection.execute("DELETE FROM answers")


# -- answers as bytes ----------------------------------------------------------------


class Kept(Struct, kw_only=True):
    """An answer as it is kept.

    Attributes:
        answer: Its JSON.
        request_id: The server's trace id.
        version: Of this format; others are not read.
    """

    answer: msgspec.Raw
    request_id: str | None = None
    version: int = 1


_encoder: Final = msgspec.json.Encoder()


def encode_answer(answer: Extensible) -> bytes:
    """An answer as JSON, with the unknown fields of all its parts."""
    return _encoder.encode(_plain(answer))


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON the server sent
    if is_array(value):
        return [_plain(item) for item in value]
    if not isinstance(value, Struct):
        return value
    fields = {
        name: _plain(found)
        for name in value.__struct_fields__
        if (found := getattr(value, name)) is not None
    }
    if isinstance(value, Extensible):
        fields.update(value.extra)
    return fields


def pack(answer: bytes, request_id: str | None) -> bytes:
    """What a cache keeps of an answer."""
    return _encoder.encode(Kept(answer=msgspec.Raw(answer), request_id=request_id))


def unpack(value: bytes) -> Kept | None:
    """The answer kept, or `None` if that is not one of ours."""
    try:
        kept = decoder_of(Kept).decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return kept if kept.version == 1 else None
