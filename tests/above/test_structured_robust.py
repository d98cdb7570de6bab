"""Typed answers from odd answers and odd arguments."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from deepseek_async import (
    AsyncDeepSeek,
    InvalidAnswerError,
    InvalidRequestError,
    RefusedAnswerError,
    StreamClosedError,
    StreamInUseError,
)
from deepseek_async.structured import AnswerFormat
from deepseek_async.structured.partial import (
    _without_unfinished,
)
from deepseek_async.testing import Answer, Call, DeepSeekEmulator, Delay

MODEL = "deepseek-flash"
ASKED: list[Any] = [{"role": "user", "content": "hi"}]
SEARCH = {"type": "deepseek_web_search"}
SEARCHED = {
    "tool_calls": [
        {
            "index": 0,
            "id": "w1",
            "type": "deepseek_web_search",
            "function": {"name": "deepseek_web_search", "arguments": '{"q": 1}'},
        }
    ]
}


class Point(msgspec.Struct):
    x: int


class Picky(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        raise KeyError(self.x)


@pytest.mark.timing
@pytest.mark.parametrize(
    "text",
    [
        "```" + " " * 100_000 + "x",
        "```json\n" + "\n" * 100_000 + "{",
        "```" + "` " * 50_000,
        " " * 100_000 + "```",
    ],
)
def test_blanks_behind_a_fence_take_no_time(text: str) -> None:
    """An answer of endless white space is refused in linear time."""
    answer: AnswerFormat[dict[str, int]] = AnswerFormat(dict[str, int])
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="JSON"):
        answer.read(text)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}',
        '```json\n{"x": 1}\n```',
        '\n```\n{"x": 1}```\n ',
        '```{"x": 1}```',
        '```json{"x": 1}```',
    ],
)
def test_a_fence_is_taken_off(text: str) -> None:
    """A code fence around the object is no part of it."""
    answer: AnswerFormat[Point] = AnswerFormat(Point)
    assert answer.read(text) == Point(1)


async def test_validation_that_raises_anything(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A type whose validation raises a KeyError makes an answer that does not fit."""
    emulator.answer = lambda _: '{"x": 1}'
    with pytest.raises(InvalidAnswerError, match="KeyError"):
        await client.chat.completions.parse(
            model=MODEL, messages=ASKED, response_type=Picky, max_repairs=1
        )
    assert len(emulator.requests) == 2


async def test_server_tools_as_an_iterator(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Server tools from an iterator arrive at the server."""
    emulator.answer = lambda _: '{"x": 1}'
    await client.chat.completions.parse(
        model=MODEL, messages=ASKED, response_type=Point, tools=iter([SEARCH])
    )
    assert emulator.requests[-1].body["tools"] == [SEARCH]


async def test_a_call_the_server_made_is_not_the_answer(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The content is read, not the arguments of the server's own search."""
    emulator.answer = lambda _: Answer(content='{"x": 1}', extra=SEARCHED)
    made = await client.chat.completions.parse(
        model=MODEL, messages=ASKED, response_type=Point, tools=[SEARCH]
    )
    assert made.parsed == Point(1)
    assert made.repairs == 0


async def test_a_refusal_is_told_as_one(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A refusal raises at once, without a second request."""
    emulator.answer = lambda _: Answer(content="no", extra={"refusal": "no"})
    with pytest.raises(RefusedAnswerError, match="refused"):
        await client.chat.completions.parse(
            model=MODEL, messages=ASKED, response_type=Point
        )
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"example": object()},
        {"example": {"x": "no number"}},
        {"max_repairs": "2"},
        {"max_repairs": -1},
    ],
)
async def test_options_that_do_not_fit(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, options: dict[str, Any]
) -> None:
    """An example that is none, and a count that is none, are refused before sending."""
    with pytest.raises(InvalidRequestError, match=r"example|max_repairs"):
        await client.chat.completions.parse(
            model=MODEL, messages=ASKED, response_type=Point, **options
        )
    assert not emulator.requests


async def test_two_readers_of_one_answer(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A second reader is refused, and closing ends the first one's wait."""
    emulator.script(Delay(seconds=30))
    stream = client.chat.completions.stream_parse(
        model=MODEL, messages=ASKED, response_type=Point
    )
    reader = asyncio.create_task(stream.result())
    await asyncio.sleep(0)
    with pytest.raises(StreamInUseError):
        await anext(stream)
    await stream.aclose()
    with pytest.raises(StreamClosedError):
        await reader


async def test_digits_at_the_end_of_a_string_are_text(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Digits in a growing string are shown; a number only once it is whole."""
    emulator.answer = lambda _: '{"way": "a \\" 66 77 88", "x": 4567}'
    async with client.chat.completions.stream_parse(
        model=MODEL, messages=ASKED, response_type=dict[str, Any]
    ) as stream:
        shown: list[Any] = [value async for value in stream]
    ways = [one["way"] for one in shown if "way" in one]
    assert any(way.endswith(("6", "7")) for way in ways)
    assert {one["x"] for one in shown if "x" in one} == {4567}


@pytest.mark.timing
def test_strings_and_numbers_that_have_not_ended() -> None:
    """Only a number outside of strings is taken off the end."""
    assert _without_unfinished(b'{"name": "Route 66') == b'{"name": "Route 66'
    assert _without_unfinished(b'{"a": "x\\" 6') == b'{"a": "x\\" 6'
    assert _without_unfinished(b'{"a": "x 6", "b": 71') == b'{"a": "x 6", "b": '
    begun = time.perf_counter()
    _without_unfinished(b'{"a": "' + b'\\"' * 200_000 + b" 6")
    assert time.perf_counter() - begun < 1


async def test_a_call_the_server_made_is_no_partial_value(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The arguments of the server's own search are not shown as the answer."""
    emulator.answer = lambda _: Answer(tool_calls=(Call("search", {"q": 1}),))
    stream = client.chat.completions.stream_parse(
        model=MODEL, messages=ASKED, response_type=dict[str, int], mode="json"
    )
    async with stream:
        assert [value async for value in stream] == []
