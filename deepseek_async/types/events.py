"""The typed events of a chat stream."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from .chat import ToolCall
from .usage import Usage


class Heartbeat(Struct, kw_only=True, frozen=True):
    """The server keeps the connection alive; nothing to show yet.

    Attributes:
        keep_alives: Keep-alives received so far in this attempt.
        waited: Seconds since the last content, or since the response head.
        attempt: Which attempt is waiting, 1 for the first.
    """

    keep_alives: int
    waited: float
    attempt: int = 1
    type: Literal["heartbeat"] = "heartbeat"


class ReasoningDelta(Struct, kw_only=True, frozen=True):
    """The next piece of reasoning."""

    text: str
    type: Literal["reasoning_delta"] = "reasoning_delta"


class TextDelta(Struct, kw_only=True, frozen=True):
    """The next piece of visible text."""

    text: str
    type: Literal["text_delta"] = "text_delta"


class ToolCallArgumentsDelta(Struct, kw_only=True, frozen=True):
    """A tool call begins or grows.

    Attributes:
        place: Which of the parallel calls, counted from 0 as they appear.
        id: The call's id.
        name: The function's name.
        arguments: The next piece of the arguments' JSON text.
    """

    place: int
    id: str
    name: str
    arguments: str
    type: Literal["tool_call_delta"] = "tool_call_delta"


class ToolCallFinished(Struct, kw_only=True, frozen=True):
    """A tool call is complete; the model may still have written invalid JSON.

    Attributes:
        place: Which of the parallel calls, counted from 0 as they appear.
        tool_call: The call.
    """

    place: int
    tool_call: ToolCall
    type: Literal["tool_call_finished"] = "tool_call_finished"


class UsageReported(Struct, kw_only=True, frozen=True):
    """Token counts of the whole answer."""

    usage: Usage
    type: Literal["usage"] = "usage"


class Finished(Struct, kw_only=True, frozen=True):
    """The answer has ended; the stream's last event.

    Attributes:
        finish_reason: The server's word for why, such as `stop` or `length`.
        title: The conversation's title, if the request asked for one.
    """

    finish_reason: str | None
    title: str | None = None
    type: Literal["finished"] = "finished"


class Resumed(Struct, kw_only=True, frozen=True):
    """The connection died in the midst of the answer, and the stream went on.

    Attributes:
        action: What was done. `continued`: the model went on from the text received
            so far. `restarted`: the answer begins anew, and everything before is
            void. `completed`: nothing, for only the end mark was missing.
        outcome: The name of the error class.
        request_id: The server's trace id of the part that broke.
        chunks: Pieces of text in that part: about as many tokens of output are
            billed for it, though the server never said how many.
        characters: The length of text and reasoning received so far.
    """

    action: Literal["continued", "restarted", "completed"]
    outcome: str
    request_id: str | None
    chunks: int
    characters: int
    type: Literal["resumed"] = "resumed"


ChatEvent: TypeAlias = (
    Heartbeat
    | ReasoningDelta
    | TextDelta
    | ToolCallArgumentsDelta
    | ToolCallFinished
    | UsageReported
    | Resumed
    | Finished
)
