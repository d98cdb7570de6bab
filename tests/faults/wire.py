"""A byte-level HTTP server that plays scripts.

The server understands requests well enough to answer them in order; everything it
sends back is spelled out by the test, byte by byte, as a sequence of steps.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias, cast

Step: TypeAlias = "Callable[[Connection], Awaitable[None]]"
Reply: TypeAlias = Sequence[Step]

_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """What the server received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def is_stream(self) -> bool:
        return b'"stream":true' in self.body

    @property
    def may_call(self) -> bool:
        """Whether tools are offered and none has been run."""
        return b'"tools":' in self.body and b'"role":"tool"' not in self.body


class Connection(asyncio.Protocol):
    """One accepted connection: parses requests, plays a reply to each."""

    def __init__(self, server: FaultServer) -> None:
        self._server = server
        self.loop = asyncio.get_running_loop()
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._player: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.number = 0
        self.gone = asyncio.Event()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.number = len(self._server.connections)
        self._server.connections.append(self)  # its handshake is over, if it has one
        if self._server.greeting is not None:
            self.play(self._server.greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.gone.set()
        self._writable.set()
        if self._player is not None:
            self._player.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._server.greeting is None:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:])
            headers = {name.lower(): value for name, value in headers.items()}
            size = int(headers.get("content-length", 0))
            if len(rest) < size:
                return
            self._received = rest[size:]
            method, path, _ = lines[0].split(" ", 2)
            request = Request(method, path, headers, rest[:size], self.number)
            self.play(self._server.reply_to(request))

    def play(self, reply: Reply) -> None:
        before = self._player
        self._player = asyncio.get_running_loop().create_task(
            self._play(reply, before), name="faults: reply"
        )
        self._server.players.add(self._player)
        self._player.add_done_callback(self._server.players.discard)

    async def _play(self, reply: Reply, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        for step in reply:
            await step(self)

    async def write(self, data: bytes) -> None:
        if not self.gone.is_set():
            self.transport.write(data)
            await self._writable.wait()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        held: socket.socket = self.transport.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.transport.abort()


def send(data: bytes) -> Step:
    """Write bytes."""

    async def step(connection: Connection) -> None:
        await connection.write(data)

    return step


def pause(seconds: float) -> Step:
    """Do nothing for a while."""

    async def step(connection: Connection) -> None:
        del connection
        await asyncio.sleep(seconds)

    return step


def until(event: asyncio.Event) -> Step:
    """Do nothing until the test says so."""

    async def step(connection: Connection) -> None:
        del connection
        await event.wait()

    return step


def signal(event: asyncio.Event) -> Step:
    """Tell the test that this point is reached."""

    async def step(connection: Connection) -> None:
        del connection
        event.set()
        await asyncio.sleep(0)

    return step


def stall() -> Step:
    """Hold the connection open and say nothing more."""

    async def step(connection: Connection) -> None:
        await connection.gone.wait()

    return step


def endless(data: bytes, every: float) -> Step:
    """Repeat bytes until the peer is gone."""

    async def step(connection: Connection) -> None:
        while not connection.gone.is_set():
            await connection.write(data)
            await asyncio.sleep(every)

    return step


def flood(data: bytes, times: int) -> Step:
    """Repeat bytes as fast as they are taken."""

    async def step(connection: Connection) -> None:
        for _ in range(times):
            if connection.gone.is_set():
                return
            await connection.write(data)
            await asyncio.sleep(0)

    return step


def drip(data: bytes, every: float) -> Step:
    """One byte at a time."""

    async def step(connection: Connection) -> None:
        for at in range(len(data)):
            await connection.write(data[at : at + 1])
            await asyncio.sleep(every)

    return step


def pieces(data: bytes, seed: int, largest: int = 7) -> Step:
    """Write in pieces of random sizes, each its own segment."""

    async def step(connection: Connection) -> None:
        sizes = random.Random(seed)  # noqa: S311 - reproducible, not secret
        at = 0
        while at < len(data):
            size = sizes.randint(1, largest)
            await connection.write(data[at : at + size])
            at += size
            await asyncio.sleep(0)

    return step


def reset() -> Step:
    """RST."""

    async def step(connection: Connection) -> None:
        await asyncio.sleep(0.01)  # what was written before must arrive before it
        if not connection.gone.is_set():
            connection.reset()

    return step


def fin() -> Step:
    """FIN after everything written."""

    async def step(connection: Connection) -> None:
        connection.transport.close()
        await asyncio.sleep(0)

    return step


class FaultServer:
    """Answers the first request with the first reply, and so on; the last repeats.

    Args:
        replies: What to play; a function chooses by request.
        greeting: Played on connect instead; requests are not read then.
        tls: The server's side of TLS, plain TCP without.
    """

    def __init__(
        self,
        *replies: Reply | Callable[[Request], Reply],
        greeting: Reply | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._replies = replies
        self._server: asyncio.Server | None = None
        self.greeting = greeting
        self.tls = tls
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.players: set[asyncio.Task[None]] = set()
        self.port = 0
        self._heard = asyncio.Event()

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return sum(not connection.gone.is_set() for connection in self.connections)

    def reply_to(self, request: Request) -> Reply:
        """Note a request and choose its reply."""
        self.requests.append(request)
        self._heard.set()
        number = min(len(self.requests), len(self._replies)) - 1
        reply = self._replies[number]
        return reply(request) if callable(reply) else reply

    async def all_gone(self, within: float = 1.0) -> None:
        """Wait until the client has closed every connection."""
        try:
            async with asyncio.timeout(within):
                for connection in list(self.connections):
                    await connection.gone.wait()
        except TimeoutError:
            message = f"{self.open_connections} connections are still open"
            raise AssertionError(message) from None

    async def requested(self, count: int, within: float = 2.0) -> None:
        """Wait until that many requests have been read."""
        async with asyncio.timeout(within):
            while len(self.requests) < count:
                self._heard.clear()
                await self._heard.wait()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self),
            "127.0.0.1",
            self.port,
            backlog=512,
            ssl=self.tls,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            if not connection.gone.is_set():
                connection.transport.abort()
        players = list(self.players)
        for player in players:
            player.cancel()
        await asyncio.gather(*players, return_exceptions=True)
        await self.all_gone()


def closed_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
