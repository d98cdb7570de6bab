"""Chunks to typed events, without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

from .accumulate import ToolCallAssembler
from .types.chat import ChatCompletionChunk, Delta
from .types.events import (
    ChatEvent,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallFinished,
    UsageReported,
)
from .types.usage import Usage


class ChatEventMaker:
    """Makes the events of one stream.

    A tool call counts as finished when another begins or the answer ends: fragments
    may come in any order, but no server sends more to a call once that is so.
    """

    __slots__ = ("_finish_reason", "_open", "_title", "_tools", "_usage")

    def __init__(self) -> None:
        self._tools = ToolCallAssembler()
        self._open: set[int] = set()
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._title: str | None = None

    def events(self, chunk: ChatCompletionChunk) -> Iterator[ChatEvent]:
        """The events of one chunk."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices:
            yield from self._delta(choice.delta)
            if choice.finish_reason is not None:
                self._finish_reason = choice.finish_reason

    def _delta(self, delta: Delta) -> Iterator[ChatEvent]:
        if delta.reasoning_content:
            yield ReasoningDelta(text=delta.reasoning_content)
        if delta.content:
            yield TextDelta(text=delta.content)
        if delta.title is not None:
            self._title = delta.title
        for fragment in delta.tool_calls or ():
            place = self._tools.add(fragment)
            if place not in self._open:
                yield from self._finish_calls()
                self._open.add(place)
            call = self._tools.calls[place]
            arguments = fragment.function.arguments if fragment.function else None
            yield ToolCallArgumentsDelta(
                place=place,
                id=call.id,
                name=call.function.name,
                arguments=arguments or "",
            )

    def _finish_calls(self) -> Iterator[ChatEvent]:
        for place in sorted(self._open):
            yield ToolCallFinished(place=place, tool_call=self._tools.finished(place))
        self._open.clear()

    def end(self) -> Iterator[ChatEvent]:
        """The events of the stream's end."""
        yield from self._finish_calls()
        if self._usage is not None:
            yield UsageReported(usage=self._usage)
        yield Finished(finish_reason=self._finish_reason, title=self._title)
