"""`client.chat`: the endpoint, and what is built on it.

The rooms that build on the endpoint know nothing of each other; here they become
methods beside `create`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar, Unpack, overload

from .endpoints import ChatCompletions, accepted
from .params import ChatCompletionParams
from .structured import (
    ParsedCompletion,
    ParseMode,
    ParseStream,
    parse,
    typed_request,
)
from .tools import ToolPolicy, answer_with_tools, checked_tool_policy
from .turns import AnswerTurn, TurnStream, finish
from .types.turn import Turn, TurnEvent

T = TypeVar("T")

# A type is passed as `Any` where checkers have no word for it: unions, `Annotated`.
# ruff: noqa: ANN401


class Completions(ChatCompletions):
    """`client.chat.completions`."""

    __slots__ = ()

    async def run_tools(
        self,
        *,
        policy: ToolPolicy | None = None,
        **params: Unpack[ChatCompletionParams],
    ) -> Turn:
        """Answer a conversation, running `@tool` functions the model calls.

            turn = await client.chat.completions.run_tools(
                model="deepseek-flash", messages=messages, tools=[get_weather]
            )
            messages += turn.messages
            print(turn.text)

        Calls of one answer run side by side. The model is told of arguments that do
        not fit, of unknown tools and, by default, of exceptions. Server tools and
        functions given as dicts pass through; a call of the latter ends the turn as
        `turn.pending`. A forced `tool_choice` applies to the first round only.

        An error ends the turn; once a tool has ended, its `so_far` holds the finished
        rounds and the ended calls, so that they need not be done twice.

        https://api-docs.deepseek.com/guides/tool_calls

        Args:
            policy: Limits, and what errors lead to; see `ToolPolicy`.
            **params: As `create`; `tools` may hold `@tool` functions.

        Returns:
            The turn: the final answer, the messages to append to the history, every
            call that was run, and the token counts and the cost of all rounds.

        Raises:
            ConfigurationError: `policy` is no `ToolPolicy`.
            ToolDefinitionError: Two tools have one name, or a tool is a bare function.
            MissingReasoningError: A message of the history lost its reasoning.
            ToolRoundsExceededError: The model does not stop calling.
            InvalidToolCallError: The model does not learn to call properly.
            ToolExecutionError: A tool raised, and the policy is to stop.
            DeepSeekError: As `create`.
        """
        events = answer_with_tools(self, params, policy)
        del params  # no frame of a traceback may show the prompt
        return await finish(events)

    def stream_tools(
        self,
        *,
        policy: ToolPolicy | None = None,
        **params: Unpack[ChatCompletionParams],
    ) -> TurnStream:
        """As `run_tools`, streamed: every event of every round as it happens.

            async with client.chat.completions.stream_tools(...) as turn:
                async for event in turn:
                    ...

        Args:
            policy: Limits, and what errors lead to; see `ToolPolicy`.
            **params: As `create`; `tools` may hold `@tool` functions.

        Returns:
            The events: those of `ChatStream.events` for each answer, `ToolStarted`
            and `ToolEnded` for each call, `RoundFinished` after each round. Nothing
            is sent before the first one is asked for; leaving early cancels the
            answer and the tools that still run.

        Raises:
            DeepSeekError: While iterating, as `run_tools`.
        """
        return TurnStream(answer_with_tools(self, params, policy, stream=True))

    @overload
    async def parse(
        self,
        *,
        response_type: type[T],
        mode: ParseMode = "auto",
        max_repairs: int = 2,
        example: T | None = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ParsedCompletion[T]: ...
    @overload
    async def parse(
        self,
        *,
        response_type: Any,
        mode: ParseMode = "auto",
        max_repairs: int = 2,
        example: object = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ParsedCompletion[Any]: ...
    async def parse(
        self,
        *,
        response_type: Any,
        mode: ParseMode = "auto",
        max_repairs: int = 2,
        example: Any = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ParsedCompletion[Any]:
        """Answer with a value of a Python type.

            answer = await client.chat.completions.parse(
                model="deepseek-flash", messages=messages, response_type=City
            )
            print(answer.parsed.population)

        While the model thinks (the API's default) the answer comes in JSON mode, with
        the instruction and the schema put into the prompt after the system messages.
        With thinking off it comes from a strict tool that the model is made to call,
        if strict mode can express the type, and in JSON mode if not. Either way it is
        checked here, and a model that got it wrong is shown its error.

        https://api-docs.deepseek.com/guides/json_mode

        Args:
            response_type: A msgspec struct, dataclass, TypedDict, enum, union, list,
                pydantic model, ... Types that are no JSON object travel in one.
            mode: `json` or `tool` instead of what fits the request.
            max_repairs: How often to ask again after an answer that is empty or does
                not fit.
            example: A value to put into the prompt, in JSON mode, as an example.
            **params: As `create`, without functions and `response_format`.

        Returns:
            The value in `parsed`, with the completion, and the token counts and the
            cost of all attempts.

        Raises:
            SchemaError: JSON Schema cannot express the type.
            InvalidRequestError: An argument makes no sense here.
            InvalidAnswerError: No answer fitted.
            LengthFinishError: The answer was cut; raise `max_tokens`.
            RefusedAnswerError: The model refused to answer.
            EmptyAnswerError: The answers were empty.
            UnfinishedAnswerError: The answer was cut for another reason.
            DeepSeekError: As `create`.
        """
        made = typed_request(params, response_type, mode, example)
        del params, example  # no frame of a traceback may show the prompt
        return await parse(self, accepted(made), max_repairs=max_repairs)

    @overload
    def stream_parse(
        self,
        *,
        response_type: type[T],
        mode: ParseMode = "auto",
        example: T | None = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ParseStream[T]: ...
    @overload
    def stream_parse(
        self,
        *,
        response_type: Any,
        mode: ParseMode = "auto",
        example: object = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ParseStream[Any]: ...
    def stream_parse(
        self,
        *,
        response_type: Any,
        mode: ParseMode = "auto",
        example: Any = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ParseStream[Any]:
        """As `parse`, streamed: partial values while the answer grows.

        Needs the extra `partial-json`.

        Args:
            response_type: As `parse`.
            mode: As `parse`.
            example: As `parse`.
            **params: As `create`.

        Returns:
            The partial values, as plain JSON values, and at the end the checked one.
            Nothing is sent before the first one is asked for.

        Raises:
            MissingExtraError: The extra is not installed.
            SchemaError: JSON Schema cannot express the type.
            InvalidRequestError: An argument makes no sense here.
        """
        made = typed_request(params, response_type, mode, example)
        del params, example  # no frame of a traceback may show the prompt
        return ParseStream(self, accepted(made))


def turn_answerer(
    completions: ChatCompletions, policy: ToolPolicy | None
) -> AnswerTurn:
    """What a conversation needs of the client: turns answered, tools run.

    Args:
        completions: The endpoint.
        policy: How the tool loop behaves.

    Raises:
        ConfigurationError: `policy` is no `ToolPolicy`.
    """
    policy = checked_tool_policy(policy)

    def answer(
        params: Mapping[str, Any], *, stream: bool
    ) -> AsyncGenerator[TurnEvent, None]:
        return answer_with_tools(completions, params, policy, stream=stream)

    return answer
