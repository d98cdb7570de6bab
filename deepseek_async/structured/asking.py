"""How a typed answer is asked for: in JSON mode, or by a strict tool.

Thinking mode refuses forced tools and the chat endpoint refuses `json_schema`, so
the ways are two. A forced strict tool makes the server keep to the schema, but it
takes a type that strict mode can express; JSON mode takes every type, with the schema
in the prompt, and is checked here.

https://api-docs.deepseek.com/guides/json_mode
https://api-docs.deepseek.com/guides/tool_calls
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from ..errors import DeepSeekError, InvalidRequestError, StrictSchemaError
from ..history import (
    calls_for_caller,
    field_of,
    is_thinking,
    plain_message,
    with_lists,
)
from ..schema import strict_schema
from ..turns import refuse_stream
from ..types.chat import ChatCompletion, ChatCompletionMessage
from ..types.request import Message
from .answer_format import AnswerFormat

T = TypeVar("T")

ParseMode: TypeAlias = Literal["auto", "json", "tool"]

TOOL_NAME: Final = "give_answer"
_OURS: Final = ("functions", "function_call", "response_format", "tool_choice")
_INSTRUCTION: Final = (
    "Answer with one JSON object and nothing else: no code fence, no words around it."
)
_AGAIN: Final = "Answer again with the whole JSON object, corrected."


class TypedRequest(Generic[T]):
    """A request for one typed answer, and what is added to it when it goes wrong.

    Args:
        params: The arguments of the chat request.
        answer: What the answer must look like.
        mode: How to ask; `auto` takes a strict tool where the request allows one.
        example: An answer for the model to imitate.

    Attributes:
        answer: What the answer must look like.
        mode: How it is asked for.

    Raises:
        InvalidRequestError: An argument makes no sense here, or `mode="tool"` cannot
            work.
        StrictSchemaError: `mode="tool"`, and strict mode cannot express the type.
    """

    __slots__ = ("_added", "_messages", "_params", "answer", "mode")

    def __init__(
        self,
        params: Mapping[str, Any],
        answer: AnswerFormat[T],
        mode: ParseMode = "auto",
        example: T | None = None,
    ) -> None:
        params = with_lists(params)
        _check(params)
        self.answer = answer
        self._params = params
        self._messages: list[Message] = list(params.get("messages") or ())
        self._added: list[Message] = []
        self.mode = _mode(params, answer, mode)
        if self.mode == "json":
            self._params["response_format"] = {"type": "json_object"}
            self._instruct(answer, example)
        else:
            function = {
                "name": TOOL_NAME,
                "description": "Give the answer in this form.",
                "parameters": strict_schema(answer.schema),
                "strict": True,
            }
            self._params["tools"] = [{"type": "function", "function": function}]
            choice = {"type": "function", "function": {"name": TOOL_NAME}}
            self._params["tool_choice"] = choice

    def _instruct(self, answer: AnswerFormat[T], example: T | None) -> None:
        """Say what to answer, after the system messages: a stable prefix."""
        parts = [_INSTRUCTION]
        if example is not None:
            parts.append(f"For example: {_written(answer, example)}")
        schema = msgspec.json.encode(answer.schema).decode()
        parts.append(f"It must fit this JSON Schema: {schema}")
        place = 0
        for message in self._messages:
            if field_of(message, "role") != "system":
                break
            place += 1
        self._messages.insert(place, {"role": "system", "content": "\n".join(parts)})

    @property
    def params(self) -> dict[str, Any]:
        """The arguments of the chat request, corrections included."""
        return {**self._params, "messages": [*self._messages, *self._added]}

    def correct(self, completion: ChatCompletion, problem: str) -> None:
        """Show the model its answer and what is wrong with it.

        Args:
            completion: The answer; an empty one is not shown, only asked for again.
            problem: What is wrong.
        """
        if not text_of(completion).strip():
            # The same request again: the client's own cache must not answer it.
            if self._params.get("cache_control") != "bypass":
                self._params["cache_control"] = "refresh"
            return
        message = completion.choices[0].message
        self._added.append(plain_message(message))
        told = f"That does not fit: {problem}. {_AGAIN}"
        calls = calls_for_caller(message)
        for call in calls:
            self._added.append(
                {"role": "tool", "tool_call_id": call.id, "content": told}
            )
        if not calls:
            self._added.append({"role": "user", "content": told})


def typed_request(
    params: Mapping[str, Any],
    response_type: Any,  # noqa: ANN401 - checkers have no word for unions
    mode: ParseMode = "auto",
    example: object = None,
) -> TypedRequest[Any] | DeepSeekError:
    """A `TypedRequest`, or the error to raise: where it arose a frame shows the prompt.

    Args:
        params: The arguments of the chat request.
        response_type: What the answer must be.
        mode: How to ask.
        example: An answer for the model to imitate.
    """
    try:
        return TypedRequest(params, AnswerFormat(response_type), mode, example)
    except DeepSeekError as error:
        return error.with_traceback(None)


def _written(answer: AnswerFormat[T], example: T) -> str:
    """An example as the model would write it, if it is one."""
    try:
        text = answer.write(example)
        answer.read(text)
    except (TypeError, ValueError, NotImplementedError, RecursionError) as error:
        problem = f"the example does not fit: {error}"
    else:
        return text
    raise InvalidRequestError(problem, param="example")


def text_of(completion: ChatCompletion) -> str:
    """The JSON text of an answer: a tool's arguments, or else the visible text."""
    if not completion.choices:
        return ""
    message: ChatCompletionMessage = completion.choices[0].message
    for call in calls_for_caller(message):
        return call.function.arguments
    return message.content or ""


def _check(params: Mapping[str, Any]) -> None:
    refuse_stream(params, "stream_parse")
    for name in _OURS:
        if params.get(name) is not None:
            message = f"{name} cannot be combined with a response_type"
            raise InvalidRequestError(message, param=name)
    for tool in params.get("tools") or ():
        if field_of(tool, "type") == "function":
            message = "run_tools first, then parse its messages: parse runs no tools"
            raise InvalidRequestError(message, param="tools")


def _mode(
    params: Mapping[str, Any], answer: AnswerFormat[Any], mode: ParseMode
) -> Literal["json", "tool"]:
    if mode not in {"auto", "json", "tool"}:
        message = "mode must be 'auto', 'json' or 'tool'"
        raise InvalidRequestError(message, param="mode")
    if mode == "json":
        return "json"
    obstacle = _obstacle(params)
    if obstacle is None and mode == "auto":
        try:
            strict_schema(answer.schema)
        except StrictSchemaError:
            return "json"
    if obstacle is not None and mode == "tool":
        message = f"mode='tool' cannot work with {obstacle}: forced tools are refused"
        raise InvalidRequestError(message, param="mode")
    return "json" if obstacle else "tool"


def _obstacle(params: Mapping[str, Any]) -> str | None:
    """What in a request makes the server refuse a forced tool."""
    if is_thinking(params):
        return "thinking"
    if field_of(params.get("safety_check"), "level") == "high":
        return "safety_check high"
    return "server tools" if params.get("tools") else None
