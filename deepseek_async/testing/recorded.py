"""What the emulator remembers of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .wire import Body

_CREDENTIALS: Final = frozenset({"authorization", "x-api-key", "api-key", "cookie"})


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came in.

    Attributes:
        method: HTTP method.
        path: Path without the query.
        headers: Headers with lower-case names; credentials are masked.
        body: The decoded JSON object, empty when there is none.
        at: Time of the event loop, in seconds.
        trace_id: The ``x-ds-trace-id`` of the answer.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: Body
    at: float
    trace_id: str


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` with lower-case names and without credentials."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return lowered | dict.fromkeys(_CREDENTIALS & lowered.keys(), "***")
