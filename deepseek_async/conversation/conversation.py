"""A conversation: turns with a model, and the history they need."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, Unpack

import msgspec

from ..errors import (
    ConfigurationError,
    ConversationBusyError,
    InvalidRequestError,
    ToolCallsPendingError,
    raise_for_finish_reason,
)
from ..history import (
    is_thinking,
    listed,
    plain_message,
    with_empty_reasoning,
    with_lists,
)
from ..params import CallOptions, ChatOptions
from ..pricing import sum_costs
from ..tokens import TokenCount, TokenCounter, checked_counter
from ..turns import AnswerTurn, TurnStream, finish
from ..types.chat import ChatCompletion
from ..types.request import Content, Message, PlainMessage
from ..types.turn import Turn, TurnEvent
from ..types.usage import Usage
from .context import (
    ContextPolicy,
    DropOldest,
    Fit,
    Room,
    checked_policy,
    history_limit,
)
from .prefix import PrefixDrift, find_prefix_drift
from .saved import load, save
from .transcript import (
    Exchange,
    Transcript,
    system_messages,
    tool_messages,
    user_messages,
)

_KEPT_OPTIONS: Final = (*CallOptions.__annotations__, "user_id")
"""Options of a conversation that hold for its summaries too."""

_NO_OPTIONS: Final = {
    "stream": "for a stream, call stream(...)",
    "model": "set conversation.model",
    "messages": "the conversation keeps the history",
}
"""Arguments of `create` that are none of a turn, and what there is instead."""

LostReasoning: TypeAlias = Literal["refuse", "empty"]


class Conversation:
    """Turns with a model; `client.conversation(...)` makes one.

        conversation = client.conversation(model="deepseek-flash", system="Be brief.")
        answer = await conversation.send("Name a river in Peru.")
        print(answer.text)
        async with conversation.stream("And a longer one?") as turn:
            async for text in turn.text():
                print(text, end="")

    A turn counts once its answer is complete: whatever goes wrong before, an error,
    a cancellation, a stream left early, leaves the history as it was. Answers cut by
    `max_tokens` count; refused, aborted and empty ones do not, and raise. One turn
    runs at a time.

    https://api-docs.deepseek.com/guides/multi_round_chat

    Args:
        answer: Answers turns.
        model: The model.
        system: Instructions; several become several system messages.
        messages: A history to begin with, in any form that `create` takes.
        context: Keeps the history within the model's context.
        tokens: Counts tokens; estimated if not given.
        lost_reasoning: What to do about assistant messages without
            `reasoning_content` in a request that thinks and has tools: `refuse` them
            with `MissingReasoningError`, or send an `empty` one, which the server has
            been seen to take.
        options: Arguments of every request.

    Attributes:
        model: The model of the turns to come.
        usage: Token counts of all turns, summaries included.
        cost: What they cost in US dollars; `None` once an answer had no price.
        last_fit: What the policy did before the last request.
        prefix_drift: Why the last request could not hit the context cache with what
            the one before had put there; `None` if it could.
        dropped: How many exchanges are no longer in the history.

    Raises:
        ConfigurationError: `context`, `tokens` or `lost_reasoning` is none.
        InvalidRequestError: `messages` or an option makes no sense.
    """

    def __init__(
        self,
        answer: AnswerTurn,
        *,
        model: str,
        system: str | Sequence[str] | None = None,
        messages: Iterable[Message] = (),
        context: ContextPolicy | None = None,
        tokens: TokenCounter | None = None,
        lost_reasoning: LostReasoning = "refuse",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._answer = answer
        self.model = model
        self._context = checked_policy(context or DropOldest())
        self._counter = checked_counter(tokens)
        self._lost_reasoning: LostReasoning = _checked_choice(lost_reasoning)
        self._options = with_lists(_checked_options(options or {}))
        self._transcript = Transcript.of(
            [*system_messages(system), *listed(messages, "messages")], self._counter
        )
        self._results: dict[str, Content] = {}
        self._is_busy = False
        self._sent: Mapping[str, Any] | None = None
        self.usage = Usage()
        self.cost: Decimal | None = Decimal(0)
        self.last_fit: Fit | None = None
        self.prefix_drift: PrefixDrift | None = None
        self.dropped = 0

    def __repr__(self) -> str:
        count = len(self._transcript.exchanges)
        return f"Conversation({self.model!r}, {count} exchanges)"

    # -- what is known -------------------------------------------------------------

    @property
    def messages(self) -> list[PlainMessage]:
        """The history as the next request sends it: copies, yours to change."""
        return [plain_message(message) for message in self._transcript.messages]

    @property
    def tokens(self) -> TokenCount:
        """How long the history is, and how that was counted."""
        return TokenCount(
            tokens=self._transcript.tokens(
                with_reasoning=self._has_tools(self._options)
            ),
            method=self._counter.method,
        )

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of calls that wait for `add_tool_result`, in their order."""
        waiting = self._transcript.unanswered
        return tuple(call for call in waiting if call not in self._results)

    # -- turns ---------------------------------------------------------------------

    async def send(
        self,
        content: Content | None = None,
        *,
        reminder: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion:
        """Take a turn.

        Args:
            content: What the user says: text, or parts of text, images and files.
                Left out, the turn goes on from the results of pending calls.
            reminder: User metadata to send before it, `latest_reminder`.
                See https://api-docs.deepseek.com/zh-cn/guides/latest_reminder
            **options: Arguments of this turn's requests, over the conversation's own.

        Returns:
            The answer; with tools, the final one.

        Raises:
            ConversationBusyError: Another turn is under way.
            ToolCallsPendingError: Calls of the last answer wait for results.
            ContextBudgetError: What must be kept does not fit into the context.
            MissingReasoningError: A message lost its reasoning.
            UnfinishedAnswerError: The answer was refused, aborted or empty.
            DeepSeekError: As `chat.completions.create`, and with tools `run_tools`.
        """
        events = self._take_turn(content, reminder, options, stream=False)
        del content, reminder, options  # no frame of a traceback may show the prompt
        return (await finish(events)).completion

    def stream(
        self,
        content: Content | None = None,
        *,
        reminder: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> TurnStream:
        """Take a turn and see it happen.

        The turn counts when the stream has been read to its end; leaving it early
        takes the turn back.

        Args:
            content: As `send`.
            reminder: As `send`.
            **options: As `send`.

        Returns:
            The turn's events, or with `text()` its text. Nothing is sent before the
            first one is asked for.

        Raises:
            DeepSeekError: While iterating, as `send`.
        """
        return TurnStream(self._take_turn(content, reminder, options, stream=True))

    async def _take_turn(
        self,
        content: Content | None,
        reminder: str | None,
        options: Mapping[str, Any],
        *,
        stream: bool,
    ) -> AsyncGenerator[TurnEvent, None]:
        self._refuse_if_busy()
        self._is_busy = True
        try:
            given = _checked_options(options)
            params = with_lists({**self._options, **given, "model": self.model})
            draft, is_new = self._draft(content, reminder)
            waiting = self._transcript.with_last(draft, instead=not is_new)
            fit = await self._fit(waiting, params)
            request = self._request(fit.transcript, params)
            turn = Turn()
            async with aclosing(self._answer(request, stream=stream)) as events:
                async for event in events:
                    turn.add(event)
                    yield event
            self._keep(draft, turn, fit, request)
        finally:
            self._is_busy = False

    def _refuse_if_busy(self) -> None:
        if self._is_busy:
            message = "a turn of this conversation is under way: fork it, or wait"
            raise ConversationBusyError(message)

    def _draft(
        self, content: Content | None, reminder: str | None
    ) -> tuple[Exchange, bool]:
        """The exchange to be answered, and whether it is a new one."""
        if self.pending:
            message = f"{len(self.pending)} calls wait for add_tool_result"
            raise ToolCallsPendingError(message, self.pending)
        transcript = self._transcript
        results = tool_messages(transcript.unanswered, self._results)
        if content is None and not results:
            message = "there is nothing to send: give content"
            raise InvalidRequestError(message, param="content")
        before = transcript.exchanges[-1].messages if results else ()
        added = [*results, *user_messages(content, reminder)]
        return Exchange.of([*before, *added], self._counter), not results

    async def _fit(self, transcript: Transcript, params: Mapping[str, Any]) -> Fit:
        room = Room(
            history_limit(params, self._counter),
            with_reasoning=self._has_tools(params),
            model=self.model,
            counter=self._counter,
            ask=self._ask,
        )
        fit = await self._context.fit(transcript, room)
        if fit.usage is not None:
            self.usage += fit.usage
            self.cost = sum_costs(self.cost, fit.cost)
        return fit

    async def _ask(
        self, model: str, messages: list[PlainMessage], max_tokens: int
    ) -> ChatCompletion:
        params = {name: self._options.get(name) for name in _KEPT_OPTIONS}
        params |= {"model": model, "messages": messages, "max_tokens": max_tokens}
        params["thinking"] = {"type": "disabled"}
        return (await finish(self._answer(params, stream=False))).completion

    def _request(
        self, transcript: Transcript, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        messages = transcript.messages
        if self._lost_reasoning == "empty" and is_thinking(params):
            messages = [with_empty_reasoning(message) for message in messages]
        return {**params, "messages": messages}

    def _keep(
        self,
        draft: Exchange,
        turn: Turn,
        fit: Fit,
        request: Mapping[str, Any],
    ) -> None:
        """Make the turn part of the history, or raise if it is not worth it."""
        if turn.completion.finish_reason != "length":
            raise_for_finish_reason(turn.completion)
        exchange = Exchange.of([*draft.messages, *turn.messages], self._counter)
        self._transcript = fit.transcript.with_last(exchange, instead=True)
        self._results = {}
        self.usage += turn.usage
        self.cost = sum_costs(self.cost, turn.cost)
        self.dropped += fit.dropped
        self.last_fit = fit
        self.prefix_drift = find_prefix_drift(self._sent or request, request)
        self._sent = {**request, "messages": [*request["messages"], *turn.messages]}

    @staticmethod
    def _has_tools(params: Mapping[str, Any]) -> bool:
        return bool(params.get("tools"))

    # -- the history ---------------------------------------------------------------

    def add_tool_result(self, call_id: str, content: Content) -> None:
        """Answer a call of a function that is not run here.

        The next `send()` goes on from it; results are sent in the order of the calls.

        Args:
            call_id: One of `pending`.
            content: The result.

        Raises:
            ToolCallsPendingError: There is no such call.
            ConversationBusyError: A turn is under way.
        """
        self._refuse_if_busy()
        if call_id not in self._transcript.unanswered:
            message = "there is no such call to answer"
            raise ToolCallsPendingError(message, (call_id,))
        self._results[call_id] = content

    def undo(self) -> bool:
        """Take back the last exchange, to ask again or something else.

        Returns:
            Whether there was one.

        Raises:
            ConversationBusyError: A turn is under way.
        """
        self._refuse_if_busy()
        exchanges = self._transcript.exchanges
        self._results = {}
        self._transcript = msgspec.structs.replace(
            self._transcript, exchanges=exchanges[:-1]
        )
        return bool(exchanges)

    def fork(self) -> Conversation:
        """A second conversation with the same past and a future of its own.

        The past is shared, not copied. A turn under way is not part of it.
        """
        made = Conversation(
            self._answer,
            model=self.model,
            context=self._context,
            tokens=self._counter,
            lost_reasoning=self._lost_reasoning,
            options=self._options,
        )
        made._transcript = self._transcript
        made._results = dict(self._results)
        made._sent = self._sent
        made.dropped = self.dropped
        return made

    # -- files ---------------------------------------------------------------------

    def to_json(self) -> bytes:
        """The conversation as JSON, for `client.load_conversation`.

        It holds the messages, the model and the options that are JSON. Tools,
        policies, clocks, headers, tag and key are not in it: they are given again when
        loading. A turn under way is not part of it.

        Raises:
            InvalidRequestError: An option is no JSON.
        """
        return save(
            self.model,
            self._options,
            self._transcript,
            results=self._results,
            usage=self.usage,
            cost=self.cost,
            dropped=self.dropped,
        )

    @classmethod
    def from_json(
        cls,
        data: str | bytes,
        answer: AnswerTurn,
        *,
        context: ContextPolicy | None = None,
        tokens: TokenCounter | None = None,
        lost_reasoning: LostReasoning = "refuse",
        options: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Make a conversation of what `to_json` returned.

        Args:
            data: The JSON.
            answer: Answers turns.
            context: Keeps the history within the model's context.
            tokens: Counts tokens; estimated if not given.
            lost_reasoning: See the class.
            options: Arguments of every request, over the saved ones.

        Raises:
            SavedConversationError: It is something else, or of a newer version.
        """
        saved = load(data)
        made = cls(
            answer,
            model=saved.model,
            context=context,
            tokens=tokens,
            lost_reasoning=lost_reasoning,
            options={**saved.options, **(options or {})},
        )
        made._transcript = saved.transcript(made._counter)
        made._results = saved.results
        made.usage = saved.usage
        made.cost = saved.cost
        made.dropped = saved.dropped
        return made


def _checked_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, instead in _NO_OPTIONS.items():
        if name in options:
            message = f"{name} is no option of a conversation's turns: {instead}"
            raise InvalidRequestError(message, param=name)
    return options


def _checked_choice(choice: LostReasoning) -> LostReasoning:
    if choice not in ("refuse", "empty"):
        message = "lost_reasoning must be 'refuse' or 'empty'"
        raise ConfigurationError(message)
    return choice
