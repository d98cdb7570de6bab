"""A TCP proxy that slices, delays, throttles, cuts and injects, by a seeded script."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

_READ = 65_536


@dataclass(frozen=True)
class Toxics:
    """What happens to the bytes from the server to the client on one connection.

    Attributes:
        seed: Of the slices and delays.
        largest: The largest slice, in bytes.
        delay: The longest delay before a slice, in seconds.
        rate: Bytes a second.
        cut_at: How many bytes pass before the cut.
        cut: What the cut is.
        inject_at: Before which byte the injected ones go.
        inject: Bytes the server never sent.
    """

    seed: int = 0
    largest: int = _READ
    delay: float = 0.0
    rate: float | None = None
    cut_at: int | None = None
    cut: Literal["fin", "reset", "stall"] = "fin"
    inject_at: int | None = None
    inject: bytes = b""


class _Passage:
    """Applies the toxics to one connection."""

    def __init__(self, toxics: Toxics, writer: asyncio.StreamWriter) -> None:
        self._toxics = toxics
        self._random = random.Random(toxics.seed)  # noqa: S311 - reproducible
        self._writer = writer
        self._passed = 0

    def _slice(self, data: bytes) -> int:
        """The size of the next slice; none straddles the cut or the injection."""
        toxics = self._toxics
        size = self._random.randint(1, min(toxics.largest, len(data)))
        if toxics.largest >= _READ:
            size = len(data)
        for mark in (toxics.cut_at, toxics.inject_at):
            if mark is not None and self._passed < mark:
                size = min(size, mark - self._passed)
        return size

    async def send(self, data: bytes) -> bool:
        """Pass bytes on; whether there is more to come."""
        toxics = self._toxics
        while data:
            if toxics.cut_at == self._passed:
                return False
            if toxics.inject_at == self._passed and toxics.inject:
                self._writer.write(toxics.inject)
            size = self._slice(data)
            if toxics.delay:
                await asyncio.sleep(self._random.uniform(0, toxics.delay))
            if toxics.rate is not None:
                await asyncio.sleep(size / toxics.rate)
            self._writer.write(data[:size])
            await self._writer.drain()
            await asyncio.sleep(0)
            self._passed += size
            data = data[size:]
        return toxics.cut_at != self._passed


class FaultProxy:
    """Stands between a client and a server; each connection takes the next toxics.

    Args:
        port: The server's.
        script: One entry a connection; the last repeats.
    """

    def __init__(self, port: int, script: Sequence[Toxics]) -> None:
        self._upstream = port
        self._script = list(script)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.open_connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[FaultProxy, None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_READ)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=1.0)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        toxics = self._script[min(self.connections, len(self._script) - 1)]
        self.connections += 1
        self.open_connections += 1
        up_reader, up_writer = await asyncio.open_connection(
            "127.0.0.1", self._upstream
        )
        writers = {writer, up_writer}
        self._writers |= writers
        upload = asyncio.create_task(self._upload(reader, up_writer))
        try:
            with suppress(ConnectionError):
                await self._download(up_reader, _Passage(toxics, writer))
            if toxics.cut == "stall" and toxics.cut_at is not None:
                await upload  # until the client leaves
            if toxics.cut == "reset" and toxics.cut_at is not None:
                await asyncio.sleep(0.005)
                _reset(writer)
        finally:
            self.open_connections -= 1
            upload.cancel()
            writer.close()
            up_writer.close()
            self._writers -= writers
            self._tasks.discard(task)

    async def _upload(
        self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_READ):
                upstream.write(data)
                await upstream.drain()
            upstream.close()

    async def _download(
        self,
        upstream: asyncio.StreamReader,
        passage: _Passage,
    ) -> None:
        while data := await upstream.read(_READ):
            if not await passage.send(data):
                return


def _reset(writer: asyncio.StreamWriter) -> None:
    held: socket.socket | None = writer.get_extra_info("socket")
    if held is not None and not writer.is_closing():
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
