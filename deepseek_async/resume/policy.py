"""Whether and how an answer that was cut off can be continued.

Chat Prefix Completion goes on from a beginning: the text received so far is sent back
as an assistant message with `prefix`, its reasoning beside it, and the model writes
the rest. https://api-docs.deepseek.com/guides/chat_prefix_completion
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..errors import ConfigurationError
from ..types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from ..types.usage import CompletionTokensDetails, PromptTokensDetails, Usage

_encoder: Final = msgspec.json.Encoder()


class Resume(Struct, frozen=True, kw_only=True):
    """How a stream survives the death of its connection.

        stream = await client.chat.completions.create(
            ..., stream=True, resume=Resume(limit=5)
        )

    The stream goes on where it was cut, without a seam, through Chat Prefix
    Completion. That is not possible once the answer holds tool calls or fields this
    library does not know, in JSON mode, when `max_tokens` is used up, and when the
    server refuses it. Then the answer is begun anew if that cannot deceive the
    reader: none of it has been shown yet, or the reader takes `completion()`, or
    `events()`, where a `Resumed` event says so. Otherwise the error is raised.

    Only failures that the call's `RetryPolicy` would repeat are survived, with its
    waits, and each resume is paid from the client's retry budget. Clocks that run out
    amid the answer are this policy's own affair: nothing received is lost by them.

    The server bills every part. It never says how much a part came to that was cut
    off, so the answer's `usage` is the last part's count plus an estimate of those
    before it: their prompt by that of the last part, all of it as a cache miss, and
    a token of output a chunk.

    Attributes:
        limit: The most breaks to survive in one answer.
        restart: Whether to begin anew where the answer cannot be continued.
        timeouts: Whether to go on when an answer stalls (`Timeouts.payload_gap`,
            `Timeouts.silence`); never after `Timeouts.deadline`.
    """

    limit: int = 3
    restart: bool = True
    timeouts: bool = True

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 1:
            message = "Resume.limit must be a whole number of at least 1"
            raise ConfigurationError(message)


def is_whole(partial: ChatCompletion) -> bool:
    """Whether an answer lacks nothing but the stream's end mark."""
    return partial.finish_reason is not None


def is_blank(partial: ChatCompletion) -> bool:
    """Whether nothing of an answer has been received that anyone could have seen."""
    message = message_of(partial)
    return partial.is_empty and not (message.reasoning_content or message.extra)


def message_of(partial: ChatCompletion) -> ChatCompletionMessage:
    """The message of an answer, an empty one if there is none yet."""
    return partial.choices[0].message if partial.choices else ChatCompletionMessage()


def continuation(body: bytes, partial: ChatCompletion, tokens: int) -> bytes | None:
    """The request that makes the model go on.

    Args:
        body: The first request's JSON body.
        partial: What has been received of its answer.
        tokens: About how many tokens that is.

    Returns:
        The JSON body, or `None` if the answer cannot be continued.
    """
    wanted: dict[str, Any] = msgspec.json.decode(body)
    message = message_of(partial)
    if not _can_continue(wanted, partial, message):
        return None
    if wanted.get("max_tokens") is not None:
        if tokens >= wanted["max_tokens"]:
            return None
        wanted["max_tokens"] -= tokens
    messages: list[dict[str, Any]] = wanted["messages"]
    begun: dict[str, Any] = {}
    if messages[-1].get("prefix"):
        begun = messages.pop()
    prefix = {**begun, "role": "assistant", "prefix": True}
    prefix["content"] = (begun.get("content") or "") + (message.content or "")
    reasoning = begun.get("reasoning_content") or ""
    reasoning += message.reasoning_content or ""
    if reasoning:
        prefix["reasoning_content"] = reasoning
    messages.append(prefix)
    return _encoder.encode(wanted)


def _can_continue(
    wanted: dict[str, Any], partial: ChatCompletion, message: ChatCompletionMessage
) -> bool:
    if len(partial.choices) != 1 or is_blank(partial):
        return False
    if message.tool_calls or message.function_call or message.extra:
        return False
    wanted_format: dict[str, Any] | None = wanted.get("response_format")
    if wanted_format and wanted_format.get("type") != "text":
        return False
    stop = wanted.get("stop") or ()
    stops: Iterable[str] = [stop] if isinstance(stop, str) else stop
    return not any(_begins(one, message.content or "") for one in stops)


def _begins(stop: str, text: str) -> bool:
    """Whether a text ends with the beginning of a stop text.

    The server looks for stop texts in what it writes, so it would miss that one.
    """
    return any(text.endswith(stop[:size]) for size in range(1, len(stop)))


class Parts:
    """Counts the parts of an answer, to add up what they used.

    Attributes:
        chunks: Chunks with text in the present part.
    """

    __slots__ = ("_broken", "_given_back", "_reasoned", "chunks")

    def __init__(self) -> None:
        self._broken: list[tuple[int, int, int]] = []
        self._given_back = 0
        self._reasoned = 0
        self.chunks = 0

    @property
    def received(self) -> int:
        """About how many tokens have been received since the answer was begun."""
        return self._given_back + self.chunks

    def add(self, chunks: Iterable[ChatCompletionChunk]) -> None:
        """Count the next chunks of the present part."""
        for chunk in chunks:
            if not chunk.choices:
                continue
            delta = chunk.choices[0].delta
            if delta.reasoning_content:
                self._reasoned += 1
            if delta.reasoning_content or delta.content or delta.tool_calls:
                self.chunks += 1

    def next(self, *, anew: bool) -> None:
        """Another part begins.

        Args:
            anew: Whether it does not go on from those before it.
        """
        self._broken.append((self._given_back, self.chunks, self._reasoned))
        self._given_back = 0 if anew else self._given_back + self.chunks
        self.chunks = self._reasoned = 0

    def total(self, last: Usage) -> Usage:
        """The usage of all parts.

        Args:
            last: What the server says of the present one.
        """
        prompt = max(0, last.prompt_tokens - self._given_back)
        total = last
        for given_back, chunks, reasoned in self._broken:
            total += Usage(
                prompt_tokens=prompt + given_back,
                completion_tokens=chunks,
                total_tokens=prompt + given_back + chunks,
                prompt_cache_miss_tokens=prompt + given_back,
                prompt_tokens_details=PromptTokensDetails(),
                completion_tokens_details=CompletionTokensDetails(
                    reasoning_tokens=reasoned
                ),
            )
        return total
