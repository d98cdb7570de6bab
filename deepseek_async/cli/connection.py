"""What the command talks to: the API, or an emulator inside this process."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..client import AsyncDeepSeek
from ..session import DEFAULT_MAX_CONNECTIONS
from ..testing import DeepSeekEmulator
from .exits import CommandError, ExitCode


def require_key(*, emulate: bool) -> None:
    """Check that there is a key, or that none is needed.

    Raises:
        CommandError: Neither; the line names both ways out.
    """
    if not emulate and not os.environ.get("DEEPSEEK_API_KEY"):
        message = (
            "no API key: set DEEPSEEK_API_KEY, or add --emulate to run against the "
            "embedded emulator"
        )
        raise CommandError(message, ExitCode.CONFIGURATION)


@asynccontextmanager
async def connect(
    *, emulate: bool, base_url: str | None = None, connections: int = 1
) -> AsyncGenerator[AsyncDeepSeek, None]:
    """A client for the length of a command.

    Args:
        emulate: Start an emulator and talk to that.
        base_url: Where the API is, if not where the environment says.
        connections: How many requests the command makes at once.

    Raises:
        CommandError: There is no key.
        ConfigurationError: The key or the base URL is malformed.
    """
    require_key(emulate=emulate)
    limit = max(connections, DEFAULT_MAX_CONNECTIONS)
    if not emulate:
        async with AsyncDeepSeek(base_url=base_url, max_connections=limit) as client:
            yield client
        return
    async with (
        DeepSeekEmulator(concurrency_limit=None) as emulator,
        AsyncDeepSeek(
            api_key=emulator.api_key, base_url=emulator.base_url, max_connections=limit
        ) as client,
    ):
        yield client
