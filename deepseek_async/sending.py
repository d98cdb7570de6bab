"""Requests on their way: written to a connection, until the response head is there.

`ClientSession.request` serves every kind of request: any body, redirects, cookies,
credentials from elsewhere, proxies. What this client sends nearly always is a small
body straight to one server. Such a request goes the direct way: aiohttp's connector,
connection and HTTP parser, without its session in between. All else goes the ordinary
way, and so does everything where aiohttp is not the one we know; see `inside`.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.payload import BytesPayload
from yarl import URL

from .inside import KNOWN, head_of, is_stubbed, is_traced, read_head, write
from .opening import Connector
from .request import WireRequest
from .settings import BaseURL

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection

_SMALL_BODY: Final = 64 * 1024
"""Up to here, in bytes, a body is written without waiting for the socket to drain."""

_SWITCHING: Final = 101

_LARGE_BODY: Final = 1024 * 1024
"""From here on aiohttp wants a file object, to write the body in pieces."""


class DirectResponse:
    """A response to a request that went the direct way.

    Args:
        connection: Given back at the end of the body.
        status: The HTTP status.
        headers: The response headers.
        content: The reader of the body.
    """

    __slots__ = ("connection", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
    ) -> None:
        self.connection: Connection | None = connection
        self.status = status
        self.headers = headers
        self.content = content
        content.on_eof(self._release)

    def _release(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()

    def close(self) -> None:
        """Close the connection, unless it has been given back."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


Response = aiohttp.ClientResponse | DirectResponse
"""A response, whichever way it came."""


class _Route(aiohttp.ClientRequest):
    """Where the connector is to connect to: one for all requests, and never sent.

    Args:
        origin: Scheme, host and port.
        http: The session of the running loop.
    """

    def __init__(self, origin: str, http: aiohttp.ClientSession) -> None:
        url = URL(origin, encoded=True)
        super().__init__("POST", url, loop=asyncio.get_running_loop(), session=http)
        self._key = super().connection_key
        self.host_header = self.headers["Host"]

    @property
    def connection_key(self) -> ConnectionKey:
        """What connections are pooled by."""
        return self._key


def _route_to(origin: str, http: aiohttp.ClientSession) -> _Route | None:
    """A route, or `None` if aiohttp's request is not the one we know."""
    try:
        return _Route(origin, http)
    except Exception:  # noqa: BLE001 - however it differs
        return None


class Sender:
    """Sends the requests of one client on one event loop.

    Args:
        http: The session of the loop.
        connector: Its connector.
        base_url: Where requests go.
        sign: Makes the headers of a request, the key among them: they exist only
            while they are sent.
        proxy: A proxy's URL.
    """

    __slots__ = (
        "_connector",
        "_http",
        "_limits",
        "_proxy",
        "_route",
        "_sign",
        "_url",
        "_urls",
    )

    def __init__(
        self,
        http: aiohttp.ClientSession,
        connector: Connector,
        base_url: BaseURL,
        sign: Callable[[WireRequest], Mapping[str, str]],
        proxy: str | None,
    ) -> None:
        self._http = http
        self._connector = connector
        self._url = base_url
        self._sign = sign
        self._proxy = proxy
        self._limits = aiohttp.ClientTimeout()
        self._urls: dict[tuple[str, bool], URL] = {}
        #: `None`: everything goes the ordinary way.
        self._route: _Route | None = None
        if KNOWN and proxy is None and not http.trust_env and not is_traced(http):
            self._route = _route_to(base_url.origin, http)

    def send(
        self, request: WireRequest, connect: float | None
    ) -> Coroutine[Any, Any, Response]:
        """Send a request and wait for the response head.

        Args:
            request: The request.
            connect: Seconds to wait for a connection.

        Returns:
            The response, its body unread.

        Raises:
            Exception: Whatever aiohttp raises; its frames hold key and prompt.
        """
        limits = self._limits
        if limits.connect != connect:
            limits = self._limits = aiohttp.ClientTimeout(connect=connect)
        route = self._route
        if (
            route is not None
            and request.method == "POST"
            and len(request.body) <= _SMALL_BODY
            and not is_stubbed(self._http)
        ):
            return self._send_directly(request, route, limits)
        return self._send_ordinarily(request, limits)

    async def _send_ordinarily(
        self, request: WireRequest, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        return await self._http.request(
            request.method,
            self._url_of(request),
            data=_payload(request.body),
            headers=self._sign(request),
            allow_redirects=False,
            proxy=self._proxy,
            timeout=limits,
        )

    async def _send_directly(
        self, request: WireRequest, route: _Route, limits: aiohttp.ClientTimeout
    ) -> DirectResponse:
        try:
            connection = await self._connector.connect(route, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        try:
            # No local here, or in any frame that waits, holds the key.
            protocol = write(connection.protocol, self._bytes_of(request, route))
            message, content = await read_head(protocol)
            if message.code == _SWITCHING:
                connection.close()  # what follows is no HTTP
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(
                route.request_info, (), status=error.code, message=error.message
            ) from error
        except BaseException:
            connection.close()
            raise
        return DirectResponse(connection, message.code, message.headers, content)

    def _bytes_of(self, request: WireRequest, route: _Route) -> bytes:
        """What goes over the wire, as the ordinary way would write it."""
        headers = {
            "Host": route.host_header,
            **self._sign(request),
            "Content-Length": str(len(request.body)),
        }
        target = self._url_of(request).raw_path_qs
        return head_of(f"POST {target} HTTP/1.1", headers) + request.body

    def _url_of(self, request: WireRequest) -> URL:
        key = request.path, request.beta
        found = self._urls.get(key)
        if found is None:
            found = URL(self._url.join(request.path, beta=request.beta), encoded=True)
            if request.method == "POST":  # a few fixed paths; GET paths hold names
                self._urls[key] = found
        return found


def _payload(body: bytes) -> BytesPayload | io.BytesIO | None:
    if len(body) >= _LARGE_BODY:
        return io.BytesIO(body)
    return BytesPayload(body, content_type="application/json") if body else None
