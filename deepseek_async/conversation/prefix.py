"""Why the context cache missed: where two requests stop being the same.

The server caches prefixes of what it reads: tools first, then the messages. Whatever
changes an early part makes everything after it a miss, and the server only counts.

https://api-docs.deepseek.com/guides/kv_cache
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from msgspec import Struct

from ..history import plain_message
from ..salvage import is_mapping
from ..types.request import Message, PlainMessage


class PrefixDrift(Struct, frozen=True, kw_only=True):
    """The first place where a request differs from the one before.

    Attributes:
        part: `model`, `user_id` (which both have caches of their own), `tools`,
            `functions` or `message`.
        index: Which message, counted from 0.
        field: What differs in it: `role`, `content`, ...
    """

    part: Literal["model", "user_id", "tools", "functions", "message"]
    index: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        if self.index is None:
            return f"prefix changed: {self.part}"
        return f"prefix changed at message {self.index} ({self.field})"


def find_prefix_drift(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> PrefixDrift | None:
    """Find why a request cannot hit what an earlier one put in the context cache.

    https://api-docs.deepseek.com/guides/kv_cache

    Args:
        before: The arguments of the earlier request; append its answer to
            `messages`, as the cache holds that too.
        after: The arguments of the later one.

    Returns:
        The first difference, or `None` if one's messages begin with the other's.
    """
    part: Literal["model", "user_id", "tools", "functions"]
    for part in ("model", "user_id", "tools", "functions"):
        if _comparable(before.get(part)) != _comparable(after.get(part)):
            return PrefixDrift(part=part)
    return _message_drift(before.get("messages") or (), after.get("messages") or ())


def _comparable(value: Any) -> Any:  # noqa: ANN401 - any argument
    if not isinstance(value, list | tuple):
        return value or None
    listed = cast("list[object]", value)
    return [dict(one) if is_mapping(one) else one for one in listed] or None


def _message_drift(
    before: Iterable[Message], after: Iterable[Message]
) -> PrefixDrift | None:
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        if old is not new:
            field = _difference(_plain(old), _plain(new))
            if field is not None:
                return PrefixDrift(part="message", index=index, field=field)
    return None


def _plain(message: Message) -> PlainMessage:
    if type(message) is dict:
        return cast("PlainMessage", message)
    return plain_message(message)


def _difference(old: PlainMessage, new: PlainMessage) -> str | None:
    for name in (*old, *new):
        if old.get(name) != new.get(name):
            return name
    return None
