"""One turn: everything between a question and its final answer.

A turn has one round, or with tools as many as the model asks for. Whoever answers
turns does it as an async generator of events, each round closed by `RoundFinished`;
`TurnStream` is how a caller reads one, `finish` how one is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct

from .endpoints import ChatCompletions
from .errors import (
    DeepSeekError,
    InvalidRequestError,
    StreamClosedError,
    StreamInterruptedError,
)
from .history import PlainMessage
from .pricing import sum_costs
from .reading import SingleReader
from .types.chat import ChatCompletion, ToolCall
from .types.events import ChatEvent, Resumed, TextDelta
from .types.usage import Usage


class ToolStarted(Struct, kw_only=True, frozen=True):
    """A tool begins to run, or to wait for its turn.

    Attributes:
        tool_call: The call as the model wrote it.
        round: In which round, 1 for the first.
    """

    tool_call: ToolCall
    round: int
    type: Literal["tool_started"] = "tool_started"

    def __repr__(self) -> str:
        return f"ToolStarted({self.tool_call.function.name}, round {self.round})"


class ToolEnded(Struct, kw_only=True, frozen=True):
    """A tool has run, or could not; the model will read `content`.

    Attributes:
        tool_call: The call as the model wrote it.
        content: The result, or the error as the model is told it.
        round: In which round, 1 for the first.
        error: Why there is no result: `unknown_tool`, `invalid_arguments`,
            `timeout` or `exception`; `None` if there is one.
        elapsed: Seconds it ran.
    """

    tool_call: ToolCall
    content: str | list[Any]
    round: int
    error: (
        Literal["unknown_tool", "invalid_arguments", "timeout", "exception"] | None
    ) = None
    elapsed: float = 0.0
    type: Literal["tool_ended"] = "tool_ended"

    def __repr__(self) -> str:
        outcome = self.error or "ok"
        return f"ToolEnded({self.tool_call.function.name}, {outcome})"


class RoundFinished(Struct, kw_only=True, frozen=True):
    """The model has answered, and the calls it made have been answered.

    Attributes:
        number: 1 for the first round.
        completion: The model's answer.
        messages: What the round adds to the history: the assistant message, then a
            tool message for each call that was run, in the order of the calls.
        pending: Calls of functions that are not run here: the caller answers them.
    """

    number: int
    completion: ChatCompletion
    messages: tuple[PlainMessage, ...]
    pending: tuple[ToolCall, ...] = ()
    type: Literal["round_finished"] = "round_finished"

    def __repr__(self) -> str:
        return f"RoundFinished({self.number}, {len(self.messages)} messages)"


TurnEvent: TypeAlias = ChatEvent | ToolStarted | ToolEnded | RoundFinished
"""What happens in a turn."""


class AnswerTurn(Protocol):
    """Answers turns."""

    def __call__(
        self, params: Mapping[str, Any], *, stream: bool
    ) -> AsyncGenerator[TurnEvent, None]:
        """Answer one turn.

        Args:
            params: The arguments of the chat request.
            stream: Whether answers are streamed, with their events.
        """
        ...


class Turn:
    """A finished turn.

    Attributes:
        rounds: Every round, the last one with the final answer.
        calls: Every tool that was run, in the order of ending.
    """

    __slots__ = ("calls", "rounds")

    def __init__(self) -> None:
        self.rounds: list[RoundFinished] = []
        self.calls: list[ToolEnded] = []

    def __repr__(self) -> str:
        return f"Turn({len(self.rounds)} rounds, {len(self.calls)} calls)"

    @property
    def completion(self) -> ChatCompletion:
        """The final answer."""
        return self.rounds[-1].completion

    @property
    def text(self) -> str:
        """The visible text of the final answer."""
        return self.completion.text

    @property
    def messages(self) -> list[PlainMessage]:
        """What the turn adds to the history, ready to be sent back."""
        return [message for one in self.rounds for message in one.messages]

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """Calls that the caller still has to answer."""
        return self.rounds[-1].pending

    @property
    def usage(self) -> Usage:
        """Token counts of all rounds together."""
        total = Usage()
        for one in self.rounds:
            if one.completion.usage is not None:
                total += one.completion.usage
        return total

    @property
    def cost(self) -> Decimal | None:
        """What all rounds cost in US dollars, `None` if one of them has no price."""
        return sum_costs(*(one.completion.cost for one in self.rounds))

    def add(self, event: TurnEvent) -> None:
        """Take the next event of the turn."""
        if isinstance(event, RoundFinished):
            self.rounds.append(event)
        elif isinstance(event, ToolEnded):
            self.calls.append(event)


class TurnStream(SingleReader[TurnEvent]):
    """A turn while it happens: an async iterator of events.

    Use it in `async with`, so that leaving early ends what is under way at once:

        async with conversation.stream("Hello") as turn:
            async for text in turn.text():
                print(text, end="")

    One task reads it at a time. A wait for it that is cancelled ends the turn.

    Args:
        events: The turn's events.
    """

    __slots__ = ("_is_complete", "_turn")

    def __init__(self, events: AsyncGenerator[TurnEvent, None]) -> None:
        super().__init__(events)
        self._turn = Turn()
        self._is_complete = False

    def __repr__(self) -> str:
        state = "complete" if self._is_complete else "open"
        return f"<TurnStream {state}, {len(self._turn.rounds)} rounds>"

    @property
    def so_far(self) -> Turn:
        """The rounds finished so far, at any time."""
        return self._turn

    def __aiter__(self) -> AsyncIterator[TurnEvent]:
        return self

    async def __anext__(self) -> TurnEvent:
        """The next event.

        Raises:
            StreamInUseError: Another task is reading it.
            StreamClosedError: Another task closed it meanwhile.
            DeepSeekError: As the call that began the turn.
        """
        try:
            event = await self._next()
        except StopAsyncIteration:
            self._is_complete = bool(self._turn.rounds)
            raise
        self._turn.add(event)
        return event

    async def text(self) -> AsyncGenerator[str, None]:
        """The visible text of all rounds, piece by piece.

        Leaving it early closes the stream.

        Raises:
            StreamInterruptedError: A resumed answer began anew, after text of it had
                been given out; only the events can tell what is void.
            DeepSeekError: As the call that began the turn.
        """
        is_shown = False
        try:
            async for event in self:
                if isinstance(event, TextDelta):
                    is_shown = True
                    yield event.text
                elif isinstance(event, RoundFinished):
                    is_shown = False
                elif is_shown and _is_restart(event):
                    message = "the answer began anew after part of it had been read"
                    raise StreamInterruptedError(message)
        except GeneratorExit:
            await self.aclose()
            raise

    async def turn(self) -> Turn:
        """Read to the end.

        Returns:
            The whole turn.

        Raises:
            StreamClosedError: The stream was left before its end.
            DeepSeekError: As the call that began the turn.
        """
        async for _ in self:
            pass
        if not self._is_complete:
            raise StreamClosedError
        return self._turn


def _is_restart(event: TurnEvent) -> bool:
    return isinstance(event, Resumed) and event.action == "restarted"


async def finish(events: AsyncGenerator[TurnEvent, None]) -> Turn:
    """Run a turn to its end.

    Args:
        events: The turn's events.

    Raises:
        DeepSeekError: As the call that began the turn.
    """
    turn = Turn()
    failure: BaseException
    try:
        async with aclosing(events):
            async for event in events:
                turn.add(event)
    except (DeepSeekError, asyncio.CancelledError) as error:
        failure = error.with_traceback(None)  # its frames hold the prompt
    else:
        return turn
    raise failure


def awaited(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a request without those that only a stream can have.

    Args:
        params: The arguments of a chat request.
    """
    return {k: v for k, v in params.items() if k not in {"resume", "stream_options"}}


def refuse_stream(params: Mapping[str, Any], streamed: str) -> None:
    """See that the method called decides whether the answer is streamed.

    Args:
        params: The arguments of a chat request.
        streamed: The method that streams.

    Raises:
        InvalidRequestError: `stream` is among them.
    """
    if "stream" in params:
        message = f"stream is no argument here: for a stream, call {streamed}(...)"
        raise InvalidRequestError(message, param="stream")


class RoundAnswer:
    """One request and its answer, as events where it is streamed.

    Args:
        completions: The endpoint.
        params: The arguments of the request.

    Attributes:
        completion: The answer, once `events` has ended.
    """

    __slots__ = ("_completions", "_params", "completion")

    def __init__(self, completions: ChatCompletions, params: Mapping[str, Any]) -> None:
        self._completions = completions
        self._params = params
        self.completion = ChatCompletion()

    async def events(self, *, stream: bool) -> AsyncGenerator[ChatEvent, None]:
        """Send the request and wait for the answer, or stream it.

        Args:
            stream: Whether the answer is streamed; if not, there are no events.

        Raises:
            DeepSeekError: As `chat.completions.create`.
        """
        if not stream:
            self.completion = await self._completions.answer(awaited(self._params))
            return
        params: Any = self._params  # a mapping cannot be a checked TypedDict
        live = await self._completions.create(stream=True, **params)
        async with live, aclosing(live.events()) as events:
            async for event in events:
                yield event
        self.completion = await live.completion()
