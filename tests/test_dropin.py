"""Code written for the `openai` package runs after changing import and class name.

The programs below are the API documents' Python examples, made asynchronous. Each
runs word for word with both packages against the emulator.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

import deepseek_async
from deepseek_async.testing import Answer, Call, DeepSeekEmulator, Pace, Status

SDKS: dict[str, tuple[Any, Any]] = {
    "openai": (openai, openai.AsyncOpenAI),
    "deepseek_async": (deepseek_async, deepseek_async.AsyncDeepSeek),
}


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        yield emulator


@pytest.fixture(params=SDKS)
async def client(
    request: pytest.FixtureRequest, emulator: DeepSeekEmulator
) -> AsyncIterator[Any]:
    """A client of either package, made with the same arguments."""
    cls = SDKS[request.param][1]
    client = cls(
        api_key=emulator.api_key,
        base_url=f"{emulator.base_url}/v1",
        max_retries=0,
        timeout=20.0,
    )
    async with client:
        yield client


def contents(emulator: DeepSeekEmulator) -> list[Any]:
    """The messages of the newest request."""
    messages: list[Any] = emulator.requests[-1].body["messages"]
    return messages


async def test_the_first_call(client: Any) -> None:
    """Create, await, and read the first choice's text."""
    response = await client.chat.completions.create(
        model="deepseek-chat",
        messages=[
            {"role": "system", "content": "You are a helpful assistant"},
            {"role": "user", "content": "Hello"},
        ],
        stream=False,
    )

    assert response.choices[0].message.content
    assert response.choices[0].message.role == "assistant"
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.total_tokens > 0
    assert response.model
    assert response.id
    assert hasattr(response, "_request_id")


async def test_the_whole_old_request(client: Any) -> None:
    """Every parameter of the old reference's sample request is taken."""
    response = await client.chat.completions.create(
        messages=[
            {"content": "You are a helpful assistant", "role": "system"},
            {"content": "Hi", "role": "user"},
        ],
        model="deepseek-chat",
        frequency_penalty=0,
        max_tokens=2048,
        presence_penalty=0,
        response_format={"type": "text"},
        stop=None,
        stream=False,
        stream_options=None,
        temperature=1,
        top_p=1,
        logprobs=False,
        top_logprobs=None,
    )

    assert response.choices[0].message.content


async def test_streaming(client: Any) -> None:
    """`async for chunk in stream`, as the streaming example has it."""
    stream = await client.chat.completions.create(
        model="deepseek-chat",
        messages=[{"role": "user", "content": "Tell me a story"}],
        stream=True,
    )
    told = ""
    async for chunk in stream:
        if chunk.choices[0].delta.content is not None:
            told += chunk.choices[0].delta.content

    assert len(told) > 10


async def test_streaming_in_a_block(client: Any) -> None:
    """`async with stream` and the usage of the last chunk."""
    usage = None
    async with await client.chat.completions.create(
        model="deepseek-chat",
        messages=[{"role": "user", "content": "Tell me a story"}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        async for chunk in stream:
            usage = chunk.usage or usage

    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


async def test_leaving_a_stream(client: Any, emulator: DeepSeekEmulator) -> None:
    """`await stream.close()` after a `break` is how the other package ends one."""
    stream = await client.chat.completions.create(
        model="deepseek-chat",
        messages=[{"role": "user", "content": "Tell me a story"}],
        stream=True,
    )
    async for chunk in stream:
        assert chunk.choices
        break
    closing = stream.close()
    if closing is not None:
        await closing
    await emulator.idle()


async def test_multi_round_conversation(
    client: Any, emulator: DeepSeekEmulator
) -> None:
    """The answer's message is appended as it is, and goes back to the server."""
    messages: list[Any] = [
        {"role": "user", "content": "What's the highest mountain in the world?"}
    ]
    response = await client.chat.completions.create(
        model="deepseek-chat", messages=messages
    )
    messages.append(response.choices[0].message)
    first = response.choices[0].message.content

    messages.append({"role": "user", "content": "What is the second?"})
    response = await client.chat.completions.create(
        model="deepseek-chat", messages=messages
    )
    messages.append(response.choices[0].message)

    assert len(messages) == 4
    sent = contents(emulator)
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == first


async def test_a_conversation_function(client: Any) -> None:
    """The documents' helper with a history of its own works unchanged."""

    async def chat_with_deepseek(
        message: str, conversation_history: list[Any] | None = None
    ) -> tuple[str, list[Any]]:
        if conversation_history is None:
            conversation_history = []
        conversation_history.append({"role": "user", "content": message})
        response = await client.chat.completions.create(
            model="deepseek-chat",
            messages=conversation_history,
            temperature=0.7,
            max_tokens=1000,
        )
        assistant_message = response.choices[0].message.content
        conversation_history.append({"role": "assistant", "content": assistant_message})
        return assistant_message, conversation_history

    response, history = await chat_with_deepseek("Hello, how are you?")
    _, history = await chat_with_deepseek("And now?", history)

    assert response
    assert [m["role"] for m in history] == ["user", "assistant"] * 2


async def test_json_mode(client: Any) -> None:
    """`response_format` gives an answer that parses."""
    response = await client.chat.completions.create(
        model="deepseek-chat",
        messages=[
            {
                "role": "system",
                "content": "You are a helpful assistant designed to output JSON.",
            },
            {"role": "user", "content": "Generate a user profile for John Doe"},
        ],
        response_format={"type": "json_object"},
    )

    assert isinstance(json.loads(response.choices[0].message.content), dict)


TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get weather of a location",
            "parameters": {
                "type": "object",
                "properties": {"location": {"type": "string"}},
                "required": ["location"],
            },
        },
    }
]


async def test_tools(client: Any, emulator: DeepSeekEmulator) -> None:
    """The two rounds of the function calling guide, messages appended as they come."""

    def answer(body: Any) -> Answer:
        if body["messages"][-1]["role"] == "tool":
            return Answer(content="It is 24 degrees in Hangzhou.")
        return Answer(tool_calls=(Call("get_weather", {"location": "Hangzhou"}),))

    emulator.answer = answer
    messages: list[Any] = [
        {"role": "user", "content": "How's the weather in Hangzhou?"}
    ]

    async def send_messages(messages: list[Any]) -> Any:
        response = await client.chat.completions.create(
            model="deepseek-chat", messages=messages, tools=TOOLS
        )
        return response.choices[0].message

    message = await send_messages(messages)
    tool = message.tool_calls[0]
    messages.append(message)
    messages.append({"role": "tool", "tool_call_id": tool.id, "content": "24C"})
    message = await send_messages(messages)

    assert tool.type == "function"
    assert tool.function.name == "get_weather"
    assert json.loads(tool.function.arguments) == {"location": "Hangzhou"}
    assert message.content == "It is 24 degrees in Hangzhou."
    sent = contents(emulator)
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == tool.id


async def test_streamed_tools(client: Any, emulator: DeepSeekEmulator) -> None:
    """Fragments of a call are joined by hand, as every old program does it."""
    emulator.answer = lambda _: Answer(
        tool_calls=(Call("get_weather", {"location": "Rome"}),)
    )
    stream = await client.chat.completions.create(
        model="deepseek-chat",
        messages=[{"role": "user", "content": "Weather in Rome?"}],
        tools=TOOLS,
        stream=True,
    )
    name: str = ""
    arguments: str = ""
    async for chunk in stream:
        calls: list[Any] = chunk.choices[0].delta.tool_calls or []
        for call in calls:
            name += call.function.name or ""
            arguments += call.function.arguments or ""

    assert name == "get_weather"
    assert json.loads(arguments) == {"location": "Rome"}


async def test_legacy_functions(client: Any, emulator: DeepSeekEmulator) -> None:
    """`functions` and `function_call`, as the oldest documents have them."""
    emulator.answer = lambda _: Answer(
        tool_calls=(Call("get_weather", {"location": "New York"}),)
    )
    response = await client.chat.completions.create(
        model="deepseek-chat",
        messages=[{"role": "user", "content": "What's the weather like in New York?"}],
        functions=[TOOLS[0]["function"]],
        function_call="auto",
    )
    message = response.choices[0].message

    assert response.choices[0].finish_reason == "function_call"
    assert message.function_call.name == "get_weather"
    assert json.loads(message.function_call.arguments) == {"location": "New York"}


@pytest.mark.parametrize("name", SDKS)
async def test_fim(name: str, emulator: DeepSeekEmulator) -> None:
    """The FIM guide's call, with the beta base URL it tells one to set."""
    async with SDKS[name][1](
        api_key=emulator.api_key, base_url=f"{emulator.base_url}/beta"
    ) as client:
        response = await client.completions.create(
            model="deepseek-chat",
            prompt="def fib(a):",
            suffix="    return fib(a-1) + fib(a-2)",
            max_tokens=128,
        )

    assert isinstance(response.choices[0].text, str)
    assert response.usage.completion_tokens > 0


@pytest.mark.parametrize("name", SDKS)
async def test_prefix(name: str, emulator: DeepSeekEmulator) -> None:
    """The prefix guide's call, with the beta base URL."""
    async with SDKS[name][1](
        api_key=emulator.api_key, base_url=f"{emulator.base_url}/beta"
    ) as client:
        messages = [
            {"role": "user", "content": "Please write quick sort code"},
            {"role": "assistant", "content": "```python\n", "prefix": True},
        ]
        response = await client.chat.completions.create(
            model="deepseek-chat", messages=messages, stop=["```"]
        )

    assert response.choices[0].message.content is not None


async def test_reasoning(client: Any) -> None:
    """The reasoner's guide: `reasoning_content` of messages and of deltas."""
    messages = [{"role": "user", "content": "9.11 and 9.8, which is greater?"}]
    response = await client.chat.completions.create(
        model="deepseek-reasoner", messages=messages
    )
    reasoning_content = response.choices[0].message.reasoning_content
    stream = await client.chat.completions.create(
        model="deepseek-reasoner", messages=messages, stream=True
    )
    reasoning, content = "", ""
    async for chunk in stream:
        delta = chunk.choices[0].delta
        if getattr(delta, "reasoning_content", None):
            reasoning += delta.reasoning_content
        elif delta.content:
            content += delta.content

    assert reasoning_content
    assert reasoning
    assert content


async def test_models(client: Any) -> None:
    """Models are listed under `data`, and retrieved by id."""
    models = await client.models.list()
    names = [model.id for model in models.data]

    assert "deepseek-flash" in names
    assert (await client.models.retrieve(names[0])).id == names[0]


async def test_options_of_a_call(client: Any, emulator: DeepSeekEmulator) -> None:
    """`extra_headers`, `extra_body` and `timeout` of a call, and `with_options`."""
    response = await client.with_options(max_retries=1).chat.completions.create(
        model="deepseek-flash",
        messages=[{"role": "user", "content": "Hello"}],
        extra_headers={"X-Team": "red"},
        extra_body={"thinking": {"type": "disabled"}},
        timeout=10,
    )

    assert response.choices[0].message.content
    headers = emulator.requests[-1].headers
    assert {k.lower(): v for k, v in headers.items()}["x-team"] == "red"
    assert emulator.requests[-1].body["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ],
)
@pytest.mark.parametrize("package", SDKS)
async def test_errors(
    package: str, emulator: DeepSeekEmulator, status: int, name: str
) -> None:
    """The same `except` clauses catch the same errors, with the same attributes."""
    sdk, cls = SDKS[package]
    emulator.script(Status(status=status, message="told"))
    async with cls(
        api_key=emulator.api_key, base_url=emulator.base_url, max_retries=0
    ) as client:
        with pytest.raises(getattr(sdk, name)) as caught:
            await client.chat.completions.create(
                model="deepseek-chat", messages=[{"role": "user", "content": "Hello!"}]
            )

    error = caught.value
    assert isinstance(error, sdk.APIStatusError)
    assert isinstance(error, sdk.APIError)
    assert error.status_code == status
    assert error.code == "invalid_request_error"
    assert hasattr(error, "request_id")
    assert "told" in str(error)


@pytest.mark.parametrize("package", SDKS)
async def test_the_error_example(package: str, emulator: DeepSeekEmulator) -> None:
    """The documents' chain of `except` clauses falls through to the right one."""
    sdk, cls = SDKS[package]
    seen: list[str] = []
    client = cls(api_key="sk-wrong", base_url=emulator.base_url, max_retries=0)
    try:
        await client.chat.completions.create(
            model="deepseek-chat", messages=[{"role": "user", "content": "Hello!"}]
        )
    except sdk.RateLimitError:
        seen.append("rate limit")
    except sdk.BadRequestError:
        seen.append("bad request")
    except sdk.APITimeoutError:
        seen.append("timeout")
    except sdk.APIConnectionError:
        seen.append("connection")
    except Exception as error:  # noqa: BLE001 - as the example has it
        seen.append(type(error).__name__)
    finally:
        await client.close()

    assert seen == ["AuthenticationError"]


@pytest.mark.parametrize("package", SDKS)
async def test_no_server(package: str) -> None:
    """Nobody there: the connection error of the same name."""
    sdk, cls = SDKS[package]
    async with cls(
        api_key="sk-x", base_url="http://127.0.0.1:9", max_retries=0
    ) as client:
        with pytest.raises(sdk.APIConnectionError):
            await client.models.list()
