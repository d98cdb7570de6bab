"""The tool loop: ask, run what the model wants run, tell it, until it has answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from ..endpoints import ChatCompletions
from ..errors import (
    InvalidToolCallError,
    ToolDefinitionError,
    ToolRoundsExceededError,
)
from ..history import (
    answered_message,
    calls_for_caller,
    check_reasoning,
    field_of,
    plain_message,
    with_lists,
)
from ..turns import RoundAnswer, refuse_stream
from ..types.chat import ChatCompletion, ToolCall
from ..types.request import Message, PlainMessage
from ..types.turn import RoundFinished, ToolEnded, TurnEvent
from .calls import CallRunner, ToolPolicy, checked_tool_policy
from .definition import LocalTool


async def answer_with_tools(
    completions: ChatCompletions,
    params: Mapping[str, Any],
    policy: ToolPolicy | None = None,
    *,
    stream: bool = False,
) -> AsyncGenerator[TurnEvent, None]:
    """Answer one turn, running tools as often as the model asks for them.

    Tools that are not `LocalTool` pass through: those of the server are run there,
    and a call of a function that is only a dict ends the turn as `pending`, once the
    other calls of that answer have been run.

    Args:
        completions: The endpoint.
        params: The arguments of the chat request.
        policy: Limits and what errors lead to.
        stream: Whether the answers are streamed, with their events.

    Yields:
        The events of each answer, `ToolStarted` and `ToolEnded` of each call, and
        `RoundFinished` at the end of each round.

    Raises:
        ConfigurationError: `policy` is no `ToolPolicy`.
        ToolDefinitionError: Two tools have one name, or a tool is a bare function.
        MissingReasoningError: A message of the history lost its reasoning.
        ToolRoundsExceededError: The model does not stop calling.
        InvalidToolCallError: Nor does it learn to call properly.
        ToolExecutionError: A tool raised, and the policy is to stop.
        DeepSeekError: As `chat.completions.create`.
    """
    loop = _Loop(completions, params, checked_tool_policy(policy))
    for number in range(1, loop.policy.max_rounds + 1):
        async with aclosing(loop.round(number, stream=stream)) as events:
            async for event in events:
                yield event
        if loop.is_over:
            return
    raise ToolRoundsExceededError(loop.policy.max_rounds)


class _Loop:
    """What one turn carries from round to round."""

    __slots__ = (
        "_completions",
        "_declared",
        "_messages",
        "_params",
        "_repairs",
        "_runner",
        "is_over",
        "policy",
    )

    def __init__(
        self,
        completions: ChatCompletions,
        params: Mapping[str, Any],
        policy: ToolPolicy,
    ) -> None:
        refuse_stream(params, "stream_tools")
        params = with_lists(params)
        tools: list[object] = params.get("tools") or []
        local: dict[str, LocalTool[..., Any]] = {
            tool.name: tool for tool in tools if isinstance(tool, LocalTool)
        }
        self._declared = _names(tools)
        self._messages: list[Message] = list(params.get("messages") or ())
        self._params = {**params, "tools": tools or None}
        self._completions = completions
        self._runner = CallRunner(local, policy)
        self._declared -= local.keys()
        self._repairs = 0
        self.policy = policy
        self.is_over = False

    async def round(
        self, number: int, *, stream: bool
    ) -> AsyncGenerator[TurnEvent, None]:
        """Ask once, and run the calls of the answer."""
        request = {**self._params, "messages": list(self._messages)}
        if number > 1 and _is_forced(request.get("tool_choice")):
            request["tool_choice"] = "auto"  # forced again, it would never end
        check_reasoning(request)
        answer = RoundAnswer(self._completions, request)
        async with aclosing(answer.events(stream=stream)) as events:
            async for event in events:
                yield event
        calls = _calls_of(answer.completion)
        pending = tuple(c for c in calls if c.function.name in self._declared)
        own = [call for call in calls if call not in pending]
        results: list[ToolEnded] = []
        async with aclosing(self._runner.run(own, number)) as running:
            async for step in running:
                if isinstance(step, ToolEnded):
                    results.append(step)
                yield step
        yield self._finish(number, answer.completion, results, pending)

    def _finish(
        self,
        number: int,
        completion: ChatCompletion,
        results: list[ToolEnded],
        pending: tuple[ToolCall, ...],
    ) -> RoundFinished:
        added = _history_of(completion, results, self._params)
        self._messages += added
        self._count_repairs(results)
        self.is_over = bool(pending) or not results
        return RoundFinished(
            number=number,
            completion=completion,
            messages=tuple(added),
            pending=pending,
        )

    def _count_repairs(self, results: list[ToolEnded]) -> None:
        wrong = [r for r in results if r.error in {"unknown_tool", "invalid_arguments"}]
        self._repairs = self._repairs + 1 if wrong and wrong == results else 0
        if self._repairs > self.policy.max_repairs:
            name = wrong[-1].tool_call.function.name
            message = f"{self._repairs} rounds in a row called wrongly, last {name!r}"
            raise InvalidToolCallError(message, name=name, problem=str(wrong[-1].error))


def _names(tools: list[object]) -> set[str]:
    """The names of all functions, each once."""
    names: set[str] = set()
    for tool in tools:
        _refuse_bare(tool)
        name = field_of(field_of(tool, "function"), "name")
        if not isinstance(name, str):
            continue
        if name in names:
            message = f"two tools are called {name!r}"
            raise ToolDefinitionError(message)
        names.add(name)
    return names


def _refuse_bare(tool: object) -> None:
    if callable(tool) and not isinstance(tool, LocalTool):
        name = getattr(tool, "__name__", "the function")
        message = f"decorate {name!r} with @tool"
        raise ToolDefinitionError(message)


def _is_forced(choice: object) -> bool:
    return choice not in (None, "auto", "none")


def _calls_of(completion: ChatCompletion) -> list[ToolCall]:
    """The calls for the caller to make, each with an id of its own."""
    if not completion.choices:
        return []
    calls = calls_for_caller(completion.choices[0].message)
    seen: set[str] = set()
    for place, call in enumerate(calls):
        if not call.id or call.id in seen:
            call.id = f"call_{place:02d}_{len(seen)}"
        seen.add(call.id)
    return calls


def _history_of(
    completion: ChatCompletion, results: list[ToolEnded], params: Mapping[str, Any]
) -> list[PlainMessage]:
    if not completion.choices:
        return []
    content = {result.tool_call.id: result.content for result in results}
    added = [answered_message(completion.choices[0].message, params)]
    added += [
        plain_message(
            {"role": "tool", "tool_call_id": call.id, "content": content[call.id]}
        )
        for call in completion.choices[0].message.tool_calls or ()
        if call.id in content
    ]
    return added
