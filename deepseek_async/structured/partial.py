"""A typed answer while it grows: the part that has arrived, as plain JSON values."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, Generic, TypeVar

from ..endpoints import ChatCompletions
from ..errors import MissingExtraError, StreamClosedError
from ..reading import SingleReader
from ..types.events import ChatEvent, Resumed, TextDelta, ToolCallArgumentsDelta
from ..types.usage import Usage
from .answer_format import WRAPPER
from .asking import TypedRequest
from .parsing import ParsedCompletion, read

T = TypeVar("T")

_STEP: Final = 64
"""The text is read again when it has grown by a 64th: linear work in the end."""

_UNFINISHED_NUMBER: Final = re.compile(rb"(?<=[:\[,\s])-?[0-9][-+.eE0-9]*\Z")
"""More digits may follow: 71 may become 717, where text only grows."""

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+("?)', re.DOTALL)


class ParseStream(SingleReader[Any], Generic[T]):
    """The partial values of a typed answer, as an async iterator.

    Use it in `async with`. Each value is what has arrived so far, as dicts, lists
    and strings, the last string as far as it goes, a number once it is whole;
    `result()` is the checked value of the type:

        async with client.chat.completions.stream_parse(
            response_type=City, model="deepseek-flash", messages=messages
        ) as stream:
            async for partial in stream:
                show(partial)
            city = (await stream.result()).parsed

    One task reads it at a time.

    Args:
        completions: The endpoint.
        request: What to ask.

    Raises:
        MissingExtraError: The library for partial JSON is not installed.
    """

    __slots__ = ("_completions", "_parse", "_request", "_result")

    def __init__(
        self,
        completions: ChatCompletions,
        request: TypedRequest[T],
    ) -> None:
        self._parse = _partial_parser()
        self._completions = completions
        self._request = request
        self._result: ParsedCompletion[T] | None = None
        super().__init__(self._read())

    def __repr__(self) -> str:
        state = "open" if self._result is None else "complete"
        return f"<ParseStream {state}>"

    def __aiter__(self) -> AsyncIterator[Any]:  # partial JSON has no other type
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - see above
        """The next partial value.

        Raises:
            StreamInUseError: Another task is reading it.
            StreamClosedError: Another task closed it meanwhile.
            InvalidAnswerError: The whole answer does not fit. A stream is not
                repaired: its reader has seen it already.
            UnfinishedAnswerError: The answer was cut, refused or empty.
            DeepSeekError: As `chat.completions.create`.
        """
        return await self._next()

    async def result(self) -> ParsedCompletion[T]:
        """Read to the end.

        Returns:
            The checked value, with its completion.

        Raises:
            StreamClosedError: The stream was left before its end.
            DeepSeekError: As iterating does.
        """
        async for _ in self:
            pass
        if self._result is None:
            raise StreamClosedError
        return self._result

    async def _read(self) -> AsyncGenerator[Any, None]:
        params: Any = self._request.params  # a mapping is no checked TypedDict
        live = await self._completions.create(stream=True, **params)
        growing = _GrowingValue(self._parse, is_wrapped=self._request.answer.is_wrapped)
        async with live, aclosing(live.events()) as events:
            async for event in events:
                if isinstance(event, Resumed) and event.action == "restarted":
                    growing.clear()
                if growing.add(_piece(event, self._request.mode)):
                    yield growing.value
        completion = await live.completion()
        self._result = ParsedCompletion(
            read(completion, self._request.answer),
            completion,
            usage=completion.usage or Usage(),
            cost=completion.cost,
            repairs=0,
            mode=self._request.mode,
        )


def _piece(event: ChatEvent, mode: str) -> str:
    if isinstance(event, TextDelta):
        return event.text
    # In JSON mode the only calls are those that the server makes itself.
    if mode == "tool" and isinstance(event, ToolCallArgumentsDelta):
        return event.arguments if event.place == 0 else ""
    return ""


class _GrowingValue:
    """The value that a growing text stands for."""

    __slots__ = ("_is_wrapped", "_parse", "_read_at", "_text", "value")

    def __init__(self, parse: Callable[[bytes], Any], *, is_wrapped: bool) -> None:
        self._parse = parse
        self._is_wrapped = is_wrapped
        self._text = bytearray()
        self._read_at = 0
        self.value: Any = None  # partial JSON has no other type

    def clear(self) -> None:
        """Forget everything: the answer begins anew."""
        self._text.clear()
        self._read_at = 0

    def add(self, piece: str) -> bool:
        """Take the next piece of text; whether the value has changed by it."""
        self._text += piece.encode("utf-8", "surrogatepass")
        grown = len(self._text) - self._read_at
        if not piece or grown <= len(self._text) // _STEP:
            return False
        self._read_at = len(self._text)
        start = self._text.find(b"{")
        if start < 0:
            return False
        try:
            value = self._parse(_without_unfinished(bytes(self._text[start:])))
        except ValueError:
            return False
        if self._is_wrapped:
            value = value.get(WRAPPER)
        if value is None or value == self.value:
            return False
        self.value = value
        return True


def _without_unfinished(text: bytes) -> bytes:
    """The text without a number at its end, unless a string ends there."""
    found = _UNFINISHED_NUMBER.search(text)
    if found is None or any(not string[1] for string in _STRING.finditer(text)):
        return text
    return text[: found.start()]


def _partial_parser() -> Callable[[bytes], Any]:
    try:
        from jiter import from_json  # noqa: PLC0415 - an optional extra
    except ImportError:
        parser = None
    else:
        parser = from_json
    if parser is None:
        feature = "partial values"
        raise MissingExtraError(feature, "partial-json")
    return lambda text: parser(text, partial_mode="trailing-strings")
