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
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Final, Protocol

import aiohttp
import anyio
from multidict import CIMultiDict

from .allocation import keep_room_for_reads
from .errors import (
    ClientClosedError,
    ConfigurationError,
    DeepSeekError,
)
from .inside import make_prompt
from .opening import Connector, Opening
from .request import WireRequest
from .retry import RetryBudget, RetryPolicy
from .room import Room
from .sending import Sender
from .settings import USER_AGENT, APIKey, BaseURL
from .timeouts import NEVER, Timeouts, deadline_error
from .transport import LiveResponse, open_response
from .watch import Watch

_REFUSED: Final = 429

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
        "closer",
        "closing",
        "http",
        "keeper",
        "live",
        "loop",
        "openings",
        "pid",
        "room",
        "sender",
        "sleepers",
        "slots",
        "watch",
    )

    def __init__(self, manager: SessionManager) -> None:
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.live: set[LiveResponse] = set()
        self.openings: set[Opening] = set()
        self.sleepers: set[asyncio.Event] = set()
        self.room = Room()
        self.watch = Watch(self.loop)
        self.slots = anyio.Semaphore(manager.max_connections, fast_acquire=True)
        self.closing = False
        self.closer: asyncio.Task[None] | None = None
        self.keeper: AsyncGenerator[None, None] | None = None
        # The slots above are the only limit: aiohttp's own would count the wait for a
        # connection as a connect timeout.
        keep_room_for_reads()
        connector = Connector(limit=0, ssl=manager.ssl_context or True)
        make_prompt(connector)
        self.http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=manager.trust_env,
        )
        self.sender = Sender(
            self.http, connector, manager.base_url, manager.headers_of, manager.proxy
        )

    async def close(self) -> None:
        """End everything that is under way, then close the connections."""
        if self.closing:
            return
        self.closing = True
        for opening in list(self.openings):
            opening.abort(ClientClosedError("the client was closed during the call"))
        for sleeper in self.sleepers:
            sleeper.set()
        for response in list(self.live):
            response.close(ClientClosedError("the client was closed during the answer"))
        for _ in range(self.slots.statistics().tasks_waiting):
            self.slots.release()
        self.watch.close()
        await asyncio.sleep(0)  # those that are aborted give their connections up
        await self.http.close()

    def close_soon(self) -> None:
        """Close in a task of its own. Called in the session's own loop."""
        self.closer = self.loop.create_task(self.close())

    def take_slot(self) -> bool:
        """Take a connection slot if there is a free one."""
        try:
            self.slots.acquire_nowait()
        except anyio.WouldBlock:
            return False
        return True

    def end(self, response: LiveResponse) -> None:
        """A response has ended: its slot is free."""
        self.live.discard(response)
        self.slots.release()
        if self.room.waiting and response.status != _REFUSED:
            self.room.make()


async def _close_with_loop(session: LoopSession) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()


def _check_route(proxy: object, ssl_context: object) -> None:
    if proxy is not None and not str(proxy).startswith(("http://", "https://")):
        message = "proxy must be the URL of a proxy: http://host:port"
        raise ConfigurationError(message)
    if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
        message = "ssl_context must be an ssl.SSLContext"
        raise ConfigurationError(message)


class Holder(Protocol):
    """Whoever wants to be able to abort an opening.

    Attributes:
        opening: The one that is under way.
        wants_fresh: Whether it must not have an idle connection.
    """

    opening: Opening | None
    wants_fresh: bool


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
        _check_route(proxy, ssl_context)
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
        # Changed by single, atomic operations only: a lock could be held at a fork.
        self._sessions: dict[asyncio.AbstractEventLoop, LoopSession] = {}

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"SessionManager({self.base_url.plain!r}, {state})"

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed.is_set()

    @property
    def calls_of_no_batch(self) -> int:
        """Such calls of the loop: on the wire, or waiting for a slot or for room."""
        found = self._sessions.get(asyncio.get_running_loop())
        if found is None:
            return 0
        room, slots = found.room, found.slots
        waiting = slots.statistics().tasks_waiting + len(room.waiting)
        return max(0, self.max_connections - slots.value + waiting - room.taken)

    async def room(self) -> Room:
        """The room of the running loop, for a batch."""
        return (await self.session()).room

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
        return self._session() or await self._make_session()

    def _session(self) -> LoopSession | None:
        """The session of the running loop, if there is one that can be used."""
        if self._closed.is_set():
            raise ClientClosedError
        found = self._sessions.get(asyncio.get_running_loop())
        return None if found is None or found.closing else found

    async def _make_session(self) -> LoopSession:
        made = LoopSession(self)
        self._forget_dead_loops()
        self._sessions[made.loop] = made
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
            self._sessions.pop(loop, None)

    async def open(
        self,
        request: WireRequest,
        deadline_at: float,
        holder: Holder,
    ) -> LiveResponse:
        """Send a request once and wait for the response head.

        Args:
            request: What to send.
            deadline_at: The loop time by which all must be over, or infinity.
            holder: Given the opening while it waits for its head, so that another
                task can abort it.

        Returns:
            The response, its body unread. It holds a connection slot until it ends.

        Raises:
            APIConnectionError: As `open_response`.
            ClientClosedError: The client is, or was meanwhile, closed.
        """
        session = self._session() or await self._make_session()
        timeouts = request.timeouts or self.timeouts
        if not session.take_slot():
            await _wait_for_slot(session, timeouts, deadline_at)
        opening = Opening(timeouts, deadline_at, wants_fresh=holder.wants_fresh)
        session.openings.add(opening)
        holder.opening = opening
        opened: LiveResponse | None = None
        failure: DeepSeekError | None = None
        try:
            opened = await open_response(
                session.sender,
                request,
                opening,
                session.watch,
                session.end,
            )
        except DeepSeekError as error:
            if not session.closing:
                failure = error.with_traceback(None)  # its frame holds the transport
        else:
            session.live.add(opened)
            if not session.closing:
                return opened
            opened.close()
        finally:
            session.openings.discard(opening)
            holder.opening = None
            if opened is None:
                session.slots.release()
                session.room.make()
        raise failure or ClientClosedError("the client was closed meanwhile")

    def headers_of(self, request: WireRequest) -> Mapping[str, str]:
        """The headers of a request, the key among them: not to be kept."""
        headers: dict[str, str] = {
            "Authorization": self._key.bearer(),
            "Accept": "text/event-stream" if request.stream else "application/json",
            # Tiny pieces gain nothing from compression, and bombs are kept out.
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        if request.body:
            headers["Content-Type"] = "application/json"
        if not request.headers:
            return headers
        merged = CIMultiDict(headers)
        for name, value in request.headers.items():
            merged[name] = value  # in place of any that differs only in case
        return merged

    async def sleep(
        self, seconds: float, wake: asyncio.Event, room: float | None = None
    ) -> None:
        """Wait, but not beyond the closing of the client.

        Args:
            seconds: How long.
            wake: Ends the wait early when set.
            room: For how long to wait instead if a batch of this client is on the
                wire, until it has made room.

        Raises:
            ClientClosedError: The client was closed meanwhile.
        """
        session = self._session() or await self._make_session()
        session.sleepers.add(wake)
        waiting = session.room.waiting
        if room is not None and session.room.taken:
            seconds = room
            waiting.append(wake)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await wake.wait()
        except BaseException:
            if wake in waiting and wake.is_set():
                session.room.make()  # it leaves the place to the next one
            raise
        finally:
            session.sleepers.discard(wake)
            if wake in waiting:
                waiting.remove(wake)
        if session.closing:
            message = "the client was closed during the call"
            raise ClientClosedError(message)

    def scrub(self, text: str) -> str:
        """Take the API key out of a text that a server sent."""
        return self._key.scrub(text)

    async def aclose(self) -> None:
        """Close every connection; calls under way end with `ClientClosedError`.

        Sessions of other running loops are closed by their own loops, without
        waiting for them. Closing twice does nothing.
        """
        self._closed.set()
        running = asyncio.get_running_loop()
        while self._sessions:
            loop, session = self._sessions.popitem()
            if session.pid != os.getpid():
                _inherited.append(session)
            elif loop is running and session.keeper is not None:
                await session.keeper.aclose()
            elif loop.is_closed():
                session.http.detach()
            else:
                with suppress(RuntimeError):  # it may close at this very moment
                    loop.call_soon_threadsafe(session.close_soon)


async def _wait_for_slot(
    session: LoopSession, timeouts: Timeouts, deadline_at: float
) -> None:
    """Wait for one of the client's own connection slots."""
    late = True
    with suppress(TimeoutError):
        async with asyncio.timeout_at(None if deadline_at == NEVER else deadline_at):
            await session.slots.acquire()
            late = False
    if session.closing:
        if not late:
            session.slots.release()
        raise ClientClosedError
    if late:
        raise deadline_error(timeouts.deadline or 0.0)
