"""The pytest plugin: a fixture that runs the emulator.

It is registered as an entry point and so imported by every test run in an
environment that has this package: it loads the emulator only when the fixture is
used, and does nothing without pytest-asyncio.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .server import DeepSeekEmulator


async def _emulator() -> AsyncIterator[DeepSeekEmulator]:
    """A running `DeepSeekEmulator` that answers without any delay.

    Set ``deepseek_emulator.pace`` for a slower one, ``answer`` for words of your
    own, and call ``script()`` for faults.
    """
    # Deferred so that collecting tests does not import the server.
    from .pace import Pace  # noqa: PLC0415
    from .server import DeepSeekEmulator  # noqa: PLC0415

    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        yield emulator


if find_spec("pytest_asyncio"):
    import pytest_asyncio

    deepseek_emulator = pytest_asyncio.fixture(_emulator, name="deepseek_emulator")
else:  # pragma: no cover
    # anyio's plugin runs asynchronous fixtures that are declared the ordinary way.
    deepseek_emulator = pytest.fixture(_emulator, name="deepseek_emulator")
