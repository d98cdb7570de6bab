"""How a turn is answered, read and awaited.

Whoever answers turns does it as an async generator of events, each round closed by
`RoundFinished`; `TurnStream` is how a caller reads one, `finish` how one is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from .endpoints import ChatCompletions
from .errors import (
    DeepSeekError,
    InvalidRequestError,
    StreamClosedError,
    StreamInterruptedError,
)
from .reading import SingleReader
from .types.chat import ChatCompletion
from .types.events import ChatEvent, Resumed, TextDelta
from .types.turn import RoundFinished, Turn, TurnEvent


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
        DeepSeekError: As the call that began the turn; `so_far` has what was done.
    """
    turn = Turn()
    failure: BaseException
    try:
        async with aclosing(events):
            async for event in events:
                turn.add(event)
    except (DeepSeekError, asyncio.CancelledError) as error:
        failure = error.with_traceback(None)  # its frames hold the prompt
        if isinstance(error, DeepSeekError):
            # Not what a turn within a tool of this one has left there.
            error.so_far = turn if turn.calls else None
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
