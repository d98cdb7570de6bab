"""The order in which the server's prompt cache serves best.

A common beginning is cached once two requests with it have been answered; the third
one reads it at a fraction of the price. Of requests that share a long beginning, two
go first as scouts; the rest waits until both are answered, while scouts of other
groups and requests of groups already known keep the slots busy.

https://api-docs.deepseek.com/guides/kv_cache
"""

from __future__ import annotations

import zlib
from collections import OrderedDict, deque
from math import inf
from typing import Final

from .item import Item

SHORTEST: Final = 4096
"""Bytes from which a common beginning counts: about 1,024 tokens."""

SCOUTS: Final = 2
LEAST_MEMBERS: Final = 6
SETTLE: Final = 1.0
"""Seconds after the scouts' answers until the cache can be expected to be written."""

_LONGEST_HOLD: Final = 300.0
_KNOWN: Final = 10_000
_JUDGED: Final = 50
_LEVELS: Final = 9


def prefixes(body: bytes) -> tuple[int, ...]:
    """Hashes of the beginnings of a request of 4 KiB, 8 KiB, and so on.

    Args:
        body: The encoded request.
    """
    if len(body) < SHORTEST:
        return ()
    found: list[int] = []
    start = body.find(b'"messages":')
    if start < 0 or len(body) - start < SHORTEST:
        return ()
    value, at, size = zlib.crc32(body[:start]), start, SHORTEST
    for _ in range(_LEVELS):
        until = start + size
        if until > len(body):
            break
        value = zlib.crc32(body[at:until], value)
        found.append(value << 32 | size)
        at, size = until, size * 2
    return tuple(found)


class _Group:
    """Requests that share a beginning."""

    __slots__ = ("members", "open_at", "scouts")

    def __init__(self, now: float) -> None:
        self.members: deque[Item] = deque()
        self.scouts = SCOUTS
        self.open_at = now + _LONGEST_HOLD


class PrefixPlan:
    """Holds requests back for as long as that pays.

    Args:
        look_ahead: The most requests held.
        settle: Seconds after the scouts' answers before the rest goes.

    Attributes:
        is_active: Whether it still reorders; it ends itself when hits do not come.
        size: Requests held.
    """

    def __init__(self, look_ahead: int, settle: float = SETTLE) -> None:
        self.is_active = True
        self.size = 0
        self._look_ahead = look_ahead
        self._settle = settle
        self._ready: deque[Item] = deque()
        self._window: OrderedDict[int, Item] = OrderedDict()
        self._sharing: dict[int, dict[int, None]] = {}
        self._groups: dict[int, _Group] = {}
        self._known: OrderedDict[int, None] = OrderedDict()
        self._sees_prefixes = False
        self._judged = 0
        self._served = 0

    def wants_rows(self) -> bool:
        """Whether to read on before anything is sent."""
        if self._ready and not (self._sees_prefixes and self.is_active):
            return False
        return self.size < self._look_ahead

    def add(self, item: Item) -> None:
        """Take a request in."""
        self.size += 1
        self._sees_prefixes = bool(item.prefixes)
        if not self.is_active or not item.prefixes:
            self._ready.append(item)
            return
        if self._joins(item, item.prefixes[-1]):
            return
        self._window[item.index] = item
        for value in item.prefixes:
            self._sharing.setdefault(value, {})[item.index] = None

    def _joins(self, item: Item, value: int) -> bool:
        """Put a request in a group that is there already, if it is."""
        if value in self._groups:
            self._groups[value].members.append(item)
        elif value in self._known:
            self._ready.append(item)
        else:
            return False
        item.group = value
        return True

    def sort(self, now: float, *, is_short_of_rows: bool) -> None:
        """Put unsorted requests in groups: when there are many, or nothing else to do.

        Args:
            now: The loop time.
            is_short_of_rows: Whether the source has no row at hand.
        """
        while self._window:
            is_full = self.size >= self._look_ahead
            if not is_full and not (is_short_of_rows and not self._ready):
                return
            if is_full and self._ready and len(self._window) < self._look_ahead // 4:
                return
            self._sort_one(now)

    def _sort_one(self, now: float) -> None:
        """Put the oldest unsorted request, and all that share with it, in a group."""
        lead = next(iter(self._window.values()))
        for value in reversed(lead.prefixes):
            if value in self._groups or value in self._known:
                self._forget(lead)
                self._joins(lead, value)
                return
            sharing = self._sharing[value]
            if len(sharing) >= LEAST_MEMBERS:
                self._form(value, [self._window[index] for index in sharing], now)
                return
        self._forget(lead)
        self._ready.append(lead)

    def _form(self, value: int, members: list[Item], now: float) -> None:
        group = self._groups[value] = _Group(now)
        for number, item in enumerate(members):
            self._forget(item)
            item.group = value
            if number < SCOUTS:
                self._ready.appendleft(item)
            else:
                group.members.append(item)

    def _forget(self, item: Item) -> None:
        del self._window[item.index]
        for value in item.prefixes:
            sharing = self._sharing[value]
            del sharing[item.index]
            if not sharing:
                del self._sharing[value]

    def take(self, now: float) -> Item | None:
        """The next request that may go, if there is one."""
        if not self._ready:
            self._open_due(now)
        if not self._ready:
            return None
        self.size -= 1
        return self._ready.popleft()

    def finished(self, item: Item, now: float, hit_tokens: int) -> None:
        """A request of a group was answered, or failed for good."""
        if item.group is None:
            return
        group = self._groups.get(item.group)
        if group is None:
            self._judge(hit_tokens)
        elif group.scouts:
            group.scouts -= 1
            if not group.scouts:
                group.open_at = now + self._settle

    def _judge(self, hit_tokens: int) -> None:
        self._judged += 1
        self._served += hit_tokens > 0
        if self._judged == _JUDGED and self._served < _JUDGED // 2:
            self.end()

    def end(self) -> None:
        """Hold nothing back any more."""
        self.is_active = False
        for group in self._groups.values():
            self._ready.extend(group.members)
        self._ready.extend(self._window.values())
        self._groups.clear()
        self._window.clear()
        self._sharing.clear()

    def _open_due(self, now: float) -> None:
        for value, group in list(self._groups.items()):
            if now >= group.open_at:
                self._ready.extend(group.members)
                del self._groups[value]
                self._known[value] = None
                if len(self._known) > _KNOWN:
                    self._known.popitem(last=False)

    def opens_after(self, now: float) -> float:
        """Seconds until a group opens by the clock."""
        due = min((group.open_at for group in self._groups.values()), default=inf)
        return max(0.0, due - now)
