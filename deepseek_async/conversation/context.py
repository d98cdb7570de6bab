"""Policies that keep a conversation within the model's context.

A policy sees the whole history, the question that waits included, before each
request. It never takes an exchange apart: calls and their results stay together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..errors import (
    ConfigurationError,
    ContextBudgetError,
    ContextLengthExceededError,
    UnfinishedAnswerError,
    raise_for_finish_reason,
)
from ..history import is_thinking
from ..salvage import is_mapping
from ..tokens import Method, TokenCounter
from ..types.chat import ChatCompletion
from ..types.request import PlainMessage
from ..types.usage import Usage
from .transcript import Exchange, Transcript

CONTEXT_TOKENS: Final = 1_048_576
"""The context of both models. https://api-docs.deepseek.com/quick_start/pricing"""

_ANSWER_TOKENS: Final = 8 * 1024
_THINKING_TOKENS: Final = 64 * 1024
_MAX_EFFORT_TOKENS: Final = 128 * 1024

_SUMMARY_HEAD: Final = "Summary of the conversation so far:\n"
_INSTRUCTION: Final = (
    "Summarize the conversation below for whoever continues it. Keep facts, names, "
    "numbers, decisions and open questions; leave out politeness. Write in the "
    "language of the conversation, at most {words} words, and nothing but the summary."
)

Ask = Callable[[str, list[PlainMessage], int], Awaitable[ChatCompletion]]
"""Asks a model something apart from the conversation: model, messages, max tokens."""


class Room:
    """What a policy has to go by.

    Args:
        limit: Tokens that the history may take.
        with_reasoning: Whether reasoning counts: it does when there are tools.
        model: The conversation's model.
        counter: Counts tokens.
        ask: Asks the model something apart from the conversation.
    """

    __slots__ = ("_ask", "counter", "limit", "model", "with_reasoning")

    def __init__(
        self,
        limit: int,
        *,
        with_reasoning: bool,
        model: str,
        counter: TokenCounter,
        ask: Ask,
    ) -> None:
        self.limit = limit
        self.with_reasoning = with_reasoning
        self.model = model
        self.counter = counter
        self._ask = ask

    @property
    def method(self) -> Method:
        """How tokens are counted: `estimate` or `tokenizer`."""
        return self.counter.method

    def within(self, limit: int | None) -> int:
        """The smaller of the room's limit and a policy's own, if it has one."""
        return self.limit if limit is None else min(limit, self.limit)

    def tokens(self, transcript: Transcript) -> int:
        """How long a history is."""
        return transcript.tokens(with_reasoning=self.with_reasoning)

    async def ask(
        self, messages: list[PlainMessage], *, max_tokens: int, model: str | None = None
    ) -> ChatCompletion:
        """Ask a model, without thinking and without the conversation.

        Args:
            messages: What to ask.
            max_tokens: The longest answer.
            model: Which model; the conversation's own if not given.

        Raises:
            DeepSeekError: As `chat.completions.create`.
        """
        return await self._ask(model or self.model, messages, max_tokens)


def history_limit(params: Mapping[str, Any], counter: TokenCounter) -> int:
    """The tokens a history may take: the context less the tools and the answer.

    https://api-docs.deepseek.com/api/create-chat-completion

    Args:
        params: The arguments of the chat request.
        counter: Counts the tools.
    """
    limit = CONTEXT_TOKENS - _answer_tokens(params)
    tools = params.get("tools") or params.get("functions")
    if tools:
        limit -= _tool_tokens(tools, counter)
    return limit


def _tool_tokens(tools: Iterable[object], counter: TokenCounter) -> int:
    try:
        plain = msgspec.json.encode(list(tools), enc_hook=_opened)
    except (TypeError, ValueError, NotImplementedError, RecursionError):
        return 0  # the request is refused, and with better words
    return counter.count(plain.decode())


def _answer_tokens(params: Mapping[str, Any]) -> int:
    """The tokens that an answer may take, the API's default if not said."""
    limit: object = params.get("max_tokens")
    if isinstance(limit, int):
        return limit
    if not is_thinking(params):
        return _ANSWER_TOKENS
    hard = params.get("reasoning_effort") in ("max", "ultra")
    return _MAX_EFFORT_TOKENS if hard else _THINKING_TOKENS


def _opened(value: object) -> object:
    if is_mapping(value):
        return dict(value)
    raise NotImplementedError


class Fit(Struct, frozen=True, kw_only=True):
    """What a policy has made of a history.

    Attributes:
        transcript: The history to send.
        dropped: How many exchanges are gone.
        is_summarized: Whether a summary stands for them.
        is_summary_refused: Whether a summary was made and thrown away, as it was cut,
            empty, or no shorter than what it was to replace, or could not be made, as
            that was too long.
        usage: Token counts of the summary.
        cost: What it cost in US dollars, `None` where that is not known.
    """

    transcript: Transcript
    dropped: int = 0
    is_summarized: bool = False
    is_summary_refused: bool = False
    usage: Usage | None = None
    cost: Decimal | None = None


class ContextPolicy(Protocol):
    """Keeps a history within a limit."""

    async def fit(self, transcript: Transcript, room: Room) -> Fit:
        """Return the history to send.

        Args:
            transcript: The history, the exchange that waits for its answer last.
            room: Limit, counting, and a way to ask the model.

        Raises:
            ContextBudgetError: What must be kept is too long.
        """
        ...


def checked_policy(policy: ContextPolicy) -> ContextPolicy:
    """Return a policy, or refuse what is none.

    Args:
        policy: What a caller gave as one.

    Raises:
        ConfigurationError: It cannot fit a history.
    """
    if not callable(getattr(policy, "fit", None)):
        message = f"context must be a policy, not {type(policy).__name__}"
        raise ConfigurationError(message)
    return policy


class KeepAll(Struct, frozen=True):
    """Sends everything; the server judges (`ContextLengthExceededError`)."""

    async def fit(self, transcript: Transcript, room: Room) -> Fit:  # noqa: ARG002
        """Return the history as it is."""
        return Fit(transcript=transcript)


class DropOldest(Struct, frozen=True, kw_only=True):
    """Drops the oldest exchanges once the history is too long.

    Each time it drops more than it must, down to `keep`, so that the prefix, and
    with it the context cache, stays as it is for many turns after.

    Attributes:
        limit: Tokens that the history may take; the model's context less the answer
            if not given.
        keep: The part of the limit that is left after dropping.
    """

    limit: int | None = None
    keep: float = 0.7

    def __post_init__(self) -> None:
        _check(self.limit, self.keep)

    async def fit(self, transcript: Transcript, room: Room) -> Fit:
        """Return the history without its oldest exchanges, if it is too long."""
        dropped = _surplus(transcript, room, self.limit, self.keep)
        fit = Fit(transcript=transcript.without_oldest(dropped), dropped=dropped)
        return _checked(fit, room, self.limit)


class Summarize(Struct, frozen=True, kw_only=True):
    """Has a model summarize the oldest exchanges once the history is too long.

    The summary becomes a system message after the first ones; the next summary
    takes it in. A summary that is cut, empty, or no shorter than what it replaces is
    refused, and the exchanges are dropped without one; an earlier summary then stays.
    So it is where the exchanges are too long to be summarized at once.

    Attributes:
        limit: Tokens that the history may take; the model's context less the answer
            if not given.
        keep: The part of the limit that is left after summarizing, the summary not
            counted.
        max_tokens: The longest summary.
        model: Who summarizes; the conversation's model if not given.
        instruction: What the summarizing model is told, in place of the ready text.
    """

    limit: int | None = None
    keep: float = 0.5
    max_tokens: int = 1_000
    model: str | None = None
    instruction: str | None = None

    def __post_init__(self) -> None:
        _check(self.limit, self.keep)

    async def fit(self, transcript: Transcript, room: Room) -> Fit:
        """Return the history with a summary of its oldest part, if it is too long."""
        dropped = _surplus(transcript, room, self.limit, self.keep)
        if not dropped:
            return _checked(Fit(transcript=transcript), room, self.limit)
        kept = transcript.without_oldest(dropped)
        old = [transcript.summary] if transcript.summary else []
        replaced = [*old, *transcript.exchanges[:dropped]]
        try:
            completion = await room.ask(
                self._question(replaced), max_tokens=self.max_tokens, model=self.model
            )
        except ContextLengthExceededError:
            # What is too long for the one who summarizes as well can only be dropped.
            fit = Fit(transcript=kept, dropped=dropped, is_summary_refused=True)
            return _checked(fit, room, self.limit)
        message = {"role": "system", "content": _SUMMARY_HEAD + completion.text.strip()}
        summary = Exchange.of([message], room.counter)
        is_good = _is_whole(completion) and summary.tokens < sum(
            one.tokens for one in replaced
        )
        fit = Fit(
            transcript=replace(kept, summary=summary) if is_good else kept,
            dropped=dropped,
            is_summarized=is_good,
            is_summary_refused=not is_good,
            usage=completion.usage,
            cost=completion.cost,
        )
        return _checked(fit, room, self.limit)

    def _question(self, replaced: Iterable[Exchange]) -> list[PlainMessage]:
        words = max(1, self.max_tokens // 2)
        told = self.instruction or _INSTRUCTION.format(words=words)
        spoken = "\n\n".join(
            _told(message) for one in replaced for message in one.messages
        )
        return [
            {"role": "system", "content": told},
            {"role": "user", "content": spoken},
        ]


def _check(limit: int | None, keep: float) -> None:
    if limit is not None and limit < 1:
        message = "limit must be 1 or more tokens"
        raise ConfigurationError(message)
    if not 0 < keep <= 1:
        message = "keep must be more than 0 and at most 1"
        raise ConfigurationError(message)


def _surplus(transcript: Transcript, room: Room, limit: int | None, keep: float) -> int:
    """How many exchanges must go; never the last, which waits for its answer."""
    limit = room.within(limit)
    tokens = room.tokens(transcript)
    if tokens <= limit:
        return 0
    dropped = 0
    for exchange in transcript.exchanges[:-1]:
        if tokens <= limit * keep:
            break
        tokens -= exchange.tokens + exchange.reasoning_tokens * room.with_reasoning
        dropped += 1
    return dropped


def _checked(fit: Fit, room: Room, limit: int | None) -> Fit:
    tokens = room.tokens(fit.transcript)
    if tokens > room.within(limit):
        raise ContextBudgetError(tokens, room.within(limit))
    return fit


def _told(message: PlainMessage) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = cast("list[dict[str, str]]", content)
        content = " ".join(part.get("text", f"[{part.get('type')}]") for part in parts)
    calls: list[dict[str, dict[str, str]]] = message.get("tool_calls") or []
    made = [f"{c['function']['name']}({c['function']['arguments']})" for c in calls]
    return f"{message['role']}: {content or ''}{' '.join(made)}"


def _is_whole(completion: ChatCompletion) -> bool:
    try:
        return bool(raise_for_finish_reason(completion).text.strip())
    except UnfinishedAnswerError:
        return False
