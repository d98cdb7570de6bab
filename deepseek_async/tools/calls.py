"""The calls of one answer: run side by side, their results in the calls' order."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import anyio
import msgspec
from msgspec import Struct

from ..errors import ConfigurationError, ToolExecutionError
from ..schema import error_text, readable
from ..types.chat import ToolCall
from ..types.turn import ToolEnded, ToolStarted
from .definition import LocalTool

OnToolError: TypeAlias = Literal["tell", "raise"] | Callable[[ToolCall, Exception], str]
_Fault: TypeAlias = Literal["unknown_tool", "invalid_arguments", "timeout", "exception"]

_MAX_ERROR: Final = 1_000


class ToolPolicy(Struct, kw_only=True, frozen=True):
    """How the tool loop behaves.

    Attributes:
        max_rounds: The most requests of one turn; a model that still wants calls
            made then ends the turn with `ToolRoundsExceededError`.
        max_parallel: The most tools running at once.
        timeout: Seconds one call may run; the model is told when it ran out. `None`
            for no limit.
        max_repairs: How many rounds in a row may consist of invalid calls only
            (unknown tools, arguments that do not fit), each told to the model,
            before `InvalidToolCallError` ends the turn.
        on_error: What an exception of a tool leads to. `tell`: the model reads its
            type and text and goes on; `raise`: the turn ends with
            `ToolExecutionError`; a function makes the text that the model reads.
        max_result: The most characters of a text or of JSON; what is longer is cut,
            and the model is told so. Content parts are sent as they are.
    """

    max_rounds: int = 16
    max_parallel: int = 8
    timeout: float | None = 60.0
    max_repairs: int = 3
    on_error: OnToolError = "tell"
    max_result: int = 200_000

    def __post_init__(self) -> None:
        counts = (self.max_rounds, self.max_parallel, self.max_result)
        if not all(is_number(count, 1) for count in counts):
            message = "max_rounds, max_parallel and max_result must be 1 or more"
            raise ConfigurationError(message)
        if not is_number(self.max_repairs, 0):
            message = "max_repairs must be 0 or more"
            raise ConfigurationError(message)
        if self.timeout is not None and not (
            is_number(self.timeout, 0) and self.timeout > 0
        ):
            message = "timeout must be a positive number of seconds, or None"
            raise ConfigurationError(message)
        if not callable(self.on_error) and self.on_error not in {"tell", "raise"}:
            message = "on_error must be 'tell', 'raise' or a function"
            raise ConfigurationError(message)


def checked_tool_policy(policy: object) -> ToolPolicy:
    """Return a policy, the default one for `None`, or refuse what is none.

    Args:
        policy: What a caller gave as one.

    Raises:
        ConfigurationError: It is no `ToolPolicy`.
    """
    if policy is None:
        return ToolPolicy()
    if not isinstance(policy, ToolPolicy):
        kind = type(policy).__name__
        message = f"policy must be a ToolPolicy, such as ToolPolicy(...), not {kind}"
        raise ConfigurationError(message)
    return policy


class CallRunner:
    """Runs calls of local tools within one turn.

    Args:
        tools: The tools by name.
        policy: How to run them.
    """

    __slots__ = ("_limit", "_policy", "_threads", "_tools")

    def __init__(
        self, tools: Mapping[str, LocalTool[..., Any]], policy: ToolPolicy
    ) -> None:
        self._tools = tools
        self._policy = policy
        self._limit = anyio.Semaphore(policy.max_parallel)
        self._threads = anyio.CapacityLimiter(policy.max_parallel)

    async def run(
        self, calls: Sequence[ToolCall], number: int
    ) -> AsyncGenerator[ToolStarted | ToolEnded, None]:
        """Run the calls of one answer, `max_parallel` at a time.

        Leaving the generator cancels what still runs, and waits for its end.

        Args:
            calls: The calls.
            number: The round they belong to.

        Yields:
            A `ToolStarted` for each call, those that wait for `max_parallel`
            included, then a `ToolEnded` as each one ends.

        Raises:
            ToolExecutionError: A tool raised, and the policy is to stop.
        """
        for call in calls:
            yield ToolStarted(tool_call=call, round=number)
        running = {
            asyncio.create_task(self._run(call, number), name=call.function.name)
            for call in calls
        }
        waiting = set(running)
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, return_when=asyncio.FIRST_COMPLETED
                )
                if any(map(_has_failed, done)):
                    await _cancel(waiting)  # what ends all the same is not lost
                    done |= waiting
                for task in sorted(done, key=_turn_of):
                    yield task.result()
        finally:
            await _cancel(running)

    async def _run(self, call: ToolCall, number: int) -> ToolEnded:
        async with self._limit:
            begun = anyio.current_time()
            content, error = await self._result(call)
            elapsed = anyio.current_time() - begun
        return ToolEnded(
            tool_call=call, content=content, error=error, elapsed=elapsed, round=number
        )

    async def _result(self, call: ToolCall) -> tuple[str | list[Any], _Fault | None]:
        tool = self._tools.get(call.function.name)
        if tool is None:
            known = ", ".join(self._tools)
            return _error(f"there is no such tool; the tools are: {known}"), (
                "unknown_tool"
            )
        try:
            args, kwargs = tool.check(call.function.arguments)
        except ValueError as error:
            return _error(f"invalid arguments: {error}"), "invalid_arguments"
        limit = tool.timeout or self._policy.timeout
        content: str | list[Any] = ""
        with anyio.move_on_after(limit) as scope:
            try:
                content = await tool.run(args, kwargs, threads=self._threads)
            except Exception as error:  # noqa: BLE001 - the policy decides
                return self._failed(call, error), "exception"
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                # Nobody cancelled this call: something within the tool was.
                return self._failed(call, RuntimeError("cancelled")), "exception"
        if scope.cancelled_caught:
            return _error(f"the tool did not end within {limit:g} seconds"), "timeout"
        return self._cut(content), None

    def _failed(self, call: ToolCall, error: Exception) -> str:
        policy = self._policy.on_error
        if policy == "tell":
            return _error(f"{type(error).__name__}: {error_text(error)}")
        if policy == "raise":
            name = call.function.name
            message = f"the tool {name!r} raised {type(error).__name__}"
            raise ToolExecutionError(message, name=name, call_id=call.id) from error
        return _told(policy(call, error))

    def _cut(self, content: str | list[Any]) -> str | list[Any]:
        limit = self._policy.max_result
        if isinstance(content, list) or len(content) <= limit:
            return content
        return f"{content[:limit]}\n[cut: {limit} of {len(content)} characters]"


def is_number(value: object, least: float) -> bool:
    """Whether a value is a number, `least` or more; checkers cannot hold all callers.

    Args:
        value: What a caller gave.
        least: The smallest allowed.
    """
    return isinstance(value, int | float) and value >= least


def _error(text: str) -> str:
    """An error in a form that the model does not take for a result."""
    return msgspec.json.encode({"error": readable(text)[:_MAX_ERROR]}).decode()


def _told(text: object) -> str:
    """What a policy function returned, if it is text."""
    if isinstance(text, str):
        return readable(text)
    if inspect.iscoroutine(text):
        text.close()
    message = f"on_error must return text, not {type(text).__name__}"
    raise ConfigurationError(message)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _has_failed(task: asyncio.Task[ToolEnded]) -> bool:
    return task.cancelled() or task.exception() is not None


def _turn_of(task: asyncio.Task[ToolEnded]) -> int:
    """Results first, then what went wrong, then what was cancelled for it."""
    return 2 if task.cancelled() else _has_failed(task)


async def _cancel(tasks: set[asyncio.Task[ToolEnded]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        # An anyio scope cancels every wait within it, this one too if not shielded.
        with anyio.CancelScope(shield=True):
            await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not complain
