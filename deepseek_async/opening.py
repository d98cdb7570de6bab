"""The way to a response head: a connection, and a clock for the wait.

aiohttp's connector is extended here to tell when it is the server's turn, and whether
a connection is new.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp

from .errors import DeepSeekError
from .timeouts import NEVER, Timeouts, deadline_error, head_error

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class Opening:
    """The part of an exchange before the response head.

    Args:
        timeouts: The clocks.
        deadline_at: The loop time of the overall deadline, or infinity.
        wants_fresh: Whether it must not have an idle connection.

    Attributes:
        fresh: Whether a connection was made for this exchange.
        connected: Whether it has a connection.
    """

    __slots__ = (
        "_expired",
        "_loop",
        "_task",
        "connected",
        "deadline_at",
        "due_at",
        "fresh",
        "reason",
        "step",
        "timeouts",
        "wants_fresh",
    )

    def __init__(
        self, timeouts: Timeouts, deadline_at: float, *, wants_fresh: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._expired = False
        self.timeouts = timeouts
        self.deadline_at = deadline_at
        self.due_at = deadline_at
        self.step = NEVER if timeouts.head is None else timeouts.head
        self.connected = False
        self.fresh = False
        self.wants_fresh = wants_fresh
        self.reason: DeepSeekError | None = None

    def due(self) -> float:
        """When the wait runs out; the connect clock is aiohttp's."""
        return self.due_at

    def start_head_clock(self) -> None:
        """A connection is there: from now on it is the server's turn."""
        self.connected = True
        self.due_at = min(self.deadline_at, self._loop.time() + self.step)

    def expire(self) -> None:
        """A clock has run out: wake the waiting task."""
        now = self._loop.time()
        if now >= self.deadline_at:
            self.abort(deadline_error(self.timeouts.deadline or 0.0))
        else:
            self.abort(head_error(self.timeouts.head or 0.0))

    def abort(self, reason: DeepSeekError) -> None:
        """Give up at once.

        Args:
            reason: What the waiting task is to raise.
        """
        if self._task is not None and not self._expired:
            self._expired = True
            self.reason = reason
            self._task.cancel()

    def end(self) -> None:
        """It is over: let go of the task, as an idle connection keeps its context."""
        self._task = None

    def takes_back_cancellation(self, cancelling: int) -> bool:
        """Whether the task was cancelled by `abort` and by nobody else.

        Args:
            cancelling: The task's count of cancellations before the exchange.
        """
        if not self._expired or self._task is None:
            return False
        return self._task.uncancel() <= cancelling

    @property
    def earliest(self) -> float:
        """The loop time before which it cannot run out."""
        return min(self.deadline_at, self._loop.time() + self.step)

    @property
    def cancelling(self) -> int:
        """The task's present count of cancellations."""
        return self._task.cancelling() if self._task is not None else 0


current_opening: ContextVar[Opening | None] = ContextVar(
    "current_opening", default=None
)


def _retrieve(closed: asyncio.Future[None]) -> None:
    """Nobody need be told that an idle connection was lost."""
    if not closed.cancelled():
        closed.exception()


class Connector(aiohttp.TCPConnector):
    """Tells the exchange when it has a connection, and whether it is a new one."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> Connection:
        """Take a pooled connection or make one."""
        opening = current_opening.get()
        connection = await super().connect(req, traces, timeout)
        while not _may_be_used(connection, opening):
            connection.close()
            if opening is None or opening.fresh:
                reason = "the server spoke before it was asked"
                raise aiohttp.ClientConnectionError(reason)
            connection = await super().connect(req, traces, timeout)
        if opening is not None:
            opening.start_head_clock()
            if opening.fresh and connection.protocol is not None:
                closed = connection.protocol.closed
                if closed is not None:  # see LiveResponse, which listens to it
                    closed.add_done_callback(_retrieve)
        return connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> ResponseHandler:
        opening = current_opening.get()
        if opening is not None:
            opening.fresh = True
        return await super()._create_connection(req, traces, timeout)

    def _release(
        self,
        key: ConnectionKey,
        protocol: ResponseHandler,
        *,
        should_close: bool = False,
    ) -> None:
        transport = protocol.transport
        ends = should_close or protocol.should_close
        if ends and transport is not None and transport.get_write_buffer_size():
            # The server does not read: closing would wait for it, without an end.
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)


def _may_be_used(connection: Connection, opening: Opening | None) -> bool:
    """Whether a connection can carry a request.

    A server that says something unasked, as one that answers twice, would answer the
    next request with it.
    """
    protocol = connection.protocol
    if protocol is None or protocol.should_close:
        return False
    return opening is None or opening.fresh or not opening.wants_fresh
