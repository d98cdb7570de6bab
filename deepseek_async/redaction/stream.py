"""A chat stream into which what was hidden is put back, as it comes."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator

from ..accumulate import ChatAccumulator
from ..errors import DeepSeekError
from ..request import WireRequest
from ..streaming import ChatStream, DerivedStream, begins_anew, take_chunks
from ..types.chat import (
    ChatCompletionChunk,
    ChunkChoice,
    Delta,
    FunctionCallDelta,
    ToolCallDelta,
)
from ..types.events import Resumed
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
        self._breaks: tuple[Resumed, ...] = ()
        #: Chunks with everything put back, which the redactors have yet to see.
        self._restored: deque[ChatCompletionChunk] = deque()
        self._has_ended = False
        self._broken: DeepSeekError | None = None

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on; see `Resume`."""
        return self._breaks

    async def _more(self, *, heartbeats: bool) -> list[ChatCompletionChunk] | None:
        if not self._restored and not self._has_ended:
            await self._take(heartbeats=heartbeats)
        if not self._restored and self._has_ended:
            if self._broken is not None:
                raise self._broken
            return None
        # One at a time: a redactor that fails or is cancelled must lose nothing.
        if not self._redaction.listens:
            shown = list(self._restored)
            self._restored.clear()
            return shown
        if not self._restored:
            return []
        chunk = await self._heard(self._restored[0])
        self._restored.popleft()
        return [chunk]

    async def _take(self, *, heartbeats: bool) -> None:
        """Read on, and put back what was hidden."""
        broken: DeepSeekError | None = None
        chunks: list[ChatCompletionChunk] | None = None
        try:
            chunks = await take_chunks(self._live, heartbeats=heartbeats)
        except DeepSeekError as error:
            broken = error
        breaks = self._live.breaks
        if begins_anew(breaks[len(self._breaks) :]):
            self._accumulator = ChatAccumulator()
            self._texts.clear()
            self._head = None
        self._breaks = breaks
        if chunks is not None:
            self._restored.extend(map(self._restore, chunks))
            return
        rest = [self._rest(index) for index in self._texts]
        self._restored.extend(chunk for chunk in rest if chunk is not None)
        self._texts.clear()
        self._broken, self._has_ended = broken, True

    def _restore(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        self._head = self._head or chunk
        restored = copy.copy(chunk)  # the chunk may be shared with other readers
        restored.choices = [self._choice(choice) for choice in chunk.choices]
        return restored

    def _choice(self, choice: ChunkChoice) -> ChunkChoice:
        texts = self._texts.get(choice.index)
        if texts is None:
            texts = _Texts(self._vault, in_json=self._in_json)
            self._texts[choice.index] = texts
        restored = copy.copy(choice)
        restored.delta = delta = copy.copy(choice.delta)
        delta.reasoning_content = _piece(
            texts.reasoning, delta.reasoning_content, ends=bool(delta.content)
        )
        delta.content = _piece(texts.content, delta.content)
        if delta.title:
            delta.title = self._vault.restore(delta.title)
        if delta.function_call is not None:
            delta.function_call = _function(delta.function_call, texts.legacy)
        if delta.tool_calls:
            delta.tool_calls = [_call(call, texts) for call in delta.tool_calls]
        if choice.finish_reason is not None:
            _finish(delta, texts)
        return restored

    async def _heard(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        """A chunk as the redactors want the caller to see it."""
        heard = copy.copy(chunk)
        heard.choices = [copy.copy(choice) for choice in chunk.choices]
        for choice in heard.choices:
            choice.delta = delta = copy.copy(choice.delta)
            for field in ("reasoning_content", "content", "title"):
                if text := getattr(delta, field):
                    shown = await self._redaction.shown(text, self._vault)
                    setattr(delta, field, shown)
        return heard

    def _rest(self, index: int) -> ChatCompletionChunk | None:
        """A chunk of what is still held back when the stream ends or breaks."""
        delta = Delta()
        _finish(delta, self._texts[index])
        if self._head is None or delta == Delta():
            return None
        rest = copy.copy(self._head)
        rest.choices = [ChunkChoice(index=index, delta=delta)]
        rest.usage = None
        return rest


def _piece(restorer: Restorer, text: str | None, *, ends: bool = False) -> str | None:
    restored = restorer.feed(text) if text else ""
    if ends:
        restored += restorer.end()
    return restored or (text and "")


def _finish(delta: Delta, texts: _Texts) -> None:
    """Add what is still held back to the last delta."""
    if held := texts.reasoning.end():
        delta.reasoning_content = (delta.reasoning_content or "") + held
    if held := texts.content.end():
        delta.content = (delta.content or "") + held
    if held := texts.legacy.end():
        function = delta.function_call or FunctionCallDelta()
        function.arguments = (function.arguments or "") + held
        delta.function_call = function
    for index, restorer in texts.calls():
        if held := restorer.end():
            function = FunctionCallDelta(arguments=held)
            call = ToolCallDelta(index=index, function=function)
            delta.tool_calls = [*(delta.tool_calls or ()), call]


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
