"""Code that is only type-checked: signatures that users rely on cannot drift."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from decimal import Decimal
from typing import assert_type

from deepseek_async import (
    APIError,
    AssistantMessage,
    AsyncDeepSeek,
    Balance,
    BatchFailed,
    BatchOk,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatEvent,
    ChatStream,
    Completion,
    CompletionChunk,
    CompletionStream,
    DeepSeekError,
    Finished,
    FunctionDefinition,
    FunctionTool,
    Heartbeat,
    Message,
    Model,
    ModelList,
    ReasoningDelta,
    Resumed,
    RetryPolicy,
    ServerSentEvent,
    SSEDecoder,
    SystemMessage,
    TextDelta,
    Timeouts,
    ToolCallArgumentsDelta,
    ToolCallFinished,
    Usage,
    UsageReported,
    UserMessage,
    cost,
    raise_for_finish_reason,
)


async def overloads_of_stream(client: AsyncDeepSeek, maybe: bool) -> None:  # noqa: FBT001
    create = client.chat.completions.create
    messages: list[Message] = [UserMessage(content="Hello")]

    assert_type(await create(model="m", messages=messages), ChatCompletion)
    assert_type(
        await create(model="m", messages=messages, stream=False), ChatCompletion
    )
    assert_type(await create(model="m", messages=messages, stream=None), ChatCompletion)
    assert_type(await create(model="m", messages=messages, stream=True), ChatStream)
    assert_type(
        await create(model="m", messages=messages, stream=maybe),
        ChatCompletion | ChatStream,
    )


async def overloads_of_fim(client: AsyncDeepSeek, maybe: bool) -> None:  # noqa: FBT001
    create = client.completions.create

    assert_type(await create(model="m", prompt="a"), Completion)
    assert_type(await create(model="m", prompt="a", stream=False), Completion)
    assert_type(await create(model="m", prompt="a", stream=True), CompletionStream)
    assert_type(
        await create(model="m", prompt="a", stream=maybe), Completion | CompletionStream
    )


async def messages_mix(client: AsyncDeepSeek) -> None:
    answer = await client.chat.completions.create(
        model="deepseek-flash",
        messages=[
            SystemMessage(content="s"),
            {"role": "user", "content": [{"type": "text", "text": "t"}]},
            AssistantMessage(content="a", prefix=True),
        ],
        tools=[
            FunctionTool(function=FunctionDefinition(name="f", strict=True)),
            {"type": "deepseek_web_search"},
        ],
        thinking={"type": "disabled"},
        stop=("a", "b"),
        timeouts=Timeouts(silence=5),
        retry=RetryPolicy(attempts=1),
        extra_body={"top_k": 5},
        extra_headers={"X-A": "b"},
        tag="mine",
        timeout=5.0,
    )
    messages: list[Message] = [{"role": "user", "content": "x"}]
    messages.append(answer.choices[0].message)
    assert_type(answer.choices[0].message.content, str | None)
    assert_type(answer.usage, Usage | None)
    assert_type(answer.text, str)
    assert_type(answer.request_id, str | None)
    assert_type(raise_for_finish_reason(answer), ChatCompletion)
    if answer.usage is not None:
        assert_type(cost(answer.usage, "m"), Decimal | None)


async def ways_to_read(stream: ChatStream, fim: CompletionStream) -> None:
    assert_type(aiter(stream), AsyncIterator[ChatCompletionChunk])
    assert_type(aiter(fim), AsyncIterator[CompletionChunk])
    assert_type(stream.text(), AsyncGenerator[str, None])
    assert_type(stream.events(), AsyncGenerator[ChatEvent, None])
    assert_type(await stream.completion(), ChatCompletion)
    assert_type(await fim.completion(), Completion)
    assert_type(stream.partial, ChatCompletion)
    async with stream as same:
        assert_type(same, ChatStream)


def every_event(event: ChatEvent) -> str:
    """An exhaustive match: a new kind of event would be an error here."""
    match event:
        case Heartbeat() | UsageReported() | Resumed() | Finished():
            return event.type
        case ReasoningDelta() | TextDelta():
            return event.text
        case ToolCallArgumentsDelta():
            return event.arguments
        case ToolCallFinished():
            return event.tool_call.function.name


async def batches(client: AsyncDeepSeek) -> None:
    params: dict[str, object] = {"model": "m", "messages": []}
    requests = [("key", params)]
    async with client.batch(requests, concurrency=4, order="input") as results:
        async for result in results:
            assert_type(result, BatchOk | BatchFailed)
            assert_type(result.usage, Usage)
            if isinstance(result, BatchOk):
                assert_type(result.completion, ChatCompletion)
            else:
                assert_type(result.error, DeepSeekError)
    request = ChatCompletionRequest(model="m", messages=[UserMessage(content="x")])
    client.batch([request])


async def look_ups(client: AsyncDeepSeek) -> None:
    assert_type(await client.models.list(), ModelList)
    assert_type(await client.models.retrieve("m"), Model)
    assert_type(await client.balance(tag="t"), Balance)
    assert_type(client.with_options(max_retries=0), AsyncDeepSeek)
    async with client as same:
        assert_type(same, AsyncDeepSeek)


def errors(error: APIError) -> None:
    assert_type(error.request_id, str | None)
    assert_type(error.partial, ChatCompletion | Completion | None)


def decoder() -> None:
    assert_type(SSEDecoder().feed(b""), list[ServerSentEvent])
