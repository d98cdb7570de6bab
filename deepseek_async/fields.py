"""The fields of a request: names and JSON types, and what becomes of foreign ones.

https://api-docs.deepseek.com/api/create-chat-completion
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct


class MessageShape(Struct):
    """What every message has in common; the server judges the rest."""

    role: str
    content: str | list[Any] | msgspec.UnsetType | None = msgspec.UNSET


class ToolShape(Struct):
    """What every tool has in common."""

    type: str


class ChatShape(Struct):
    """The certain part of the API's rules: names and JSON types."""

    messages: list[MessageShape]
    model: str
    thinking: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[ToolShape] | None = None
    tool_choice: str | dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user_id: str | None = None
    title: dict[str, Any] | None = None
    safety_check: dict[str, Any] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    n: int | None = None


class FIMShape(Struct):
    """The same for fill in the middle."""

    model: str
    prompt: str
    suffix: str | None = None
    echo: bool | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


OPTIONS: Final = frozenset(
    {"timeouts", "timeout", "retry", "extra_headers", "tag", "extra_body"}
)
"""Arguments that are not part of the body."""

REQUIRED: Final = {
    "model": ", such as deepseek-flash",
    "messages": ', such as [{"role": "user", "content": "Hello"}]',
    "prompt": ": the text before the gap",
}
"""What a request cannot be without, and how it looks."""

INSTEAD: Final = {
    "max_retries": "pass retry=RetryPolicy(...), or call "
    "client.with_options(max_retries=...)",
}
"""Arguments of other clients that go elsewhere."""

RENAMED: Final = {"max_completion_tokens": "max_tokens", "user": "user_id"}
"""What other clients call it -> what the API calls it."""

WITHOUT_EFFECT: Final = frozenset({"frequency_penalty", "presence_penalty"})
"""Fields the API takes and ignores."""

WITHDRAWN: Final = {
    "deepseek-chat": 'deepseek-flash with thinking={"type": "disabled"}',
    "deepseek-reasoner": "deepseek-flash",
}
"""Model names that are gone since 24 July 2026, and what to use.

https://api-docs.deepseek.com/quick_start/pricing
"""

IGNORED: Final = frozenset(
    {
        "audio",
        "enable_thinking",
        "logit_bias",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "verbosity",
        "web_search_options",
    }
)
"""Fields of other clients that the API does not know."""

NESTED: Final = frozenset(
    {
        "function_call",
        "response_format",
        "safety_check",
        "stream_options",
        "thinking",
        "title",
        "tool_choice",
    }
)
"""Fields with objects in them, beside messages and tools."""

FLOATS: Final = frozenset(
    {"temperature", "top_p", "frequency_penalty", "presence_penalty"}
)
"""Fields that msgspec would send as null when they are no number."""
