"""What this library knows about a call beside the server's answer."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, TypeGuard

import msgspec.json
from msgspec import Struct
from multidict import CIMultiDict

from ..pricing import Bill, TokenCounts


class Attempt(Struct, kw_only=True, frozen=True):
    """One try at a call.

    Attributes:
        number: 1 for the first.
        elapsed: Seconds from the start of the attempt to its end (for a stream that
            opened, to its response head).
        outcome: `"ok"`, or the name of the error class.
        status: The HTTP status, if a response head arrived.
        request_id: The server's trace id, if a head arrived.
        wait: Seconds waited after it, before the next attempt.
    """

    number: int
    elapsed: float
    outcome: str
    status: int | None = None
    request_id: str | None = None
    wait: float = 0.0


class ResponseMeta(Struct, kw_only=True, frozen=True):
    """How an answer came about.

    Attributes:
        request_id: The server's trace id: the `x-ds-trace-id` header.
        status: The HTTP status.
        headers: The response headers, looked up whatever their case.
        attempts: Every attempt, the successful one last.
        elapsed: Seconds from the call to the whole answer, waits included.
        tag: The caller's own label, as passed in `tag=`.
    """

    request_id: str | None = None
    status: int = 200
    headers: Mapping[str, str] = {}
    attempts: tuple[Attempt, ...] = ()
    elapsed: float = 0.0
    tag: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:  # the protocol's own loose type
        return _meta, (
            self.request_id,
            self.status,
            list(self.headers.items()),
            self.attempts,
            self.elapsed,
            self.tag,
        )


def _meta(
    request_id: str | None,
    status: int,
    headers: list[tuple[str, str]],
    attempts: tuple[Attempt, ...],
    elapsed: float,
    tag: str | None,
) -> ResponseMeta:
    return ResponseMeta(
        request_id=request_id,
        status=status,
        headers=CIMultiDict(headers),
        attempts=attempts,
        elapsed=elapsed,
        tag=tag,
    )


_NO_META = ResponseMeta()


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


EXTRA: Final = "(extra)"
"""The name on the wire of a field that keeps unknown ones; no server uses it."""


class Extensible(Struct, kw_only=True, dict=True):
    """A struct that keeps the fields of the wire it has no attribute for."""

    # Read on a class level, so that looking does not give each chunk a dict.
    _extra: ClassVar[Mapping[str, Any]] = _NOTHING

    @property
    def extra(self) -> Mapping[str, Any]:  # whatever JSON the server sent
        """Fields this library does not know, as the server sent them."""
        return self._extra

    def keep_extra(self, fields: Mapping[str, Any]) -> None:
        """Keep unknown fields beside the known ones.

        Args:
            fields: Names and JSON values.
        """
        if fields:
            vars(self)["_extra"] = dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """The object as plain JSON values, unknown fields included."""
        return _fields_of(self)

    def to_json(self) -> bytes:
        """The object as JSON, unknown fields included."""
        return msgspec.json.encode(self.to_dict())

    def __reduce__(self) -> tuple[Any, ...]:  # the protocol's own loose type
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return _rebuild, (type(self), values, dict(vars(self)))

    def __copy__(self) -> Self:  # msgspec's own leaves the unknown fields behind
        made = type(self)(**{f: getattr(self, f) for f in self.__struct_fields__})
        vars(made).update(vars(self))
        return made


def _fields_of(value: Struct) -> dict[str, Any]:
    fields = {name: _as_json(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Extensible):
        fields.update(value.extra)
    return fields


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _as_json(value: object) -> object:
    if isinstance(value, Struct):
        return _fields_of(value)
    if _is_list(value):
        return [_as_json(item) for item in value]
    return value


def _rebuild(
    cls: type[Extensible], values: dict[str, Any], state: dict[str, Any]
) -> Extensible:
    made = cls(**values)
    vars(made).update(state)
    return made


class Answer(Extensible, kw_only=True, dict=True):
    """A whole answer of the server, with how it came about."""

    _meta: ClassVar[ResponseMeta] = _NO_META
    _bill: ClassVar[Bill | None] = None

    @property
    def meta(self) -> ResponseMeta:
        """Trace id, headers, attempts and timing of the call."""
        return self._meta

    def set_meta(self, meta: ResponseMeta) -> None:
        """Attach how the answer came about."""
        vars(self)["_meta"] = meta

    @property
    def request_id(self) -> str | None:
        """The server's trace id: the `x-ds-trace-id` header."""
        return self.meta.request_id

    @property
    def _request_id(self) -> str | None:
        """The trace id under the name the `openai` package uses."""
        return self.meta.request_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt made, the successful one last."""
        return self.meta.attempts

    def set_bill(self, bill: Bill) -> None:
        """Attach what the price of the call depends on."""
        vars(self)["_bill"] = bill

    @property
    def is_cached(self) -> bool:
        """Whether the answer came from the client's response cache, free of charge."""
        return self._bill is not None and self._bill.is_free

    def _cost(
        self, usage: TokenCounts | None, model: str, created: int
    ) -> Decimal | None:
        if usage is None:
            return None
        bill = self._bill or Bill(model=model, at=created)
        return bill.cost(usage)
