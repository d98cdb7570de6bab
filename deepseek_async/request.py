"""The caller's parameters, checked and encoded into one wire request.

Nothing here raises: what is wrong comes back as an error for the caller to raise
from a frame that no longer holds the prompt, so that no traceback shows it.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeGuard, TypeVar

import msgspec
from msgspec import Struct

from .checking import checked_fields, encoded, refuse_binary, try_to_encode
from .errors import (
    ConfigurationError,
    DeepSeekError,
    DeepSeekWarning,
    InvalidRequestError,
)
from .fields import (
    IGNORED,
    INSTEAD,
    NESTED,
    OPTIONS,
    RENAMED,
    WITHDRAWN,
    WITHOUT_EFFECT,
    ChatShape,
    FIMShape,
)
from .plain import plain_chat
from .retry import RetryPolicy
from .salvage import is_array, is_mapping, is_object
from .settings import check_headers
from .timeouts import Timeouts
from .types.chat import ChatCompletionMessage, ToolCall, tool_call_to_dict
from .types.discreet import Discreet
from .types.request import RequestStruct

T = TypeVar("T")

_PACKAGE: Final = __name__.partition(".")[0]
_MISREAD: Final = frozenset({bytes, bytearray, memoryview, float})
_LOOP: Final = ("asyncio",)
"""Between a batch, which is a task, and who started the loop."""

_CHAT: Final = "/chat/completions"

_FIELDS: Final[Mapping[type[Struct], frozenset[str]]] = {
    shape: frozenset(shape.__struct_fields__) for shape in (ChatShape, FIMShape)
}


class WireRequest(Discreet, Struct, eq=False, gc=False):
    """One request, ready to be sent as often as needed. Its `repr` hides the body.

    Attributes:
        method: `GET` or `POST`.
        path: The path below the base URL.
        body: The encoded JSON body, empty for `GET`.
        beta: Whether it must go to the beta path.
        stream: Whether the answer is a stream.
        headers: Extra headers.
        timeouts: Clocks of this call, if not the client's.
        retry: Policy of this call, if not the client's.
        tag: The caller's label.
        model: The model asked for.
    """

    method: str
    path: str
    body: bytes = b""
    beta: bool = False
    stream: bool = False
    headers: dict[str, str] | None = None
    timeouts: Timeouts | None = None
    retry: RetryPolicy | None = None
    tag: str | None = None
    model: str | None = None

    def __repr__(self) -> str:
        return f"WireRequest({self.method} {self.path}, {len(self.body)} bytes)"


def _request(
    method: str, path: str, options: Mapping[str, Any], *, beta: bool = False
) -> WireRequest:
    """A request with the options of its call, its body still empty."""
    request = WireRequest(method, path, beta=beta)
    if not OPTIONS.isdisjoint(options):
        request.headers = check_headers(options.get("extra_headers"))
        request.timeouts = _timeouts_of(options)
        request.retry = _instance(options, "retry", RetryPolicy)
        request.tag = _instance(options, "tag", str)
    return request


def _instance(options: Mapping[str, Any], name: str, cls: type[T]) -> T | None:
    value: T | None = options.get(name)
    if value is not None and not isinstance(value, cls):
        message = f"{name} must be a {cls.__name__}, not {type(value).__name__}"
        raise InvalidRequestError(message, param=name)
    return value


def _timeouts_of(options: Mapping[str, Any]) -> Timeouts | None:
    found = _instance(options, "timeouts", Timeouts)
    seconds = options.get("timeout")
    if seconds is None or found is not None:
        return found
    message = "timeout must be a positive number of seconds"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        message = "timeout must be a number of seconds; pass Timeouts as timeouts="
    else:
        with suppress(ConfigurationError, OverflowError):
            return Timeouts.uniform(seconds)
    raise InvalidRequestError(message, param="timeout")


def chat_request(params: Mapping[str, Any]) -> WireRequest | DeepSeekError:
    """Check and encode the arguments of `chat.completions.create`.

    Args:
        params: The arguments (see `ChatCompletionParams`), `stream` among them.

    Returns:
        The request, or the error to raise: always one of this library's.
    """
    chat = plain_chat(params)  # the commonest kind, and much sooner checked
    body = None if chat is None else try_to_encode(chat)
    if chat is None or body is None:
        return _checked(_chat_request, params)
    if chat.model in WITHDRAWN:
        _warn_withdrawn(chat.model)
    return WireRequest(
        "POST", _CHAT, body, stream=chat.stream is True, model=chat.model
    )


def fim_request(params: Mapping[str, Any]) -> WireRequest | DeepSeekError:
    """Check and encode the arguments of `completions.create`.

    Args:
        params: The arguments (see `CompletionParams`), `stream` among them.

    Returns:
        The request, or the error to raise: always one of this library's.
    """
    return _checked(_fim_request, params)


def get_request(path: str, options: Mapping[str, Any]) -> WireRequest | DeepSeekError:
    """A request without a body.

    Args:
        path: The path below the base URL.
        options: See `CallOptions`.

    Returns:
        The request, or the error to raise: always one of this library's.
    """

    def build(given: Mapping[str, Any]) -> WireRequest:
        for name in given.keys() - OPTIONS:
            raise _unknown(name, OPTIONS)
        return _request("GET", path, given)

    return _checked(build, options)


def _checked(
    build: Callable[[Mapping[str, Any]], WireRequest], params: Mapping[str, Any]
) -> WireRequest | DeepSeekError:
    cause: Exception | None = None
    try:
        return build(params)
    except DeepSeekError as error:
        found = error
    except DeepSeekWarning:
        raise  # the caller wants warnings to be errors
    except Exception as error:  # noqa: BLE001 - the caller's types do what they like
        message = f"making the request raised {type(error).__name__}"
        if isinstance(error, RecursionError):
            message = "the request is nested too deeply, or holds itself"
        found, cause = InvalidRequestError(message), _of_the_caller(error)
    # Its frames and its context hold the parameters.
    found.__cause__, found.__context__ = cause, None
    return found.with_traceback(None)


def _of_the_caller(error: Exception) -> Exception | None:
    """What the caller's own code raised, without our frames; `None` if it did not."""
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback.tb_frame.f_globals):
        traceback = traceback.tb_next
    error.__context__ = None
    return error.with_traceback(traceback) if traceback is not None else None


def _chat_request(params: Mapping[str, Any]) -> WireRequest:
    wire, extra = _select(params, ChatShape)
    if "messages" in wire:
        wire["messages"] = _messages(wire["messages"])
    for name in ("tools", "functions"):
        if name in wire:
            wire[name] = [_tool(tool, name) for tool in _listed(wire[name], name)]
    for name in NESTED.intersection(wire):
        refuse_binary(wire[name], name)
    wire = checked_fields(wire, ChatShape)
    beta = _is_prefix(wire["messages"][-1]) or (
        "tools" in wire and any(map(_is_strict, wire["tools"]))
    )
    return _finish(_request("POST", _CHAT, params, beta=beta), wire, extra)


def _fim_request(params: Mapping[str, Any]) -> WireRequest:
    wire, extra = _select(params, FIMShape)
    wire = checked_fields(wire, FIMShape)
    return _finish(_request("POST", "/completions", params, beta=True), wire, extra)


def _finish(
    request: WireRequest, wire: dict[str, Any], extra: Mapping[str, Any] | None
) -> WireRequest:
    if extra:
        _check_names(extra)
        refuse_binary(extra, "extra_body")
        wire = {**wire, **extra}
    request.model = model = wire.get("model")
    if type(model) is str and model in WITHDRAWN:
        _warn_withdrawn(model)
    request.stream = wire.get("stream") is True
    if wire.get("stream_options") is not None and not request.stream:
        message = "stream_options needs stream=True"
        raise InvalidRequestError(message, param="stream_options")
    request.body = encoded(wire)
    return request


def _check_names(extra: Mapping[Any, Any]) -> None:
    for name in extra:
        if not isinstance(name, str):
            message = f"extra_body: names must be text, not {type(name).__name__}"
            raise InvalidRequestError(message, param="extra_body")


def _select(
    params: Mapping[str, Any], shape: type[Struct]
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Sort the arguments into fields of the body and `extra_body`."""
    known = _FIELDS[shape]
    wire: dict[str, Any] = {}
    for name, value in params.items():
        if value is None:
            continue
        if name in known:
            wire[name] = _plain(value) if isinstance(value, RequestStruct) else value
        elif name not in OPTIONS:
            _adopt(name, value, wire, shape)
    if not WITHOUT_EFFECT.isdisjoint(wire):
        _warn_without_effect(wire)
    extra = params.get("extra_body")
    if extra is not None and not is_object(extra):
        message = f"extra_body must be a dict, not {type(extra).__name__}"
        raise InvalidRequestError(message, param="extra_body")
    return wire, extra


def _adopt(name: str, value: object, wire: dict[str, Any], shape: type[Struct]) -> None:
    """See what another client's parameter is here."""
    if name in RENAMED:
        wire.setdefault(RENAMED[name], value)
        _warn(f"{name} is sent as {RENAMED[name]}, the API's name for it")
    elif name in IGNORED:
        _warn(f"the API knows no {name}: not sent (force it with extra_body)")
    else:
        raise _unknown(name, shape.__struct_fields__)


def _warn_without_effect(wire: Mapping[str, Any]) -> None:
    for name in sorted(WITHOUT_EFFECT.intersection(wire)):
        if wire[name]:
            _warn(f"the API ignores {name}")


def _warn_withdrawn(model: str) -> None:
    _warn(f"DeepSeek has withdrawn the model name {model}: use {WITHDRAWN[model]}")


def _warn(message: str) -> None:
    level = 1
    frame = inspect.currentframe()
    while frame is not None and _is_ours(frame.f_globals, *_LOOP):
        frame = frame.f_back
        level += 1
    warnings.warn(message, DeepSeekWarning, stacklevel=level)


def _is_ours(scope: Mapping[str, Any], *others: str) -> bool:
    return str(scope.get("__name__")).partition(".")[0] in (_PACKAGE, *others)


def _unknown(given: object, known: Iterable[str]) -> InvalidRequestError:
    name = str(given)
    if name in INSTEAD:
        message = f"unknown parameter {name!r}: {INSTEAD[name]}"
        return InvalidRequestError(message, param=name)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    message = (
        f"unknown parameter {name!r}: {hint}a field new to the API goes in extra_body"
    )
    return InvalidRequestError(message, param=name)


def _listed(values: Any, name: str) -> list[Any]:  # noqa: ANN401 - from the caller
    if is_array(values):
        return values
    if hasattr(values, "__iter__") and not _is_text_or_mapping(values):
        return list(values)
    message = f"{name} must be a list, not {type(values).__name__}"
    raise InvalidRequestError(message, param=name)


def _is_text_or_mapping(value: object) -> bool:
    return isinstance(value, str | bytes | Mapping)


def _is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable)


def _messages(messages: object) -> list[Any]:
    listed = _listed(messages, "messages")
    if not listed:
        message = "messages must hold one message at least"
        raise InvalidRequestError(message, param="messages")
    if type(listed) is list and all(map(_is_text, listed)):
        return listed  # as nearly always; a list of another kind may show other items
    plain: list[Any] = []
    for place, message in enumerate(listed):
        one = message if _is_plain(message) else _plain(message)
        plain.append(one)
        if is_object(one):
            content = one.get("content")
            is_list = isinstance(content, list | tuple)
            if is_list or not _MISREAD.isdisjoint(map(type, one.values())):
                refuse_binary(one, f"messages[{place}]")
    return plain


def _is_plain(value: object) -> TypeGuard[dict[str, Any]]:
    return type(value) is dict and "tool_calls" not in value


def _is_text(message: object) -> bool:
    """Whether a message is a dict of text, of which there is nothing to be made."""
    return (
        _is_plain(message)
        and type(message.get("content")) is str
        and _MISREAD.isdisjoint(map(type, message.values()))
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever the caller passed
    """A message or tool as a dict; anything else as it is, for the check to refuse."""
    if _is_plain(value):
        return value
    if isinstance(value, ChatCompletionMessage):
        return value.to_dict()
    if isinstance(value, RequestStruct):
        value = msgspec.structs.asdict(value)
        value = {k: v for k, v in value.items() if v is not msgspec.UNSET}
    elif is_mapping(value):
        value = dict(value)
    else:
        return value
    calls: object = value.get("tool_calls")
    if not isinstance(calls, str) and _is_iterable(calls):
        value["tool_calls"] = [
            tool_call_to_dict(call) if isinstance(call, ToolCall) else call
            for call in calls
        ]
    return value


def _tool(value: object, field: str) -> Any:  # noqa: ANN401 - see `_plain`
    if inspect.isroutine(value):
        message = f"{field}: a function is no tool yet; decorate it with @tool"
        raise InvalidRequestError(message, param=field)
    return _plain(value)


def _is_prefix(message: object) -> bool:
    return is_mapping(message) and bool(message.get("prefix"))


def _is_strict(tool: object) -> bool:
    function = tool.get("function") if is_mapping(tool) else None
    if is_mapping(function):
        return bool(function.get("strict"))
    return getattr(function, "strict", None) is True
