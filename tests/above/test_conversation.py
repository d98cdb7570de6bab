"""Conversations against the emulator: turns, roll-back, forks, files, tools."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from deepseek_async import (
    APIStatusError,
    AsyncDeepSeek,
    ContentFilterFinishError,
    ContextPolicy,
    Conversation,
    ConversationBusyError,
    EmptyAnswerError,
    Fit,
    FunctionTool,
    InvalidRequestError,
    MissingReasoningError,
    PrefixDrift,
    Room,
    RoundFinished,
    SavedConversationError,
    StreamClosedError,
    StreamInterruptedError,
    TextDelta,
    TextPart,
    ToolCallsPendingError,
    ToolEnded,
    ToolRoundsExceededError,
    Transcript,
    find_missing_reasoning,
    find_prefix_drift,
    tool,
)
from deepseek_async.testing import Answer, Call, Cut, DeepSeekEmulator, Status

Body = dict[str, Any]
MODEL = "deepseek-flash"
QUICK = {"type": "disabled"}
EXTERNAL = {"type": "function", "function": {"name": "ask_human"}}


@tool
async def get_weather(city: str) -> dict[str, int]:
    """Weather by city."""
    return {"celsius": len(city)}


def saying(*answers: Answer | str) -> Callable[[Body], Answer | str]:
    said: Iterator[Answer | str] = iter(answers)
    return lambda _: next(said)


def calling(*calls: Call) -> Answer:
    return Answer(tool_calls=calls)


def sent(emulator: DeepSeekEmulator, number: int = -1) -> list[Body]:
    found: list[Body] = emulator.requests[number].body["messages"]
    return found


async def test_two_rounds_send_what_the_guide_shows(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The second request holds the first question and its answer."""
    emulator.answer = saying(
        "The highest mountain in the world is Mount Everest.", "K2."
    )
    conversation = client.conversation(model=MODEL, thinking=QUICK)

    first = await conversation.send("What's the highest mountain in the world?")
    second = await conversation.send("What is the second?")

    assert first.text == "The highest mountain in the world is Mount Everest."
    assert second.text == "K2."
    assert sent(emulator) == [
        {"role": "user", "content": "What's the highest mountain in the world?"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "What is the second?"},
    ]
    assert [m["role"] for m in conversation.messages] == ["user", "assistant"] * 2
    assert conversation.usage.total_tokens == sum(
        one.usage.total_tokens for one in (first, second) if one.usage
    )
    assert repr(conversation) == "Conversation('deepseek-flash', 2 exchanges)"


async def test_reasoning_and_unknown_fields_go_back(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Answers go back as they came, reasoning and fields nobody knows included."""
    emulator.answer = saying(
        Answer(content="a", reasoning="why", extra={"blocks": [{"n": 1}]}), "b"
    )
    conversation = client.conversation(model=MODEL, system=["One.", "Two."])
    await conversation.send("Hello")
    await conversation.send([TextPart(text="And"), {"type": "text", "text": "now?"}])

    assert sent(emulator)[:2] == [
        {"role": "system", "content": "One."},
        {"role": "system", "content": "Two."},
    ]
    assert sent(emulator)[3] == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "why",
        "blocks": [{"n": 1}],
    }
    assert sent(emulator)[4]["content"] == [
        {"text": "And", "type": "text"},
        {"type": "text", "text": "now?"},
    ]


async def test_three_thinking_rounds_with_tools(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Three turns with tools in thinking mode pass the server's reasoning rule."""
    emulator.answer = saying(
        "Hello.",
        calling(Call("get_weather", {"city": "Oslo"})),
        "Four.",
        calling(Call("get_weather", {"city": "Rome"})),
        calling(Call("get_weather", {"city": "Lima"})),
        "Four and four.",
    )
    conversation = client.conversation(model=MODEL, tools=[get_weather])

    assert (await conversation.send("Hi")).text == "Hello."
    assert (await conversation.send("Weather in Oslo?")).text == "Four."
    assert (await conversation.send("In Rome and Lima?")).text == "Four and four."

    assert [m["role"] for m in conversation.messages] == [
        *("user", "assistant"),
        *("user", "assistant", "tool", "assistant"),
        *("user", "assistant", "tool", "assistant", "tool", "assistant"),
    ]
    assert not find_missing_reasoning(conversation.messages, [get_weather])
    assert conversation.prefix_drift is None
    assert conversation.usage.cached_tokens > 0


async def test_lost_reasoning_is_refused_or_filled(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A history without reasoning is refused before the server does, or filled."""
    past = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]
    strict = client.conversation(model=MODEL, messages=past, tools=[get_weather])
    with pytest.raises(MissingReasoningError):
        await strict.send("Weather?")
    assert not emulator.requests

    filling = client.conversation(
        model=MODEL, messages=past, tools=[get_weather], lost_reasoning="empty"
    )
    await filling.send("How are you?")

    assert sent(emulator)[1]["reasoning_content"] == ""


async def test_thinking_switched_on_later(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A turn without thinking leaves no reasoning for a later one to send back."""
    conversation = client.conversation(model=MODEL, tools=[get_weather])
    emulator.answer = lambda _: "ok"
    await conversation.send("Quick", thinking=QUICK)

    with pytest.raises(MissingReasoningError):
        await conversation.send("Now think")
    await conversation.send("Quick again", reasoning_effort="none")

    assert len(conversation.messages) == 4


async def send(conversation: Conversation, text: str) -> None:
    await conversation.send(text)


async def stream(conversation: Conversation, text: str) -> None:
    async with conversation.stream(text) as turn:
        await turn.turn()


@pytest.mark.parametrize("take", [send, stream])
async def test_a_failed_turn_is_rolled_back(
    client: AsyncDeepSeek,
    emulator: DeepSeekEmulator,
    take: Callable[[Conversation, str], Awaitable[None]],
) -> None:
    """After an error the history is as before, and the next turn works."""
    conversation = client.conversation(model=MODEL)
    await conversation.send("One")
    before = conversation.messages

    emulator.script(Cut(events=5) if take is stream else Status(status=500))
    with pytest.raises((APIStatusError, StreamInterruptedError)):
        await take(conversation, "Two")

    assert conversation.messages == before
    await conversation.send("Three")
    assert [m["content"] for m in conversation.messages[::2]] == ["One", "Three"]


async def test_a_turn_that_fails_in_its_tools_is_rolled_back(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A tool loop that does not end leaves no half of a turn behind."""
    emulator.answer = lambda _: calling(Call("get_weather", {"city": "Oslo"}))
    conversation = client.conversation(model=MODEL, tools=[get_weather])

    with pytest.raises(ToolRoundsExceededError):
        await conversation.send("Weather?")

    assert conversation.messages == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(content="", reasoning="hm"), EmptyAnswerError),
        (
            Answer(content="x", finish_reason="content_filter"),
            ContentFilterFinishError,
        ),
    ],
    ids=["empty", "filtered"],
)
async def test_refused_and_empty_answers_do_not_count(
    client: AsyncDeepSeek,
    emulator: DeepSeekEmulator,
    answer: Answer,
    error: type[Exception],
) -> None:
    """An answer that would spoil the history raises and is not part of it."""
    emulator.answer = lambda _: answer
    conversation = client.conversation(model=MODEL)

    with pytest.raises(error):
        await conversation.send("Hi")

    assert conversation.messages == []


async def test_a_cut_answer_counts(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """An answer cut by `max_tokens` is returned and kept."""
    emulator.answer = lambda _: "word " * 50
    conversation = client.conversation(model=MODEL, thinking=QUICK)

    answer = await conversation.send("Hi", max_tokens=5)

    assert answer.finish_reason == "length"
    assert conversation.messages[-1]["content"] == answer.text


async def test_streamed_turns(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A streamed turn shows text and tools, and ends in the history."""
    emulator.answer = saying(
        "Hello there.", calling(Call("get_weather", {"city": "Oslo"})), "Four."
    )
    conversation = client.conversation(model=MODEL, tools=[get_weather])

    async with conversation.stream("Hi") as turn:
        text = "".join([piece async for piece in turn.text()])
    async with conversation.stream("Weather?") as turn:
        kinds = {type(event) async for event in turn}

    assert text == "Hello there."
    assert {TextDelta, ToolEnded, RoundFinished} <= kinds
    assert turn.so_far.text == "Four."
    assert len(conversation.messages) == 6


async def test_a_stream_left_early_is_taken_back(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Leaving a stream rolls the turn back and frees the conversation."""
    conversation = client.conversation(model=MODEL)
    async with conversation.stream("Hi") as turn:
        async for _ in turn.text():
            break

    assert conversation.messages == []
    with pytest.raises(StreamClosedError):
        await turn.turn()
    await conversation.send("Again")
    await emulator.idle()


async def test_a_stream_dropped_without_closing(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Even a stream nobody closes frees the conversation and its connection."""
    emulator.pace = msgspec.structs.replace(emulator.pace, tokens_per_second=20.0)
    conversation = client.conversation(model=MODEL)
    async for _ in conversation.stream("Hi"):
        break
    async with asyncio.timeout(5):
        await emulator.idle()

    emulator.pace = msgspec.structs.replace(emulator.pace, tokens_per_second=0.0)
    await conversation.send("Again")
    assert len(conversation.messages) == 2


async def test_cancelling_a_turn_takes_it_back(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A cancelled turn leaves history and conversation as they were."""
    emulator.pace = msgspec.structs.replace(emulator.pace, queue=60.0)
    conversation = client.conversation(model=MODEL)
    task = asyncio.create_task(conversation.send("Hi"))
    await emulator.busy()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    emulator.pace = msgspec.structs.replace(emulator.pace, queue=0.0)
    await conversation.send("Hi")
    assert len(conversation.messages) == 2


async def test_one_turn_at_a_time(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A second turn, an undo and a result are refused while a turn is under way."""
    conversation = client.conversation(model=MODEL)
    async with conversation.stream("Hi") as turn:
        await anext(turn)
        with pytest.raises(ConversationBusyError):
            await conversation.send("Me too")
        with pytest.raises(ConversationBusyError):
            conversation.undo()
        with pytest.raises(ConversationBusyError):
            conversation.add_tool_result("x", "y")
        await turn.turn()

    assert len(conversation.messages) == 2
    assert len(emulator.requests) == 1


async def test_forks_share_the_past_only(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Both branches begin alike, go their own ways, and hit the same prefix."""
    conversation = client.conversation(model=MODEL, system="Be brief.")
    await conversation.send("Root")
    branch = conversation.fork()

    await asyncio.gather(conversation.send("Left"), branch.send("Right"))

    left, right = conversation.messages, branch.messages
    assert left[:3] == right[:3]
    assert (left[3]["content"], right[3]["content"]) == ("Left", "Right")
    assert branch.prefix_drift is None
    assert branch.usage != conversation.usage
    assert len(emulator.requests) == 3


async def test_undo_takes_the_last_exchange_back(client: AsyncDeepSeek) -> None:
    """An exchange can be taken back until there is none."""
    conversation = client.conversation(model=MODEL, system="Be brief.")
    await conversation.send("One")

    assert conversation.undo()
    assert not conversation.undo()
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]


async def test_the_history_cannot_be_changed_from_outside(
    client: AsyncDeepSeek,
) -> None:
    """What goes in and comes out are copies."""
    parts = [{"type": "text", "text": "Hi"}]
    conversation = client.conversation(model=MODEL)
    await conversation.send(parts)
    parts[0]["text"] = "changed"
    conversation.messages[0]["content"] = "changed"

    assert conversation.messages[0]["content"] == [{"type": "text", "text": "Hi"}]


async def test_saved_and_loaded(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A loaded conversation goes on with the same bytes, and the file has no key."""
    emulator.answer = lambda _: Answer(content="ok", extra={"blocks": [1, {"a": "ü"}]})
    conversation = client.conversation(
        model=MODEL,
        system="Be brief.",
        tools=[get_weather],
        reasoning_effort="low",
        extra_headers={"X-Secret": "hush"},
        tag="mine",
    )
    await conversation.send("One")
    data = conversation.to_json()
    await conversation.send("Two")

    loaded = client.load_conversation(data, tools=[get_weather])
    await loaded.send("Two")

    assert emulator.requests[-1].body == emulator.requests[-2].body
    assert emulator.requests[-1].body["reasoning_effort"] == "low"
    assert loaded.messages == conversation.messages
    for secret in (emulator.api_key, "hush", "X-Secret", "mine", "get_weather"):
        assert secret not in data.decode()
    assert loaded.usage.total_tokens == conversation.usage.total_tokens


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 9, "model": "m"}',
        b'{"version": 1, "model": "m", "exchanges": [[{"content": "x"}]]}',
        b'{"version": 1, "model": "m", "exchanges": [["x"]]}',
        b'{"version": 1, "model": "m", "options": {"extra_headers": {}}}',
        b"\xff",
        b"[" * 9_999,
    ],
)
def test_files_that_are_no_conversations(data: bytes) -> None:
    """Anything but a saved conversation is refused with one typed error."""
    with pytest.raises(SavedConversationError, match="no saved conversation"):
        Conversation.from_json(data, _nobody)


def _nobody(params: Any, *, stream: bool) -> Any:
    raise NotImplementedError


def test_options_that_cannot_be_saved() -> None:
    """An option that is no JSON is refused when saving."""
    conversation = Conversation(_nobody, model=MODEL, options={"stop": object()})

    with pytest.raises(InvalidRequestError, match="cannot be saved"):
        conversation.to_json()


async def test_results_of_functions_run_elsewhere(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Calls that the caller answers go back in the calls' order, saved or not."""
    emulator.answer = saying(
        calling(
            Call("ask_human", {"q": 1}, id="c1"),
            Call("get_weather", {"city": "Oslo"}, id="c2"),
            Call("ask_human", {"q": 2}, id="c3"),
        ),
        "Thanks.",
    )
    conversation = client.conversation(model=MODEL, tools=[get_weather, EXTERNAL])
    answer = await conversation.send("Ask")

    assert answer.finish_reason == "tool_calls"
    assert conversation.pending == ("c1", "c3")
    with pytest.raises(ToolCallsPendingError) as caught:
        await conversation.send("Well?")
    assert caught.value.call_ids == ("c1", "c3")
    conversation.add_tool_result("c3", "three")
    with pytest.raises(ToolCallsPendingError):
        conversation.add_tool_result("c9", "nine")
    data = conversation.to_json()
    loaded = client.load_conversation(data, tools=[get_weather, EXTERNAL])
    assert list(loaded.pending) == ["c1"]
    loaded.add_tool_result("c1", "one")
    end = await loaded.send()

    assert end.text == "Thanks."
    results = [m for m in sent(emulator) if m["role"] == "tool"]
    assert {m["tool_call_id"]: m["content"] for m in results} == {
        "c1": "one",
        "c2": '{"celsius":4}',
        "c3": "three",
    }
    assert not loaded.pending
    assert len(loaded.messages) == 6


async def test_nothing_to_send(client: AsyncDeepSeek) -> None:
    """A turn without content and without results is refused."""
    with pytest.raises(InvalidRequestError, match="nothing to send"):
        await client.conversation(model=MODEL).send()


async def test_reminders_come_before_their_message(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """User metadata stands right before the message it describes, each round."""
    conversation = client.conversation(model=MODEL)
    reminder = "2026-11-20,Friday,Singapore,Web,English"
    await conversation.send("One", reminder=reminder)
    await conversation.send("Two", reminder=reminder)

    roles = [message["role"] for message in sent(emulator)]
    assert roles == ["latest_reminder", "user", "assistant", "latest_reminder", "user"]
    assert conversation.undo()
    assert len(conversation.messages) == 3


async def test_prefix_drift_is_named(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A changed tool, user or model is named as what the cache missed for."""
    conversation = client.conversation(model=MODEL)
    await conversation.send("One")
    await conversation.send("Two")
    assert not conversation.prefix_drift
    await conversation.send("Three", user_id="u2")
    assert conversation.prefix_drift == PrefixDrift(part="user_id")
    assert str(conversation.prefix_drift) == "prefix changed: user_id"
    await conversation.send("Four", user_id="u2", tools=[get_weather])
    assert conversation.prefix_drift == PrefixDrift(part="tools")
    conversation.model = "deepseek-v4-pro"
    await conversation.send("Five", user_id="u2", tools=[get_weather])
    assert conversation.prefix_drift == PrefixDrift(part="model")
    assert emulator.requests


def test_prefix_drift_between_any_two_requests() -> None:
    """The first message that differs is named, with the field."""
    before: Body = {
        "model": MODEL,
        "messages": [{"role": "system", "content": f"m{i}"} for i in range(5)],
    }
    longer = {**before, "messages": [*before["messages"], {"role": "user"}]}
    changed = {**before, "messages": [dict(m) for m in before["messages"]]}
    changed["messages"][3]["content"] = "today is Friday"
    drift = find_prefix_drift(before, changed)

    assert find_prefix_drift(before, longer) is None
    assert find_prefix_drift(longer, before) is None
    assert drift == PrefixDrift(part="message", index=3, field="content")
    assert str(drift) == "prefix changed at message 3 (content)"
    struct = FunctionTool(function={"name": "f"})
    assert find_prefix_drift({"tools": [struct]}, {"tools": [struct]}) is None
    assert find_prefix_drift({"tools": [struct]}, {"tools": None}) == PrefixDrift(
        part="tools"
    )


class Halve:
    """A policy of one's own."""

    async def fit(self, transcript: Transcript, room: Room) -> Fit:
        count = len(transcript.exchanges) // 2
        assert room.method == "estimate"
        return Fit(transcript=transcript.without_oldest(count), dropped=count)


async def test_a_policy_of_ones_own(client: AsyncDeepSeek) -> None:
    """Any object with a `fit` method can be the policy."""
    policy: ContextPolicy = Halve()
    conversation = client.conversation(model=MODEL, context=policy)
    for text in ("One", "Two", "Three"):
        await conversation.send(text)

    assert conversation.dropped == 2
    assert conversation.messages[0]["content"] == "Three"
