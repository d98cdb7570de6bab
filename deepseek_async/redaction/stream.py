"""A chat stream into which what was hidden is put back, as it comes."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from ..errors import DeepSeekError
from ..request import WireRequest
from ..streaming import ChatStream, DerivedStream
from ..types.chat import (
    ChatCompletionChunk,
    ChunkChoice,
    Delta,
    FunctionCallDelta,
    ToolCallDelta,
)
from .redaction import Redaction, Restorer, Vault, wants_json


class _Texts:
    """The texts of one choice, each with its restorer."""

    def __init__(self, vault: Vault, *, in_json: bool) -> None:
        self._vault = vault
        self.content = Restorer(vault, in_json=in_json)
        self.reasoning = Restorer(vault)
        self.legacy = Restorer(vault, in_json=True)
        self._calls: dict[int | None, Restorer] = {}

    def call(self, index: int | None) -> Restorer:
        """The restorer of one tool call's arguments."""
        found = self._calls.get(index)
        if found is None:
            found = self._calls[index] = Restorer(self._vault, in_json=True)
        return found

    def calls(self) -> Iterator[tuple[int | None, Restorer]]:
        """Every tool call's index and restorer."""
        yield from self._calls.items()


class RedactedStream(DerivedStream):
    """Restores another stream; a placeholder cut by chunk borders is held back.

    Args:
        source: The stream.
        redaction: The client's redactors.
        request: What was asked.
        vault: What was hidden in it.
    """

    def __init__(
        self,
        source: ChatStream,
        redaction: Redaction,
        request: WireRequest,
        vault: Vault,
    ) -> None:
        super().__init__(source, source.receipt)
        self._live = source
        self._redaction = redaction
        self._vault = vault
        self._in_json = wants_json(request)
        self._texts: dict[int, _Texts] = {}
        self._head: ChatCompletionChunk | None = None
        self._broken: DeepSeekError | None = None

    async def _more(self, *, heartbeats: bool) -> list[ChatCompletionChunk] | None:
        if self._broken is not None:
            raise self._broken
        try:
            chunks = await self._live.read_chunks(heartbeats=heartbeats)
        except DeepSeekError as error:
            self._broken = error
            chunks = None
        if chunks is not None:
            return [await self._shown(chunk) for chunk in chunks]
        rest = [await self._rest(index) for index in self._texts]
        self._texts.clear()
        return [chunk for chunk in rest if chunk is not None] or (
            [] if self._broken is not None else None
        )

    async def _shown(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        self._head = self._head or chunk
        shown = copy.copy(chunk)  # the chunk may be shared with other readers
        shown.choices = [await self._choice(choice) for choice in chunk.choices]
        return shown

    async def _choice(self, choice: ChunkChoice) -> ChunkChoice:
        texts = self._texts.get(choice.index)
        if texts is None:
            texts = _Texts(self._vault, in_json=self._in_json)
            self._texts[choice.index] = texts
        shown = copy.copy(choice)
        shown.delta = delta = copy.copy(choice.delta)
        delta.reasoning_content = await self._piece(
            texts.reasoning, delta.reasoning_content, ends=bool(delta.content)
        )
        delta.content = await self._piece(texts.content, delta.content)
        if delta.title:
            delta.title = await self._final(self._vault.restore(delta.title))
        if delta.function_call is not None:
            delta.function_call = _function(delta.function_call, texts.legacy)
        if delta.tool_calls:
            delta.tool_calls = [_call(call, texts) for call in delta.tool_calls]
        if choice.finish_reason is not None:
            await self._finish(delta, texts)
        return shown

    async def _piece(
        self, restorer: Restorer, text: str | None, *, ends: bool = False
    ) -> str | None:
        shown = restorer.feed(text) if text else ""
        if ends:
            shown += restorer.end()
        return await self._final(shown) if shown else text and ""

    async def _final(self, text: str) -> str:
        return await self._redaction.shown(text, self._vault)

    async def _finish(self, delta: Delta, texts: _Texts) -> None:
        """Add what is still held back to the last delta."""
        if held := texts.reasoning.end():
            delta.reasoning_content = (delta.reasoning_content or "") + held
        if held := texts.content.end():
            delta.content = (delta.content or "") + await self._final(held)
        if held := texts.legacy.end():
            function = delta.function_call or FunctionCallDelta()
            function.arguments = (function.arguments or "") + held
            delta.function_call = function
        for index, restorer in texts.calls():
            if held := restorer.end():
                function = FunctionCallDelta(arguments=held)
                call = ToolCallDelta(index=index, function=function)
                delta.tool_calls = [*(delta.tool_calls or ()), call]

    async def _rest(self, index: int) -> ChatCompletionChunk | None:
        """A chunk of what is still held back when the stream breaks."""
        delta = Delta()
        await self._finish(delta, self._texts[index])
        if self._head is None or delta == Delta():
            return None
        rest = copy.copy(self._head)
        rest.choices = [ChunkChoice(index=index, delta=delta)]
        rest.usage = None
        return rest


def _function(function: FunctionCallDelta, restorer: Restorer) -> FunctionCallDelta:
    shown = copy.copy(function)
    if shown.arguments:
        shown.arguments = restorer.feed(shown.arguments)
    return shown


def _call(call: ToolCallDelta, texts: _Texts) -> ToolCallDelta:
    shown = copy.copy(call)
    if shown.function is not None:
        shown.function = _function(shown.function, texts.call(call.index))
    return shown
