"""The type of an answer, and reading text as a value of it."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from ..schema import JSONType, encode_result, make_schema

T = TypeVar("T")

WRAPPER: Final = "answer"
"""The key of an answer that is no JSON object by itself."""

_FENCE: Final = "```"


class AnswerFormat(Generic[T]):
    """What an answer must look like.

    JSON mode and tools give objects only, so any other type travels in one:
    `list[int]` as `{"answer": [1, 2]}`.

    Args:
        kind: The type asked for.

    Attributes:
        schema: The JSON Schema of the object.
        is_wrapped: Whether the value is in an object of its own.

    Raises:
        SchemaError: JSON Schema cannot express the type.
    """

    __slots__ = ("_type", "is_wrapped", "schema")

    def __init__(self, kind: Any) -> None:  # noqa: ANN401 - no checker types a union
        self.is_wrapped = make_schema(kind).get("type") != "object"
        if self.is_wrapped:
            kind = msgspec.defstruct("Answer", [(WRAPPER, kind)])
        self._type: JSONType[Any] = JSONType(kind)
        self.schema = self._type.schema

    def read(self, text: str) -> T:
        """Make a value of an answer's text; a code fence around it is taken off.

        Args:
            text: What the model wrote.

        Raises:
            ValueError: It does not fit; the message is fit for the model to read.
        """
        value = self._type.decode(_unfenced(text))
        return cast("T", getattr(value, WRAPPER) if self.is_wrapped else value)

    def write(self, value: T) -> str:
        """The text that a model would answer with `value`.

        Args:
            value: An example.
        """
        return encode_result({WRAPPER: value} if self.is_wrapped else value)


def _unfenced(text: str) -> str:
    """The text between code fences, if it stands between two.

    By hand: on long runs of blanks a pattern would take cubic time.
    """
    bare = text.strip()
    inner = bare.removeprefix(_FENCE).removesuffix(_FENCE)
    if len(bare) - len(inner) < 2 * len(_FENCE):
        return text
    return inner.removeprefix("json").strip()
