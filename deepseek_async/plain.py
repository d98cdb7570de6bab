"""The commonest chat request, checked in one go: messages of text, and a few options.

Whatever else a request holds, or gets wrong, `request` looks at piece by piece.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from .decoders import make_ready
from .types.discreet import Discreet

_MOST: Final = sys.float_info.max
_Int: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Number: TypeAlias = _Int | Annotated[float, Meta(ge=-_MOST, le=_MOST)]
"""A finite one: JSON has no other."""


class _TextMessage(Discreet, Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class PlainChat(Discreet, Struct, omit_defaults=True, gc=False):
    """The body of such a request. Its `repr` hides it."""

    model: str
    messages: list[_TextMessage]
    max_tokens: int | None = None
    temperature: _Number | None = None
    top_p: _Number | None = None
    user_id: str | None = None
    stream: bool | None = None


_FIELDS: Final = frozenset(PlainChat.__struct_fields__)
_REALS: Final = frozenset({"temperature", "top_p"})
_NUMBERS: Final = frozenset({int, float, NoneType})
_DICTS: Final[set[type]] = {dict}


def plain_chat(params: Mapping[str, Any]) -> PlainChat | None:
    """The body of a request, if it is a plain one.

    Args:
        params: The arguments (see `ChatCompletionParams`), `stream` among them.
    """
    if not _FIELDS.issuperset(params):
        return None
    messages: list[Any] | None = params.get("messages")
    # One at least; lists and dicts of another kind may show others than they hold.
    if type(messages) is not list or set(map(type, messages)) != _DICTS:
        return None
    # msgspec would take a Decimal for a float, and numbers of the caller's own kinds.
    if type(params.get("max_tokens")) not in _NUMBERS:
        return None
    if not (_REALS.isdisjoint(params) or _are_numbers(params)):
        return None
    make_ready(PlainChat)
    try:
        return msgspec.convert(params, PlainChat)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError):
        return None


def _are_numbers(params: Mapping[str, Any]) -> bool:
    return all(type(params.get(name)) in _NUMBERS for name in _REALS)
