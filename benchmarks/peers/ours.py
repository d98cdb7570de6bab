"""This library, as its README writes it."""

from collections.abc import Callable, Sequence

from deepseek_async import AsyncDeepSeek

from .. import payloads
from .base import KEY, MODEL, PROMPT, Message, Peer, expect


class Chunks(Peer):
    """`AsyncDeepSeek`, streams read as typed chunks."""

    client: AsyncDeepSeek

    async def open(self) -> None:
        self.client = AsyncDeepSeek(
            api_key=KEY, base_url=self.base_url, max_connections=2000
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def ask(self, messages: Sequence[Message]) -> int:
        completion = await self.client.chat.completions.create(
            model=MODEL, messages=messages
        )
        return len(completion.choices[0].message.content or "")

    async def bulk(self, chunks: int) -> None:
        count = 0
        async with await self.client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=True
        ) as stream:
            async for chunk in stream:
                if chunk.choices:
                    count += 1
        expect(count, chunks)

    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        async with await self.client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=True
        ) as stream:
            opened()
            async for chunk in stream:
                text = chunk.choices[0].delta.content
                if text:
                    seen(text)

    async def fold(self) -> int:
        async with await self.client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=True
        ) as stream:
            message = (await stream.completion()).choices[0].message
        arguments = [call.function.arguments for call in message.tool_calls or ()]
        return len(message.content or "") + sum(map(len, arguments))


class Text(Chunks):
    """`AsyncDeepSeek`, streams read through `text()`."""

    async def bulk(self, chunks: int) -> None:
        size = 0
        async with await self.client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=True
        ) as stream:
            async for text in stream.text():
                size += len(text)
        expect(size, payloads.answer_text_size(chunks))

    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        async with await self.client.chat.completions.create(
            model=MODEL, messages=PROMPT, stream=True
        ) as stream:
            opened()
            async for text in stream.text():
                seen(text)
