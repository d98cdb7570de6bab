"""`client.chat`: the endpoint, and what is built on it.

The rooms that build on the endpoint know nothing of each other; here they become
methods beside `create`.
"""

from __future__ import annotations

from typing import Unpack

from .endpoints import ChatCompletions
from .params import ChatCompletionParams
from .tools import ToolPolicy, answer_with_tools
from .turns import Turn, TurnStream, finish


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

        https://api-docs.deepseek.com/guides/tool_calls

        Args:
            policy: Limits, and what errors lead to; see `ToolPolicy`.
            **params: As `create`; `tools` may hold `@tool` functions.

        Returns:
            The turn: the final answer, the messages to append to the history, every
            call that was run, and the token counts of all rounds.

        Raises:
            ToolDefinitionError: Two tools have one name, or a tool is a bare function.
            MissingReasoningError: A message of the history lost its reasoning.
            ToolRoundsExceededError: The model does not stop calling.
            InvalidToolCallError: The model does not learn to call properly.
            ToolExecutionError: A tool raised, and the policy is to stop.
            DeepSeekError: As `create`.
        """
        return await finish(answer_with_tools(self, params, policy))

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
