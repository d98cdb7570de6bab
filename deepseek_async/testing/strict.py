"""The JSON-schema subset that strict tools accept (beta).

Facts: https://api-docs.deepseek.com/guides/tool_calls
"""

from __future__ import annotations

from typing import Final

from .wire import Body, WireError

_REFUSED: Final = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
}


def check_strict_tools(functions: list[Body]) -> None:
    """Refuse strict tools whose schemas go beyond the subset.

    Raises:
        WireError: 400 when only some functions are strict or a schema is unsupported.
    """
    strict = [function for function in functions if function.get("strict")]
    if not strict:
        return
    if len(strict) < len(functions):
        raise WireError(400, "All functions must set strict to true in strict mode")
    for function in strict:
        _check(function.get("parameters") or {}, function["name"])


def _check(schema: Body, where: str) -> None:
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        _check_object(schema, where)
    refused = _REFUSED.get(kind, ()) if isinstance(kind, str) else ()
    for key in refused:
        if key in schema:
            raise _unsupported(where, f"{key} is not supported")
    for name, inner in _inner(schema).items():
        _check(inner, f"{where}.{name}")


def _check_object(schema: Body, where: str) -> None:
    properties: Body = schema.get("properties") or {}
    if schema.get("additionalProperties") is not False:
        raise _unsupported(where, "additionalProperties must be false")
    if set(schema.get("required") or ()) != set(properties):
        raise _unsupported(where, "every property must be required")


def _inner(schema: Body) -> dict[str, Body]:
    inner: dict[str, Body] = dict(schema.get("properties") or {})
    if "items" in schema:
        inner["items"] = schema["items"]
    branches: list[Body] = schema.get("anyOf") or []
    inner.update({f"anyOf[{n}]": branch for n, branch in enumerate(branches)})
    for key in ("$defs", "$def"):
        inner.update(schema.get(key) or {})
    return inner


def _unsupported(where: str, problem: str) -> WireError:
    return WireError(400, f"Invalid schema for strict function {where}: {problem}")
