"""Ctrl-C and SIGTERM: the first drains, the second stops, the third kills."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

_told: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Interrupt]] = (
    WeakKeyDictionary()
)
"""Who is told of signals: a loop has one handler, and may have several batches."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_PATIENT: Final = 2


class Interrupt:
    """Counts signals while a batch runs, in the main thread only.

    Args:
        told: Called with 1 for the first signal and 2 for the second.
    """

    def __init__(self, told: Callable[[int], None]) -> None:
        self._tell = told
        self._count = 0
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        listening = _told.setdefault(self._loop, [])
        if not listening:
            try:
                for number in _SIGNALS:
                    self._loop.add_signal_handler(number, _signalled, self._loop)
            except (NotImplementedError, RuntimeError):
                return  # no signals in this loop: Ctrl-C raises KeyboardInterrupt
        listening.append(self)

    def signal(self) -> None:
        """A signal has come."""
        self._count += 1
        if self._count >= _PATIENT:
            self.close()
        self._tell(self._count)

    def close(self) -> None:
        """Give signals back their usual meaning, unless others listen."""
        listening = _told.get(self._loop, [])
        if self in listening:
            listening.remove(self)
            if not listening:
                for number in _SIGNALS:
                    self._loop.remove_signal_handler(number)


def _signalled(loop: asyncio.AbstractEventLoop) -> None:
    for interrupt in list(_told.get(loop, [])):
        interrupt.signal()
