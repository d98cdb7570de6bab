"""The old documents' examples, with the old model names, end to end."""

from __future__ import annotations

from typing import Any

import msgspec

from deepseek_async import AsyncDeepSeek, tool
from deepseek_async.testing import Answer, Call, DeepSeekEmulator

WEATHER_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "location": {"type": "string", "description": "City name"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["location"],
}
QUESTION = "What's the weather like in New York?"
ARGUMENTS = {"location": "New York", "unit": "fahrenheit"}


async def test_multi_round_chat(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The guide's two rounds: the answer's message is appended as it is."""
    messages: list[Any] = [
        {"role": "user", "content": "What's the highest mountain in the world?"}
    ]
    response = await client.chat.completions.create(
        model="deepseek-chat", messages=messages
    )
    messages.append(response.choices[0].message)
    messages.append({"role": "user", "content": "What is the second?"})
    response = await client.chat.completions.create(
        model="deepseek-chat", messages=messages
    )

    assert response.choices[0].message.content
    sent = emulator.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == messages[1].content


async def chat_with_deepseek(
    client: AsyncDeepSeek,
    message: str,
    conversation_history: list[Any] | None = None,
) -> tuple[str | None, list[Any]]:
    """The document's conversation helper, awaited."""
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


async def test_conversation_helper(client: AsyncDeepSeek) -> None:
    """The helper runs as written, and a `Conversation` says the same without it."""
    response, history = await chat_with_deepseek(client, "Hello, how are you?")
    again, history = await chat_with_deepseek(client, "And you?", history)
    conversation = client.conversation(
        model="deepseek-chat", temperature=0.7, max_tokens=1000
    )

    assert (await conversation.send("Hello, how are you?")).text == response
    assert (await conversation.send("And you?")).text == again
    assert [
        {name: message[name] for name in ("role", "content")}
        for message in conversation.messages
    ] == history


async def test_example_conversation(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The document's four messages can be the history a conversation begins with."""
    conversation = client.conversation(
        model="deepseek-chat",
        messages=[
            {
                "role": "system",
                "content": "You are a helpful assistant that explains complex topics "
                "simply.",
            },
            {"role": "user", "content": "What is quantum computing?"},
            {
                "role": "assistant",
                "content": "Quantum computing is a type of computing that uses quantum "
                "mechanics...",
            },
        ],
    )
    await conversation.send("Can you give me a simple analogy?")

    sent = emulator.requests[-1].body["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]


async def test_function_calling_legacy(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """`functions` and `function_call`: the call comes, and its result goes back."""
    function = {
        "name": "get_weather",
        "description": "Get current weather information",
        "parameters": WEATHER_PARAMETERS,
    }
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    emulator.answer = lambda body: (
        Answer(tool_calls=(Call("get_weather", ARGUMENTS),))
        if body["messages"][-1]["role"] == "user"
        else "It is cold."
    )
    response = await client.chat.completions.create(
        model="deepseek-chat",
        messages=messages,
        functions=[function],
        function_call="auto",
    )
    message = response.choices[0].message

    assert response.choices[0].finish_reason == "function_call"
    assert message.content is None
    assert message.function_call is not None
    assert message.function_call.name == "get_weather"
    assert msgspec.json.decode(message.function_call.arguments) == ARGUMENTS
    messages += [
        message,
        {"role": "function", "name": "get_weather", "content": '{"degrees": 20}'},
    ]
    response = await client.chat.completions.create(
        model="deepseek-chat", messages=messages, functions=[function]
    )
    assert response.text == "It is cold."


async def test_function_calling_with_tools(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The same question in today's form: a typed function, called and answered."""
    asked: list[tuple[str, str]] = []

    @tool
    async def get_weather(location: str, unit: str = "celsius") -> dict[str, int]:
        """Get current weather information.

        Args:
            location: City name
            unit: Of the answer
        """
        asked.append((location, unit))
        return {"degrees": 20}

    emulator.answer = lambda body: (
        Answer(tool_calls=(Call("get_weather", ARGUMENTS),))
        if body["messages"][-1]["role"] == "user"
        else "It is cold."
    )
    turn = await client.chat.completions.run_tools(
        model="deepseek-chat",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[get_weather],
    )

    assert asked == [("New York", "fahrenheit")]
    assert turn.text == "It is cold."


class Profile(msgspec.Struct):
    name: str
    age: int
    interests: list[str]


async def test_json_mode(client: AsyncDeepSeek, emulator: DeepSeekEmulator) -> None:
    """The document's JSON request answers JSON, and `parse` makes a value of it."""
    messages: list[Any] = [
        {
            "role": "system",
            "content": "You are a helpful assistant designed to output JSON.",
        },
        {"role": "user", "content": "Generate a user profile for John Doe"},
    ]
    response = await client.chat.completions.create(
        model="deepseek-chat",
        messages=messages,
        response_format={"type": "json_object"},
    )
    assert isinstance(msgspec.json.decode(response.text), dict)

    example = Profile(name="Ann", age=30, interests=["chess"])
    answer = await client.chat.completions.parse(
        model="deepseek-chat",
        messages=messages,
        response_type=Profile,
        example=example,
    )

    assert isinstance(answer.parsed, Profile)
    assert emulator.requests[-1].body["response_format"] == {"type": "json_object"}
