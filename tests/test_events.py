"""Chunks to typed events."""

from __future__ import annotations

import json
from typing import Any

from recorded import body

from deepseek_async.chunks import PayloadReader
from deepseek_async.codec import CHAT_CHUNK
from deepseek_async.events import ChatEventMaker
from deepseek_async.types import (
    ChatEvent,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallFinished,
    UsageReported,
)


def of(*choices: dict[str, Any], **fields: Any) -> list[ChatEvent]:
    """The events of a stream of such choices."""
    payloads = [{"choices": [choice]} for choice in choices]
    payloads[-1].update(fields)
    return made([json.dumps(payload).encode() for payload in payloads])


def made(payloads: list[bytes]) -> list[ChatEvent]:
    maker = ChatEventMaker()
    events = [e for p in payloads for e in maker.events(CHAT_CHUNK.decode(p))]
    return events + list(maker.end())


def recorded_events(name: str) -> list[ChatEvent]:
    maker = ChatEventMaker()
    reader = PayloadReader(CHAT_CHUNK, max_event_size=100_000)
    events = [e for chunk in reader.feed(body(name)) for e in maker.events(chunk)]
    return events + list(maker.end())


def test_a_thinking_stream_reasons_then_speaks() -> None:
    """Empty deltas make no event; usage and the end come last."""
    events = recorded_events("chat_thinking.sse")

    assert [e.type for e in events] == [
        "reasoning_delta",
        "reasoning_delta",
        "text_delta",
        "text_delta",
        "usage",
        "finished",
    ]
    assert events[:3] == [
        ReasoningDelta(text="A"),
        ReasoningDelta(text=" greeting."),
        TextDelta(text="Grüß"),
    ]
    usage = events[-2]
    assert isinstance(usage, UsageReported)
    assert usage.usage.total_tokens == 13
    assert events[-1] == Finished(finish_reason="stop")


def test_a_tool_stream_ends_with_the_finished_call() -> None:
    """Each fragment is told as it comes, and the whole call once."""
    events = recorded_events("chat_tools.sse")

    pieces = [e.arguments for e in events if isinstance(e, ToolCallArgumentsDelta)]
    assert pieces == ["", '{"port":', ' "Brest"}']
    finished = [e for e in events if isinstance(e, ToolCallFinished)]
    assert len(finished) == 1
    assert finished[0].tool_call.function.arguments == '{"port": "Brest"}'
    assert finished[0].tool_call.id == "call_00_T1"
    assert events[-1] == Finished(finish_reason="tool_calls")


def test_a_call_is_finished_when_the_next_begins() -> None:
    """A tool can be started before the answer has ended."""
    calls: list[dict[str, Any]] = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 1, "id": "b", "function": {"name": "g"}},
        {"index": 1, "function": {"arguments": "[]"}},
        {"index": 1},
    ]
    events = of(*({"delta": {"tool_calls": [call]}} for call in calls))

    assert [(e.type, getattr(e, "place", None)) for e in events] == [
        ("tool_call_delta", 0),
        ("tool_call_finished", 0),
        ("tool_call_delta", 1),
        ("tool_call_delta", 1),
        ("tool_call_delta", 1),
        ("tool_call_finished", 1),
        ("finished", None),
    ]


def test_empty_lists_of_calls_are_nothing() -> None:
    """`tool_calls: []` between reasoning deltas makes no event."""
    events = of(
        {"delta": {"reasoning_content": "a", "tool_calls": []}},
        {"delta": {"tool_calls": []}},
        {"delta": {"reasoning_content": "b"}},
    )

    assert [e.type for e in events] == [
        "reasoning_delta",
        "reasoning_delta",
        "finished",
    ]


def test_text_beside_the_reason_comes_before_the_end() -> None:
    """The last chunk's text is told before the end is."""
    events = of({"delta": {"content": "x"}, "finish_reason": "length"})

    assert events == [TextDelta(text="x"), Finished(finish_reason="length")]


def test_the_title_comes_with_the_end() -> None:
    """A conversation's title is part of the last event."""
    events = of({"delta": {"content": "", "title": "T"}, "finish_reason": "stop"})

    assert events == [Finished(finish_reason="stop", title="T")]


def test_an_empty_stream_still_finishes() -> None:
    """The last event comes always, if only to say that there is no reason."""
    assert made([]) == [Finished(finish_reason=None)]
