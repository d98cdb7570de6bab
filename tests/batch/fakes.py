"""A wire without a network, told per request how to answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from deepseek_async import (
    ChatCompletion,
    ChatCompletionMessage,
    Choice,
    DeepSeekError,
    RateLimitError,
    RetryPolicy,
    Timeouts,
    Usage,
)
from deepseek_async.batch import Batch, BatchResult, Limit, Settings
from deepseek_async.request import WireRequest

QUICK = RetryPolicy(attempts=5, base=0.001, cap=0.01, timeouts=True)


def ask(text: str, **params: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "deepseek-flash", "messages": [message], **params}


def asks(count: int, **params: Any) -> list[dict[str, Any]]:
    return [ask(f"question {number}", **params) for number in range(count)]


def answer_to(
    request: WireRequest, *, prompt: int = 20, output: int = 5, hit: int = 0
) -> ChatCompletion:
    """An answer that says the question again."""
    body = msgspec.json.decode(request.body)
    said = ChatCompletionMessage(content=f"re: {body['messages'][-1]['content'][:60]}")
    return ChatCompletion(
        id="x",
        model=request.model or "",
        choices=[Choice(message=said, finish_reason="stop")],
        usage=Usage(
            prompt_tokens=prompt,
            completion_tokens=output,
            total_tokens=prompt + output,
            prompt_cache_hit_tokens=hit,
            prompt_cache_miss_tokens=prompt - hit,
        ),
    )


def refusal(limit: int | None = None) -> RateLimitError:
    error = RateLimitError("too many", status=429)
    error.concurrency_limit = limit
    return error


class FakeWire:
    """Answers at once unless told otherwise.

    Attributes:
        reply: Makes the answer to a request, or raises; may wait.
        seen: How often each question was sent.
        now: Requests under way.
        most_seen: Most requests that were ever under way.
        others: Calls that are of no batch.
    """

    def __init__(self, retry: RetryPolicy = QUICK, most: int = 2500) -> None:
        self.timeouts = Timeouts()
        self.retry = retry
        self.most = most
        self.endpoint = "https://fake.invalid"
        self.reply: Callable[[WireRequest, str], Awaitable[ChatCompletion]] | None = (
            None
        )
        self.seen: Counter[str] = Counter()
        self.now = self.most_seen = self.others = 0

    async def send(self, request: WireRequest) -> ChatCompletion:
        text = msgspec.json.decode(request.body)["messages"][-1]["content"]
        self.seen[text] += 1
        self.now += 1
        self.most_seen = max(self.most_seen, self.now)
        try:
            await asyncio.sleep(0)
            if self.reply is not None:
                return await self.reply(request, text)
            return answer_to(request)
        finally:
            self.now -= 1

    def other_calls(self) -> int:
        return self.others

    def fail(self, error: Callable[[str], DeepSeekError | None]) -> None:
        """Fail the requests for whose question `error` makes an error."""

        async def reply(request: WireRequest, text: str) -> ChatCompletion:
            failure = error(text)
            if failure is not None:
                raise failure
            return answer_to(request)

        self.reply = reply


def make(
    wire: FakeWire,
    requests: Any,
    limit: Limit | int = 8,
    journal: Path | None = None,
    **options: Any,
) -> Batch:
    given = Limit.fixed(limit) if isinstance(limit, int) else limit
    settings = Settings.of({"journal": journal, **options})
    return Batch(wire, requests, given, settings)


async def collect(batch: Batch) -> list[BatchResult]:
    async with batch:
        return [result async for result in batch]
