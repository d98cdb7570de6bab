"""One task reads an asynchronous generator, and any may close it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Generic, Self, TypeVar

from .errors import DeepSeekError, StreamClosedError, StreamInUseError

E = TypeVar("E")


class SingleReader(Generic[E]):
    """Items of a generator, where a bare one would raise `RuntimeError`.

    Args:
        source: The generator.
    """

    __slots__ = ("_idle", "_is_closing", "_reader", "_source")

    def __init__(self, source: AsyncGenerator[E, None]) -> None:
        self._source = source
        self._reader: asyncio.Task[object] | None = None
        self._is_closing = False
        self._idle = asyncio.Event()

    async def _next(self) -> E:
        """The next item.

        Raises:
            StopAsyncIteration: There is none.
            StreamInUseError: Another task is waiting for it.
            StreamClosedError: Another task closed the stream meanwhile.
        """
        if self._reader is not None:
            message = "another task is reading this stream"
            raise StreamInUseError(message)
        self._reader = task = asyncio.current_task()
        self._idle.clear()
        cancelled = task.cancelling() if task else 0
        failure: BaseException
        try:
            return await anext(self._source)
        except DeepSeekError as error:
            failure = error.with_traceback(None)  # its frames hold the prompt
        except asyncio.CancelledError as error:
            failure = error.with_traceback(None)
            # Cancelled by `aclose` and by nobody else: the task itself goes on.
            if task and self._is_closing and task.uncancel() <= cancelled:
                failure = StreamClosedError()
        finally:
            self._reader = None
            self._idle.set()
        raise failure

    async def aclose(self) -> None:
        """End what is under way. Closing a finished stream does nothing.

        A task that waits for the stream gets `StreamClosedError`.
        """
        reader = self._reader
        if reader is not None and reader is not asyncio.current_task():
            if not self._is_closing:
                self._is_closing = True
                reader.cancel()
            await self._idle.wait()
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
