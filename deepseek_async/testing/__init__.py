"""`DeepSeekEmulator`: DeepSeek's wire on loopback, for tests, demos and benchmarks.

The names load on first use, because pytest imports this package for its plugin even
in projects whose tests never touch the emulator.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answers import Answer, Answerer, Call
    from .fault_plan import FaultChooser
    from .faults import (
        Cut,
        Delay,
        Empty,
        Fault,
        Finish,
        Garbage,
        MissingBlankLine,
        MissingDone,
        Page,
        Queue,
        Raw,
        Stall,
        Status,
        StreamError,
        Trickle,
    )
    from .pace import Pace
    from .recorded import Recorded
    from .server import DeepSeekEmulator
    from .tools import ToolRule

__all__ = [
    "Answer",
    "Answerer",
    "Call",
    "Cut",
    "DeepSeekEmulator",
    "Delay",
    "Empty",
    "Fault",
    "FaultChooser",
    "Finish",
    "Garbage",
    "MissingBlankLine",
    "MissingDone",
    "Pace",
    "Page",
    "Queue",
    "Raw",
    "Recorded",
    "Stall",
    "Status",
    "StreamError",
    "ToolRule",
    "Trickle",
]

_HOME = {
    "Answer": "answers",
    "Answerer": "answers",
    "Call": "answers",
    "DeepSeekEmulator": "server",
    "FaultChooser": "fault_plan",
    "Pace": "pace",
    "Recorded": "recorded",
    "ToolRule": "tools",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    module = import_module(f".{_HOME.get(name, 'faults')}", __name__)
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
