"""A client and the emulator it talks to, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from deepseek_async import AsyncDeepSeek
from deepseek_async.testing import DeepSeekEmulator, Pace


@pytest_asyncio.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as running:
        yield running


@pytest_asyncio.fixture
async def client(emulator: DeepSeekEmulator) -> AsyncIterator[AsyncDeepSeek]:
    async with AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, max_retries=0
    ) as made:
        yield made
