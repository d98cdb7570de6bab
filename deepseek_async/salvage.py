"""Structs out of JSON that does not fit them.

The decoders of `codec` are strict because strict is fast. Where an answer has a
field too many, a null, or a wrong type, they give up and this module takes what it
can: field by field, a value that does not fit becomes the field's default, and a
name the struct does not have is kept in `extra`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeGuard, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, structs

from .types.meta import EXTRA, Extensible

S = TypeVar("S", bound=Struct)

_LENIENT_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


def is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a caller's value is a mapping of any kind."""
    return type(value) is dict or isinstance(value, Mapping)  # found much faster


def parse(data: bytes) -> object:
    """Decode JSON as generously as can be done safely.

    Beyond what msgspec takes, a byte-order mark, invalid UTF-8 and lone surrogate
    escapes are accepted; what has no character becomes U+FFFD.

    Args:
        data: JSON text.

    Returns:
        Plain JSON values.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        message = "JSON nested too deeply"
    except _LENIENT_ERRORS:
        message = ""
    if not message:
        try:
            return _without_surrogates(json.loads(data.decode("utf-8", "replace")))
        except RecursionError:
            message = "JSON nested too deeply"
        except ValueError:
            # The parser's own words quote nothing of the data, but its exception
            # carries the whole document.
            message = "not JSON"
    raise ValueError(message)


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if is_array(value):
        return [_without_surrogates(item) for item in value]
    if is_object(value):
        return {
            _without_surrogates(k): _without_surrogates(v) for k, v in value.items()
        }
    return value


def salvage(cls: type[S], data: dict[str, Any]) -> S:
    """Make a struct of whatever fits.

    Args:
        cls: The struct to make; every field needs a default.
        data: A JSON object.

    Returns:
        The struct, with the object's other fields in `extra` where it has that.
    """
    fields = _fields(cls)
    values = {
        field.name: _fit(field.type, data[field.encode_name], field)
        for field in fields
        if field.encode_name in data
    }
    known = {field.encode_name for field in fields}
    unknown = {name: value for name, value in data.items() if name not in known}
    if unknown and EXTRA in known:
        values["extra"] = unknown
    made = cls(**values)
    if isinstance(made, Extensible):
        made.keep_extra(unknown)
    return made


@cache
def _fields(cls: type[Struct]) -> tuple[structs.FieldInfo, ...]:
    return structs.fields(cls)


def _fit(expected: object, value: object, field: structs.FieldInfo) -> object:
    try:
        return _convert(expected, value)
    except _LENIENT_ERRORS:
        if field.default is not NODEFAULT:
            return field.default
        if field.default_factory is not NODEFAULT:
            return field.default_factory()
        return None


def _convert(expected: object, value: object) -> object:
    for option in _options(expected):
        if isinstance(option, type) and issubclass(option, Struct):
            if is_object(value):
                return salvage(option, value)
        elif get_origin(option) is list and is_array(value):
            return _convert_list(get_args(option)[0], value)
    if isinstance(value, bool) and float in _options(expected):
        raise ValueError
    converted: object = msgspec.convert(
        value, cast("type[object]", expected), strict=False
    )
    return converted


def _convert_list(expected: object, values: list[Any]) -> list[object]:
    kept: list[object] = []
    for value in values:
        try:
            kept.append(_convert(expected, value))
        except _LENIENT_ERRORS:
            continue
    return kept


@cache
def _options(expected: object) -> tuple[Any, ...]:
    if get_origin(expected) in {Union, UnionType}:
        return get_args(expected)
    return (expected,)
