"""Objects made from a JSON schema and the words of the question."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from .wire import Body, is_array, is_object

if TYPE_CHECKING:
    import random

_MAX_DEPTH: Final = 12
_SPAN: Final = 100
_LONGEST: Final = 10_000
_FORMATS: Final = {
    "email": "reader@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uuid": "6f1b0f0e-0d52-4b6c-9a57-2f1f0c3f7a10",
    "date": "2026-11-20",
    "date-time": "2026-11-20T08:00:00Z",
    "time": "08:00:00Z",
    "duration": "PT1H",
    "decimal": "1.5",
    "uri": "https://example.com/",
}
# A capitalised run that does not open a sentence, such as "New York".
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'-]*(?:,? [A-Z][\w'-]*)*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def names_in(text: str) -> list[str]:
    """Return the proper names that `text` mentions, in order."""
    found = _NAME.findall(text)
    return list(dict.fromkeys(found))


def is_schema(value: Body) -> bool:
    """Return whether a JSON object is the schema of an object, by the look of it."""
    return (
        value.get("type") == "object"
        or is_object(value.get("properties"))
        or is_object(value.get("$defs"))
        or is_array(value.get("anyOf"))
    )


class ArgumentMaker:
    """Fills a JSON schema with values, taking them from a text where it can.

    Args:
        text: The question whose names and numbers become arguments.
        rng: Source of every other choice.
    """

    __slots__ = ("_names", "_numbers", "_rng", "_root", "_text")

    def __init__(self, text: str, rng: random.Random, name: str = "") -> None:
        self._text = text
        self._rng = rng
        self._root: Body = {}
        self._names = [name] if name else names_in(text)
        self._numbers = [float(number) for number in _NUMBER.findall(text)]

    def make(self, schema: Body) -> Body:
        """Return one object that `schema` allows."""
        self._root = schema
        value = self._value(schema, 0)
        return value if is_object(value) else {}

    # The JSON value's type is only known from the schema, hence `Any`.
    def _value(self, schema: Body, depth: int) -> Any:  # noqa: ANN401
        schema = self._resolve(schema)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if schema.get("enum"):
            return self._pick(schema["enum"])
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self._value(_first_real(schema[key], depth), depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Body, depth: int) -> Any:  # noqa: ANN401
        kind = schema.get("type")
        if is_array(kind):
            kind = next((name for name in kind if name != "null"), "null")
        if kind in {"integer", "number"}:
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return self._rng.random() < 0.5  # noqa: PLR2004
        if kind in {"object", "array"} or "properties" in schema:
            return self._container(schema, depth)
        return None if kind == "null" else self._string(schema)

    def _container(self, schema: Body, depth: int) -> Any:  # noqa: ANN401
        if schema.get("type") == "array":
            return self._array(schema, depth)
        properties: Body = schema.get("properties") or {}
        if depth > _MAX_DEPTH:
            required = schema.get("required") or ()
            properties = {k: v for k, v in properties.items() if k in required}
        if depth > 2 * _MAX_DEPTH:
            return {}
        made = {name: self._value(properties[name], depth + 1) for name in properties}
        free = schema.get("additionalProperties")
        if is_object(free) and not properties:
            for number in range(max(1, schema.get("minProperties", 0))):
                made[f"key{number or ''}"] = self._value(free, depth + 1)
        return made

    def _array(self, schema: Body, depth: int) -> list[Any]:
        kinds: list[Body] = list(schema.get("prefixItems") or ())
        if depth <= _MAX_DEPTH and not kinds and schema.get("maxItems") != 0:
            kinds.append(schema.get("items") or {})
        least = min(schema.get("minItems", 0), _SPAN)
        kinds += [schema.get("items") or {}] * (least - len(kinds))
        return [self._value(kind, depth + 1) for kind in kinds]

    def _resolve(self, schema: Body) -> Body:
        for _ in range(_MAX_DEPTH):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            schema = self._follow(reference)
        return {"type": "null"}

    def _follow(self, reference: str) -> Body:
        found: object = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if is_object(found) and step:
                found = found.get(step)
        return found if is_object(found) else {}

    def _string(self, schema: Body) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if schema.get("contentEncoding") == "base64":
            return "aGVsbG8="
        least: int = min(schema.get("minLength", 0), _LONGEST)
        text = self._word().ljust(least, ".")
        return text[: schema.get("maxLength")]

    def _word(self) -> str:
        if self._names:
            name = self._names[0]
            if len(self._names) > 1:
                del self._names[0]
            return name
        words = re.findall(r"\w+", self._text)
        return str(self._pick(words)) if words else "text"

    def _number(self, schema: Body, *, whole: bool) -> float:
        below = _bound(schema, "maximum", "exclusiveMaximum", _SPAN) - _SPAN
        low = _bound(schema, "minimum", "exclusiveMinimum", min(0, below))
        high = _bound(schema, "maximum", "exclusiveMaximum", low + _SPAN)
        number = self._numbers.pop(0) if self._numbers else self._rng.randint(1, 9)
        number = min(max(number, low), high)
        if number in {schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")}:
            number = (low + high) / 2
        step: float | None = schema.get("multipleOf")
        if step:
            number = -(-number // step) * step
        return int(number) if whole else number

    def _pick(self, choices: list[Any]) -> Any:  # noqa: ANN401
        return choices[self._rng.randrange(len(choices))]


def _bound(schema: Body, inclusive: str, exclusive: str, default: float) -> float:
    for key in (inclusive, exclusive):
        if key in schema:
            return float(schema[key])
    return default


def _first_real(schemas: list[Body], depth: int) -> Body:
    """The first choice that is not null; below a certain depth, null ends it."""
    nulls = [schema for schema in schemas if schema.get("type") == "null"]
    if nulls and depth > _MAX_DEPTH:
        return nulls[0]
    return next((s for s in schemas if s.get("type") != "null"), schemas[0])
