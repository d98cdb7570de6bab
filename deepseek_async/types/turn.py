"""A turn: everything between a question and its final answer, and its events.

A turn has one round, or with tools as many as the model asks for.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from ..pricing import sum_costs
from .chat import ChatCompletion, ToolCall
from .discreet import Discreet
from .events import ChatEvent
from .request import PlainMessage
from .usage import Usage


class ToolStarted(Discreet, Struct, kw_only=True, frozen=True):
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


class ToolEnded(Discreet, Struct, kw_only=True, frozen=True):
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


class RoundFinished(Discreet, Struct, kw_only=True, frozen=True):
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


class Turn:
    """A turn: finished, or as far as it came (`so_far`).

    Attributes:
        rounds: Every finished round; of a finished turn the last one has the final
            answer.
        calls: Every tool that was run, in the order of ending.
    """

    def __init__(self) -> None:
        self.rounds: list[RoundFinished] = []
        self.calls: list[ToolEnded] = []

    def __repr__(self) -> str:
        return f"Turn({len(self.rounds)} rounds, {len(self.calls)} calls)"

    @property
    def _last(self) -> RoundFinished:
        if not self.rounds:
            message = "no round of this turn was finished"
            raise LookupError(message)
        return self.rounds[-1]

    @property
    def completion(self) -> ChatCompletion:
        """The final answer, or the last one so far.

        Raises:
            LookupError: No round was finished; `text` and `pending` raise it, too.
        """
        return self._last.completion

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
        return self._last.pending

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
