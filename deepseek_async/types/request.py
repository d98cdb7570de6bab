"""What a chat request may hold: messages, tools, options.

Plain dicts of the same shape are taken everywhere; these structs spell the shapes
out for editors and type checkers. Their `repr` leaves the content out, so that a
prompt does not end up in a log by accident.

https://api-docs.deepseek.com/api/create-chat-completion
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from .chat import ChatCompletionMessage, FunctionCall, ToolCall
from .discreet import Discreet


class RequestStruct(Discreet, Struct):
    """A part of a request; its `repr` names its type and nothing of its content."""


class TextPart(RequestStruct, kw_only=True):
    """A piece of text in a user message."""

    text: str
    type: Literal["text"] = "text"


class ImageURL(RequestStruct, kw_only=True, omit_defaults=True):
    """Where an image is.

    Attributes:
        url: An http(s) URL of at most 8,192 characters, or a data URL.
        detail: `low`, `high`, `original` or `auto`.
    """

    url: str
    detail: str | None = None


class ImagePart(RequestStruct, kw_only=True):
    """An image in a user message.

    See https://api-docs.deepseek.com/guides/vision
    """

    image_url: ImageURL | dict[str, Any]
    type: Literal["image_url"] = "image_url"


class FilePart(RequestStruct, kw_only=True):
    """An uploaded file by id, or an inline one by data URL and name.

    Attributes:
        file_id: The id of an uploaded file.
        file_data: The content of an inline file, as a data URL.
        filename: The name of an inline file.
    """

    file_id: str | UnsetType = UNSET
    file_data: str | UnsetType = UNSET
    filename: str | UnsetType = UNSET
    type: Literal["file"] = "file"


ContentPart: TypeAlias = TextPart | ImagePart | FilePart | Mapping[str, Any]
Content: TypeAlias = str | Sequence[ContentPart]


class SystemMessage(RequestStruct, kw_only=True):
    """Instructions for the model."""

    content: str
    name: str | UnsetType = UNSET
    role: Literal["system"] = "system"


class UserMessage(RequestStruct, kw_only=True):
    """What the user says: text, or parts of text, images and files."""

    content: Content
    name: str | UnsetType = UNSET
    role: Literal["user"] = "user"


class AssistantMessage(RequestStruct, kw_only=True):
    """What the assistant said, or with `prefix=True` how its answer must begin.

    Attributes:
        content: The visible text.
        reasoning_content: The reasoning that preceded it.
        tool_calls: The calls it made.
        prefix: Continue this text (beta: routed there by itself).
            See https://api-docs.deepseek.com/guides/chat_prefix_completion
        name: Who it is, among several assistants.
        function_call: The legacy form of a tool call.
    """

    content: str | None = None
    reasoning_content: str | UnsetType | None = UNSET
    tool_calls: Sequence[ToolCall | Mapping[str, Any]] | UnsetType = UNSET
    prefix: bool | UnsetType = UNSET
    name: str | UnsetType = UNSET
    function_call: FunctionCall | Mapping[str, Any] | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"


class ToolMessage(RequestStruct, kw_only=True):
    """The result of a tool call.

    Attributes:
        content: The result as text (or parts).
        tool_call_id: The id of the call it answers.
    """

    content: Content
    tool_call_id: str
    role: Literal["tool"] = "tool"


class LatestReminderMessage(RequestStruct, kw_only=True):
    """User metadata, placed right before the user message it describes.

    Attributes:
        content: `date,weekday,location,platform,language`.
            See https://api-docs.deepseek.com/zh-cn/guides/latest_reminder
    """

    content: str
    role: Literal["latest_reminder"] = "latest_reminder"


Message: TypeAlias = (
    SystemMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | LatestReminderMessage
    | ChatCompletionMessage
    | Mapping[str, Any]
)
"""Anything `messages` may hold."""

PlainMessage: TypeAlias = dict[str, Any]
"""A message as the wire has it: JSON values only."""


class FunctionDefinition(RequestStruct, kw_only=True):
    """A function the model may call.

    Attributes:
        name: Letters, digits, `_` and `-`, at most 128.
        description: What it does and when to call it.
        parameters: JSON Schema of its parameters; left out, it takes none.
        strict: Hold the model to the schema (beta: routed there by itself).
            See https://api-docs.deepseek.com/guides/tool_calls
    """

    name: str
    description: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class FunctionTool(RequestStruct, kw_only=True):
    """A tool that the caller executes."""

    function: FunctionDefinition | dict[str, Any]
    type: Literal["function"] = "function"


class ServerTool(RequestStruct, kw_only=True):
    """A tool that the service executes.

    Attributes:
        type: `deepseek_web_search` or `deepseek_read_url`.
            See https://api-docs.deepseek.com/guides/web_tools
    """

    type: str


Tool: TypeAlias = FunctionTool | ServerTool | Mapping[str, Any]


class Thinking(RequestStruct, kw_only=True):
    """The thinking switch: `enabled` (the default of the API) or `disabled`."""

    type: Literal["enabled", "disabled"] | str = "enabled"


class ResponseFormat(RequestStruct, kw_only=True):
    """The answer's format: `text` or `json_object`."""

    type: Literal["text", "json_object"] | str = "text"


class StreamOptions(RequestStruct, kw_only=True):
    """Options of a stream: whether each chunk has a `usage` key."""

    include_usage: bool = True


class TitleOptions(RequestStruct, kw_only=True):
    """Whether to make a conversation title along with the answer."""

    enabled: bool = True


class SafetyCheck(RequestStruct, kw_only=True):
    """How strictly to review content: `low` (the default) or `high`."""

    level: Literal["low", "high"] | str = "low"


class ChatCompletionRequest(RequestStruct, kw_only=True, omit_defaults=True):
    """The body of a chat request; `None` means the field is not sent.

    The fields are those of `ChatCompletionParams`, which documents them.
    """

    messages: Sequence[Message]
    model: str
    thinking: Thinking | Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | Sequence[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | Mapping[str, Any] | None = None
    response_format: ResponseFormat | Mapping[str, Any] | None = None
    tools: Sequence[Tool] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user_id: str | None = None
    title: TitleOptions | Mapping[str, Any] | None = None
    safety_check: SafetyCheck | Mapping[str, Any] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    functions: Sequence[FunctionDefinition | Mapping[str, Any]] | None = None
    function_call: str | Mapping[str, Any] | None = None
    n: int | None = None
