"""Messages of every form as plain values, and histories taken apart."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest

from deepseek_async import (
    AssistantMessage,
    AsyncDeepSeek,
    ChatCompletionMessage,
    FunctionCall,
    ImagePart,
    ImageURL,
    InvalidRequestError,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    find_missing_reasoning,
)
from deepseek_async.history import plain_message
from deepseek_async.testing import DeepSeekEmulator

CALL = ToolCall(id="c", function=FunctionCall(name="f", arguments="{}"))
PLAIN_CALL = {
    "id": "c",
    "type": "function",
    "function": {"name": "f", "arguments": "{}"},
}


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        ({"role": "user", "content": "x"}, {"role": "user", "content": "x"}),
        (UserDict(role="user", content="x"), {"role": "user", "content": "x"}),
        (SystemMessage(content="x"), {"role": "system", "content": "x"}),
        (
            UserMessage(content=[ImagePart(image_url=ImageURL(url="u"))]),
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "u"}}],
            },
        ),
        (
            AssistantMessage(content=None, tool_calls=[CALL]),
            {"role": "assistant", "content": None, "tool_calls": [PLAIN_CALL]},
        ),
        (
            {"role": "assistant", "tool_calls": (CALL,)},
            {"role": "assistant", "tool_calls": [PLAIN_CALL]},
        ),
        (
            ChatCompletionMessage(content="x", reasoning_content="y"),
            {"role": "assistant", "content": "x", "reasoning_content": "y"},
        ),
        (
            {"role": "assistant", "content": "x", "tool_calls": None},
            {"role": "assistant", "content": "x", "tool_calls": None},
        ),
    ],
    ids=["dict", "mapping", "struct", "parts", "calls", "dict-calls", "answer", "none"],
)
def test_every_form_of_message_is_a_plain_one(message: Any, plain: object) -> None:
    """Dicts, mappings, structs and answers become JSON values of their own."""
    made = plain_message(message)

    assert made == plain
    assert made is not message


@pytest.mark.parametrize(
    "wrong", ["text", 3, None, {}, {"role": 1}, {"role": "user", "content": object()}]
)
def test_what_is_no_message_is_refused(wrong: Any) -> None:
    """Anything but JSON with a role is refused, without quoting it."""
    with pytest.raises(InvalidRequestError, match="must be JSON with a role"):
        plain_message(wrong)


async def test_a_history_begins_anywhere(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Any history can be gone on with; reminders stay with their message."""
    past: list[Any] = [
        SystemMessage(content="Be brief."),
        {"role": "assistant", "content": "How can I help?"},
        {"role": "latest_reminder", "content": "2026-11-20,Friday,,Web,English"},
        UserMessage(content="One"),
        AssistantMessage(content=None, reasoning_content="r", tool_calls=[CALL]),
        ToolMessage(content="done", tool_call_id="c"),
        ChatCompletionMessage(content="Two", reasoning_content="r"),
    ]
    conversation = client.conversation(model="deepseek-flash", messages=past)
    await conversation.send("Three")

    assert repr(conversation).endswith("3 exchanges)")
    sent = emulator.requests[-1].body["messages"]
    assert [m["role"] for m in sent] == [
        "system",
        "assistant",
        "latest_reminder",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert find_missing_reasoning(sent, [1]) == (1,)
    assert "One" not in repr(conversation._transcript)
    assert "One" not in repr(conversation._transcript.exchanges)
