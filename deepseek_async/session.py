"""The session manager: one client for any event loop, thread or forked child.

An aiohttp session belongs to the loop it was made in. The manager therefore keeps one
per running loop, made at the first request and closed with its loop: an async
generator registered with the loop is what `asyncio.run` finalizes before the loop
goes, so a client at module level leaves nothing open behind any number of runs.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

import aiohttp
import anyio
from yarl import URL

from .errors import ClientClosedError, ConfigurationError, DeepSeekError
from .request import WireRequest
from .retry import RetryBudget, RetryPolicy
from .settings import USER_AGENT, APIKey, BaseURL
from .timeouts import NEVER, Timeouts, deadline_error
from .transport import Connector, LiveResponse, Opening, open_response

DEFAULT_MAX_CONNECTIONS: Final = 500
"""The account limit of `deepseek-v4-pro`, and safely below the usual 1,024 open files.

https://api-docs.deepseek.com/quick_start/rate_limit
"""

_inherited: list[object] = []
"""Sessions a forked child got from its parent: kept, so that they are never finalized.

Their loop's selector is shared with the parent; closing one here would unregister the
parent's sockets.
"""


class LoopSession:
    """The connections of one event loop.

    Args:
        manager: The configuration.
    """

    __slots__ = (
        "closing",
        "http",
        "keeper",
        "live",
        "loop",
        "openings",
        "pid",
        "slots",
    )

    def __init__(self, manager: SessionManager) -> None:
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.live: set[LiveResponse] = set()
        self.openings: set[Opening] = set()
        self.slots = anyio.Semaphore(manager.max_connections, fast_acquire=True)
        self.closing = asyncio.Event()
        self.keeper: AsyncGenerator[None, None] | None = None
        # The slots above are the only limit: aiohttp's own would count the wait for a
        # connection as a connect timeout.
        connector = Connector(limit=0, ssl=manager.ssl_context or True)
        self.http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=manager.trust_env,
        )

    async def close(self) -> None:
        """End everything that is under way, then close the connections."""
        if self.closing.is_set():
            return
        self.closing.set()
        for opening in list(self.openings):
            opening.abort()
        for response in list(self.live):
            response.close(ClientClosedError("the client was closed during the answer"))
        for _ in range(self.slots.statistics().tasks_waiting):
            self.slots.release()
        await self.http.close()


async def _close_with_loop(session: LoopSession) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()


class SessionManager:
    """Owns the connections and what every request has in common.

    Args:
        api_key: The key; joined to a request only when it is sent.
        base_url: Where requests go.
        timeouts: The clocks of a call that brings none of its own.
        retry: The policy of a call that brings none of its own.
        budget: What retries are paid from.
        max_connections: The most requests on the wire per event loop; further ones
            wait for their turn, first come first served.
        max_body_size: The largest answer accepted, in bytes.
        proxy: A proxy's URL.
        trust_env: Whether to take proxies from the environment (and with them, as
            aiohttp does, credentials from `netrc`).
        ssl_context: A TLS context in place of the default one.
    """

    def __init__(  # noqa: PLR0913 - the configuration, keyword-only
        self,
        *,
        api_key: APIKey,
        base_url: BaseURL,
        timeouts: Timeouts,
        retry: RetryPolicy,
        budget: RetryBudget,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        max_body_size: int = 64 * 1024 * 1024,
        proxy: str | None = None,
        trust_env: bool = False,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        for name, number in (
            ("max_connections", max_connections),
            ("max_body_size", max_body_size),
        ):
            if type(number) is not int or number < 1:
                message = f"{name} must be a whole number of at least 1"
                raise ConfigurationError(message)
        self.base_url = base_url
        self.timeouts = timeouts
        self.retry = retry
        self.budget = budget
        self.max_connections = max_connections
        self.max_body_size = max_body_size
        self.proxy = proxy
        self.trust_env = trust_env
        self.ssl_context = ssl_context
        self._closed = threading.Event()
        self._key = api_key
        self._urls: dict[tuple[str, bool], URL] = {}
        self._sessions: dict[asyncio.AbstractEventLoop, LoopSession] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"SessionManager({self.base_url.plain!r}, {state})"

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed.is_set()

    def with_defaults(self, timeouts: Timeouts, retry: RetryPolicy) -> SessionManager:
        """A view of this manager with other defaults: the connections are the same."""
        view = SessionManager.__new__(SessionManager)
        view.__dict__.update(self.__dict__, timeouts=timeouts, retry=retry)
        return view

    async def session(self) -> LoopSession:
        """The session of the running loop, made if there is none.

        Raises:
            ClientClosedError: The client is closed.
        """
        loop = asyncio.get_running_loop()
        found = self._sessions.get(loop)
        if self.closed:
            raise ClientClosedError
        if found is not None and not found.closing.is_set():
            return found
        made = LoopSession(self)
        with self._lock:
            self._forget_dead_loops()
            self._sessions[loop] = made
        made.keeper = _close_with_loop(made)
        await anext(made.keeper)
        return made

    def _forget_dead_loops(self) -> None:
        for loop, session in list(self._sessions.items()):
            if session.pid != os.getpid():
                _inherited.append(session)
            elif loop.is_closed():
                session.http.detach()
            else:
                continue
            del self._sessions[loop]

    async def open(self, request: WireRequest, deadline_at: float) -> LiveResponse:
        """Send a request once and wait for the response head.

        Args:
            request: What to send.
            deadline_at: The loop time by which all must be over, or infinity.

        Returns:
            The response, its body unread. It holds a connection slot until it ends.

        Raises:
            APIConnectionError: As `open_response`.
            ClientClosedError: The client is, or was meanwhile, closed.
        """
        session = await self.session()
        timeouts = request.timeouts or self.timeouts
        await _take_slot(session, timeouts, deadline_at)
        opening = Opening(timeouts.head, deadline_at)
        session.openings.add(opening)
        opened: LiveResponse | None = None
        failure: DeepSeekError | None = None

        def end(response: LiveResponse) -> None:
            session.live.discard(response)
            session.slots.release()

        try:
            if session.closing.is_set():
                raise ClientClosedError
            opened = await open_response(
                session.http,
                request.method,
                self._url(request),
                headers=lambda: self._headers(request),
                body=lambda: request.body,
                proxy=self.proxy,
                timeouts=timeouts,
                opening=opening,
                on_end=end,
            )
        except DeepSeekError as error:
            failure = error
        finally:
            session.openings.discard(opening)
            if opened is None:
                session.slots.release()
        if opened is not None and not session.closing.is_set():
            session.live.add(opened)
            return opened
        if opened is not None:
            opened.close()
        if session.closing.is_set():
            failure = ClientClosedError("the client was closed during the call")
        raise failure or ClientClosedError

    def _url(self, request: WireRequest) -> URL:
        key = request.path, request.beta
        found = self._urls.get(key)
        if found is None:
            found = URL(
                self.base_url.join(request.path, beta=request.beta), encoded=True
            )
            if request.method == "POST":  # a few fixed paths; GET paths hold names
                self._urls[key] = found
        return found

    def _headers(self, request: WireRequest) -> dict[str, str]:
        headers = {
            "Authorization": self._key.bearer(),
            "Accept": "text/event-stream" if request.stream else "application/json",
            # Tiny pieces gain nothing from compression, and bombs are kept out.
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        if request.body:
            headers["Content-Type"] = "application/json"
        if request.headers:
            headers |= request.headers
        return headers

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the closing of the client.

        Raises:
            ClientClosedError: The client was closed meanwhile.
        """
        session = await self.session()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await session.closing.wait()
                raise ClientClosedError

    async def aclose(self) -> None:
        """Close every connection; calls under way end with `ClientClosedError`.

        Sessions of other running loops are closed by their own loops, without
        waiting for them. Closing twice does nothing.
        """
        self._closed.set()
        with self._lock:
            sessions = dict(self._sessions)
            self._sessions.clear()
        running = asyncio.get_running_loop()
        for loop, session in sessions.items():
            if session.pid != os.getpid():
                _inherited.append(session)
            elif loop is running and session.keeper is not None:
                await session.keeper.aclose()
            elif loop.is_closed():
                session.http.detach()
            else:
                with suppress(RuntimeError):  # it may close at this very moment
                    asyncio.run_coroutine_threadsafe(session.close(), loop)


async def _take_slot(
    session: LoopSession, timeouts: Timeouts, deadline_at: float
) -> None:
    """Wait for one of the client's own connection slots."""
    if deadline_at == NEVER:
        await session.slots.acquire()
        return
    try:
        async with asyncio.timeout_at(deadline_at):
            await session.slots.acquire()
    except TimeoutError:
        pass
    else:
        return
    raise deadline_error(timeouts.deadline or 0.0)
