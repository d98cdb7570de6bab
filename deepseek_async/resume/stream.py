"""A chat stream that survives the death of its connection; `resume` decides how."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Literal

from msgspec import structs

from ..accumulate import ChatAccumulator
from ..call import Call
from ..errors import APIConnectionError, APIError, APIStatusError, DeepSeekError
from ..metering import Charge
from ..session import SessionManager
from ..streaming import ChatStream, DerivedStream, LiveChatStream
from ..types.chat import ChatCompletion, ChatCompletionChunk
from ..types.events import Resumed
from ..types.meta import Attempt, ResponseMeta
from .policy import Parts, Resume, continuation, is_blank, is_whole, message_of

_REFUSALS: Final = frozenset({400, 404, 422})
"""Statuses that mean the server will not continue this answer."""


class ResumingStream(DerivedStream):
    """Joins the parts of an answer whose connection dies on the way.

    Args:
        manager: Sends the further requests.
        call: The call of the first part.
        first: The first part.
        policy: How much to survive.
        charge: The call's entry in the client's meter.
    """

    def __init__(
        self,
        manager: SessionManager,
        call: Call,
        first: ChatStream,
        policy: Resume,
        charge: Charge | None = None,
    ) -> None:
        super().__init__(first, charge)
        self._manager = manager
        self._call = call
        self._part = first
        self._policy = policy
        self._request = call.request
        self._deadline_at = call.deadline_at
        self._started_at = self._loop.time()
        self._parts = Parts()
        self._head: ChatCompletionChunk | None = None
        self._breaks: tuple[Resumed, ...] = ()
        self._past: tuple[Attempt, ...] = ()
        self._is_shown = False
        self._wake = asyncio.Event()

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on."""
        return self._breaks

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts of all parts so far."""
        return _numbered(self._past + self._part.attempts)

    # -- how it is read: what has been shown cannot be begun anew ------------------

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        self._is_shown = True
        return super().__aiter__()

    async def __anext__(self) -> ChatCompletionChunk:
        """The next chunk; unlike leaving `async for`, this leaves the stream open."""
        self._is_shown = True
        return await super().__anext__()

    def text(self) -> AsyncGenerator[str, None]:
        """The visible text, piece by piece, reasoning left out.

        Raises:
            APIError: The stream broke, and could not go on.
        """
        self._is_shown = True
        return super().text()

    async def read_chunks(
        self, *, heartbeats: bool = False
    ) -> list[ChatCompletionChunk] | None:
        """Every chunk that has arrived, after a wait for the first; see `ChatStream`.

        Args:
            heartbeats: Return an empty list when only keep-alives have arrived.
        """
        self._is_shown = True
        return await super().read_chunks(heartbeats=heartbeats)

    # -- joining the parts ---------------------------------------------------------

    async def _more(self, *, heartbeats: bool) -> list[ChatCompletionChunk] | None:
        try:
            chunks = await self._part.read_chunks(heartbeats=heartbeats)
        except APIError as error:
            failure = error
        else:
            return chunks and self._join(chunks)
        return await self._survive(failure)

    def _join(self, chunks: list[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
        """Make the chunks of a later part look like those of the first."""
        self._parts.add(chunks)
        head = self._head = self._head or chunks[0]
        if self._breaks:
            for chunk in chunks:
                chunk.id, chunk.created = head.id, head.created
                if chunk.usage is not None:
                    chunk.usage = self._parts.total(chunk.usage)
        return chunks

    async def _survive(self, failure: APIError) -> list[ChatCompletionChunk] | None:
        partial = self._accumulator.completion()
        if is_whole(partial) and isinstance(failure, APIConnectionError):
            self._note("completed", failure, partial)
            return None
        wait = self._wait_after(failure) if partial.choices else None
        if wait is None:
            raise failure
        if wait:
            await self._manager.sleep(wait, self._wake)
        blank = is_blank(partial)
        if not blank and await self._continue(failure, partial):
            return []
        if not blank and (self._is_shown or not self._policy.restart):
            raise failure
        await self._restart(failure, partial)
        return []

    async def _continue(self, failure: APIError, partial: ChatCompletion) -> bool:
        body = continuation(self._request.body, partial, self._parts.received)
        if body is None:
            return False
        try:
            part = await self._open(body, beta=True)
        except APIStatusError as error:
            refusal = error
        else:
            self._note("continued", failure, partial)
            self._go_on(part, anew=False)
            return True
        if refusal.status not in _REFUSALS:
            raise refusal
        return False

    async def _restart(self, failure: APIError, partial: ChatCompletion) -> None:
        part = await self._open(self._request.body, beta=self._request.beta)
        self._note("restarted", failure, partial)
        self._go_on(part, anew=True)
        if not is_blank(partial):
            self._accumulator = ChatAccumulator()
            self._head = None

    async def _open(self, body: bytes, *, beta: bool) -> ChatStream:
        request = copy.copy(self._request)
        request.body = body
        request.beta = beta
        call = Call(self._manager, request)
        call.deadline_at = self._deadline_at
        self._call = call
        if self._failure is not None:  # closed by another task meanwhile
            call.abandon(self._failure)
        return LiveChatStream(call, await call.open())

    def _go_on(self, part: ChatStream, *, anew: bool) -> None:
        self._parts.next(anew=anew)
        self._source = self._part = part
        if self._failure is not None:
            part.abort()

    def _wait_after(self, failure: APIError) -> float | None:
        """Seconds to wait before going on, `None` to give up."""
        number = len(self._breaks) + 1
        if number > self._policy.limit:
            return None
        policy = self._request.retry or self._manager.retry
        policy = structs.replace(
            policy,
            attempts=self._policy.limit + 1,
            timeouts=self._policy.timeouts,
        )
        wait = policy.wait(number, failure)
        now = self._loop.time()
        if wait is None or now + wait >= self._deadline_at:
            return None
        return wait if self._manager.budget.spend(now) else None

    def _note(
        self,
        action: Literal["continued", "restarted", "completed"],
        failure: APIError,
        partial: ChatCompletion,
    ) -> None:
        message = message_of(partial)
        said = len(message.content or "") + len(message.reasoning_content or "")
        self._past += failure.attempts
        resumed = Resumed(
            action=action,
            outcome=type(failure).__name__,
            request_id=failure.request_id,
            chunks=self._parts.chunks,
            characters=said,
        )
        self._breaks += (resumed,)

    def _make_meta(self) -> ResponseMeta:
        last = self._part.meta
        if last is None:  # only the end mark was missing
            last = ResponseMeta(
                request_id=self._part.request_id,
                headers=self._part.headers,
                tag=self._request.tag,
            )
        return structs.replace(
            last,
            attempts=_numbered(self._past + last.attempts),
            elapsed=self._loop.time() - self._started_at,
        )

    def _release(self, reason: DeepSeekError) -> None:
        super()._release(reason)
        self._call.abandon(reason)
        self._wake.set()


def _numbered(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(
        structs.replace(attempt, number=number)
        for number, attempt in enumerate(attempts, 1)
    )
