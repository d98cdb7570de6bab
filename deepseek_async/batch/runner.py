"""Runs the requests of a batch: workers over a shared source, results in a queue.

Every worker takes the next request itself, so there are never more tasks than may be
on the wire, and a full result queue stops the workers: the source is read no faster
than results are taken.
"""

from __future__ import annotations

import math
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..errors import DeepSeekError, InvalidRequestError
from ..types.chat import ChatCompletion
from ..types.request import ChatCompletionRequest
from .results import BatchFailed, BatchOk, BatchResult

Params: TypeAlias = Mapping[str, Any] | ChatCompletionRequest
BatchRequest: TypeAlias = Params | tuple[str, Params]
"""A request, or a pair of a key and a request."""


Answer: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[ChatCompletion]]
"""Answers one request, given its parameters."""


class Batch:
    """The results of a batch, as an async context manager and iterator.

    Leaving the block ends what is still under way.

    Args:
        answer: Answers one request.
        requests: The source.
        concurrency: The most requests under way.
        order: `completed` or `input`.
    """

    def __init__(
        self,
        answer: Answer,
        requests: Iterable[BatchRequest] | AsyncIterable[BatchRequest],
        *,
        concurrency: int,
        order: Literal["completed", "input"],
    ) -> None:
        self._ask = answer
        self._source = _Source(requests)
        self._concurrency = concurrency
        self._order = order
        self._group: TaskGroup | None = None
        self._results: MemoryObjectReceiveStream[BatchResult] | None = None
        self._held: dict[int, BatchResult] = {}
        self._next = 0
        # In input order a slow first request must not let the rest run ahead for ever.
        window = math.inf if order == "completed" else 4 * concurrency
        self._window = window
        self._moved = anyio.Event()

    async def __aenter__(self) -> Self:
        sender, self._results = anyio.create_memory_object_stream[BatchResult](
            self._concurrency
        )
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        for _ in range(self._concurrency):
            self._group.start_soon(self._work, sender.clone())
        sender.close()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._group is None or self._results is None:
            return None
        self._group.cancel_scope.cancel()
        self._results.close()
        try:
            return await self._group.__aexit__(kind, error, traceback)
        finally:
            await self._source.aclose()

    def __aiter__(self) -> AsyncIterator[BatchResult]:
        return self

    async def __anext__(self) -> BatchResult:
        """The next result.

        Raises:
            Exception: Whatever the source of requests raised, after the results of
                everything before it.
        """
        if self._results is None:
            message = "use the batch in `async with`"
            raise InvalidRequestError(message)
        while self._next not in self._held:
            try:
                result = await self._results.receive()
            except anyio.EndOfStream:
                break
            if self._order == "completed":
                return result
            self._held[result.index] = result
        else:
            result = self._held.pop(self._next)
            self._next += 1
            self._moved.set()
            self._moved = anyio.Event()
            return result
        if self._source.failure is not None:
            raise self._source.failure
        raise StopAsyncIteration

    async def _work(self, results: MemoryObjectSendStream[BatchResult]) -> None:
        async with results:
            while (item := await self._source.take()) is not None:
                index, request = item
                while index >= self._next + self._window:
                    await self._moved.wait()
                result = await self._answer(index, request)
                with suppress(anyio.BrokenResourceError):
                    await results.send(result)

    async def _answer(self, index: int, request: BatchRequest) -> BatchResult:
        started = monotonic()
        key = str(index)
        failure: DeepSeekError
        try:
            key, params = _split(index, request)
            completion = await self._ask(params)
        except DeepSeekError as error:
            failure = error
        else:
            return BatchOk(
                index=index,
                key=key,
                completion=completion,
                latency=monotonic() - started,
            )
        return BatchFailed(
            index=index,
            key=key,
            error=failure.with_traceback(None),
            latency=monotonic() - started,
        )


class _Source:
    """Hands out the requests one by one, with their places."""

    def __init__(
        self, requests: Iterable[BatchRequest] | AsyncIterable[BatchRequest]
    ) -> None:
        self._sync = iter(requests) if isinstance(requests, Iterable) else None
        self._async = None if isinstance(requests, Iterable) else aiter(requests)
        self._lock = anyio.Lock(fast_acquire=True)
        self._index = 0
        self._is_exhausted = False
        #: What the source raised.
        self.failure: Exception | None = None

    async def take(self) -> tuple[int, BatchRequest] | None:
        """The next request and its place, or `None` when there is none."""
        async with self._lock:
            if self._is_exhausted:
                return None
            try:
                if self._sync is not None:
                    request = next(self._sync)
                else:
                    assert self._async is not None  # noqa: S101 - one of them is set
                    request = await anext(self._async)
            except (StopIteration, StopAsyncIteration):
                self._is_exhausted = True
                return None
            except Exception as error:  # noqa: BLE001 - the caller's own code; raised later
                self._is_exhausted = True
                self.failure = error
                return None
            index = self._index
            self._index += 1
            return index, request

    async def aclose(self) -> None:
        """Close an async generator that was left early."""
        close = getattr(self._async, "aclose", None)
        if close is not None:
            await close()


def _split(index: int, request: BatchRequest) -> tuple[str, dict[str, Any]]:
    """The key and the parameters of one entry of the source."""
    key = str(index)
    params: Any = request
    if isinstance(request, tuple) and len(request) == 2:  # noqa: PLR2004
        key, params = str(request[0]), request[1]
    if isinstance(params, ChatCompletionRequest):
        params = {
            name: value
            for name, value in msgspec.structs.asdict(params).items()
            if value is not None
        }
    if not isinstance(params, Mapping):
        message = f"request {index} must be a dict or a ChatCompletionRequest"
        raise InvalidRequestError(message, param=f"requests[{index}]")
    if params.get("stream"):
        message = "a batch does not stream"
        raise InvalidRequestError(message, param="stream")
    return key, {str(name): value for name, value in params.items()}
