"""The commonest chat request, checked in one go: messages of text, and a few options.

Whatever else a request holds, or gets wrong, `request` looks at piece by piece.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

_MOST: Final = sys.float_info.max
_Finite: TypeAlias = Annotated[float, Meta(ge=-_MOST, le=_MOST)]


class _TextMessage(Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class PlainChat(Struct, omit_defaults=True, gc=False):
    """The body of such a request."""

    model: str
    messages: Annotated[list[_TextMessage], Meta(min_length=1)]
    max_tokens: int | None = None
    temperature: _Finite | None = None
    top_p: _Finite | None = None
    user_id: str | None = None
    stream: bool | None = None


_FIELDS: Final = frozenset(PlainChat.__struct_fields__)
_DICTS: Final = {dict}

# Makes the structs ready for any thread to convert to.
msgspec.json.Decoder(PlainChat)


def plain_chat(params: Mapping[str, Any]) -> PlainChat | None:
    """The body of a request, if it is a plain one.

    Args:
        params: The arguments (see `ChatCompletionParams`), `stream` among them.
    """
    if not _FIELDS.issuperset(params):
        return None
    messages = params.get("messages")
    # Lists and dicts of another kind may show other items than they hold.
    if type(messages) is not list or set(map(type, messages)) != _DICTS:
        return None
    try:
        return msgspec.convert(params, PlainChat)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError):
        return None
