"""What structs show of themselves that may hold a prompt."""

from __future__ import annotations

from typing import Any


class Discreet:
    """Stands before `Struct`: neither `repr` nor rich shows a field.

    rich does not ask `repr`, and prints local variables in tracebacks.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
