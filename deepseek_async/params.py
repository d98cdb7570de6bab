"""The keyword arguments of the endpoints, written once for editors and checkers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from .resume import Resume
from .retry import RetryPolicy
from .timeouts import Timeouts
from .types.request import (
    FunctionDefinition,
    Message,
    ResponseFormat,
    SafetyCheck,
    StreamOptions,
    Thinking,
    TitleOptions,
    Tool,
)


class CallOptions(TypedDict, total=False):
    """Options of a single call, accepted by every endpoint.

    Attributes:
        timeouts: Clocks of this call instead of the client's.
        timeout: One number of seconds for every wait on the server
            (`Timeouts.uniform`), as the `openai` package has it.
        retry: Retry policy of this call instead of the client's.
        extra_headers: Further request headers.
        tag: A label of your own, kept in `meta.tag` for accounting.
    """

    timeouts: Timeouts | None
    timeout: float | None
    retry: RetryPolicy | None
    extra_headers: Mapping[str, str] | None
    tag: str | None


class ChatOptions(CallOptions, total=False):
    """Arguments of a chat request beside model and messages.

    See https://api-docs.deepseek.com/api/create-chat-completion

    Attributes:
        thinking: Thinking is on unless `{"type": "disabled"}`.
        reasoning_effort: `none`, `low`, `high` (the API's default) or `max`.
        max_tokens: The most output tokens, reasoning included.
        temperature: 0 to 2; without effect while thinking.
        top_p: At most 1; see the API page for when it has an effect.
        stop: Up to 16 texts that end the answer.
        stream_options: `{"include_usage": bool}`, with `stream=True` only.
        response_format: `{"type": "json_object"}`; the prompt must contain the word
            "json". See https://api-docs.deepseek.com/guides/json_mode
        tools: Functions (and server tools) the model may call.
        tool_choice: `none`, `auto`, `required`, or a named function; the last two
            not while thinking.
        logprobs: Whether to return log probabilities.
        top_logprobs: How many likely tokens at each place, 0 to 20.
        user_id: A label of the end user; isolates cache and scheduling.
            See https://api-docs.deepseek.com/quick_start/rate_limit
        title: `{"enabled": True}` for a conversation title.
        safety_check: `{"level": "low" | "high"}`.
        frequency_penalty: Deprecated, without effect.
        presence_penalty: Deprecated, without effect.
        functions: The legacy form of `tools`.
        function_call: The legacy form of `tool_choice`.
        n: How many choices; the API knows only 1.
        extra_body: Further fields for the body, sent as they are.
        resume: How a stream survives the death of its connection: a `Resume`, or
            `True` for its defaults. Not at all if not given.
        cache_control: What the call wants of the client's cache: `default`, `bypass`
            (nothing) or `refresh` (a new answer for it).
    """

    thinking: Thinking | Mapping[str, Any] | None
    reasoning_effort: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str] | None
    stream_options: StreamOptions | Mapping[str, Any] | None
    response_format: ResponseFormat | Mapping[str, Any] | None
    tools: Iterable[Tool] | None
    tool_choice: str | Mapping[str, Any] | None
    logprobs: bool | None
    top_logprobs: int | None
    user_id: str | None
    title: TitleOptions | Mapping[str, Any] | None
    safety_check: SafetyCheck | Mapping[str, Any] | None
    frequency_penalty: float | None
    presence_penalty: float | None
    functions: Iterable[FunctionDefinition | Mapping[str, Any]] | None
    function_call: str | Mapping[str, Any] | None
    n: int | None
    extra_body: Mapping[str, Any] | None
    resume: Resume | bool | None
    cache_control: Literal["default", "bypass", "refresh"] | None


class ChatCompletionParams(ChatOptions, total=False):
    """Arguments of `chat.completions.create`; `None` is the same as left out.

    Attributes:
        messages: The conversation so far, one message at least: dicts, message
            structs, and messages of earlier answers, freely mixed.
        model: Such as `deepseek-flash` or `deepseek-v4-pro`.
    """

    messages: Required[Iterable[Message]]
    model: Required[str]


class CompletionParams(CallOptions, total=False):
    """Arguments of `completions.create` (fill in the middle, beta).

    See https://api-docs.deepseek.com/api/create-completion

    Attributes:
        model: Such as `deepseek-v4-pro`.
        prompt: The text before the gap.
        suffix: The text after the gap.
        echo: Whether to repeat the prompt; not together with `suffix`.
        max_tokens: The most tokens to generate.
        stop: Up to 16 texts that end the completion.
        stream_options: `{"include_usage": bool}`, with `stream=True` only.
        temperature: 0 to 2.
        top_p: At most 1.
        logprobs: How many likely tokens to report, 20 at most.
        frequency_penalty: Deprecated, without effect.
        presence_penalty: Deprecated, without effect.
        extra_body: Further fields for the body, sent as they are.
        cache_control: As in `ChatOptions`; streams of this endpoint are not cached.
    """

    model: Required[str]
    prompt: Required[str]
    suffix: str | None
    echo: bool | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    stream_options: StreamOptions | Mapping[str, Any] | None
    temperature: float | None
    top_p: float | None
    logprobs: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    extra_body: Mapping[str, Any] | None
    cache_control: Literal["default", "bypass", "refresh"] | None
