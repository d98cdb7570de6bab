"""A low-level aiohttp server that counts its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler

#: Answers one request.
Responder: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class CountingServer(web.Server):
    """Serves without router or middleware, and counts connections.

    Args:
        respond: Answers each request; cancelled when the client goes away.
        max_body: Largest request body in bytes.

    Attributes:
        connections_opened: Connections since the start.
        open_connections: Connections that are open now.
    """

    def __init__(self, respond: Responder, *, max_body: int) -> None:
        super().__init__(
            respond,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=75.0,
        )
        self._max_body = max_body
        self._closed = asyncio.Event()
        self._closed.set()
        self.connections_opened = 0
        self.open_connections = 0

    def connection_made(
        self, handler: RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Count a connection."""
        self.connections_opened += 1
        self.open_connections += 1
        self._closed.clear()
        super().connection_made(handler, transport)

    def connection_lost(
        self, handler: RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Count a connection as closed."""
        self.open_connections -= 1
        if not self.open_connections:
            self._closed.set()
        super().connection_lost(handler, exc)

    async def all_closed(self) -> None:
        """Wait until every connection is closed and its task is gone."""
        await self._closed.wait()
        # The connections' tasks were cancelled with them: two turns of the loop
        # deliver the cancellation and let the tasks end.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._max_body,
        )
