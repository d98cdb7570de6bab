"""Schemas of made-up types, judged by the `jsonschema` library."""

from __future__ import annotations

import dataclasses
import enum
import keyword
from typing import Annotated, Any, Literal, Optional, TypedDict

import jsonschema
import msgspec
from hypothesis import HealthCheck, given, reject, settings, strategies as st
from msgspec import Meta

from deepseek_async import SchemaError, StrictSchemaError
from deepseek_async.schema import JSONType, strict_schema

Validator = jsonschema.Draft202012Validator

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,7}", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name)
)
COUNTER = iter(range(10**9))

# Checkers cannot follow types that are made of values.
LIST: Any = list
DICT: Any = dict
TUPLE: Any = tuple
OPTIONAL: Any = Optional
TYPED: Any = TypedDict
EVERY_CHECK = [HealthCheck.too_slow, HealthCheck.filter_too_much]

SCALARS = st.sampled_from([int, str, bool, float, type(None)])
CONSTRAINED = st.one_of(
    st.integers(-9, 9).map(lambda low: Annotated[int, Meta(ge=low)]),
    st.integers(-9, 9).map(lambda high: Annotated[int, Meta(lt=high)]),
    st.integers(1, 9).map(lambda step: Annotated[int, Meta(multiple_of=step)]),
    st.integers(0, 5).map(lambda size: Annotated[str, Meta(min_length=size)]),
    st.integers(0, 5).map(lambda size: Annotated[str, Meta(max_length=size)]),
    st.sampled_from(["^a", "[0-9]+"]).map(lambda p: Annotated[str, Meta(pattern=p)]),
    st.integers(0, 3).map(lambda size: Annotated[list[int], Meta(max_length=size)]),
)
LITERALS = st.lists(
    st.text("abc", max_size=3) | st.integers(-3, 3), min_size=1, max_size=3, unique=True
).map(lambda values: Literal[tuple(values)])
ENUMS = st.lists(NAMES, min_size=1, max_size=3, unique=True).map(
    lambda names: enum.Enum(f"Enum{next(COUNTER)}", {n.upper(): n for n in names})
)


def fields_of(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(NAMES, kinds, max_size=3)


def grown(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = fields_of(kinds)
    return st.one_of(
        kinds.map(lambda kind: LIST[kind]),
        kinds.map(lambda kind: DICT[str, kind]),
        kinds.map(lambda kind: OPTIONAL[kind]),
        st.tuples(kinds, kinds).map(lambda pair: TUPLE[pair]),
        fields.map(
            lambda given: msgspec.defstruct(f"Struct{next(COUNTER)}", given.items())
        ),
        fields.map(
            lambda given: msgspec.defstruct(
                f"Closed{next(COUNTER)}", given.items(), forbid_unknown_fields=True
            )
        ),
        fields.map(
            lambda given: dataclasses.make_dataclass(
                f"Data{next(COUNTER)}", list(given.items())
            )
        ),
        fields.map(lambda given: TYPED(f"Typed{next(COUNTER)}", given)),
    )


KINDS = st.recursive(SCALARS | CONSTRAINED | LITERALS | ENUMS, grown, max_leaves=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.floats(-20, 20).filter(lambda x: not x.is_integer())
    | st.text("ab1", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def made_type(kind: Any) -> JSONType[Any]:
    try:
        return JSONType(kind)
    except SchemaError:
        raise
    except TypeError:  # msgspec takes only one array-like per union, and so on
        reject()


def is_accepted(shape: JSONType[Any], value: object) -> bool:
    try:
        shape.decode(msgspec.json.encode(value))
    except ValueError:
        return False
    return True


@settings(max_examples=150, deadline=None, suppress_health_check=EVERY_CHECK)
@given(KINDS)
def test_schemas_are_valid_json_schema(kind: Any) -> None:
    """Whatever the type, its schema is itself valid JSON Schema 2020-12."""
    Validator.check_schema(made_type(kind).schema)


@settings(max_examples=200, deadline=None, suppress_health_check=EVERY_CHECK)
@given(KINDS, st.data())
def test_decoder_and_schema_agree(kind: Any, data: st.DataObject) -> None:
    """The decoder takes exactly what the schema allows, fitting values or any."""
    shape = made_type(kind)
    validator = Validator(shape.schema)
    values = data.draw(st.lists(JSON | fitting(shape.schema), min_size=1, max_size=5))
    for value in values:
        assert is_accepted(shape, value) == validator.is_valid(value), value


@settings(max_examples=200, deadline=None, suppress_health_check=EVERY_CHECK)
@given(fields_of(KINDS))
def test_strict_schemas_stay_in_the_subset(fields: dict[str, Any]) -> None:
    """A strict schema is valid, in the documented subset, and no wider than before."""
    struct = msgspec.defstruct(f"Root{next(COUNTER)}", fields.items())
    shape = made_type(struct)
    try:
        strict = strict_schema(shape.schema)
    except StrictSchemaError:
        return
    Validator.check_schema(strict)
    check_subset(strict)


SUBSET = {
    "object": {"properties", "required", "additionalProperties"},
    "string": {"pattern", "format"},
    "array": {"items"},
    "boolean": set[str](),
    "null": set[str](),
}
SUBSET["integer"] = SUBSET["number"] = {
    "const",
    "default",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
}


def check_subset(node: dict[str, Any]) -> None:
    """Assert the table of the API's guide, written down a second time."""
    always = {"type", "enum", "anyOf", "$ref", "$def", "description"}
    kind = node.get("type")
    assert node.keys() <= always | SUBSET.get(kind or "", set()), node
    if kind == "object":
        assert node["additionalProperties"] is False
        assert set(node["required"]) == set(node["properties"])
    inner = [*node.get("properties", {}).values(), *node.get("anyOf", [])]
    inner += [*node.get("$def", {}).values(), *filter(None, [node.get("items")])]
    for one in inner:
        check_subset(one)


class Fitting:
    """Makes values that mostly fit a schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.definitions: dict[str, Any] = schema.get("$defs", {})

    def of(self, node: dict[str, Any]) -> st.SearchStrategy[Any]:
        if "$ref" in node:
            return self.of(self.definitions[node["$ref"].removeprefix("#/$defs/")])
        if "enum" in node:
            return st.sampled_from(node["enum"])
        if "anyOf" in node:
            return st.one_of([self.of(branch) for branch in node["anyOf"]])
        if node.get("type") == "object":
            return self.objects(node)
        if node.get("type") == "array":
            return self.arrays(node)
        return PLAIN.get(node.get("type", ""), JSON)

    def objects(self, node: dict[str, Any]) -> st.SearchStrategy[Any]:
        more: Any = node.get("additionalProperties")
        if more:
            return st.dictionaries(st.text("ab", max_size=2), self.of(more), max_size=2)
        known: dict[str, Any] = node.get("properties", {})
        return st.fixed_dictionaries({k: self.of(one) for k, one in known.items()})

    def arrays(self, node: dict[str, Any]) -> st.SearchStrategy[Any]:
        if "prefixItems" in node:
            return st.tuples(*map(self.of, node["prefixItems"])).map(list)
        return st.lists(self.of(node.get("items", {})), max_size=3)


PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text("ab1", max_size=4),
    "integer": st.integers(-20, 20),
    "number": st.floats(-20, 20) | st.integers(-20, 20),
    "boolean": st.booleans(),
    "null": st.none(),
}


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    return Fitting(schema).of(schema)


def test_a_recursive_type_has_a_finite_schema() -> None:
    """A type that mentions itself is expressed by reference, strictly as well."""
    shape: JSONType[Tree] = JSONType(Tree)

    Validator.check_schema(shape.schema)
    assert shape.decode('{"left": {"left": null}}') == Tree(left=Tree())
    assert strict_schema(shape.schema)["$def"]["Tree"]["required"] == ["left"]


class Tree(msgspec.Struct):
    left: Tree | None = None
