"""What many test files share: recorded bodies, and a stub of the transport."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses

# Modules beside the tests, such as `leaks`, are imported by their own name.
sys.path.append(str(Path(__file__).parent))


class StubbedResponse(aiohttp.ClientResponse):
    """aiohttp's response, made the way aioresponses makes it.

    aiohttp 3.14 wants a `stream_writer` that aioresponses 0.7.9 does not give.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Aioresponses in place of the network: statuses, bodies and retries only."""
    monkeypatch.setattr("aioresponses.core.ClientResponse", StubbedResponse)
    with aioresponses() as stub:
        yield stub


@pytest.fixture(autouse=True)
def no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own key and base URL out of the tests."""
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    monkeypatch.delenv("DEEPSEEK_BASE_URL", raising=False)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: these tests wait as much as they work."""
    return (os.cpu_count() or 1) + 1
