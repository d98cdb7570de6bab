"""A chat stream that survives the death of its connection; `resume` decides how."""

from __future__ import annotations

import asyncio
import copy
from typing import Final, Literal

from msgspec import structs

from ..accumulate import ChatAccumulator
from ..call import Call
from ..errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    DeepSeekError,
    StreamInterruptedError,
)
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
        self._lost = 0  # requests to go on that failed themselves
        self._wake = asyncio.Event()

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on."""
        return self._breaks

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts of all parts so far."""
        return _numbered(self._past + self._part.attempts)

    def mark_shown(self) -> None:
        """Someone reads on who could not know that the answer was begun anew."""
        self._is_shown = True

    # -- joining the parts ---------------------------------------------------------

    async def _more(self, *, heartbeats: bool) -> list[ChatCompletionChunk] | None:
        try:
            chunks = await self._part.read_chunks(heartbeats=heartbeats)
        except APIError as error:
            failure = error
        else:
            if chunks is not None:
                return self._join(chunks)
            if not self._breaks or is_whole(self._accumulator.completion()):
                return None
            failure = self._unfinished()
        return await self._survive(failure)

    def _unfinished(self) -> APIError:
        """A later part came to its end mark, but the answer did not to its own."""
        message = "the rest of the answer ended without a finish_reason"
        failure = StreamInterruptedError(message, request_id=self._part.request_id)
        failure.attempts = self._part.attempts
        return failure

    def _join(self, chunks: list[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
        """Make the chunks of a later part look like those of the first."""
        if not chunks:
            return chunks
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
            self._note("completed", failure, partial, failure.attempts)
            return None
        latest, spent = failure, failure.attempts
        while partial.choices:
            wait = self._wait_after(latest)
            if wait is None:
                break
            if wait:
                await self._manager.sleep(wait, self._wake)
            try:
                if await self._reopen(failure, partial, spent):
                    return []
            except APIError as error:  # going on failed: that may pass, too
                self._lost += 1
                latest = error
                spent += error.attempts
                continue
            break
        raise self._given_up(failure, latest, spent)

    def _given_up(
        self, failure: APIError, latest: APIError, spent: tuple[Attempt, ...]
    ) -> APIError:
        if latest is failure:
            return failure
        latest.attempts = _numbered(self._past + spent)
        latest.__cause__ = failure.with_traceback(None)
        return latest

    async def _reopen(
        self, failure: APIError, partial: ChatCompletion, spent: tuple[Attempt, ...]
    ) -> bool:
        """Go on, or begin anew.

        Args:
            failure: What broke the answer.
            partial: What there is of it.
            spent: The attempts since the part before it was opened.

        Returns:
            Whether either could be done.

        Raises:
            APIError: The server could not be asked.
        """
        blank = is_blank(partial)
        if not blank and await self._continue(failure, partial, spent):
            return True
        if not blank and (self._is_shown or not self._policy.restart):
            return False
        part = await self._open(self._request.body, beta=self._request.beta)
        self._note("restarted", failure, partial, spent)
        self._go_on(part, anew=True)
        if not blank:
            self._accumulator = ChatAccumulator()
            self._head = None
        return True

    async def _continue(
        self, failure: APIError, partial: ChatCompletion, spent: tuple[Attempt, ...]
    ) -> bool:
        body = continuation(self._request.body, partial, self._parts.received)
        if body is None:
            return False
        try:
            part = await self._open(body, beta=True)
        except APIStatusError as error:
            refusal = error
        else:
            self._note("continued", failure, partial, spent)
            self._go_on(part, anew=False)
            return True
        if refusal.status not in _REFUSALS:
            raise refusal
        return False

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
        number = len(self._breaks) + self._lost + 1
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
        spent: tuple[Attempt, ...],
    ) -> None:
        message = message_of(partial)
        said = len(message.content or "") + len(message.reasoning_content or "")
        self._past += spent
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
