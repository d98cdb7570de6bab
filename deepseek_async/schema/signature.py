"""The parameters of a function as a type, and JSON as a call of the function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import SchemaError
from .json_type import JSONType, make_schema, to_plain

_CONSTRAINTS: Final = (
    "ge",
    "gt",
    "le",
    "lt",
    "max_length",
    "min_length",
    "multiple_of",
    "pattern",
)
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Parameters:
    """What a function takes, as JSON Schema and as a decoder of calls.

    Every parameter needs an annotation. A parameter with a default may be left out of
    the call, and then the function's own default applies, whatever it is.

    Args:
        function: The function; its parameters must be known by name.
        descriptions: Parameter name to description, as the docstring has them.

    Attributes:
        schema: A closed JSON Schema object, properties in the order of the signature.

    Raises:
        SchemaError: A parameter has no type, is variadic, or has a type that JSON
            cannot carry; the message names it.
    """

    __slots__ = ("_decoder", "_positional", "schema")

    def __init__(
        self, function: Callable[..., object], descriptions: Mapping[str, str]
    ) -> None:
        parameters = inspect.signature(function).parameters
        hints = _hints(function)
        self._positional = [
            name
            for name, parameter in parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        fields = [
            _field(parameter, hints, descriptions.get(name))
            for name, parameter in parameters.items()
        ]
        struct = msgspec.defstruct(
            "Arguments", fields, kw_only=True, forbid_unknown_fields=True
        )
        self._decoder: JSONType[msgspec.Struct] = JSONType(struct)
        self.schema = _with_defaults(self._decoder.schema, parameters)

    def decode(self, arguments: str) -> tuple[list[object], dict[str, object]]:
        """Check the arguments of a call.

        Args:
            arguments: A JSON object; blank text counts as an empty one.

        Returns:
            Positional and keyword arguments to call the function with.

        Raises:
            ValueError: They do not fit; the message is fit for a model to read.
        """
        decoded = self._decoder.decode(arguments if arguments.strip() else "{}")
        values = {
            name: value
            for name in decoded.__struct_fields__
            if (value := getattr(decoded, name)) is not UNSET
        }
        positional = [values.pop(name) for name in self._positional if name in values]
        return positional, values


def innermost(function: Callable[..., object]) -> Callable[..., object]:
    """The function below decorators and partial applications.

    Args:
        function: Anything that can be called.
    """
    target: Callable[..., object] = inspect.unwrap(function)
    while isinstance(target, partial):
        target = inspect.unwrap(target.func)
    return target


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    target = innermost(function)
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = type(target).__call__  # an object that can be called
    try:
        return get_type_hints(target, include_extras=True)
    except NameError as error:
        name = error.name
    except TypeError:
        return {}
    message = f"the annotation {name!r} cannot be resolved: define it at module level"
    raise SchemaError(message)


def _field(
    parameter: inspect.Parameter, hints: Mapping[str, Any], description: str | None
) -> tuple[str, Any] | tuple[str, Any, Any]:
    name = parameter.name
    if parameter.kind in _VARIADIC:
        message = f"parameter {name!r} is variadic: a model cannot fill it"
        raise SchemaError(message)
    if name not in hints:
        message = f"parameter {name!r} has no type annotation"
        if name in {"self", "cls"}:
            message += ": of a method, make a tool of the bound one, tool(thing.method)"
        raise SchemaError(message)
    annotation = _annotated(hints[name], description)
    try:
        make_schema(annotation)
    except SchemaError as error:
        problem = str(error)
    else:
        if parameter.default is inspect.Parameter.empty:
            return name, annotation
        return name, Union[annotation, UnsetType], UNSET  # noqa: UP007 - at run time
    message = f"parameter {name!r}: {problem}"
    raise SchemaError(message)


def _annotated(annotation: Any, description: str | None) -> Any:  # noqa: ANN401
    """The annotation with constraints and description in msgspec's words.

    Beside `msgspec.Meta`, which msgspec reads itself at any depth, the metadata of a
    parameter may be text, a `Doc`, or what `annotated_types` and pydantic's `Field`
    offer.
    """
    given: dict[str, Any] = {}
    has_description = False
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Meta):
                has_description |= extra.description is not None
            else:
                given |= _meta_of(extra)
    if description and not has_description:
        given.setdefault("description", description)
    if not given:
        return annotation
    try:
        return Annotated[annotation, Meta(**given)]
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise SchemaError(problem)


def _meta_of(extra: object) -> dict[str, Any]:
    if isinstance(extra, str):
        return {"description": extra}
    found = {
        name: value
        for name in (*_CONSTRAINTS, "description")
        if (value := getattr(extra, name, None)) is not None
    }
    text = getattr(extra, "documentation", None)  # typing_extensions.Doc
    if text is not None:
        found["description"] = text
    for inner in getattr(extra, "metadata", ()):  # pydantic's Field holds others
        found |= _meta_of(inner)
    return found


def _with_defaults(
    schema: dict[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    properties: dict[str, Any] = dict(schema["properties"])
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            continue
        try:
            default = msgspec.to_builtins(parameter.default, enc_hook=to_plain)
            msgspec.json.encode(default)
        except (TypeError, ValueError, NotImplementedError):
            continue  # the model need not know it
        properties[name] = {**properties[name], "default": default}
    bare = {key: value for key, value in schema.items() if key != "title"}
    return {**bare, "properties": properties}
