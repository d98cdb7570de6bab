"""One call with all its attempts, and the answer it ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from .codec import Codec, excerpt_of, find_error, status_error, stream_error
from .errors import (
    APIError,
    APIStatusError,
    ConnectionLostError,
    DeepSeekError,
    EmptyResponseError,
    RateLimitError,
    ResponseDecodeError,
    TruncatedResponseError,
)
from .opening import Opening
from .request import WireRequest
from .session import SessionManager
from .timeouts import NEVER
from .transport import LiveResponse, unexpected_content
from .types.meta import Answer, Attempt, ResponseMeta

A = TypeVar("A", bound=Answer)

_ROOM_PATIENCE: Final = 5.0
"""Seconds for which a refused call waits for a batch to make room."""


class Call:
    """Counts the attempts of one call and decides about the next.

    Args:
        manager: Sends the requests.
        request: What to send.

    Attributes:
        request: What is sent.
        attempts: The attempts so far.
        deadline_at: The loop time of the overall deadline, or infinity.
        opening: The attempt that waits for its response head, if one does.
        wants_fresh: Whether an idle connection has failed it: idle ones tend to be
            lost together, so the next attempt takes a new one.
    """

    __slots__ = (
        "_abandoned",
        "_attempt_at",
        "_loop",
        "_manager",
        "_started_at",
        "_wake",
        "attempts",
        "deadline_at",
        "opening",
        "request",
        "wants_fresh",
    )

    def __init__(self, manager: SessionManager, request: WireRequest) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        deadline = (request.timeouts or manager.timeouts).deadline
        self._manager = manager
        self._started_at = self._attempt_at = now
        self.opening: Opening | None = None
        self.wants_fresh = False
        self._wake: asyncio.Event | None = None
        self._abandoned: DeepSeekError | None = None
        self.request = request
        self.attempts: tuple[Attempt, ...] = ()
        self.deadline_at = NEVER if deadline is None else now + deadline
        manager.budget.earn()

    def __repr__(self) -> str:
        return f"Call({self.request!r}, {len(self.attempts)} attempts)"

    @property
    def max_body_size(self) -> int:
        """The largest answer to accept, in bytes."""
        return self._manager.max_body_size

    def abandon(self, reason: DeepSeekError) -> None:
        """End what is being waited for, in whatever task; nothing is sent any more.

        Args:
            reason: What the waiting task is to raise.
        """
        self._abandoned = reason
        if self.opening is not None:
            self.opening.abort(reason)
        if self._wake is not None:
            self._wake.set()

    async def open(self) -> LiveResponse:
        """Send the request, repeatedly if need be, until a 200 head arrives.

        Raises:
            APIError: The last attempt's error.
            ClientClosedError: The client is closed.
        """
        while True:
            try:
                return await self.open_once()
            except APIError as error:
                failure = error
            await self.recover(failure)

    async def open_once(self) -> LiveResponse:
        """Send the request once.

        Raises:
            APIStatusError: The server answered with another status than 200.
            APIConnectionError: There was no answer.
            ClientClosedError: The client is closed.
        """
        if self._abandoned is not None:
            raise self._abandoned
        self._attempt_at = self._loop.time()
        response = await self._manager.open(self.request, self.deadline_at, self)
        if response.status == 200:  # noqa: PLR2004
            return response
        # A local variable with the body would show in a traceback what a server echoes.
        raise status_error(
            response.status, response.headers, await response.read_error()
        )

    async def recover(self, failure: APIError, *, status: int | None = None) -> None:
        """Wait for the next attempt after a failed one, or raise if there is none.

        Args:
            failure: How the attempt failed.
            status: The HTTP status, where the error does not tell.

        Raises:
            APIError: `failure`, with all attempts listed.
            ClientClosedError: The client was closed while waiting.
        """
        wait = self._wait_after(failure)
        self.failed(failure, wait or 0.0, status=status)
        if wait is None:
            raise failure.with_traceback(None)  # its frames hold the transport
        if wait:
            self._wake = asyncio.Event()
            await self._manager.sleep(wait, self._wake, self._room_after(failure))
            self._wake = None

    def failed(
        self, failure: APIError, wait: float = 0.0, *, status: int | None = None
    ) -> None:
        """Count a failed attempt and list all attempts in its error.

        Args:
            failure: How it failed.
            wait: Seconds until the next attempt.
            status: The HTTP status, where the error does not tell.
        """
        self._scrub(failure)
        attempt = Attempt(
            number=len(self.attempts) + 1,
            elapsed=self._loop.time() - self._attempt_at,
            outcome=type(failure).__name__,
            status=getattr(failure, "status", status),
            request_id=failure.request_id,
            wait=wait,
        )
        self.attempts += (attempt,)
        failure.attempts = self.attempts

    def _scrub(self, failure: APIError) -> None:
        """A server may echo the key, whole or in a page it makes of the request."""
        scrub = self._manager.scrub
        failure.message = scrub(failure.message)
        failure.args = (failure.message,)
        failure.cause = failure.cause and scrub(failure.cause)
        failure.request_id = failure.request_id and scrub(failure.request_id)
        if isinstance(failure, APIStatusError | ResponseDecodeError):
            failure.body = scrub(failure.body)
        if isinstance(failure, APIStatusError):
            failure.code = failure.code and scrub(failure.code)
            failure.type = failure.type and scrub(failure.type)
            failure.param = failure.param and scrub(failure.param)

    def _wait_after(self, failure: APIError) -> float | None:
        number = len(self.attempts) + 1
        now = self._loop.time()
        policy = self.request.retry or self._manager.retry
        wait = policy.wait(number, failure)
        if wait is None or now + wait >= self.deadline_at:
            return None
        if (
            isinstance(failure, ConnectionLostError)
            and failure.stale
            and not self.wants_fresh
        ):
            # The server had closed an idle connection: nothing was wrong with it.
            self.wants_fresh = True
            return 0.0
        return wait if self._manager.budget.spend(now) else None

    def _room_after(self, failure: APIError) -> float | None:
        """Seconds for which a refused call may wait for a batch to make room."""
        if not isinstance(failure, RateLimitError) or failure.retry_after is not None:
            return None
        # An attempt must have time, too.
        return min(_ROOM_PATIENCE, (self.deadline_at - self._loop.time()) / 2)

    def succeeded(self, response: LiveResponse) -> ResponseMeta:
        """Describe the call after its last, successful attempt.

        Args:
            response: The response of that attempt.
        """
        now = self._loop.time()
        last = Attempt(
            number=len(self.attempts) + 1,
            elapsed=now - self._attempt_at,
            outcome="ok",
            status=response.status,
            request_id=response.request_id,
        )
        return ResponseMeta(
            request_id=response.request_id,
            status=response.status,
            headers=response.headers,
            attempts=(*self.attempts, last),
            elapsed=now - self._started_at,
            tag=self.request.tag,
        )


async def fetch(
    manager: SessionManager,
    request: WireRequest,
    codec: Codec[A],
    *,
    is_complete: Callable[[A], bool] | None = None,
    on_answer: Callable[[A], None] | None = None,
) -> A:
    """Send a request and decode the whole answer.

    Args:
        manager: Sends it.
        request: What to send.
        codec: Decodes the body.
        is_complete: Whether an answer has what an answer must have.
        on_answer: Shown the answer before it is returned.

    Returns:
        The answer, with its `meta` attached.

    Raises:
        APIError: The last attempt's error.
        ClientClosedError: The client is closed.
    """
    call = Call(manager, request)
    while True:
        try:
            response = await call.open_once()
            answer = _decode(
                response, await response.read(call.max_body_size), codec, is_complete
            )
        except APIError as error:
            failure = error
        else:
            if not isinstance(answer, APIError):
                answer.set_meta(call.succeeded(response))
                if on_answer is not None:
                    on_answer(answer)
                return answer
            failure = answer
        await call.recover(failure)


def _decode(
    response: LiveResponse,
    body: bytes,
    codec: Codec[A],
    is_complete: Callable[[A], bool] | None,
) -> A | APIError:
    """Make an answer, or an error, of a body, whatever its content type says."""
    if not body or body.isspace():
        message = "the server answered 200 with an empty body"
        return EmptyResponseError(
            message, status=response.status, request_id=response.request_id
        )
    try:
        answer = codec.decode(body)
    except ValueError:
        return _undecodable(response, body)
    if is_complete is None or is_complete(answer):
        return answer
    return incomplete(response, body)


def _undecodable(response: LiveResponse, body: bytes) -> ResponseDecodeError:
    """The exception for a body that is no JSON object."""
    if not body.lstrip().startswith((b"{", b"[")):
        return unexpected_content(response, body)
    is_cut = not body.rstrip().endswith((b"}", b"]"))
    cls = TruncatedResponseError if is_cut else ResponseDecodeError
    return cls(
        "the server's JSON is cut short"
        if is_cut
        else "the server's JSON is malformed",
        status=response.status,
        body=excerpt_of(body),
        request_id=response.request_id,
    )


def incomplete(response: LiveResponse, body: bytes) -> APIError:
    """The exception for a JSON object that is no answer: an error, or nothing."""
    found = find_error(body)
    if found is not None:
        failed = stream_error(found, body)
        failed.request_id = response.request_id
        return failed
    message = "the server answered 200 without an answer (no choices)"
    return EmptyResponseError(
        message,
        status=response.status,
        body=excerpt_of(body),
        request_id=response.request_id,
    )
