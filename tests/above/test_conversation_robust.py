"""Conversations with odd arguments, odd answers and damaged files."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from deepseek_async import (
    AsyncDeepSeek,
    ConfigurationError,
    InvalidRequestError,
    RefusedAnswerError,
    Resume,
    SavedConversationError,
    StreamClosedError,
    StreamInUseError,
    Summarize,
    count_tokens,
    tool,
)
from deepseek_async.testing import Answer, DeepSeekEmulator, Delay

MODEL = "deepseek-flash"
SEARCH = {"type": "deepseek_web_search"}
SEARCHED = {
    "tool_calls": [
        {
            "index": 0,
            "id": "w1",
            "type": "deepseek_web_search",
            "function": {"name": "deepseek_web_search", "arguments": '{"q": 1}'},
        }
    ]
}


@tool
async def get_weather(city: str) -> int:
    """Weather by city."""
    return len(city)


async def test_tools_as_an_iterator(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Tools from an iterator are in every turn, be they the conversation's or not."""
    conversation = client.conversation(model=MODEL, tools=iter([get_weather]))
    for _ in range(2):
        await conversation.send("hi")
        assert len(emulator.requests[-1].body["tools"]) == 1
    await conversation.send("hi", tools=(one for one in [get_weather, SEARCH]))
    assert len(emulator.requests[-1].body["tools"]) == 2


async def test_a_call_the_server_made_waits_for_nobody(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A call of the server's own is kept in the history and is not pending."""
    said = iter([Answer(content="It rains.", extra=SEARCHED), Answer(content="Bye.")])
    emulator.answer = lambda _: next(said)
    conversation = client.conversation(model=MODEL, tools=[SEARCH])
    await conversation.send("weather?")
    assert conversation.pending == ()
    assert conversation.messages[-1]["tool_calls"][0]["id"] == "w1"


async def test_a_refused_answer_does_not_count(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A refusal raises and leaves the history as it was."""
    emulator.answer = lambda _: Answer(content="no", extra={"refusal": "no"})
    conversation = client.conversation(model=MODEL)
    with pytest.raises(RefusedAnswerError):
        await conversation.send("x")
    assert conversation.messages == []


async def test_a_saved_conversation_with_a_resume_policy(client: AsyncDeepSeek) -> None:
    """The policy is not in the file; the loaded conversation streams."""
    conversation = client.conversation(model=MODEL, resume=Resume(limit=2))
    await conversation.send("x")
    loaded = client.load_conversation(conversation.to_json())
    async with loaded.stream("y") as turn:
        assert (await turn.turn()).text
    assert b"resume" not in loaded.to_json()


async def test_two_readers_of_one_turn(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A second reader is refused by name; the first reads on."""
    emulator.script(Delay(seconds=0.2))
    async with client.conversation(model=MODEL).stream("x") as turn:
        reader = asyncio.create_task(turn.turn())
        await asyncio.sleep(0)
        with pytest.raises(StreamInUseError):
            await anext(turn)
        assert (await reader).text


async def test_a_turn_closed_by_another_task(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Closing ends the reader's wait with an error of its own, not a cancellation."""
    emulator.script(Delay(seconds=30))
    conversation = client.conversation(model=MODEL)
    turn = conversation.stream("x")

    async def read() -> str:
        with pytest.raises(StreamClosedError):
            await turn.turn()
        await asyncio.sleep(0)  # a task left cancelled would end here
        return "goes on"

    reader = asyncio.create_task(read())
    await emulator_has_request(emulator)
    await turn.aclose()
    assert await reader == "goes on"
    assert reader.cancelling() == 0
    assert (await conversation.send("y")).text


async def emulator_has_request(emulator: DeepSeekEmulator) -> None:
    async with asyncio.timeout(5):
        while not emulator.requests:  # noqa: ASYNC110 - the emulator tells nobody
            await asyncio.sleep(0.01)


async def test_a_cancelled_reader_stays_cancelled(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A cancellation of the reader itself is not taken for a closing."""
    emulator.script(Delay(seconds=30))
    turn = client.conversation(model=MODEL).stream("x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await turn.turn()
    with pytest.raises(StreamClosedError):
        await turn.turn()


async def test_leaving_the_text_of_a_turn_frees_the_conversation(
    client: AsyncDeepSeek,
) -> None:
    """Leaving `text()` early takes the turn back, without `async with`."""
    conversation = client.conversation(model=MODEL)
    async with aclosing(conversation.stream("x").text()) as texts:
        async for _ in texts:
            break
    assert conversation.messages == []
    assert (await conversation.send("y")).text


DAMAGED: list[Any] = [
    {"role": "user", "content": ["a"]},
    {"role": "user", "content": [1]},
    {"role": "user", "content": 5},
    {"role": "user", "content": [{"type": "text", "text": 5}]},
    {"role": "assistant", "content": "", "tool_calls": [{}]},
    {"role": "assistant", "content": "", "tool_calls": 5},
    {"role": "assistant", "tool_calls": [{"id": "a", "function": 5}]},
    {"role": "tool", "tool_call_id": ["a"], "content": "x"},
    {"role": 5},
]


@pytest.mark.parametrize("message", DAMAGED)
async def test_misshapen_messages(client: AsyncDeepSeek, message: Any) -> None:
    """A message that cannot be read is refused at once, given or from a file."""
    with pytest.raises(InvalidRequestError):
        client.conversation(model=MODEL, messages=[message])
    data = msgspec.json.encode({"version": 1, "model": MODEL, "exchanges": [[message]]})
    with pytest.raises(SavedConversationError):
        client.load_conversation(data)


@pytest.mark.parametrize("system", [5, [5], b"x"])
async def test_instructions_that_are_no_text(
    client: AsyncDeepSeek, system: Any
) -> None:
    """Instructions of the wrong type are refused at once."""
    with pytest.raises(InvalidRequestError):
        client.conversation(model=MODEL, system=system)


async def test_a_context_that_is_no_policy(client: AsyncDeepSeek) -> None:
    """What cannot fit a history is refused at once."""
    wrong: Any = 5
    with pytest.raises(ConfigurationError, match="context"):
        client.conversation(model=MODEL, context=wrong)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tokens": 5}, "tokens are counted by a counter"),
        ({"tokens": "tokenizer.json"}, "tokens are counted by a counter"),
        ({"policy": 5}, "policy must be a ToolPolicy"),
        ({"policy": 0}, "policy must be a ToolPolicy"),
        ({"lost_reasoning": "x"}, "lost_reasoning must be 'refuse' or 'empty'"),
        ({"lost_reasoning": ["empty"]}, "lost_reasoning must be"),
    ],
)
async def test_helpers_of_the_wrong_kind(
    client: AsyncDeepSeek, options: dict[str, Any], told: str
) -> None:
    """They are refused when the conversation begins, new or loaded."""
    saved = client.conversation(model=MODEL).to_json()

    with pytest.raises(ConfigurationError, match=told):
        client.conversation(model=MODEL, **options)
    with pytest.raises(ConfigurationError, match=told):
        client.load_conversation(saved, **options)


def test_text_is_no_counter() -> None:
    """Counting asks for a counter too."""
    wrong: Any = "tokenizer.json"
    with pytest.raises(ConfigurationError, match="TokenizerFile"):
        count_tokens("Hello", wrong)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stream": True}, r"for a stream, call stream\(\.\.\.\)"),
        ({"model": "other"}, "set conversation.model"),
        ({"messages": [{"role": "user", "content": "x"}]}, "keeps the history"),
    ],
)
async def test_what_a_turn_does_not_take(
    client: AsyncDeepSeek,
    emulator: DeepSeekEmulator,
    options: dict[str, Any],
    told: str,
) -> None:
    """Arguments that would have no effect are refused, and nothing is sent."""
    conversation = client.conversation(model=MODEL)

    with pytest.raises(InvalidRequestError, match=told):
        await conversation.send("Hello", **options)
    with pytest.raises(InvalidRequestError, match=told):
        await conversation.stream("Hello", **options).turn()
    with pytest.raises(InvalidRequestError, match=told):
        client.load_conversation(conversation.to_json(), **options)
    assert not emulator.requests
    await conversation.send("Hello")
    assert len(emulator.requests) == 1


async def test_a_conversation_is_streamed_by_its_method(client: AsyncDeepSeek) -> None:
    """`stream=True` as an option of a conversation is refused at once."""
    options: dict[str, Any] = {"stream": True}
    with pytest.raises(InvalidRequestError, match="call stream"):
        client.conversation(model=MODEL, **options)


@pytest.mark.parametrize("name", ["stream", "messages", "model", "nonsense"])
async def test_options_that_are_none(client: AsyncDeepSeek, name: str) -> None:
    """A file with an option that no conversation has is refused."""
    data = msgspec.json.encode({"version": 1, "model": MODEL, "options": {name: True}})
    with pytest.raises(SavedConversationError, match=name):
        client.load_conversation(data)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": 5},
        {"tools": [object()]},
        {"max_tokens": "x"},
        {"reasoning_effort": []},
    ],
)
async def test_options_of_the_wrong_type(
    client: AsyncDeepSeek, options: dict[str, Any]
) -> None:
    """A turn's options of the wrong type are refused as `create` refuses them."""
    conversation = client.conversation(model=MODEL)
    with pytest.raises(InvalidRequestError):
        await conversation.send("x", **options)
    assert conversation.messages == []


@pytest.mark.parametrize(
    "messages", [[5], 5, [{"role": "user", "content": ["a"]}], [{"name": object()}]]
)
def test_counting_what_is_no_message(messages: Any) -> None:
    """What cannot be counted is refused by name."""
    with pytest.raises(InvalidRequestError):
        count_tokens(messages)


async def test_a_history_too_long_to_be_summarized(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Where the summarizing model cannot take the past either, it is dropped."""
    emulator.model.context_length = 800
    past: list[Any] = [{"role": "user", "content": "x " * 150} for _ in range(20)]
    policy = Summarize(limit=1_000, keep=0.2, max_tokens=100)
    conversation = client.conversation(
        model=MODEL, messages=past, context=policy, thinking={"type": "disabled"}
    )
    assert (await conversation.send("y", max_tokens=50)).text
    assert conversation.last_fit is not None
    assert conversation.last_fit.is_summary_refused
    assert conversation.dropped > 10
    assert len(emulator.requests) == 2
