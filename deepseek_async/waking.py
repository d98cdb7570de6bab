"""Let a task go on in the very callback that brought what it waits for.

A future whose result is set has the loop call the waiting task in its next iteration,
which asks the system for events once more before it does. For one chunk that is alone
in its packet this costs about as much as decoding it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from typing import Final, NoReturn


class _AtOnce:
    def __await__(self) -> Generator[None, None, None]:
        yield from ()


AT_ONCE: Final[Awaitable[None]] = _AtOnce()
"""What can be awaited without a wait, as often as one likes."""

_Waiting = tuple[Callable[[asyncio.Future[None]], object], Context]


def wake(waiter: asyncio.Future[None]) -> None:
    """Set a future's result, and let the one task that waits for it go on at once.

    If anything about the future or the moment is not as usual, the loop does it later,
    as it would for any future.

    Args:
        waiter: The future. One that is done, as after a cancellation, is left alone.
    """
    if waiter.done():
        return
    waiting: list[_Waiting] | None = getattr(waiter, "_callbacks", None)
    if not waiting or len(waiting) > 1:
        waiter.set_result(None)
        return
    callback, context = waiting[0]
    waiter.remove_done_callback(callback)
    waiter.set_result(None)
    try:
        context.run(callback, waiter)
    except Exception:  # noqa: BLE001
        # The context is in use, or a task runs: neither lets another one in, and a
        # task keeps its own errors to itself.
        waiter.get_loop().call_soon(callback, waiter, context=context)
    except BaseException as error:  # one of those that end a program
        loop = waiter.get_loop()
        if isinstance(loop, asyncio.BaseEventLoop):
            raise
        # uvloop takes what leaves a protocol for the failure of the connection.
        loop.call_soon(_raise, error)


def _raise(error: BaseException) -> NoReturn:
    raise error
