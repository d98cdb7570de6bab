"""The event loop alone: what a packet costs before any client has seen it.

No HTTP client, no decoding, no task that wakes up: `data_received` counts bytes. No
client on the same loop can take less, so this shows which ratios are within reach.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from .. import payloads
from . import floor_types
from .floor import HEADERS, STREAM_BODY, RawAiohttp

FRAME = len(payloads.live_frame())


class Counting(asyncio.Protocol):
    """Counts the live chunks of one response by their length."""

    def __init__(self, opened: Callable[[], None], seen: Callable[[str], None]) -> None:
        self.opened: Callable[[], None] | None = opened
        self.seen = seen
        self.tail = b""
        self.size = -len(payloads.LIVE_START)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.opened is not None:
            self.opened()
            self.opened = None
        self.tail = (self.tail + data)[-len(payloads.HTTP_END) :]
        if self.tail == payloads.HTTP_END:
            self.connection_lost(None)
            return
        self.size += len(data)
        while self.size >= FRAME:
            self.size -= FRAME
            self.seen("")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # the driver counts, and misses what did not arrive
        if not self.ended.done():
            self.ended.set_result(None)


class LoopAlone(RawAiohttp):
    """A protocol of asyncio's for live streams; the rest is the raw floor's."""

    async def open(self) -> None:
        await super().open()
        bytearray(1 << 19)  # or glibc maps memory for every read: no longer alone

    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        url, loop = urlsplit(self.url), asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            lambda: Counting(opened, seen),
            url.hostname or "",
            url.port or 0,
            ssl=url.scheme == "https" or None,
        )
        body = floor_types.encode(STREAM_BODY)
        fields = {"Host": url.netloc, **HEADERS, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        transport.write(f"POST {url.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        try:
            await protocol.ended
        finally:
            transport.close()
