"""Plays a reply over a connection: at the model's pace, and wrong where asked."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pace import Pace
    from .reply import Hold, Reply

_JOINED_BYTES: Final = 32 * 1024
_LINGER: Final = "hh" if sys.platform == "win32" else "ii"
_LINGER_RESET: Final = struct.pack(_LINGER, 1, 0)


class Player:
    """Plays one reply to one request.

    Args:
        request: The request that is answered.
        reply: What is sent.
        pace: How fast.
        streams: Returns how many answers are in flight, so that many streams share
            the processor.
    """

    __slots__ = ("_pace", "_reply", "_request", "_response", "_streams")

    def __init__(
        self,
        request: web.BaseRequest,
        reply: Reply,
        pace: Pace,
        streams: Callable[[], int],
    ) -> None:
        self._request = request
        self._reply = reply
        self._pace = pace
        self._streams = streams
        headers = {"Content-Type": reply.content_type, **reply.headers}
        self._response = web.StreamResponse(status=reply.status, headers=headers)

    async def play(self) -> web.StreamResponse:
        """Send the reply and return the response that was sent."""
        reply = self._reply
        if reply.delay is None:
            await _for_ever()
        elif reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.raw is not None:
            return self._play_raw(reply.raw)
        wait = self._wait()
        if reply.plain and wait <= self._pace.keep_alive:
            return await self._play_plain(wait)
        await self._response.prepare(self._request)
        await self._queue(wait)
        await self._play_pieces()
        return await self._end()

    def _wait(self) -> float:
        """Return the seconds before the first piece."""
        reply, pace = self._reply, self._pace
        if not reply.generated:
            return 0.0
        queue = pace.queue if reply.queue is None else reply.queue
        if reply.streamed:
            return queue
        return queue + pace.generation(reply.tokens)

    async def _play_plain(self, wait: float) -> web.StreamResponse:
        if wait > 0:
            await asyncio.sleep(wait)
        reply = self._reply
        headers = {"Content-Type": reply.content_type, **reply.headers}
        body = b"".join(reply.pieces)
        return web.Response(body=body, status=reply.status, headers=headers)

    def _play_raw(self, data: bytes) -> web.StreamResponse:
        transport = self._request.transport
        if transport is not None and data:
            transport.write(data)
        self._hang_up()
        return self._response

    async def _queue(self, seconds: float) -> None:
        """Wait, with keep-alives at the pace's interval."""
        while seconds > self._pace.keep_alive:
            await asyncio.sleep(self._pace.keep_alive)
            await self._response.write(self._reply.keep_alive)
            seconds -= self._pace.keep_alive
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def _play_pieces(self) -> None:
        hold, pieces = self._reply.hold, self._reply.pieces
        flow = self._flow if self._reply.streamed else self._burst
        if self._reply.trickle:
            flow = self._drip
        if self._reply.streamed and self._pace.latency > 0:
            await asyncio.sleep(self._pace.latency)
        if hold is None:
            await flow(pieces)
            return
        await flow(pieces[: hold.at])
        await self._stall(hold)
        await flow(pieces[hold.at :])

    async def _burst(self, pieces: list[bytes]) -> None:
        """Send pieces at once, joined into large writes."""
        joined: list[bytes] = []
        size = 0
        for piece in pieces:
            joined.append(piece)
            size += len(piece)
            if size >= _JOINED_BYTES:
                await self._response.write(b"".join(joined))
                joined, size = [], 0
        if joined:
            await self._response.write(b"".join(joined))

    async def _flow(self, pieces: list[bytes]) -> None:
        """Send each piece when its token is due, several at once if late."""
        pace, clock = self._pace, asyncio.get_running_loop().time
        if pace.tokens_per_second <= 0 and not self._reply.review:
            await self._burst(pieces)
            return
        begun, sent = clock(), 0
        # The last chunk and [DONE] come together, after a review if there is one.
        body = max(len(pieces) - 2, 0)
        while sent < body:
            due = self._due(clock() - begun, body)
            await self._burst(pieces[sent:due])
            sent = max(sent, due)
            if sent < body:
                await asyncio.sleep(pace.tick(self._streams()))
        if self._reply.review and pieces[-1:] == self._reply.pieces[-1:]:
            await asyncio.sleep(pace.review)
        await self._burst(pieces[body:])

    def _due(self, elapsed: float, body: int) -> int:
        if self._pace.tokens_per_second <= 0:
            return body
        return min(body, 1 + int(elapsed * self._pace.tokens_per_second))

    async def _drip(self, pieces: list[bytes]) -> None:
        size, interval = self._reply.trickle or (1, 0.0)
        data = b"".join(pieces)
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            await asyncio.sleep(interval)

    async def _stall(self, hold: Hold) -> None:
        clock = asyncio.get_running_loop().time
        end = None if hold.seconds is None else clock() + hold.seconds
        if hold.keep_alive is None:
            await (_for_ever() if end is None else asyncio.sleep(end - clock()))
            return
        while end is None or clock() < end:
            await asyncio.sleep(hold.keep_alive)
            await self._response.write(self._reply.keep_alive)

    async def _end(self) -> web.StreamResponse:
        if self._reply.ending == "complete":
            await self._response.write_eof()
        else:
            self._hang_up()
        return self._response

    def _hang_up(self) -> None:
        """End the connection: FIN after what was written, or RST."""
        transport = self._request.transport
        if transport is None:
            return
        if self._reply.ending == "reset":
            # A zero linger time makes the kernel send RST instead of FIN.
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            transport.abort()
        else:
            transport.close()


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
