"""Typed functions as tools: schemas, checks, and what cannot be a tool."""

from __future__ import annotations

import dataclasses
import enum
import functools
import socket
from typing import Annotated, Any, Literal, TypedDict

import annotated_types
import msgspec
import pydantic
import pytest
from msgspec import Meta

from deepseek_async import (
    LocalTool,
    StrictSchemaError,
    TextPart,
    ToolDefinitionError,
    tool,
)


class Unit(enum.Enum):
    """A unit of temperature."""

    CELSIUS = "c"
    FAHRENHEIT = "f"


class Place(msgspec.Struct):
    """A place on earth."""

    city: str
    country: str | None = None


@dataclasses.dataclass
class Span:
    start: int
    end: int = 0


class Options(TypedDict):
    verbose: bool


class Node(msgspec.Struct):
    value: int
    children: list[Node] = []


class Person(pydantic.BaseModel):
    name: str
    friends: list[Person] = []


class Weather(msgspec.Struct):
    celsius: float


@tool
async def get_weather(
    city: str, unit: Literal["celsius", "fahrenheit"] = "celsius"
) -> Weather:
    """Weather right now.

    Asks the nearest station.

    Args:
        city: Name of the city,
            in English.
        unit (str): Of the answer.

    Returns:
        The weather.
    """
    return Weather(celsius=len(city) + (unit == "fahrenheit"))


def test_definition_is_what_the_wire_carries() -> None:
    """Signature and docstring become the definition, ready to be sent."""
    assert dict(get_weather) == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather right now.\n\nAsks the nearest station.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {
                        "type": "string",
                        "description": "Name of the city, in English.",
                    },
                    "unit": {
                        "enum": ["celsius", "fahrenheit"],
                        "description": "Of the answer.",
                        "default": "celsius",
                    },
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    assert len(get_weather) == 2
    assert get_weather.description.startswith("Weather right now.")
    assert not get_weather.strict


async def test_a_tool_is_still_its_function() -> None:
    """Calling a tool calls the function, with its own types."""
    assert (await get_weather("Oslo")).celsius == 4
    assert await get_weather.run(["Oslo"]) == '{"celsius":4}'
    assert repr(get_weather) == "LocalTool('get_weather')"
    assert {get_weather: 1}[get_weather] == 1


def everything(  # noqa: PLR0917 - one of each
    number: Annotated[int, Meta(ge=1, le=9)],
    unit: Unit,
    place: Place,
    span: Span,
    options: Options,
    node: Node,
    person: Person,
    tags: Annotated[list[str], Meta(max_length=3)],
    either: int | str | None = None,
    table: dict[str, float] | None = None,
    score: Annotated[float, annotated_types.Gt(0), "how good"] = 1.0,
    level: Annotated[int, pydantic.Field(le=5, description="how deep")] = 1,
) -> None:
    """Take everything."""


def test_every_kind_of_type_has_a_schema() -> None:
    """Structs, dataclasses, TypedDicts, enums, constraints and pydantic models fit."""
    properties = tool(everything).parameters["properties"]

    assert properties["number"] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert properties["unit"] == {"$ref": "#/$defs/Unit"}
    assert properties["tags"]["maxItems"] == 3
    assert properties["score"]["exclusiveMinimum"] == 0
    assert properties["score"]["description"] == "how good"
    assert properties["level"]["maximum"] == 5
    assert properties["level"]["description"] == "how deep"
    definitions = tool(everything).parameters["$defs"]
    assert set(definitions) == {"Node", "Options", "Person", "Place", "Span", "Unit"}
    assert definitions["Unit"]["enum"] == ["c", "f"]
    assert definitions["Node"]["properties"]["children"]["items"] == {
        "$ref": "#/$defs/Node"
    }
    assert definitions["Person"]["properties"]["friends"]["items"] == {
        "$ref": "#/$defs/Person"
    }


def test_arguments_arrive_as_their_types() -> None:
    """Decoded arguments are structs, dataclasses, enums and models, not dicts."""
    _, given = tool(everything).check(
        '{"number":2,"unit":"f","place":{"city":"Oslo"},"span":{"start":1},'
        '"options":{"verbose":true},"node":{"value":1,"children":[{"value":2}]},'
        '"person":{"name":"Ann","friends":[{"name":"Bob"}]},"tags":[]}'
    )

    assert given["unit"] is Unit.FAHRENHEIT
    assert given["place"] == Place(city="Oslo")
    assert given["span"] == Span(start=1)
    assert given["node"] == Node(value=1, children=[Node(value=2)])
    assert given["person"] == Person(name="Ann", friends=[Person(name="Bob")])
    assert "score" not in given


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ('{"city": 3}', "Expected `str`, got `int`"),
        ("{}", "missing required field `city`"),
        ('{"city": "Oslo", "when": "now"}', "unknown field `when`"),
        ('{"city": "Oslo", "unit": "kelvin"}', "Invalid enum value 'kelvin'"),
        ('{"city": "Os', "not valid JSON"),
        ("[" * 5_000, "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
    ],
)
def test_wrong_arguments_are_described(arguments: str, problem: str) -> None:
    """What the model got wrong is said in words it can act on."""
    with pytest.raises(ValueError, match=problem):
        get_weather.check(arguments)


def test_pydantic_errors_do_not_quote_the_value() -> None:
    """A pydantic model's complaint names the field and leaves the value out."""
    with pytest.raises(ValueError, match=r"name: Input should be") as caught:
        tool(befriend).check('{"person": {"name": ["secret"]}}')

    assert "secret" not in str(caught.value)


def befriend(person: Person) -> str:
    return person.name


def untyped(city) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    ...


def socketed(city: str, link: socket.socket) -> None: ...


def variadic(*cities: str) -> None: ...


def open_ended(**cities: str) -> None: ...


def unresolved(city: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


def called_back(done: functools.partial[None]) -> None: ...


class Thermometer:
    """Something with a method."""

    def read(self, place: str) -> str:
        """Read it."""
        return place


IMPOSSIBLE: list[tuple[Any, str]] = [
    (Thermometer.read, r"make a tool of the bound one, tool\(thing.method\)"),
    (untyped, "'city' has no type annotation"),
    (socketed, "'link'"),
    (variadic, "'cities' is variadic"),
    (open_ended, "'cities' is variadic"),
    (unresolved, "'Nowhere'"),
    (called_back, "'done'"),
]


@pytest.mark.parametrize(("function", "named"), IMPOSSIBLE)
def test_functions_that_cannot_be_tools(function: Any, named: str) -> None:
    """An error names the parameter that no model could fill."""
    with pytest.raises(ToolDefinitionError, match=named):
        tool(function)


@pytest.mark.parametrize("name", ["get weather", "x" * 129, "wetter.heute", "größe"])
def test_names_outside_the_allowed_set(name: str) -> None:
    """A name the API would refuse is refused at definition."""
    with pytest.raises(ToolDefinitionError, match="tool name"):
        tool(name=name)(get_weather)
    with pytest.raises(ToolDefinitionError, match="<lambda>"):
        tool(lambda: None)


def test_a_default_need_not_be_json() -> None:
    """A default that JSON cannot carry stays the function's own affair."""
    assert tool(with_default).parameters["properties"]["path"] == {"type": "string"}
    assert tool(with_default).check("{}") == ([], {})


def with_default(path: str = object()) -> None:  # type: ignore[assignment]
    ...


def positional(a: int, /, b: int) -> int:
    return a - b


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, by: int) -> int:
        """Count up."""
        self.count += by
        return self.count

    def __call__(self, by: int) -> int:
        return self.add(by)


async def test_methods_partials_and_positional_parameters() -> None:
    """Bound methods, callable objects and positional-only parameters all work."""
    counter = Counter()
    add: LocalTool[..., int] = tool(counter.add)
    call: LocalTool[..., int] = tool(name="count")(counter)

    assert add.description == "Count up."
    assert await add.run(*add.check('{"by": 2}')) == "2"
    assert await call.run(*call.check('{"by": 3}')) == "5"
    subtract = tool(positional)
    assert await subtract.run(*subtract.check('{"b": 1, "a": 5}')) == "4"


async def test_results_become_content() -> None:
    """Text stays text, parts stay parts, models and structs become JSON."""
    assert await tool(name="a")(lambda: "text").run() == "text"
    assert await tool(name="b")(lambda: None).run() == "null"
    assert await tool(name="c")(lambda: Person(name="Ann")).run() == (
        '{"name":"Ann","friends":[]}'
    )
    part = TextPart(text="x")
    assert await tool(name="d")(lambda: [part]).run() == [part]
    with pytest.raises((TypeError, NotImplementedError), match="object"):
        await tool(name="e")(object).run()


def strict_ok(
    number: Annotated[int, Meta(ge=1, le=9)],
    unit: Unit,
    node: Node,
    mail: Annotated[str, Meta(extra_json_schema={"format": "email"})],
    either: int | str | None = None,
    word: str = "x",
) -> None:
    """Strict."""


def test_strict_schema_closes_objects() -> None:
    """Strict mode makes every property required and every object closed."""
    made = tool(strict=True)(strict_ok)
    schema = made.parameters

    assert made["function"]["strict"] is True
    assert schema["required"] == [
        "number",
        "unit",
        "node",
        "mail",
        "either",
        "word",
    ]
    assert schema["additionalProperties"] is False
    assert schema["$def"]["Node"]["required"] == ["value", "children"]
    assert schema["$def"]["Node"]["additionalProperties"] is False
    assert schema["properties"]["node"] == {"$ref": "#/$def/Node"}
    assert "default" not in schema["properties"]["word"]
    assert "$defs" not in schema


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: int


class Pet(pydantic.BaseModel):
    kind: Literal["cat"]


def test_strict_schema_keeps_unions_apart() -> None:
    """Tagged unions and constants are said in words the subset has."""

    def own(pet: Annotated[Cat | Dog, Meta(description="yours")]) -> None: ...

    own.__annotations__ = {"pet": Cat | Dog}
    schema = tool(strict=True)(own).parameters

    assert "discriminator" not in schema["properties"]["pet"]
    assert len(schema["properties"]["pet"]["anyOf"]) == 2
    own.__annotations__ = {"pet": Pet}
    pet = tool(strict=True)(own).parameters["properties"]["pet"]
    kind = pet["properties"]["kind"]
    assert kind == {"type": "string", "enum": ["cat"]}


@pytest.mark.parametrize(
    ("kind", "keyword"),
    [
        (Annotated[str, Meta(min_length=1)], "minLength"),
        (Annotated[str, Meta(max_length=9)], "maxLength"),
        (Annotated[list[int], Meta(min_length=1)], "minItems"),
        (Annotated[list[int], Meta(max_length=9)], "maxItems"),
        (set[int], "uniqueItems"),
        (tuple[int, str], "minItems"),
        (dict[str, int], "additionalProperties"),
        pytest.param(dict, "additionalProperties", id="bare dict"),
        (Any, "Any"),
        (list, "Any"),
        (bytes, "contentEncoding"),
        (Annotated[str, Meta(extra_json_schema={"format": "uri"})], "format uri"),
    ],
)
def test_strict_mode_names_what_it_cannot_express(kind: Any, keyword: str) -> None:
    """An error of strict mode names the place and the keyword."""

    def take(value: int) -> None: ...

    take.__annotations__ = {"value": kind}
    with pytest.raises(StrictSchemaError) as caught:
        tool(strict=True)(take)

    assert caught.value.keyword == keyword
    assert "$.value" in str(caught.value)
    assert "take" in str(caught.value)


Endless = list["Endless"]


def endless(value: Endless) -> None: ...


def test_a_type_that_never_ends() -> None:
    """Recursion without a named type in between has no schema, and says so."""
    with pytest.raises(ToolDefinitionError, match="'value'"):
        tool(endless)


def same_names(one: Person, two: list[Other.Person]) -> None: ...


class Other:
    class Person(pydantic.BaseModel):
        age: int
        next: Other.Person | None = None


def test_two_types_of_one_name() -> None:
    """Two models of one name cannot share one schema, and are not mixed up."""
    with pytest.raises(ToolDefinitionError, match="two types are called Person"):
        tool(same_names)


def nested(node: Node) -> int:
    return node.value


def test_arguments_nested_too_deeply() -> None:
    """Bottomless arguments are an error for the model, not a crash."""
    deep = '{"value":1,"children":[' * 5_000
    with pytest.raises(ValueError, match=r"nested too deeply|truncated"):
        tool(nested).check(f'{{"node":{deep}')


def bad_constraint(text: Annotated[str, annotated_types.Ge(3)]) -> None: ...


def test_constraints_that_do_not_fit_their_type() -> None:
    """A bound on a text is a mistake that is named."""
    with pytest.raises(ToolDefinitionError, match="'text'"):
        tool(bad_constraint)


def test_builtins_have_no_types() -> None:
    """A function without annotations of its own cannot be a tool."""
    with pytest.raises(ToolDefinitionError):
        tool(name="length")(len)


@tool
def documented(a: Annotated[int, Meta(description="mine")], b: int, c: int) -> None:
    """Do.

    Args:
        a: not this
        b (int): the second,
            in two lines: really
        c: the third

    Note:
        d: not a parameter
    """


def test_docstrings_describe_parameters() -> None:
    """`Args:` is read in Google style; a description in the type comes first."""
    properties = documented.parameters["properties"]
    found = {name: schema["description"] for name, schema in properties.items()}

    assert found == {
        "a": "mine",
        "b": "the second, in two lines: really",
        "c": "the third",
    }
    assert documented.description == "Do."
    assert documented(1, 2, 3) is None


def test_partials_are_documented_by_what_they_apply() -> None:
    """A partial application shows the function's text and what is left to fill."""
    applied = tool(name="two")(functools.partial(documented, b=1, c=2))

    assert set(applied.parameters["properties"]) == {"a", "b", "c"}
    assert applied.parameters["required"] == ["a"]
