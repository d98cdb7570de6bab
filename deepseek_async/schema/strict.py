"""A JSON Schema cut to the subset that DeepSeek's strict mode knows (beta).

What only annotates is dropped, every property becomes required, and objects are
closed. What would be lost with a constraint is an error: the caller chose strict mode
to have the schema kept.

https://api-docs.deepseek.com/guides/tool_calls
"""

from __future__ import annotations

from typing import Final

from ..errors import StrictSchemaError
from .json_type import Schema, is_object

_FORMATS: Final = frozenset({"email", "hostname", "ipv4", "ipv6", "uuid"})
_NUMBER: Final = frozenset(
    {
        "const",
        "default",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maximum",
        "minimum",
        "multipleOf",
    }
)
_BY_TYPE: Final[dict[str, frozenset[str]]] = {
    "object": frozenset({"additionalProperties", "properties", "required"}),
    "string": frozenset({"format", "pattern"}),
    "number": _NUMBER,
    "integer": _NUMBER,
    "array": frozenset({"items"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
_ALWAYS: Final = frozenset({"$def", "$ref", "anyOf", "description", "enum", "type"})
_ANNOTATIONS: Final = frozenset(
    {"$comment", "default", "deprecated", "discriminator", "examples", "title"}
)
_KINDS: Final = frozenset({"$ref", "anyOf", "const", "enum", "type"})


def strict_schema(schema: Schema) -> Schema:
    """The strict-mode form of a schema.

    Definitions move from `$defs` to `$def`, the name the API documents, and
    references follow. Recursion through them is kept.

    Args:
        schema: As `JSONType.schema` has it; it is left unchanged.

    Returns:
        A new schema: objects are closed and all their properties required.

    Raises:
        StrictSchemaError: The subset cannot express something; `path` and `keyword`
            say what.
    """
    return _node(schema, "$")


def _node(schema: object, path: str) -> Schema:
    if not is_object(schema):
        raise StrictSchemaError(path, str(schema).lower(), "no schema of one type")
    node = _renamed(schema)
    kind = node.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in _BY_TYPE):
        raise StrictSchemaError(path, f"type {kind}", "one of the known types is meant")
    allowed = _ALWAYS | _BY_TYPE.get(kind or "", frozenset())
    node = {k: v for k, v in node.items() if k in allowed or k not in _ANNOTATIONS}
    for keyword in node:
        if keyword not in allowed:
            raise StrictSchemaError(path, keyword)
    if not _KINDS & node.keys():
        raise StrictSchemaError(path, "Any", "a type is needed")
    return _checked(node, path)


def _renamed(schema: Schema) -> Schema:
    """The same meaning in the subset's own words, where it has some."""
    node = dict(schema)
    if "$defs" in node:
        node["$def"] = node.pop("$defs")
    if "discriminator" in node and "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")  # the discriminator keeps them apart
    if "$ref" in node:
        node["$ref"] = node["$ref"].replace("#/$defs/", "#/$def/")
    if "const" in node and node.get("type") not in {"number", "integer"}:
        node["enum"] = [node.pop("const")]
    return node


def _checked(node: Schema, path: str) -> Schema:
    kind = node.get("type")
    if kind == "object":
        _close(node, path)
    if kind == "array":
        if "items" not in node:
            raise StrictSchemaError(path, "Any", "the items need a type")
        node["items"] = _node(node["items"], f"{path}[]")
    if kind == "string" and node.get("format", "email") not in _FORMATS:
        raise StrictSchemaError(path, f"format {node['format']}")
    if "anyOf" in node:
        node["anyOf"] = [_node(branch, path) for branch in node["anyOf"]]
    if "$def" in node:
        node["$def"] = {k: _node(v, k) for k, v in node["$def"].items()}
    return node


def _close(node: Schema, path: str) -> None:
    """Make an object closed and all its properties required."""
    if node.get("additionalProperties", False) or "properties" not in node:
        raise StrictSchemaError(
            path, "additionalProperties", "objects have named properties only"
        )
    node["properties"] = {
        name: _node(value, f"{path}.{name}")
        for name, value in node["properties"].items()
    }
    node["required"] = list(node["properties"])
    node["additionalProperties"] = False
