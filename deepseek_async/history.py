"""Messages as plain JSON values, and what thinking mode asks of a history.

https://api-docs.deepseek.com/guides/thinking_mode
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import msgspec
from msgspec import UNSET, Struct

from .decoders import make_ready
from .errors import InvalidRequestError, MissingReasoningError
from .salvage import is_mapping
from .types.chat import ChatCompletionMessage, ToolCall, tool_call_to_dict
from .types.request import Message, PlainMessage, RequestStruct


def plain_message(message: Message) -> PlainMessage:
    """A message of any form as JSON values of its own.

    Args:
        message: A dict, a message struct, or the message of an answer.

    Returns:
        A new dict that shares nothing with `message`; unknown fields are kept.

    Raises:
        InvalidRequestError: It is no message, or holds something JSON cannot.
    """
    try:
        plain: PlainMessage | None = msgspec.to_builtins(
            _opened(message), enc_hook=_opened
        )
    except (TypeError, ValueError, NotImplementedError, RecursionError):
        plain = None
    if plain is not None and isinstance(plain.get("role"), str):
        return plain
    problem = "a message must be JSON with a role"
    raise InvalidRequestError(problem, param="messages")


class _FunctionShape(Struct):
    name: str
    arguments: str = ""


class _CallShape(Struct):
    id: str
    type: str | None = None
    function: _FunctionShape | None = None


class _PartShape(Struct):
    type: str | None = None
    text: str | None = None


class _HistoryShape(Struct):
    """What is looked at in a message: the JSON types, where they matter here."""

    role: str
    content: str | list[_PartShape] | None = None
    tool_calls: list[_CallShape] | None = None
    tool_call_id: str | None = None


def find_misshapen(message: PlainMessage) -> str:
    """Find what makes a message none that can be counted, grouped and answered.

    Args:
        message: The message as JSON values.

    Returns:
        What is wrong and where; empty text if nothing is.
    """
    make_ready(_HistoryShape)
    try:
        msgspec.convert(message, _HistoryShape)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _opened(value: object) -> object:
    if isinstance(value, ChatCompletionMessage):
        return value.to_dict()
    if isinstance(value, RequestStruct):
        fields = msgspec.structs.asdict(value)
        return _opened({k: v for k, v in fields.items() if v is not UNSET})
    if is_mapping(value):
        # msgspec encodes these structs itself, but not as the server takes them back.
        return {k: _calls(v) if k == "tool_calls" else v for k, v in value.items()}
    raise NotImplementedError


def _calls(calls: object) -> object:
    if not _is_sequence(calls):
        return calls
    return [tool_call_to_dict(c) if isinstance(c, ToolCall) else c for c in calls]


def _is_sequence(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, list | tuple)


def with_lists(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a chat request, what may come as an iterator as a list.

    What builds on a request looks at its tools and messages more than once.

    Args:
        params: The arguments; they are not changed.

    Raises:
        InvalidRequestError: One of them cannot be listed.
    """
    found = dict(params)
    for name in ("messages", "tools", "functions"):
        value: object = found.get(name)
        if value is not None and not _is_sequence(value):
            found[name] = listed(value, name)
    return found


def listed(value: object, name: str) -> list[Any]:
    """What can be iterated as a list; texts and mappings are no lists.

    Args:
        value: What a caller gave.
        name: The argument it was given as.

    Raises:
        InvalidRequestError: It is no list.
    """
    if not (isinstance(value, str | bytes) or is_mapping(value)) and _is_iterable(
        value
    ):
        return list(value)
    message = f"{name} must be a list, not {type(value).__name__}"
    raise InvalidRequestError(message, param=name)


def _is_iterable(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable)


def is_for_caller(kind: object) -> bool:
    """Whether a call is the caller's to answer.

    Calls of any other type are those that the server makes itself.

    Args:
        kind: The call's type.
    """
    return kind is None or kind in ("", "function")


def calls_for_caller(message: ChatCompletionMessage) -> list[ToolCall]:
    """The calls of a message that the caller has to answer.

    Args:
        message: The message of an answer.
    """
    return [call for call in message.tool_calls or () if is_for_caller(call.type)]


def field_of(value: object, name: str) -> object:
    """A field of a mapping or of a struct; `None` where it has none.

    Args:
        value: What a caller may pass as a message, a tool or an option.
        name: The field.
    """
    if is_mapping(value):
        return value.get(name)
    return getattr(value, name, None)


def is_thinking(params: Mapping[str, Any]) -> bool:
    """Whether a request thinks; the API's default is that it does.

    Args:
        params: The arguments of a chat request.
    """
    if params.get("reasoning_effort") == "none":
        return False
    return field_of(params.get("thinking"), "type") != "disabled"


def find_missing_reasoning(
    messages: Iterable[Message], tools: Iterable[object] | None
) -> tuple[int, ...]:
    """Find the messages for which thinking mode would answer 400.

    When a request thinks and carries tools, every assistant message in it, also one
    that made no call, must have its `reasoning_content`.

    https://api-docs.deepseek.com/guides/thinking_mode

    Args:
        messages: What is to be sent.
        tools: The tools of the request; without any, nothing can be missing.

    Returns:
        The places of the assistant messages without `reasoning_content`, none for
        a history in order. Empty text counts as present. An answer prefix needs none.
    """
    if not tools:
        return ()
    return tuple(
        index for index, message in enumerate(messages) if _lacks_reasoning(message)
    )


def _lacks_reasoning(message: Message) -> bool:
    if field_of(message, "role") != "assistant" or field_of(message, "prefix") is True:
        return False
    return not isinstance(field_of(message, "reasoning_content"), str)


def with_empty_reasoning(message: PlainMessage) -> PlainMessage:
    """An assistant message that has its reasoning, be it an empty one.

    Args:
        message: Any message; it is returned itself if it needs nothing.
    """
    if not _lacks_reasoning(message):
        return message
    return {**message, "reasoning_content": ""}


def answered_message(
    message: ChatCompletionMessage, params: Mapping[str, Any]
) -> PlainMessage:
    """The message of an answer as it goes back to the server.

    Args:
        message: The answer's message. If it was to think and sent no reasoning, the
            reasoning is empty, not lost.
        params: The arguments of the request it answers.
    """
    plain = plain_message(message)
    return with_empty_reasoning(plain) if is_thinking(params) else plain


def check_reasoning(params: Mapping[str, Any]) -> None:
    """Refuse a request that thinking mode would refuse.

    Args:
        params: The arguments of a chat request; `messages` and `tools` are lists.

    Raises:
        MissingReasoningError: An assistant message lost its reasoning.
    """
    if is_thinking(params):
        missing = find_missing_reasoning(params["messages"], params.get("tools"))
        if missing:
            raise MissingReasoningError(missing)
