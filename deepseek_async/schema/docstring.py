"""What a docstring says: a description, and a line for each parameter.

Google style only, and without a library: what the model reads must not depend on
what else is installed, or the same program would send two different prompts (and
miss the context cache) on two machines. `Annotated[..., "text"]` describes a
parameter in any other style of docstring.
"""

from __future__ import annotations

import inspect
import re
from itertools import pairwise
from typing import Final

from msgspec import Struct

_SECTION: Final = r"^([A-Z][A-Za-z ]*):\s*$"
_PARAMETER: Final = r"^\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)$"
_ARGUMENTS: Final = frozenset({"Args", "Arguments", "Parameters", "Attributes"})
_SECTIONS: Final = _ARGUMENTS | {
    "Example",
    "Examples",
    "Note",
    "Notes",
    "Raises",
    "References",
    "Returns",
    "See Also",
    "Todo",
    "Warning",
    "Warnings",
    "Warns",
    "Yields",
}


class Docstring(Struct, frozen=True, kw_only=True):
    """The parts of a docstring that a model can use.

    Attributes:
        description: Everything before the first section, line breaks kept.
        parameters: Parameter name to its description, each in one line.
    """

    description: str = ""
    parameters: dict[str, str] = {}


def parse_docstring(text: str | None) -> Docstring:
    """Take a Google-style docstring apart.

    Args:
        text: The docstring; `None` counts as empty.

    Returns:
        Its description and what its `Args:` section says.
    """
    lines = inspect.cleandoc(text or "").splitlines()
    starts = [i for i, line in enumerate(lines) if _is_section(line)]
    end = starts[0] if starts else len(lines)
    parameters: dict[str, str] = {}
    for start, stop in pairwise([*starts, len(lines)]):
        if lines[start].rstrip().rstrip(":") in _ARGUMENTS:
            parameters.update(_parameters(lines[start + 1 : stop]))
    return Docstring(description="\n".join(lines[:end]).strip(), parameters=parameters)


def _is_section(line: str) -> bool:
    found = re.match(_SECTION, line)
    return found is not None and found[1] in _SECTIONS


def _parameters(lines: list[str]) -> dict[str, str]:
    body = [line for line in lines if line.strip()]
    if not body:
        return {}
    indent = min(len(line) - len(line.lstrip()) for line in body)
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in body:
        depth = len(line) - len(line.lstrip())
        named = re.match(_PARAMETER, line.strip()) if depth == indent else None
        if named is not None:
            current = found[named[1]] = [named[2]]
        else:
            current.append(line.strip())
    return {name: " ".join(filter(None, parts)) for name, parts in found.items()}
