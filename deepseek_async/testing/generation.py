"""An answer cut into tokens: what is sent, why it ended, what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from .tokens import split_tokens
from .wire import Body, is_array

if TYPE_CHECKING:
    from .answers import Answer, Call


class Budget:
    """The tokens an answer may still spend."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, tokens: list[str]) -> list[str]:
        """Return as many of `tokens` as the budget allows, and spend them."""
        taken = tokens[: self.left]
        self.left -= len(taken)
        return taken


class SpokenCall(msgspec.Struct):
    """A tool call cut into tokens."""

    id: str
    name: str
    tokens: list[str]

    @property
    def function(self) -> Body:
        """The call's ``function`` object."""
        return {"name": self.name, "arguments": "".join(self.tokens)}


class Generation(msgspec.Struct, kw_only=True):
    """What the model said, in tokens.

    Attributes:
        reasoning: Tokens of the reasoning.
        content: Tokens of the answer.
        calls: Tool calls.
        finish_reason: Why the answer ended.
        title: Conversation title, if asked for.
        extra: Further fields of the message.
    """

    reasoning: list[str]
    content: list[str]
    calls: list[SpokenCall]
    finish_reason: str
    title: str | None = None
    extra: dict[str, Any] = {}

    @property
    def tokens(self) -> int:
        """Number of tokens, reasoning and arguments included."""
        called = sum(len(call.tokens) for call in self.calls)
        return len(self.reasoning) + len(self.content) + called


_NAME_TOKENS: Final = 4


def generate(answer: Answer, *, limit: int, stop: list[str], key: str) -> Generation:
    """Cut `answer` into tokens, within `limit` of them and up to a stop text.

    Args:
        answer: What the model would say at length.
        limit: Most tokens, reasoning included.
        stop: Texts before which the answer ends.
        key: Text from which call ids are made.
    """
    content, stopped = _cut_at_stop(answer.content, stop)
    budget = Budget(limit if answer.cut_after is None else min(limit, answer.cut_after))
    wanted = [
        split_tokens(answer.reasoning or ""),
        split_tokens(content),
    ]
    reasoning, said = (budget.take(tokens) for tokens in wanted)
    whole = len(reasoning) + len(said) == sum(map(len, wanted))
    calls, called_whole = _speak(answer.tool_calls if not stopped else (), budget, key)
    reason = "tool_calls" if answer.tool_calls and not stopped else "stop"
    if not (whole and called_whole):
        reason = "length"
    return Generation(
        reasoning=reasoning,
        content=said,
        calls=calls,
        finish_reason=answer.finish_reason or reason,
        title=answer.title,
        extra=answer.extra,
    )


def _speak(
    calls: tuple[Call, ...], budget: Budget, key: str
) -> tuple[list[SpokenCall], bool]:
    spoken: list[SpokenCall] = []
    for number, call in enumerate(calls):
        if budget.left <= 0:
            return spoken, False
        tokens = split_tokens(call.text)
        taken = budget.take(tokens)
        name = call.id or f"call_{number:02d}_{key}{number}"
        spoken.append(SpokenCall(name, call.name, taken))
        if len(taken) < len(tokens):
            return spoken, False
    return spoken, True


def _cut_at_stop(text: str, stop: list[str]) -> tuple[str, bool]:
    places = [place for s in stop if s and (place := text.find(s)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def stop_list(stop: object) -> list[str]:
    """Return the request's ``stop`` as a list."""
    if isinstance(stop, str):
        return [stop]
    return list(stop) if is_array(stop) else []


def usage_of(generation: Generation, prompt: int, hit: int, *, thinks: bool) -> Body:
    """Return the usage object; `hit` of the `prompt` tokens came from the cache."""
    spoken = generation.tokens + _NAME_TOKENS * len(generation.calls)
    usage: Body = {
        "prompt_tokens": prompt,
        "completion_tokens": spoken,
        "total_tokens": prompt + spoken,
        "prompt_tokens_details": {"cached_tokens": hit},
    }
    if thinks:
        reasoned = len(generation.reasoning)
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoned}
    usage["prompt_cache_hit_tokens"] = hit
    usage["prompt_cache_miss_tokens"] = prompt - hit
    return usage
