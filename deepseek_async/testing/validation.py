"""What the service refuses in a chat request, in its own words.

Each check takes the request and raises a `WireError`; the catalogue of texts is
https://api-docs.deepseek.com/quick_start/error_codes and what real traffic showed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from .catalogue import MAX_OUTPUT, Model
from .strict import check_strict_tools
from .tools import forced_choice
from .wire import (
    UNPROCESSABLE,
    Body,
    WireError,
    describe,
    deserialize_failure,
    is_array,
    is_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_ROLES: Final = ("system", "user", "assistant", "tool", "latest_reminder")
_EFFORTS: Final = frozenset(
    {"none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"}
)
_TOOL_TYPES: Final = frozenset({"function", "deepseek_web_search", "deepseek_read_url"})
_MAX_STOPS: Final = 16
_MAX_TOP_LOGPROBS: Final = 20
_MAX_TEMPERATURE: Final = 2
_MAX_USER_ID: Final = 512
_MAX_NAME: Final = 128


class ChatCall(msgspec.Struct, frozen=True):
    """One chat request as the checks see it.

    Attributes:
        body: The decoded request.
        model: The model it names.
        beta: Whether it came in on the beta base.
        size: Bytes of the request, which the service quotes as a column.
    """

    body: Body
    model: Model
    beta: bool
    size: int

    @property
    def thinks(self) -> bool:
        """Whether the answer begins with reasoning."""
        if self.body.get("reasoning_effort") == "none":
            return False
        thinking: Body | None = self.body.get("thinking")
        if thinking is None:
            return self.model.thinks
        return bool(thinking.get("type", "enabled") == "enabled")

    def mistyped(self, field: str, problem: str, status: int = 400) -> NoReturn:
        """Refuse a field of the wrong type."""
        raise WireError(status, deserialize_failure(field, problem, self.size))


def check_chat(call: ChatCall) -> None:
    """Refuse a chat request that the service would refuse.

    Raises:
        WireError: 400, or 422 for a malformed ``thinking``.
    """
    for check in _CHECKS:
        check(call)


def _messages(call: ChatCall) -> None:
    messages: object = call.body.get("messages")
    if "messages" not in call.body:
        call.mistyped("", "missing field `messages`")
    if not is_array(messages):
        problem = f"invalid type: {describe(messages)}, expected a sequence"
        call.mistyped("messages", problem)
    if not messages:
        raise WireError(400, "Empty input messages")
    for index, message in enumerate(messages):
        _message(call, f"messages[{index}]", message)


def _message(call: ChatCall, where: str, message: object) -> None:
    if not is_object(message):
        problem = f"invalid type: {describe(message)}, expected a map"
        call.mistyped(where, problem)
    role = message.get("role")
    roles = (*_ROLES, "function") if call.body.get("functions") else _ROLES
    if role not in roles:
        names = ", ".join(f"`{name}`" for name in _ROLES)
        problem = f"unknown variant `{role}`, expected one of {names}"
        call.mistyped(f"{where}.role", problem)
    _content(call, where, message)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        call.mistyped(where, "missing field `tool_call_id`")


def _content(call: ChatCall, where: str, message: Body) -> None:
    role, content = message["role"], message.get("content")
    if isinstance(content, str) or (content is None and role == "assistant"):
        return
    if is_array(content) and role in {"user", "tool"}:
        for part in content:
            if not is_object(part) or "type" not in part:
                call.mistyped(f"{where}.content", "missing field `type`")
        return
    problem = f"invalid type: {describe(content)}, expected a string"
    call.mistyped(f"{where}.content", problem)


def _tool_order(call: ChatCall) -> None:
    awaited: list[str] = []
    for message in call.body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in awaited:
                raise WireError(
                    400,
                    "Messages with role 'tool' must be a response to a preceding "
                    "message with 'tool_calls'",
                )
            awaited.remove(message["tool_call_id"])
            continue
        _refuse_unanswered(awaited)
        awaited = [tool["id"] for tool in message.get("tool_calls") or ()]
    _refuse_unanswered(awaited)


def _refuse_unanswered(awaited: list[str]) -> None:
    if awaited:
        missing = ", ".join(awaited)
        raise WireError(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages "
            "responding to each 'tool_call_id'. The following tool_call_ids did not "
            f"have response messages: {missing}",
        )


def _thinking(call: ChatCall) -> None:
    thinking: object = call.body.get("thinking")
    if thinking is not None and not is_object(thinking):
        problem = f"invalid type: {describe(thinking)}, expected struct ThinkingOptions"
        call.mistyped("thinking", problem, UNPROCESSABLE)
    kind = call.body["thinking"].get("type") if thinking else None
    if kind not in {None, "enabled", "disabled"}:
        problem = f"unknown variant `{kind}`, expected `enabled` or `disabled`"
        call.mistyped("thinking.type", problem)
    effort = call.body.get("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        call.mistyped("reasoning_effort", f"unknown variant `{effort}`")


def _reasoning_returned(call: ChatCall) -> None:
    if not call.thinks or not call.body.get("tools"):
        return
    for message in call.body["messages"]:
        if message["role"] != "assistant" or message.get("prefix"):
            continue
        if not isinstance(message.get("reasoning_content"), str):
            raise WireError(
                400,
                "The `reasoning_content` in the thinking mode must be passed back to "
                "the API.",
            )


def _prefix(call: ChatCall) -> None:
    messages: list[Body] = call.body["messages"]
    marked = [index for index, message in enumerate(messages) if message.get("prefix")]
    if not marked:
        return
    if not call.beta:
        raise WireError(
            400,
            "prefix completion is only available when using beta api "
            '(set base_url="https://api.deepseek.com/beta")',
        )
    last = len(messages) - 1
    if marked != [last] or messages[last]["role"] != "assistant":
        raise WireError(400, "The prefix message must be the last assistant message")


def _numbers(call: ChatCall) -> None:
    body = call.body
    check_max_tokens(body.get("max_tokens"), MAX_OUTPUT)
    if body.get("n") not in {None, 1}:
        raise WireError(400, "Invalid n value (currently only n = 1 is supported)")
    check_range("temperature", body.get("temperature"), _MAX_TEMPERATURE)
    check_range("top_p", body.get("top_p"), 1)
    top = body.get("top_logprobs")
    check_range("top_logprobs", top, _MAX_TOP_LOGPROBS)
    if top is not None and not body.get("logprobs"):
        raise WireError(400, "top_logprobs can only be set when logprobs is true")


def check_max_tokens(value: object, limit: int) -> None:
    """Refuse a ``max_tokens`` outside 1 to `limit`."""
    if value is None:
        return
    if not isinstance(value, int) or value is True or not 1 <= value <= limit:
        raise WireError(
            400,
            f"Invalid max_tokens value, the valid range of max_tokens is [1, {limit}]",
        )


def check_range(field: str, value: object, high: float) -> None:
    """Refuse a number outside 0 to `high`."""
    if value is None:
        return
    number = None if isinstance(value, bool) else value
    if not isinstance(number, int | float) or not 0 <= number <= high:
        raise WireError(
            400, f"Invalid {field} value, the valid range of {field} is [0, {high}]"
        )


def check_stop(stop: object) -> None:
    """Refuse stop sequences that are not text or too many."""
    if stop is None or isinstance(stop, str):
        return
    if not is_array(stop):
        raise WireError(400, "Invalid stop value, expected a string or an array")
    if len(stop) > _MAX_STOPS or not all(isinstance(s, str) for s in stop):
        raise WireError(
            400, f"Invalid stop value, at most {_MAX_STOPS} strings are supported"
        )


def check_stream_options(body: Body) -> None:
    """Refuse ``stream_options`` without ``stream``."""
    if body.get("stream_options") is not None and not body.get("stream"):
        raise WireError(400, "stream_options should be set along with stream = true")


def _formats(call: ChatCall) -> None:
    check_stop(call.body.get("stop"))
    check_stream_options(call.body)
    wanted: Body = call.body.get("response_format") or {}
    kind = wanted.get("type", "text")
    if kind == "json_schema":
        raise WireError(400, "This response_format type is unavailable now")
    if kind not in {"text", "json_object"}:
        call.mistyped("response_format.type", f"unknown variant `{kind}`")
    if kind == "json_object" and not _says_json(call.body["messages"]):
        raise WireError(
            400,
            "Prompt must contain the word 'json' in some form to use "
            "'response_format' of type 'json_object'.",
        )


def _says_json(messages: list[Body]) -> bool:
    return any("json" in str(message.get("content")).lower() for message in messages)


def _tools(call: ChatCall) -> None:
    tools: list[Any] = call.body.get("tools") or []
    for index, tool in enumerate(tools):
        kind = tool.get("type") if is_object(tool) else None
        if kind not in _TOOL_TYPES:
            problem = f"unknown variant `{kind}`, expected `function`"
            call.mistyped(f"tools[{index}].type", problem)
    functions: list[Body] = [
        tool.get("function") or {} for tool in tools if tool["type"] == "function"
    ]
    functions.extend(call.body.get("functions") or [])
    _function_names([function.get("name") for function in functions])
    if call.beta:
        check_strict_tools(functions)


def _function_names(names: list[object]) -> None:
    for name in names:
        plain = isinstance(name, str) and name.replace("-", "_").isascii()
        if not plain or not 0 < len(str(name)) <= _MAX_NAME:
            raise WireError(400, f"Invalid function name: {name}")
        if not str(name).replace("-", "_").replace("_", "a").isalnum():
            raise WireError(400, f"Invalid function name: {name}")
    if len(set(names)) < len(names):
        raise WireError(400, "Tool names must be unique.")


def _tool_choice(call: ChatCall) -> None:
    choice = forced_choice(call.body)
    if choice in {"none", "auto"}:
        return
    if call.thinks:
        raise WireError(400, "Thinking mode does not support this tool_choice")
    safety: Body = call.body.get("safety_check") or {}
    if safety.get("level") == "high":
        raise WireError(400, "safety_check high does not support this tool_choice")


def _app_features(call: ChatCall) -> None:
    safety: object = call.body.get("safety_check")
    if safety is not None:
        level = call.body["safety_check"].get("level") if safety else None
        if level not in {"low", "high"}:
            raise WireError(400, "Invalid safety_check level, expected low or high")
    user: object = call.body.get("user_id")
    if user is None:
        return
    if not isinstance(user, str) or len(user.encode()) > _MAX_USER_ID:
        raise WireError(400, f"Invalid user_id, at most {_MAX_USER_ID} bytes")


_CHECKS: Final[tuple[Callable[[ChatCall], None], ...]] = (
    _messages,
    _thinking,
    _numbers,
    _formats,
    _tools,
    _tool_choice,
    _app_features,
    _tool_order,
    _reasoning_returned,
    _prefix,
)
