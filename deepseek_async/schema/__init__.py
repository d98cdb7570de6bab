"""Python types as JSON Schema, and JSON as values of those types.

`json_type` makes schemas and decodes, `strict` cuts a schema down to what DeepSeek's
strict mode knows, `signature` turns the parameters of a function into a type, and
`docstring` finds what a docstring says about them.
"""

from __future__ import annotations

from .docstring import Docstring, parse_docstring
from .json_type import (
    JSONType,
    encode_result,
    error_text,
    is_array,
    is_object,
    make_schema,
    readable,
)
from .signature import Parameters, innermost
from .strict import strict_schema

__all__ = [
    "Docstring",
    "JSONType",
    "Parameters",
    "encode_result",
    "error_text",
    "innermost",
    "is_array",
    "is_object",
    "make_schema",
    "parse_docstring",
    "readable",
    "strict_schema",
]
