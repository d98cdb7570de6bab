"""What of a request is refused before it is sent, and its encoding as JSON.

The server judges the rest: only what is certain is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from .decoders import make_ready
from .errors import InvalidRequestError
from .fields import FLOATS, REQUIRED
from .salvage import is_array, is_mapping, is_object

_MAX_DEPTH: Final = 20
_BINARY: Final = (bytes, bytearray, memoryview)
_ARRAYS: Final = (list, tuple)

_encoder: Final = msgspec.json.Encoder()
_ENCODE_ERRORS: Final = (
    msgspec.MsgspecError,
    TypeError,
    ValueError,  # UnicodeEncodeError among them
    OverflowError,
    RecursionError,
    NotImplementedError,
)


def checked_fields(wire: dict[str, Any], shape: type[Struct]) -> dict[str, Any]:
    """The fields, checked; subclasses of `str`, such as enums, as plain text.

    Args:
        wire: The fields of a body.
        shape: What is certain of them.

    Raises:
        InvalidRequestError: One is not what it must be.
    """
    try:
        _check(wire, shape)
    except InvalidRequestError as error:
        found = error
    else:
        return wire
    plain: dict[str, Any] = _plain_text(wire)
    if plain == wire and repr(plain) != repr(wire):
        _check(plain, shape)
        return plain
    raise found


def _plain_text(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Enum) and isinstance(value, str):
        return str(value.value)
    if isinstance(value, str):
        return "".join(value)
    if is_array(value):
        return [_plain_text(item) for item in value]
    if is_object(value):
        return {_plain_text(key): _plain_text(item) for key, item in value.items()}
    return value


def _check(wire: dict[str, Any], shape: type[Struct]) -> None:
    if not FLOATS.isdisjoint(wire):
        _check_floats(wire)
    try:
        _fit(wire, shape)
    except msgspec.ValidationError as error:
        text = str(error)
    except (RecursionError, TypeError, ValueError):
        text = "a value of an unknown type, or a lone surrogate"
    else:
        return
    what, _, where = text.partition(" - at `$.")
    where = where.rstrip("`")
    if not where and "`" in what:
        where = what.rsplit("`", 2)[-2]  # a missing field is named in the text itself
    message = f"{where or 'request'}: {what}"
    if where in REQUIRED and where not in wire:
        message = f"{where} is required{REQUIRED[where]}"
    raise InvalidRequestError(message, param=where or None)


def _check_floats(wire: Mapping[str, Any]) -> None:
    for name in FLOATS.intersection(wire):
        value = wire[name]
        # The encoder would write a Decimal as text.
        if isinstance(value, Decimal) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            message = f"{name} must be a finite int or float, not {value!r}"
            raise InvalidRequestError(message, param=name)


def _fit(wire: dict[str, Any], shape: type[Struct]) -> None:
    make_ready(shape)
    try:
        msgspec.convert(wire, shape)
    except msgspec.ValidationError:
        # Dataclasses and structs of the caller's: twice the time, and rare.
        msgspec.convert(wire, shape, from_attributes=True)


def refuse_binary(value: object, path: str) -> None:
    """Refuse what would be encoded as something else: bytes as text, NaN as null.

    Args:
        value: Any value of a request.
        path: Its place, for the message.

    Raises:
        InvalidRequestError: There is such a value in it.
    """
    found = _misread(value, set())
    if found is not None:
        place = path + found[0]
        message = f"{place} {found[1]}"
        raise InvalidRequestError(message, param=place)


def _misread(value: object, seen: set[int]) -> tuple[str, str] | None:
    """The place of the first such value, and what is wrong with it."""
    if isinstance(value, str):
        return None
    if isinstance(value, _BINARY):
        return "", "holds bytes: JSON has none, encode them yourself"
    if isinstance(value, float) and not math.isfinite(value):
        return "", f"must be a finite number, not {value}"
    if id(value) in seen or not _has_items(value):
        return None  # one that holds itself is for the encoder to find
    seen.add(id(value))
    for name, item in _items_of(value):
        if type(item) is not str:
            found = _misread(item, seen)
            if found is not None:
                place = f".{name}" if is_mapping(value) else f"[{name}]"
                return place + found[0], found[1]
    return None


def _has_items(value: object) -> bool:
    return isinstance(value, _ARRAYS) or is_mapping(value)


def _items_of(value: object) -> Iterable[tuple[object, object]]:
    if is_mapping(value):
        return value.items()
    return enumerate(cast("Sequence[object]", value))


def try_to_encode(value: object) -> bytes | None:
    """A value as JSON; `None` if JSON has none such."""
    try:
        return _encoder.encode(value)
    except _ENCODE_ERRORS:
        return None


def encoded(wire: Mapping[str, Any]) -> bytes:
    """A body as JSON.

    Args:
        wire: Its fields.

    Raises:
        InvalidRequestError: JSON has no such value; the first one is named.
    """
    body = try_to_encode(wire)
    if body is not None:
        return body
    param = _culprit(wire)
    message = (
        f"{param} cannot be encoded as JSON (an unknown type, a lone surrogate, or "
        "something that holds itself)"
    )
    raise InvalidRequestError(message, param=param)


def _culprit(value: object, path: str = "", depth: int = 0) -> str:
    """The path of the first value that cannot be encoded."""
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Struct):
        value = msgspec.structs.asdict(value)
    if is_mapping(value) and depth < _MAX_DEPTH:
        items = ((f"{path}.{k}" if path else str(k), v) for k, v in value.items())
    elif is_array(value) and depth < _MAX_DEPTH:
        items = ((f"{path}[{i}]", v) for i, v in enumerate(value))
    for name, item in items:
        try:
            _encoder.encode(item)
        except _ENCODE_ERRORS:
            return _culprit(item, name, depth + 1)
    return path.encode("ascii", "replace").decode() or "the request"
