"""Decoders, made by one thread at a time.

msgspec notes on a struct's class what its fields are when that is first needed. A
second thread that decodes the same class meanwhile reads what is not there yet, and
the interpreter crashes. Decoders that are made at import need none of this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_lock: Final = threading.RLock()
_ready: Final[set[object]] = set()


def decoder_of(
    kind: type[T], dec_hook: Callable[[type, Any], Any] | None = None
) -> msgspec.json.Decoder[T]:
    """A JSON decoder for a type.

    Args:
        kind: The type.
        dec_hook: Makes values of types that msgspec does not know.

    Raises:
        TypeError: msgspec cannot decode the type.
    """
    with _lock:
        return msgspec.json.Decoder(kind, dec_hook=dec_hook)


def make_ready(kind: type) -> None:
    """See that any thread may decode and convert to a struct from now on.

    Args:
        kind: The struct.
    """
    if kind not in _ready:
        decoder_of(kind)
        _ready.add(kind)
