"""The `openai` package talks to the emulator: its acceptance test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from deepseek_async.testing import DeepSeekEmulator, Pace, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

MODEL = "deepseek-flash"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the highest mountain in the world?"}
]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather by city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: DeepSeekEmulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=emulator.base_url, api_key=emulator.api_key, max_retries=0
    ) as client:
        yield client


def beta(client: openai.AsyncOpenAI, emulator: DeepSeekEmulator) -> openai.AsyncOpenAI:
    return client.with_options(base_url=emulator.base_url + "/beta")


async def test_awaited_answer(client: openai.AsyncOpenAI) -> None:
    """An awaited completion parses, with reasoning and usage."""
    completion = await client.chat.completions.create(model=MODEL, messages=QUESTION)

    message = completion.choices[0].message
    assert message.content
    assert message.model_dump()["reasoning_content"]
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    details = completion.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens


async def test_multi_round_conversation(client: openai.AsyncOpenAI) -> None:
    """The returned message can be appended to the conversation."""
    messages: list[Any] = list(QUESTION)
    first = await client.chat.completions.create(
        model="deepseek-chat", messages=messages
    )
    messages.append(first.choices[0].message)
    messages.append({"role": "user", "content": "What is the second?"})

    second = await client.chat.completions.create(
        model="deepseek-chat", messages=messages
    )

    assert second.choices[0].message.content


async def test_stream_equals_awaited(client: openai.AsyncOpenAI) -> None:
    """Streamed text and reasoning join to the awaited answer."""
    awaited = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    stream = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True
    )
    text, reasoning, reasons = "", "", list[str]()
    async for chunk in stream:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        reasoning += choice.delta.model_dump().get("reasoning_content") or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []

    message = awaited.choices[0].message
    assert text == message.content
    assert reasoning == message.model_dump()["reasoning_content"]
    assert reasons == ["stop"]


async def test_stream_with_usage(client: openai.AsyncOpenAI) -> None:
    """Usage comes on the last chunk and nowhere else."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
    )
    usages = [chunk.usage async for chunk in stream]

    assert usages[-1] is not None
    assert usages[-1].total_tokens > 0
    assert set(usages[:-1]) == {None}


async def test_tools_in_two_rounds(client: openai.AsyncOpenAI) -> None:
    """A tool is called, its result sent back, and the answer is in words."""
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Oslo?"}]
    first = await client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER]
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    messages.append(message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "24 C"})

    second = await client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER]
    )

    assert "24 C" in (second.choices[0].message.content or "")


async def test_streamed_tools(client: openai.AsyncOpenAI) -> None:
    """Fragments of a streamed call join to valid arguments."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Weather in Rome?"}],
        tools=[WEATHER],
        stream=True,
    )
    name, arguments = "", ""
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""

    assert name == "get_weather"
    assert json.loads(arguments) == {"city": "Rome"}


async def test_json_mode(client: openai.AsyncOpenAI) -> None:
    """JSON mode returns an object, and needs the word in the prompt."""
    completion = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Answer as JSON: a river"}],
        response_format={"type": "json_object"},
    )

    assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        await client.chat.completions.create(
            model=MODEL, messages=QUESTION, response_format={"type": "json_object"}
        )


async def test_logprobs(client: openai.AsyncOpenAI) -> None:
    """Log probabilities parse into the package's types."""
    completion = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, logprobs=True, top_logprobs=2
    )

    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content[0].top_logprobs) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (402, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors(
    emulator: DeepSeekEmulator,
    client: openai.AsyncOpenAI,
    status: int,
    error: type[openai.APIStatusError],
    *,
    stream: bool,
) -> None:
    """Documented errors become the package's exceptions."""
    emulator.script(Status(status=status))

    with pytest.raises(error) as caught:
        await client.chat.completions.create(
            model=MODEL, messages=QUESTION, stream=stream
        )

    assert caught.value.status_code == status


async def test_real_refusals(
    emulator: DeepSeekEmulator, client: openai.AsyncOpenAI
) -> None:
    """Wrong key, empty account, crowded account and wrong model are refused."""
    with pytest.raises(openai.AuthenticationError, match=r"\*\*\*\*rong"):
        await client.with_options(api_key="sk-wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="supported API model names"):
        await client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    emulator.concurrency_limit = 0
    with pytest.raises(openai.RateLimitError, match="concurrency limit of 0"):
        await client.chat.completions.create(model=MODEL, messages=QUESTION)
    emulator.balance = 0
    with pytest.raises(openai.APIStatusError, match="Insufficient Balance"):
        await client.chat.completions.create(model=MODEL, messages=QUESTION)


async def test_retries_get_through(emulator: DeepSeekEmulator) -> None:
    """Two scripted failures cost a retrying client two more requests."""
    emulator.script(Status(status=503, times=2, headers=(("retry-after-ms", "1"),)))
    async with openai.AsyncOpenAI(
        base_url=emulator.base_url, api_key=emulator.api_key, max_retries=2
    ) as client:
        await client.chat.completions.create(model=MODEL, messages=QUESTION)

    assert len(emulator.requests) == 3


async def test_models(client: openai.AsyncOpenAI) -> None:
    """The catalogue and a single model parse."""
    models = await client.models.list()
    model = await client.models.retrieve(MODEL)

    assert [model.id for model in models.data] == [MODEL, "deepseek-v4-pro"]
    assert model.owned_by == "deepseek"


async def test_fim_on_beta(
    emulator: DeepSeekEmulator, client: openai.AsyncOpenAI
) -> None:
    """FIM completes on beta, streams the same text, and is refused elsewhere."""
    on_beta = beta(client, emulator)
    done = await on_beta.completions.create(
        model=MODEL, prompt="def fib(a):", suffix="return x", max_tokens=64
    )
    stream = await on_beta.completions.create(
        model=MODEL, prompt="def fib(a):", suffix="return x", stream=True
    )
    text = "".join([chunk.choices[0].text async for chunk in stream])

    assert done.choices[0].text == text
    with pytest.raises(openai.BadRequestError, match="beta api"):
        await client.completions.create(model=MODEL, prompt="def fib(a):")


async def test_prefix_on_beta(
    emulator: DeepSeekEmulator, client: openai.AsyncOpenAI
) -> None:
    """A prefix given through the package is continued."""
    whole = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    text = whole.choices[0].message.content or ""
    prefix: Any = {"role": "assistant", "content": text[:20], "prefix": True}

    rest = await beta(client, emulator).chat.completions.create(
        model=MODEL, messages=[*QUESTION, prefix]
    )

    assert rest.choices[0].message.content == text[20:]
