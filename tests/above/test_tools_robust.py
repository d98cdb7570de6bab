"""Tools that misbehave: odd functions, exceptions, results and cancellations."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import msgspec
import pydantic
import pytest

from deepseek_async import (
    AsyncDeepSeek,
    ConfigurationError,
    InvalidRequestError,
    ToolDefinitionError,
    ToolPolicy,
    Turn,
    tool,
)
from deepseek_async.testing import Answer, Call, DeepSeekEmulator

MODEL = "deepseek-flash"
ASKED: list[Any] = [{"role": "user", "content": "hi"}]


def calling(emulator: DeepSeekEmulator, name: str, **arguments: Any) -> None:
    """Have the emulated model call a function once, then answer."""
    said = iter([Answer(tool_calls=(Call(name, arguments),)), Answer(content="done")])
    emulator.answer = lambda _: next(said)


async def run(
    client: AsyncDeepSeek, *tools: Any, policy: ToolPolicy | None = None
) -> Turn:
    return await client.chat.completions.run_tools(
        model=MODEL, messages=ASKED, tools=tools, policy=policy
    )


class Picky(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        raise KeyError(self.x)


class PickyModel(pydantic.BaseModel):
    x: int

    @pydantic.field_validator("x")
    @classmethod
    def check(cls, value: int) -> int:
        raise KeyError(value)


@tool
async def take(value: Picky) -> int:
    """Take a value."""
    return value.x


@tool
async def take_model(value: PickyModel) -> int:
    """Take a value."""
    return value.x


@pytest.mark.parametrize("picky", [take, take_model])
async def test_a_type_whose_validation_raises(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, picky: Any
) -> None:
    """Whatever a type's own validation raises, the model is told of it."""
    calling(emulator, picky.name, value={"x": 1})
    turn = await run(client, picky)
    assert turn.calls[0].error == "invalid_arguments"
    assert "KeyError" in turn.calls[0].content
    assert turn.text == "done"


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("bad \ud800 file"), r"bad \\ud800 file"),
        (MuteError(), "cannot be shown"),
    ],
)
async def test_an_exception_without_a_proper_text(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, error: Exception, told: str
) -> None:
    """An exception that cannot be encoded or shown is told as far as it can be."""

    @tool
    async def fail() -> None:
        """Fail."""
        raise error

    calling(emulator, "fail")
    turn = await run(client, fail)
    assert turn.calls[0].error == "exception"
    assert told in turn.calls[0].content
    assert turn.text == "done"


async def test_a_result_that_json_cannot_carry(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A result with a lone surrogate is the tool's failure, not the turn's."""

    @tool
    async def name() -> str:
        """Give a name."""
        return "a\ud800"

    calling(emulator, "name")
    turn = await run(client, name)
    assert turn.calls[0].error == "exception"
    assert turn.text == "done"


async def test_on_error_must_return_text(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A policy function that is async, or returns no text, is named as the fault."""

    async def later(*_: object) -> str:
        return "x"

    def nothing(*_: object) -> None:
        pass

    @tool
    async def fail() -> None:
        """Fail."""
        raise ValueError

    wrong: list[Any] = [later, nothing]
    for odd in wrong:
        calling(emulator, "fail")
        with pytest.raises(ConfigurationError, match="on_error must return text"):
            await run(client, fail, policy=ToolPolicy(on_error=odd))


@pytest.mark.parametrize("is_anyio", [True, False])
async def test_a_cancelled_turn_waits_for_its_tools(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, *, is_anyio: bool
) -> None:
    """When a turn is cancelled by a scope, its tools have ended before it returns."""
    started = anyio.Event()
    ended = False

    @tool
    async def slow() -> None:
        """Take long, also to clean up."""
        nonlocal ended
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.1)
            ended = True

    calling(emulator, "slow")
    if is_anyio:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(run, client, slow)
                await started.wait()
                scope.cancel()
    else:
        task = asyncio.create_task(run(client, slow))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
    assert ended


def via_thread(function: Callable[..., int]) -> Callable[..., Awaitable[int]]:
    """An async decorator of a sync function."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> int:
        return await asyncio.to_thread(function, *args, **kwargs)

    return wrapper


def passing(function: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
    """A sync decorator of an async function."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[int]:
        return function(*args, **kwargs)

    return wrapper


async def test_decorators_that_wrap() -> None:
    """Async around sync and sync around async both give the result itself."""

    @tool
    @via_thread
    def double(x: int) -> int:
        """Double it."""
        return 2 * x

    @tool
    @passing
    async def triple(x: int) -> int:
        """Triple it."""
        return 3 * x

    assert await double.run((), {"x": 2}) == "4"
    assert await triple.run((), {"x": 2}) == "6"
    assert double.parameters["required"] == ["x"]


def count(upto: int) -> Iterator[int]:
    """Count."""
    yield from range(upto)


async def count_slowly(upto: int) -> AsyncGenerator[int, None]:
    """Count."""
    for number in range(upto):
        yield number


@pytest.mark.parametrize("wrong", [count, count_slowly, 5, dict])
def test_what_cannot_be_a_tool(wrong: Any) -> None:
    """Generators, things that are no function, and builtins are refused by name."""
    with pytest.raises(ToolDefinitionError):
        tool(wrong)


def test_a_tool_of_a_tool() -> None:
    """A tool is returned as it is; options over it are refused, not lost."""
    assert tool(take) is take
    with pytest.raises(ToolDefinitionError, match="a tool already"):
        tool(name="other")(take)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": "5"},
        {"description": 5},
    ],
)
def test_options_of_the_wrong_kind(options: dict[str, Any]) -> None:
    """A tool's options are checked at definition."""

    def nothing() -> None:
        """Do nothing."""

    with pytest.raises(ToolDefinitionError):
        tool(**options)(nothing)


async def test_tools_that_cannot_be_listed(client: AsyncDeepSeek) -> None:
    """Tools that are no list are refused as `create` refuses them."""
    wrong: Any = 5
    with pytest.raises(InvalidRequestError, match="tools must be a list"):
        await client.chat.completions.run_tools(
            model=MODEL, messages=ASKED, tools=wrong
        )


@pytest.mark.parametrize(
    "options",
    [
        {"max_rounds": "3"},
        {"max_parallel": None},
        {"max_repairs": "3"},
        {"timeout": "5"},
        {"timeout": float("nan")},
        {"timeout": 0},
    ],
)
def test_a_policy_of_the_wrong_kind(options: dict[str, Any]) -> None:
    """A policy's numbers are checked when it is made."""
    with pytest.raises(ConfigurationError):
        ToolPolicy(**options)


@pytest.mark.parametrize("policy", [5, 0, ToolPolicy])
async def test_a_policy_that_is_none(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, policy: Any
) -> None:
    """It is refused before anything is sent, streamed or not."""
    completions = client.chat.completions

    with pytest.raises(ConfigurationError, match="policy must be a ToolPolicy"):
        await run(client, policy=policy)
    with pytest.raises(ConfigurationError, match="policy must be a ToolPolicy"):
        await completions.stream_tools(
            model=MODEL, messages=ASKED, policy=policy
        ).turn()
    assert not emulator.requests


async def test_a_loop_is_streamed_by_its_method(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """`stream=` has no effect here, so it is refused."""
    asked: dict[str, Any] = {"model": MODEL, "messages": ASKED, "stream": True}

    with pytest.raises(InvalidRequestError, match="call stream_tools"):
        await client.chat.completions.run_tools(**asked)
    with pytest.raises(InvalidRequestError, match="call stream_tools"):
        await client.chat.completions.stream_tools(**asked).turn()
    assert not emulator.requests
