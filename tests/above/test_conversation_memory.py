"""Many conversations: memory is their histories and nothing beside."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from deepseek_async import (
    ChatCompletion,
    ChatCompletionMessage,
    Conversation,
    DropOldest,
    RoundFinished,
    TurnEvent,
    Usage,
)
from deepseek_async.types import Choice

CONVERSATIONS = 300
TURNS = 20
ANSWER = "An answer of about forty characters, " * 3


async def instant(
    params: Mapping[str, Any], *, stream: bool
) -> AsyncGenerator[TurnEvent, None]:
    """Answer at once, without a wire: 6,000 turns are to take seconds."""
    assert not stream
    # Every answer is an object of its own, as one off the wire is.
    text = f"{ANSWER}{len(params['messages'])}"
    message = ChatCompletionMessage(content=text, reasoning_content="Hm.")
    completion = ChatCompletion(
        choices=[Choice(message=message, finish_reason="stop")],
        usage=Usage(prompt_tokens=9, completion_tokens=9, total_tokens=18),
    )
    plain = {"role": "assistant", "content": text, "reasoning_content": "Hm."}
    yield RoundFinished(number=1, completion=completion, messages=(plain,))


async def take_turns(conversations: list[Conversation], turns: int) -> None:
    for number in range(turns):
        for conversation in conversations:
            await conversation.send(f"Question number {number} of a conversation")


def made(count: int) -> list[Conversation]:
    return [Conversation(instant, model="deepseek-flash") for _ in range(count)]


def histories(conversations: list[Conversation]) -> int:
    """The bytes that the messages alone take, as Python holds them."""
    return sum(
        sys.getsizeof(message) + sum(map(sys.getsizeof, message.values()))
        for conversation in conversations
        for message in conversation._transcript.messages
    )


async def test_memory_is_the_histories() -> None:
    """300 conversations of 20 turns take little more than their own messages."""
    await take_turns(made(5), 3)  # what is made once, is made
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        conversations = made(CONVERSATIONS)
        await take_turns(conversations, TURNS)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        messages = histories(conversations)
        assert len(conversations[0].messages) == 2 * TURNS
        assert taken < 1.6 * messages, (taken, messages)

        del conversations
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
        assert left < messages / 50, (left, messages)
    finally:
        tracemalloc.stop()


async def test_a_bounded_conversation_does_not_grow() -> None:
    """Under a limit, 500 turns take no more memory than 100."""
    conversation = Conversation(
        instant, model="deepseek-flash", context=DropOldest(limit=2_000)
    )
    sizes: list[int] = []
    for _ in range(5):
        await take_turns([conversation], 100)
        sizes.append(len(conversation.to_json()))

    assert max(sizes) < 2 * min(sizes)
    assert conversation.dropped > 400
