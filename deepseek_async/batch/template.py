"""From a row of the input to a key and the parameters of a request."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

from ..errors import ConfigurationError, InvalidRequestError
from ..params import CallOptions
from ..salvage import is_mapping
from ..types.request import ChatCompletionRequest
from .source import Row

Params: TypeAlias = Mapping[str, Any] | ChatCompletionRequest
BatchRequest: TypeAlias = Params | tuple[str, Params]
"""A request, or a pair of a key and a request."""

Template: TypeAlias = str | Mapping[str, Any] | Callable[[Any], Params]
"""How a row becomes a request.

A function of the row; or a mapping of parameters in whose texts `{column}` stands for
the row's value; or a single such text, which becomes the one user message. `{{` and
`}}` stand for braces.
"""

KeyOf: TypeAlias = str | Callable[[Any], str]
"""How a row becomes a key: the name of a column, or a function of the row."""

_ENDPOINT: Final = "/chat/completions"
_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_NOT_FROM_DATA: Final = frozenset({*CallOptions.__annotations__, "extra_body"})
_SHOWN: Final = 200
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Reading:
    """Turns rows into keyed parameters.

    Args:
        request: See `Template`; `None` for rows that are requests already, bare or as
            lines of OpenAI's batch format.
        key: See `KeyOf`.
        defaults: Parameters of every request that does not bring its own.
        overrides: Parameters of every request, whatever it brings.

    Raises:
        ConfigurationError: `request` is none of these, or has a brace on its own.
    """

    __slots__ = ("_defaults", "_key", "_overrides", "_request")

    def __init__(
        self,
        request: Template | None = None,
        key: KeyOf | None = None,
        defaults: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(request, str):
            request = {"messages": [{"role": "user", "content": request}]}
        if not _is_template(request):
            message = "request must be a function, a mapping, or a text"
            raise ConfigurationError(message)
        columns_of(request)
        self._request = request
        self._key = key
        self._defaults = dict(defaults or {})
        self._overrides = dict(overrides or {})

    def key_of(self, row: Row) -> str | None:
        """The key, if the row has one.

        Args:
            row: A row of the input.

        Raises:
            InvalidRequestError: The column is not there, or holds no key.
            Exception: Whatever the caller's own function raised.
        """
        if self._key is not None:
            return self._key_of(self._key, row)
        if self._request is not None:
            return None
        value = row.value
        if is_mapping(value):
            return custom_id_of(value, row.where) if "custom_id" in value else None
        if (pair := _pair(value)) is not None:
            return _key_in({"key": pair[0]}, "key", row.where)
        return None

    def params_of(self, row: Row) -> dict[str, Any]:
        """The parameters of a row's request.

        A row of a file is a body, and sets no options of the call: whoever wrote the
        file is not the caller.

        Args:
            row: A row of the input.

        Raises:
            InvalidRequestError: The row does not make a request.
            Exception: Whatever the caller's own function raised.
        """
        params = _mapping(self._made(row), row)
        if params.get("stream"):
            message = f"{row.where}: a batch does not stream"
            raise InvalidRequestError(message, param="stream")
        return {**self._defaults, **params, **self._overrides}

    def _made(self, row: Row) -> object:
        value = row.value
        if self._request is not None:
            if callable(self._request):
                return self._request(value)
            return fill(self._request, _columns(row), row.where)
        if not is_mapping(value):
            pair = _pair(value)
            return value if pair is None else pair[1]
        if "body" in value and "messages" not in value:
            return _body(_batch_body(value, row.where), row)
        if "messages" in value or "messages" in self._defaults:
            kind = type(value)
            if kind is not dict or "custom_id" in value:
                # By its own items: a dict of another kind may make them when asked.
                value = {name: value[name] for name in value if name != "custom_id"}
            return _body(value, row) if row.name else value
        message = (
            f"{row.where}: neither a request with messages nor a batch line; other "
            "columns need a template (request=, or --prompt)"
        )
        raise InvalidRequestError(message, param="messages")

    @staticmethod
    def _key_of(key: KeyOf, row: Row) -> str:
        if callable(key):
            return str(key(row.value))
        columns = _columns(row)
        if key not in columns:
            message = f"{row.where}: no column {key!r} to take the key from"
            raise InvalidRequestError(message, param=key)
        return _key_in(columns, key, row.where)

    def fingerprint(self) -> dict[str, str]:
        """What of this decides about the requests, as hashes: no text of theirs."""
        found = {
            "request": _fingerprint(self._request),
            "key": _fingerprint(self._key),
            "defaults": _fingerprint(self._defaults),
        }
        if self._overrides:
            found["overrides"] = _fingerprint(self._overrides)
        return found


def _mapping(params: object, row: Row) -> Mapping[str, Any]:
    """The parameters of a request, as the row or the caller's function gives them."""
    if is_mapping(params):
        return params
    if isinstance(params, ChatCompletionRequest):
        fields = msgspec.structs.asdict(params).items()
        return {name: value for name, value in fields if value is not None}
    kind = type(params).__name__
    message = f"{row.where} must be a dict or a ChatCompletionRequest, not {kind}"
    raise InvalidRequestError(message, param=row.where)


def _is_template(given: object) -> bool:
    return given is None or callable(given) or isinstance(given, Mapping)


def _columns(row: Row) -> Mapping[str, Any]:
    if is_mapping(row.value):
        return row.value
    place, kind = row.where, type(row.value).__name__
    message = f"{place}: a template needs rows with columns, not {kind}"
    raise InvalidRequestError(message, param=place)


def _pair(row: object) -> tuple[Any, Any] | None:
    """A key and a request, if the row is such a pair."""
    if not isinstance(row, tuple):
        return None
    parts = tuple(cast("Iterable[Any]", row))
    return (parts[0], parts[1]) if len(parts) == 2 else None  # noqa: PLR2004


def custom_id_of(row: object, where: str = "a row") -> str | None:
    """The `custom_id` of a row, if it has one.

    Args:
        row: What a row of the input holds.
        where: Its place, for messages.

    Raises:
        InvalidRequestError: It is neither text nor a number.
    """
    if not is_mapping(row) or row.get("custom_id") is None:
        return None
    return _key_in(row, "custom_id", where)


def _key_in(columns: Mapping[str, Any], name: str, where: str) -> str:
    value: object = columns[name]
    kind = "null" if value is None else type(value).__name__
    if value is None or isinstance(value, Mapping | list):
        message = f"{where}: {name} must be text or a number to be a key, not {kind}"
        raise InvalidRequestError(message, param=name)
    return str(value)


def _batch_body(line: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The request in a line of OpenAI's batch format."""
    method = str(line.get("method") or "POST")
    if method.upper() != "POST":
        message = f"{where}: method must be POST, not {method[:80]}"
        raise InvalidRequestError(message, param="method")
    url = str(line.get("url") or _ENDPOINT)
    if not url.endswith(_ENDPOINT):
        message = f"{where}: only {_ENDPOINT} is run in batches, not {url[:80]}"
        raise InvalidRequestError(message, param="url")
    body = line["body"]
    if not is_mapping(body):
        message = f"{where}: body must be a request, not {type(body).__name__}"
        raise InvalidRequestError(message, param="body")
    return body


def _body(request: Mapping[str, Any], row: Row) -> Mapping[str, Any]:
    """A request that is nothing but a body."""
    options = sorted(_NOT_FROM_DATA.intersection(request))
    if options:
        message = f"{row.where}: a row of a file cannot set {', '.join(options)}"
        raise InvalidRequestError(message, param=options[0])
    return request


def columns_of(template: object) -> frozenset[str]:
    """The columns that a template names; none, if it is no text, list or mapping.

    Args:
        template: See `fill`.

    Raises:
        ConfigurationError: There is a brace on its own.
    """
    if isinstance(template, str):
        lone = re.search("[{}]", _PLACE.sub("", template))
        if lone:
            brace = lone[0]
            message = (
                f"a {brace!r} on its own in the template: write {{column}}, "
                f"or {brace * 2!r} for the brace itself"
            )
            raise ConfigurationError(message)
        return frozenset(found[1] for found in _PLACE.finditer(template) if found[1])
    parts: Iterable[Any] = ()
    if is_mapping(template):
        parts = template.values()
    elif isinstance(template, list):
        parts = cast("Iterable[Any]", template)
    return frozenset(name for part in parts for name in columns_of(part))


def fill(part: Any, columns: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401
    """A template with its `{column}` places filled; `{{` and `}}` stand for braces.

    Args:
        part: Text, list or mapping; anything else stays as it is.
        columns: The row.
        where: Its place, for messages.

    Raises:
        InvalidRequestError: The row has no such column, or null there.
    """
    if isinstance(part, str):
        return _PLACE.sub(lambda found: _filled(found, columns, where), part)
    if is_mapping(part):
        return {name: fill(value, columns, where) for name, value in part.items()}
    if isinstance(part, list):
        return [fill(value, columns, where) for value in cast("Iterable[Any]", part)]
    return part


def _filled(found: re.Match[str], columns: Mapping[str, Any], where: str) -> str:
    if found[0] in {"{{", "}}"}:
        return found[0][0]
    name = found[1]
    if name not in columns:
        has = ", ".join(map(str, columns))[:_SHOWN] or "none"
        message = f"{where}: no column {name!r} for the template; the row has: {has}"
        raise InvalidRequestError(message, param=name)
    value = columns[name]
    if value is None:
        message = f"{where}: column {name!r} is null"
        raise InvalidRequestError(message, param=name)
    if isinstance(value, str):
        return value
    shown = _encode(value).decode()
    # Dates and decimals, which tables have, are texts in JSON.
    return shown[1:-1] if shown.startswith('"') else shown


def digest_of(value: object) -> str | None:
    """A hash of JSON values, 16 hexadecimal digits; `None` if they are none."""
    try:
        return hashlib.blake2b(_encode(value), digest_size=8).hexdigest()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def _fingerprint(value: object) -> str:
    if value is None or value == {}:
        return ""
    if callable(value):
        return _hash(_source_of(value))
    return digest_of(value) or _hash(repr(value).encode("utf-8", "replace"))


def _source_of(function: Callable[..., Any]) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return code.co_code if code else repr(type(function)).encode()


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
