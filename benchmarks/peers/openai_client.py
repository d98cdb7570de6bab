"""The `openai` package over its two transports."""

from collections.abc import Callable, Sequence
from typing import cast

from openai import AsyncOpenAI, DefaultAioHttpClient
from openai.types.chat import ChatCompletionMessageParam

from .base import KEY, MODEL, PROMPT, Message, Peer, expect

Messages = list[ChatCompletionMessageParam]


class OverHttpx(Peer):
    """`AsyncOpenAI` as it comes: over httpx2."""

    client: AsyncOpenAI

    async def open(self) -> None:
        self.client = AsyncOpenAI(api_key=KEY, base_url=self.base_url, max_retries=0)

    async def close(self) -> None:
        await self.client.close()

    async def ask(self, messages: Sequence[Message]) -> int:
        completion = await self.client.chat.completions.create(
            model=MODEL, messages=cast("Messages", messages)
        )
        return len(completion.choices[0].message.content or "")

    async def bulk(self, chunks: int) -> None:
        count = 0
        async with await self.client.chat.completions.create(
            model=MODEL, messages=cast("Messages", PROMPT), stream=True
        ) as stream:
            async for chunk in stream:
                if chunk.choices:
                    count += 1
        expect(count, chunks)

    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        async with await self.client.chat.completions.create(
            model=MODEL, messages=cast("Messages", PROMPT), stream=True
        ) as stream:
            opened()
            async for chunk in stream:
                text = chunk.choices[0].delta.content
                if text:
                    seen(text)


class OverAiohttp(OverHttpx):
    """`AsyncOpenAI` over its aiohttp backend."""

    async def open(self) -> None:
        self.client = AsyncOpenAI(
            api_key=KEY,
            base_url=self.base_url,
            max_retries=0,
            http_client=DefaultAioHttpClient(),
        )
