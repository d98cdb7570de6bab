"""The floor: aiohttp alone, as lean as it can be asked for the same bytes.

No retries, no clocks, no cookies, no error handling, no limits. `RawAiohttp` reads a
stream without looking into it; `TypedAiohttp` also splits the events and decodes them
into structs by hand. Awaited completions are decoded into structs by both.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp

from .. import payloads
from . import floor_types
from .base import KEY, MODEL, PROMPT, Message, Peer, expect

HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
STREAM_BODY = {"model": MODEL, "messages": PROMPT, "stream": True}


class RawAiohttp(Peer):
    """aiohttp's session; stream bytes are counted, not decoded."""

    session: aiohttp.ClientSession

    async def open(self) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
        )
        self.url = self.base_url + "/chat/completions"

    async def close(self) -> None:
        await self.session.close()

    async def ask(self, messages: Sequence[Message]) -> int:
        body = floor_types.encode({"model": MODEL, "messages": messages})
        async with self.session.post(self.url, data=body) as response:
            completion = floor_types.decode_completion(await response.read())
        return len(completion.choices[0].message.content or "")

    @asynccontextmanager
    async def _stream(self) -> AsyncGenerator[aiohttp.StreamReader]:
        body = floor_types.encode(STREAM_BODY)
        async with self.session.post(self.url, data=body) as response:
            yield response.content

    async def bulk(self, chunks: int) -> None:
        size = 0
        async with self._stream() as content:
            async for data in content.iter_any():
                size += len(data)
        expect(size, len(payloads.sse_body(payloads.answer_events(chunks))))

    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        event = payloads.LIVE_EVENT_BYTES
        size = -len(payloads.ROLE_EVENT)
        counted = 0
        async with self._stream() as content:
            opened()
            async for data in content.iter_any():
                size += len(data)
                while counted + event <= size:
                    counted += event
                    seen("")


class TypedAiohttp(RawAiohttp):
    """aiohttp, events split and decoded into structs by hand."""

    async def _chunks(
        self, content: aiohttp.StreamReader
    ) -> AsyncIterator[floor_types.Chunk]:
        decode = floor_types.decode_chunk
        rest = b""
        async for data in content.iter_any():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    yield decode(event[6:])

    async def bulk(self, chunks: int) -> None:
        count = 0
        async with self._stream() as content:
            async for chunk in self._chunks(content):
                if chunk.choices:
                    count += 1
        expect(count, chunks)

    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        async with self._stream() as content:
            opened()
            async for chunk in self._chunks(content):
                delta = chunk.choices[0].delta
                if delta is not None and delta.content:
                    seen(delta.content)
