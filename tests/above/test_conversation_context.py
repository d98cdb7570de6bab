"""Keeping a conversation within its context: dropping, summarizing, counting."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from deepseek_async import (
    APIStatusError,
    AsyncDeepSeek,
    ConfigurationError,
    ContextBudgetError,
    ContextLengthExceededError,
    Conversation,
    DropOldest,
    EstimatedTokens,
    KeepAll,
    MissingExtraError,
    PrefixDrift,
    Summarize,
    TokenCount,
    TokenizerFile,
    count_tokens,
    tool,
)
from deepseek_async.testing import Answer, Call, DeepSeekEmulator, Status

Body = dict[str, Any]
MODEL = "deepseek-flash"
QUICK = {"type": "disabled"}
FILL = "x" * 300  # 90 tokens by the estimate, 94 with the message around it


def sent(emulator: DeepSeekEmulator, number: int = -1) -> list[Body]:
    found: list[Body] = emulator.requests[number].body["messages"]
    return found


def long_answers(body: Body) -> str:
    if "Summarize" in str(body["messages"][0]["content"]):
        return "They talked about x."
    return FILL


async def talk(conversation: Conversation, turns: int) -> None:
    for number in range(turns):
        await conversation.send(f"{number}{FILL}")


async def test_oldest_exchanges_are_dropped_in_bulk(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Whole exchanges go, more than needed at once, so the prefix changes rarely."""
    emulator.answer = long_answers
    conversation = client.conversation(
        model=MODEL,
        system="Be brief.",
        context=DropOldest(limit=1_000, keep=0.5),
        thinking=QUICK,
    )
    drifts: list[PrefixDrift | None] = []
    for number in range(12):
        await conversation.send(f"{number}{FILL}")
        drifts.append(conversation.prefix_drift)
        assert conversation.tokens.tokens <= 1_000 + 94
        assert sent(emulator)[0] == {"role": "system", "content": "Be brief."}
        assert sent(emulator)[1]["role"] == "user"

    happened = [drift for drift in drifts if drift is not None]
    assert 1 <= len(happened) <= 4
    assert str(happened[0]) == "prefix changed at message 1 (content)"
    assert conversation.dropped + len(conversation.messages) // 2 == 12


async def test_calls_and_results_are_dropped_together(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """No tool message is ever left without the call it answers."""

    @tool
    def look(word: str) -> str:
        return word * 100

    def answer(body: Body) -> Answer | str:
        if body["messages"][-1]["role"] == "tool":
            return FILL
        return Answer(tool_calls=(Call("look", {"word": "abc"}),) * 2)

    emulator.answer = answer
    conversation = client.conversation(
        model=MODEL, context=DropOldest(limit=1_500), tools=[look]
    )
    await talk(conversation, 10)

    assert conversation.dropped > 0
    assert [m["role"] for m in conversation.messages[:3]] == [
        "user",
        "assistant",
        "tool",
    ]


async def test_one_exchange_that_is_too_long(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A question that does not fit even alone is a typed error; nothing is sent."""
    conversation = client.conversation(model=MODEL, context=DropOldest(limit=100))
    await conversation.send("Hi")

    with pytest.raises(ContextBudgetError) as caught:
        await conversation.send("x" * 1_000)

    assert (caught.value.tokens, caught.value.limit) == (304, 100)
    assert len(emulator.requests) == 1
    assert len(conversation.messages) == 2


async def test_keeping_all_lets_the_server_judge(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Without a policy the server's own error says that it is too long."""
    emulator.model.context_length = 300
    conversation = client.conversation(model=MODEL, context=KeepAll())

    with pytest.raises(ContextLengthExceededError):
        await conversation.send("x" * 2_000)


async def test_old_exchanges_become_a_summary(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The model sums up what is dropped; the next summary takes the last one in."""
    emulator.answer = long_answers
    conversation = client.conversation(
        model=MODEL,
        system="Be brief.",
        context=Summarize(limit=1_000, max_tokens=200),
        user_id="u1",
    )
    await talk(conversation, 12)

    summaries = [
        one.body
        for one in emulator.requests
        if "Summarize" in one.body["messages"][0]["content"]
    ]
    assert len(summaries) > 1
    assert summaries[0]["thinking"] == {"type": "disabled"}
    assert summaries[0]["max_tokens"] == 200
    assert summaries[0]["user_id"] == "u1"
    assert summaries[0]["messages"][1]["content"].startswith("user: 0xxx")
    assert "They talked about x." in summaries[1]["messages"][1]["content"]
    assert conversation.messages[:2] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "system",
            "content": "Summary of the conversation so far:\nThey talked about x.",
        },
    ]
    assert len(conversation.messages) == 2 + 2 * (12 - conversation.dropped)
    loaded = client.load_conversation(conversation.to_json())
    assert loaded.messages == conversation.messages


@pytest.mark.parametrize(
    "summary",
    [
        Answer(content="long " * 2_000),
        Answer(content=""),
        Answer(content="cut", finish_reason="length"),
        Answer(content="no", finish_reason="content_filter"),
    ],
    ids=["longer", "empty", "cut", "filtered"],
)
async def test_a_bad_summary_is_refused(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, summary: Answer
) -> None:
    """A summary longer than what it replaces, cut or empty, is thrown away."""

    def answer(body: Body) -> Answer | str:
        is_summary = "Summarize" in str(body["messages"][0]["content"])
        return summary if is_summary else FILL

    emulator.answer = answer
    conversation = client.conversation(
        model=MODEL, context=Summarize(limit=600, max_tokens=10_000), thinking=QUICK
    )
    fits: list[bool] = []
    for number in range(5):
        await conversation.send(f"{number}{FILL}")
        assert conversation.last_fit is not None
        fits.append(conversation.last_fit.is_summary_refused)

    assert True in fits
    assert conversation.dropped > 0
    assert all(message["role"] != "system" for message in conversation.messages)


async def test_a_failing_summary_fails_the_turn(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """An error while summarizing rolls the turn back; nothing is dropped silently."""
    emulator.answer = long_answers
    conversation = client.conversation(model=MODEL, context=Summarize(limit=600))
    await talk(conversation, 3)
    before = conversation.messages
    emulator.script(Status(status=500))

    with pytest.raises(APIStatusError):
        await conversation.send(FILL)

    assert conversation.messages == before
    assert conversation.dropped == 0


async def test_tools_and_parts_are_told_to_the_summarizer(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Calls, results and parts of a message appear in what is summed up."""
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "look", "arguments": '{"word": 1}'},
    }
    past: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See:"},
                {"type": "image_url", "image_url": {"url": "https://example.com/x"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "found"},
        {"role": "assistant", "content": "There."},
    ]
    emulator.answer = long_answers
    conversation = client.conversation(
        model=MODEL,
        messages=past,
        context=Summarize(limit=200, model="deepseek-v4-pro", instruction="Summarize!"),
    )
    await conversation.send(FILL)

    assert emulator.requests[0].body["model"] == "deepseek-v4-pro"
    assert sent(emulator, 0)[1]["content"] == (
        "user: See: [image_url]\n\n"
        'assistant: look({"word": 1})\n\n'
        "tool: found\n\n"
        "assistant: There."
    )


@pytest.mark.parametrize("policy", [DropOldest, Summarize])
def test_policies_make_sense(policy: Any) -> None:
    """Limits that could never work are refused at once."""
    for wrong in ({"limit": 0}, {"keep": 0}, {"keep": 1.5}):
        with pytest.raises(ConfigurationError):
            policy(**wrong)


async def test_tools_and_the_answer_take_their_room(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """What tools and `max_tokens` take is not there for the history."""
    conversation = client.conversation(model=MODEL)
    big = {
        "type": "function",
        "function": {"name": "f", "description": "d" * 3_400_000},
    }
    with pytest.raises(ContextBudgetError) as caught:
        await conversation.send(FILL, tools=[big], max_tokens=28_576)
    assert caught.value.limit < 94
    for effort, thinking, reserve in (
        ("low", None, 64 * 1024),
        ("max", None, 128 * 1024),
        (None, QUICK, 8 * 1024),
    ):
        with pytest.raises(ContextBudgetError) as caught:
            await conversation.send(
                "x" * 3_600_000, reasoning_effort=effort, thinking=thinking
            )
        assert caught.value.limit == 1_048_576 - reserve
    assert not emulator.requests


def test_estimates_follow_the_published_rule() -> None:
    """0.3 token per character, 0.6 per Chinese one, rounded up, and said to be so."""
    assert count_tokens("x" * 100) == TokenCount(tokens=30, method="estimate")
    assert count_tokens("汉" * 100) == TokenCount(tokens=60, method="estimate")
    assert EstimatedTokens().count("é汉") == 1
    assert EstimatedTokens().count("") == 0
    assert repr(EstimatedTokens()) == "EstimatedTokens()"


def test_messages_are_counted_with_everything_in_them() -> None:
    """Texts, calls, reasoning, images and the markers around a message all count."""
    messages: list[Body] = [
        {"role": "user", "content": "x" * 10},
        {"role": "assistant", "content": None, "reasoning_content": "y" * 100},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c" * 89}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x" * 10},
                {"type": "image_url", "image_url": {"url": "u"}},
            ],
        },
    ]
    counts = [count_tokens([message]).tokens for message in messages]

    assert counts == [4 + 3, 4 + 30, 4 + 30, 4 + 3 + 1_024]
    assert count_tokens(messages).tokens == sum(counts)


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A tokenizer that knows words; DeepSeek's own is not ours to ship."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


async def test_a_tokenizer_file_counts_exactly(
    client: AsyncDeepSeek, tokenizer_file: Path
) -> None:
    """With a tokenizer file counts are its counts, and say so."""
    counter = TokenizerFile(tokenizer_file)
    conversation = client.conversation(model=MODEL, tokens=counter, system="hello " * 7)

    assert count_tokens("hello big world", counter) == TokenCount(
        tokens=3, method="tokenizer"
    )
    assert conversation.tokens == TokenCount(tokens=11, method="tokenizer")
    assert "tokenizer.json" in repr(counter)
    assert str(tokenizer_file.parent) not in repr(counter)


def test_files_that_are_no_tokenizers(tmp_path: Path) -> None:
    """A missing file, or another one, is refused by name."""
    other = tmp_path / "other.json"
    other.write_text("{}")
    for path in (other, tmp_path / "missing.json"):
        with pytest.raises(ConfigurationError, match=path.name):
            TokenizerFile(path)


def test_exact_counts_name_their_extra(
    tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(MissingExtraError, match=r"deepseek-async\[tokenizer\]"):
        TokenizerFile(tokenizer_file)
