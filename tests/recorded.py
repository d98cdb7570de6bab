"""The bodies in `data/`: documented examples of the wire, retold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def body(name: str) -> bytes:
    """The bytes of one recorded body."""
    return (DATA / name).read_bytes()


def document(name: str) -> Any:
    """The JSON document of one recorded body."""
    return json.loads(body(name))
