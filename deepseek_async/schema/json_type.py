"""One Python type as JSON Schema, and JSON decoded and checked into it.

msgspec does the work for its structs, dataclasses, TypedDicts, enums, unions and
collections; pydantic models, at any depth, are asked themselves. Nothing here imports
pydantic: a model is known by the two methods that are called.

https://docs.pydantic.dev/latest/api/base_model/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Generic, Protocol, TypeGuard, TypeVar

import msgspec

from ..decoders import decoder_of
from ..errors import SchemaError

T = TypeVar("T")

Schema = dict[str, Any]  # JSON Schema is arbitrary JSON
_REF: Final = "#/$defs/"


def is_object(node: object) -> TypeGuard[Schema]:
    """Whether a piece of JSON is an object."""
    return isinstance(node, dict)


def is_array(node: object) -> TypeGuard[list[Any]]:
    """Whether a piece of JSON is an array."""
    return isinstance(node, list)


class _PydanticModel(Protocol):
    """The part of a pydantic model class that is used."""

    def model_json_schema(self, *, ref_template: str) -> Schema: ...
    def model_validate(self, obj: object) -> object: ...


def _is_pydantic(kind: object) -> TypeGuard[_PydanticModel]:
    return hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate")


class JSONType(Generic[T]):
    """A type with its JSON Schema and its decoder, both made once.

    Args:
        kind: The type: anything msgspec knows, pydantic models within it or itself.

    Attributes:
        schema: The schema (JSON Schema 2020-12). An object type stands at the top
            itself; other named types are below `$defs`.

    Raises:
        SchemaError: JSON Schema cannot express the type.
    """

    __slots__ = ("_decoder", "schema")

    def __init__(self, kind: Any) -> None:  # noqa: ANN401 - no checker types a union
        self.schema = make_schema(kind)
        self._decoder: msgspec.json.Decoder[T] = decoder_of(kind, _from_plain)

    def decode(self, data: str | bytes) -> T:
        """Decode JSON text and check it.

        Args:
            data: JSON text.

        Raises:
            ValueError: It is not JSON, or does not fit; the message says where, in
                words fit for a model to read.
        """
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError as error:
            message = str(error)
        except (msgspec.DecodeError, UnicodeError) as error:
            message = f"not valid JSON: {error}"
        except RecursionError:
            message = "nested too deeply"
        except Exception as error:  # noqa: BLE001 - the type's own validation
            message = f"{type(error).__name__}: {error_text(error)}"
        raise ValueError(readable(message))


def error_text(error: Exception) -> str:
    """What an exception says, whatever its `__str__` does.

    Args:
        error: An exception of foreign code.
    """
    try:
        return readable(str(error))
    except Exception:  # noqa: BLE001 - foreign code again
        return "(it cannot be shown)"


def readable(text: str) -> str:
    """The text with lone surrogates written out, as JSON cannot carry them.

    Args:
        text: Such as the name of a file that is not UTF-8.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def make_schema(kind: Any) -> Schema:  # noqa: ANN401 - see JSONType
    """The JSON Schema of a type.

    Args:
        kind: The type.

    Raises:
        SchemaError: JSON Schema cannot express the type.
    """
    try:
        schema = msgspec.json.schema(kind, schema_hook=_to_schema)
    except RecursionError:
        problem = "the type never ends: recursion needs a named type in between"
    except (TypeError, NameError, ValueError, NotImplementedError) as error:
        problem = str(error).rsplit("\n", 1)[-1]
    else:
        return _root_inlined(_definitions_on_top(schema))
    raise SchemaError(problem)


def _to_schema(kind: type) -> Schema:
    if _is_pydantic(kind):
        return kind.model_json_schema(ref_template=_REF + "{model}")
    raise NotImplementedError(kind)


def _from_plain(kind: type, value: object) -> object:
    if not _is_pydantic(kind):
        raise NotImplementedError(kind)
    try:
        return kind.model_validate(value)
    except ValueError as error:
        problem = _pydantic_problem(error)
    # pydantic's own words quote the value and carry a link.
    raise ValueError(problem)


def _pydantic_problem(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    found: Iterable[dict[str, Any]] = errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']}" for one in found
    )


def _definitions_on_top(schema: Schema) -> Schema:
    """Move the definitions that pydantic nests up to where references look."""
    definitions: Schema = {}

    def lift(node: Any) -> Any:  # noqa: ANN401 - any JSON
        if is_array(node):
            return [lift(item) for item in node]
        if not is_object(node):
            return node
        for name, definition in node.get("$defs", {}).items():
            # A definition may mention itself: the name is taken before it is lifted.
            if name not in definitions:
                definitions[name] = None
                definitions[name] = lift(definition)
            elif definitions[name] not in (None, lift(definition)):
                message = f"two types are called {name}"
                raise SchemaError(message)
        return {key: lift(value) for key, value in node.items() if key != "$defs"}

    lifted: Schema = lift(schema)
    return {**lifted, "$defs": definitions} if definitions else lifted


def _root_inlined(schema: Schema) -> Schema:
    """Put a named root type at the top itself, as the API wants its objects."""
    reference = schema.get("$ref", "")
    definitions: Schema = dict(schema.get("$defs", {}))
    name = reference.removeprefix(_REF)
    if not reference or name not in definitions:
        return schema
    root = {**definitions[name], **{k: v for k, v in schema.items() if k != "$ref"}}
    if not mentions(definitions, reference):
        del definitions[name]
    root.pop("$defs", None)
    return {**root, "$defs": definitions} if definitions else root


def mentions(node: object, reference: str) -> bool:
    """Whether a schema refers to a definition.

    Args:
        node: A schema or a part of one.
        reference: Such as `#/$defs/City`.
    """
    if is_object(node):
        if node.get("$ref") == reference:
            return True
        return any(mentions(value, reference) for value in node.values())
    return is_array(node) and any(mentions(item, reference) for item in node)


def encode_result(value: object) -> str:
    """A Python value as JSON text, pydantic models included.

    Args:
        value: Anything msgspec encodes, or holding pydantic models.

    Raises:
        TypeError: It cannot be encoded.
        ValueError: It holds a lone surrogate or a number out of range.
    """
    return msgspec.json.encode(value, enc_hook=to_plain).decode()


def to_plain(value: object) -> object:
    """A pydantic model as plain values, for msgspec's encoders.

    Args:
        value: What msgspec does not know.

    Raises:
        NotImplementedError: It is no pydantic model either.
    """
    dump = getattr(value, "model_dump", None)
    if dump is None:
        message = f"a value of type {type(value).__name__} cannot be sent as JSON"
        raise NotImplementedError(message)
    return dump(mode="json")
