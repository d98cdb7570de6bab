"""Answers of the chat completions endpoint, whole and in chunks.

Everything here is decoded generously: a field may be missing or null and then has
its default, and the finish reason, roles and types are open strings.

The parts of a chunk and the log probabilities are kept out of the garbage collector's
sight: they hold nothing but JSON values, so there is no cycle to find, and looking for
one would cost as much as decoding them.

https://api-docs.deepseek.com/api/create-chat-completion
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec import Struct, field

from .meta import EXTRA, Answer, Extensible
from .usage import Usage


class FunctionCall(Extensible, kw_only=True, dict=True, forbid_unknown_fields=True):
    """The function the model wants called.

    Attributes:
        name: The function's name.
        arguments: JSON as the model wrote it: it may be invalid, or invent fields.
    """

    name: str = ""
    arguments: str = ""


class ToolCall(Extensible, kw_only=True, dict=True, forbid_unknown_fields=True):
    """One call the model wants made.

    Attributes:
        id: The id the tool message must name.
        type: `"function"`.
        function: What to call.
        index: The call's place among parallel calls.
    """

    id: str = ""
    type: str | None = None
    function: FunctionCall = field(default_factory=FunctionCall)
    index: int | None = None


class TopLogprob(Struct, kw_only=True, frozen=True, gc=False):
    """A token the model might have chosen.

    Attributes:
        token: Its text.
        logprob: Natural logarithm of its probability; -9999.0 means very unlikely.
        bytes: Its UTF-8 bytes, where it has any.
    """

    token: str = ""
    logprob: float = -9999.0
    bytes: list[int] | None = None


class TokenLogprob(Struct, kw_only=True, frozen=True, gc=False):
    """A chosen token.

    Attributes:
        token: Its text.
        logprob: Natural logarithm of its probability; -9999.0 means very unlikely.
        bytes: Its UTF-8 bytes, where it has any.
        top_logprobs: The most likely tokens at this place.
    """

    token: str = ""
    logprob: float = -9999.0
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] | None = None


class ChoiceLogprobs(Struct, kw_only=True, gc=False):
    """Log probabilities of an answer, token by token.

    Attributes:
        content: Those of the visible text.
        reasoning_content: Those of the reasoning.
    """

    content: list[TokenLogprob] | None = None
    reasoning_content: list[TokenLogprob] | None = None


class ChatCompletionMessage(
    Extensible, kw_only=True, dict=True, forbid_unknown_fields=True
):
    """What the assistant said; append it to `messages` as it is.

    Attributes:
        role: `"assistant"`.
        content: The visible text.
        reasoning_content: The reasoning before it. It must go back to the server
            when the request carries tools.
        tool_calls: Calls the model wants made.
        function_call: The legacy form of a tool call.
        title: A title for the conversation, if the request asked for one.
    """

    role: str | None = "assistant"
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    title: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The message as the server takes it back, unknown fields included."""
        sent: dict[str, Any] = {
            "role": self.role or "assistant",
            "content": self.content,
        }
        if self.reasoning_content is not None:
            sent["reasoning_content"] = self.reasoning_content
        if self.tool_calls:
            sent["tool_calls"] = [tool_call_to_dict(call) for call in self.tool_calls]
        if self.function_call is not None:
            sent["function_call"] = self.function_call.to_dict()
        sent.update(self.extra)
        return sent


def tool_call_to_dict(call: ToolCall) -> dict[str, Any]:
    """A tool call as the server takes it back, unknown fields included."""
    sent: dict[str, Any] = {
        "id": call.id,
        "type": call.type or "function",
        "function": call.function.to_dict(),
    }
    if call.index is not None:
        sent["index"] = call.index
    sent.update(call.extra)
    return sent


class Choice(Struct, kw_only=True):
    """One answer; the API gives exactly one.

    Attributes:
        index: Its place, 0.
        message: What the assistant said.
        finish_reason: `stop`, `length`, `tool_calls`, `content_filter`,
            `insufficient_system_resource`, `aborted`, or a word yet unknown.
        logprobs: Log probabilities, if asked for.
    """

    index: int = 0
    message: ChatCompletionMessage = field(default_factory=ChatCompletionMessage)
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(Answer, kw_only=True, dict=True):
    """The answer to a chat request.

    Attributes:
        id: The server's id of the answer.
        object: `"chat.completion"`.
        created: Unix time in seconds.
        model: The model that answered; it may differ from the one asked for.
        system_fingerprint: The backend configuration, where the server tells it.
        choices: One choice.
        usage: Token counts as billed.
    """

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The visible text of the first choice, `""` where there is none."""
        return (self.choices[0].message.content or "") if self.choices else ""

    @property
    def cost(self) -> Decimal | None:
        """What it cost in US dollars, by the time and the model asked for.

        `None` where the server sent no token counts or the model has no price. An
        answer that was not received by a client is priced by `model` and `created`.
        """
        return self._cost(self.usage, self.model, self.created)

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def is_finished(self) -> bool:
        """Whether the model came to an end of its own: `stop` or a call to make."""
        return self.finish_reason in {"stop", "tool_calls", "function_call"}

    @property
    def is_reasoning_only(self) -> bool:
        """Whether there is reasoning but neither visible text nor a call to make."""
        if not self.choices or not self.is_empty:
            return False
        return bool(self.choices[0].message.reasoning_content)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither visible text nor a call to make."""
        if not self.choices:
            return True
        message = self.choices[0].message
        return not (message.content or message.tool_calls or message.function_call)


class FunctionCallDelta(Struct, kw_only=True, gc=False):
    """A piece of a function call.

    Attributes:
        name: The name, in the first piece only.
        arguments: The next piece of the arguments' JSON text.
    """

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(
    Struct, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """A piece of a tool call.

    Attributes:
        index: Which of the parallel calls it belongs to.
        id: The call's id, in the first piece only.
        type: `"function"`, in the first piece only.
        function: Its piece of name and arguments.
        extra: Fields this library does not know.
    """

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCallDelta | None = None
    extra: dict[str, Any] | None = field(default=None, name=EXTRA)


class Delta(
    Struct, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """What one chunk adds to the message.

    Attributes:
        role: `"assistant"`, usually in the first chunk only.
        content: The next piece of visible text.
        reasoning_content: The next piece of reasoning.
        tool_calls: Pieces of tool calls.
        function_call: A piece of a legacy function call.
        title: The conversation's title, in the last chunk.
        extra: Fields this library does not know.
    """

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionCallDelta | None = None
    title: str | None = None
    extra: dict[str, Any] | None = field(default=None, name=EXTRA)


class ChunkChoice(Struct, kw_only=True, gc=False):
    """The choice a chunk adds to.

    Attributes:
        index: Its place, 0.
        delta: What is added.
        finish_reason: Why the answer ended, in the last chunk.
        logprobs: Log probabilities of the added tokens, if asked for.
    """

    index: int = 0
    delta: Delta = field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletionChunk(Struct, kw_only=True, gc=False):
    """One payload of a stream.

    Attributes:
        id: The answer's id, the same in every chunk.
        object: `"chat.completion.chunk"`.
        created: Unix time in seconds, the same in every chunk.
        model: The model that answers.
        system_fingerprint: The backend configuration, where the server tells it.
        choices: One choice, or none in a chunk that only carries usage.
        usage: Token counts, on the last chunk.
    """

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[ChunkChoice] = []
    usage: Usage | None = None
