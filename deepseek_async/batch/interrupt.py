"""Ctrl-C and SIGTERM: the first drains, the second stops, the third kills."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_PATIENT: Final = 2


class Interrupt:
    """Counts signals while a batch runs, in the main thread only.

    Args:
        told: Called with 1 for the first signal and 2 for the second.
    """

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._is_set = False
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _SIGNALS:
                self._loop.add_signal_handler(number, self._signalled)
        except (NotImplementedError, RuntimeError):
            return  # no signals in this loop: Ctrl-C raises KeyboardInterrupt as ever
        self._is_set = True

    def _signalled(self) -> None:
        self._count += 1
        if self._count >= _PATIENT:
            self.close()
        self._told(self._count)

    def close(self) -> None:
        """Give signals back their usual meaning."""
        if self._is_set:
            self._is_set = False
            for number in _SIGNALS:
                self._loop.remove_signal_handler(number)
