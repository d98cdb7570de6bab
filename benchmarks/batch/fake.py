"""A wire without a network: what remains is the cost of the runner itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from deepseek_async import (
    ChatCompletion,
    ChatCompletionMessage,
    Choice,
    RetryPolicy,
    Timeouts,
    Usage,
)
from deepseek_async.request import WireRequest

ANSWER = "A short answer, as a classifier gives."


class FakeWire:
    """Answers every request after a turn of the loop."""

    def __init__(self, most: int = 2500) -> None:
        self.timeouts = Timeouts()
        self.retry = RetryPolicy(attempts=5, base=0.01, cap=0.1, timeouts=True)
        self.most = most
        self.endpoint = "fake"
        self.sent = 0

    async def send(self, request: WireRequest) -> ChatCompletion:
        await asyncio.sleep(0)
        self.sent += 1
        return ChatCompletion(
            id=str(self.sent),
            model=request.model or "",
            choices=[
                Choice(
                    message=ChatCompletionMessage(content=ANSWER), finish_reason="stop"
                )
            ],
            usage=Usage(prompt_tokens=200, completion_tokens=10, total_tokens=210),
        )

    def other_calls(self) -> int:
        return 0


def rows(count: int) -> Iterator[dict[str, Any]]:
    """As many different requests."""
    for number in range(count):
        yield {
            "model": "deepseek-flash",
            "max_tokens": 16,
            "messages": [
                {"role": "system", "content": "Say which language this is."},
                {"role": "user", "content": f"Text number {number}: lorem ipsum."},
            ],
        }
