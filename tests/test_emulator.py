"""The emulator's wire, seen by a plain aiohttp client over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from deepseek_async import testing
from deepseek_async.testing import (
    Answer,
    Call,
    DeepSeekEmulator,
    Pace,
    Recorded,
    Status,
    ToolRule,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Body = dict[str, Any]

WEATHER: Body = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SHORT = {"thinking": {"type": "disabled"}}


class Wire:
    """Sends requests to an emulator and keeps what came back."""

    def __init__(
        self, emulator: DeepSeekEmulator, session: aiohttp.ClientSession
    ) -> None:
        self.emulator = emulator
        self.session = session

    async def post(
        self, body: Body | bytes, path: str = "/chat/completions"
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = self.emulator.base_url + path
        async with self.session.post(url, data=data) as response:
            return response.status, json.loads(await response.read())

    async def ask(self, text: str, **fields: Any) -> Body:
        status, answer = await self.post(chat(text, **fields))
        assert status == 200, answer
        return dict(answer)

    async def refuse(
        self, body: Body | bytes, path: str = "/chat/completions"
    ) -> tuple[int, str]:
        status, answer = await self.post(body, path)
        assert answer["error"]["code"] == "invalid_request_error"
        return status, answer["error"]["message"]

    async def stream(self, body: Body, path: str = "/chat/completions") -> list[Body]:
        url = self.emulator.base_url + path
        async with self.session.post(url, json={**body, "stream": True}) as response:
            assert response.content_type == "text/event-stream"
            text = (await response.read()).decode()
        assert text.endswith("data: [DONE]\n\n")
        lines = [line for line in text.split("\n\n") if line.startswith("data: {")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]


def chat(text: str, **fields: Any) -> Body:
    messages = [{"role": "user", "content": text}]
    return {"model": "deepseek-flash", "messages": messages, **fields}


def message(answer: Body) -> Body:
    found: Body = answer["choices"][0]["message"]
    return found


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        yield emulator


@pytest.fixture
async def wire(emulator: DeepSeekEmulator) -> AsyncIterator[Wire]:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Wire(emulator, session)


# Chat


async def test_answer_has_the_documented_shape(wire: Wire) -> None:
    """An awaited answer thinks by default and carries usage and a fingerprint."""
    answer = await wire.ask("Name a river in Peru.")

    assert answer["object"] == "chat.completion"
    assert answer["model"] == "deepseek-flash"
    assert answer["system_fingerprint"].startswith("fp_")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["id"])
    choice = answer["choices"][0]
    assert choice["index"] == 0
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["message"]["reasoning_content"]
    usage = answer["usage"]
    hit, miss = usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]
    assert usage["prompt_tokens"] == hit + miss
    assert usage["prompt_tokens_details"] == {"cached_tokens": hit}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(
    "fields",
    [SHORT, {"reasoning_effort": "none"}, {"model": "deepseek-chat"}],
)
async def test_without_thinking_the_reasoning_key_is_absent(
    wire: Wire, fields: Body
) -> None:
    """Thinking is off when asked for, at effort none, and for the old chat model."""
    answer = await wire.ask("Name a river.", **fields)

    assert "reasoning_content" not in message(answer)
    assert "completion_tokens_details" not in answer["usage"]


async def test_answers_depend_on_the_conversation_only(wire: Wire) -> None:
    """The same conversation has the same answer, streamed or not, thinking or not."""
    first = message(await wire.ask("Why is the sky blue?"))
    again = message(await wire.ask("Why is the sky blue?", **SHORT))
    other = message(await wire.ask("Why is the sea blue?"))
    chunks = await wire.stream(chat("Why is the sky blue?"))
    streamed = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)

    assert first["content"] == again["content"] == streamed
    assert first["content"] != other["content"]


async def test_thinking_stream_has_the_documented_deltas(wire: Wire) -> None:
    """Reasoning comes first, then the answer, then finish reason with usage."""
    chunks = await wire.stream(
        chat("Is 221 prime?", stream_options={"include_usage": True})
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]

    assert deltas[0] == {"role": "assistant", "content": None, "reasoning_content": ""}
    thinking = [d for d in deltas[1:-1] if d["content"] is None]
    speaking = [d for d in deltas[1:-1] if d["reasoning_content"] is None]
    assert deltas[1:-1] == thinking + speaking
    assert deltas[-1] == {"content": "", "reasoning_content": None}
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert all(c["choices"][0]["finish_reason"] is None for c in chunks[:-1])
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    usage = chunks[-1]["usage"]
    assert usage["completion_tokens"] == len(thinking) + len(speaking)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == len(thinking)


async def test_plain_stream_has_no_usage_key_but_on_the_last_chunk(wire: Wire) -> None:
    """Without include_usage only the last chunk has usage; deltas hold content only."""
    chunks = await wire.stream(chat("Say hi.", **SHORT))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]

    assert deltas[0] == {"role": "assistant", "content": ""}
    assert all(set(delta) == {"content"} for delta in deltas[1:])
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert chunks[-1]["usage"]["total_tokens"] > 0


async def test_max_tokens_counts_reasoning(wire: Wire) -> None:
    """A limit that reasoning uses up leaves an empty answer that ended by length."""
    answer = await wire.ask("Name a river.", max_tokens=3)

    assert answer["choices"][0]["finish_reason"] == "length"
    assert message(answer)["content"] == ""
    assert answer["usage"]["completion_tokens"] == 3


async def test_stop_text_is_not_returned(wire: Wire) -> None:
    """An answer ends before its stop text."""
    wire.emulator.answer = lambda _: "one two three"

    answer = await wire.ask("Count.", stop=["three", "two"])

    assert message(answer)["content"] == "one "
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_json_mode_follows_the_example_of_the_prompt(wire: Wire) -> None:
    """JSON mode returns an object with the keys of the prompt's example."""
    prompt = 'Reply as json like {"city": "Lima", "people": 5, "tags": ["x"]}. Oslo?'

    answer = await wire.ask(prompt, response_format={"type": "json_object"})

    said = json.loads(message(answer)["content"])
    assert set(said) == {"city", "people", "tags"}
    assert isinstance(said["people"], int)


async def test_logprobs_cover_reasoning_and_content(wire: Wire) -> None:
    """Each token has an entry with its bytes and as many alternatives as asked."""
    fields = {"logprobs": True, "top_logprobs": 2}

    answer = await wire.ask("Say yes.", **fields)
    chunks = await wire.stream(chat("Say yes.", **fields))

    entries = answer["choices"][0]["logprobs"]
    joined = "".join(entry["token"] for entry in entries["content"])
    assert joined == message(answer)["content"]
    assert entries["reasoning_content"][0]["logprob"] < 0
    first = entries["content"][0]
    assert bytes(first["bytes"]).decode() == first["token"]
    assert len(first["top_logprobs"]) == 2
    streamed = [c["choices"][0]["logprobs"] for c in chunks[1:-1]]
    assert [e["content"][0] for e in streamed if e["content"]] == entries["content"]


async def test_prefix_continues_the_same_answer(wire: Wire) -> None:
    """A prefix of the full answer, or of its reasoning, yields exactly the rest."""
    full = message(await wire.ask("Tell me about tea."))
    question = chat("Tell me about tea.")["messages"]

    async def rest(content: str, reasoning: str | None) -> Body:
        prefix = {"role": "assistant", "content": content, "prefix": True}
        prefix |= {"reasoning_content": reasoning} if reasoning else {}
        body = {"model": "deepseek-flash", "messages": [*question, prefix]}
        status, answer = await wire.post(body, "/beta/chat/completions")
        assert status == 200, answer
        return message(answer)

    said = await rest(full["content"][:17], full["reasoning_content"])
    assert said["content"] == full["content"][17:]
    assert said["reasoning_content"] == ""
    thought = await rest("", full["reasoning_content"][:9])
    assert thought["reasoning_content"] == full["reasoning_content"][9:]
    assert thought["content"] == full["content"]
    foreign = await rest("```python\n", None)
    assert foreign["content"]


async def test_title_comes_with_the_answer(wire: Wire) -> None:
    """A conversation title is in the message, and in the last delta of a stream."""
    wanted = {"title": {"enabled": True}}

    answer = await wire.ask("Will it rain in Beijing?", **wanted)
    chunks = await wire.stream(chat("Will it rain in Beijing?", **wanted))

    assert message(answer)["title"] == "Will it rain in Beijing"
    assert chunks[-1]["choices"][0]["delta"]["title"] == "Will it rain in Beijing"
    assert "title" not in message(await wire.ask("Hello?"))


async def test_all_documented_roles_are_accepted(wire: Wire) -> None:
    """System, reminder, parts of a user message and app fields are understood."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "latest_reminder", "content": "2026-11-20,Friday,,Web,English"},
        {"role": "user", "content": parts},
    ]
    body = {
        "model": "deepseek-v4-pro",
        "messages": messages,
        "tools": [{"type": "deepseek_web_search"}],
        "safety_check": {"level": "high"},
        "user_id": "tenant-7_u42",
    }

    status, answer = await wire.post(body, "/v1/chat/completions")

    assert status == 200
    assert answer["usage"]["prompt_tokens"] > 100
    assert await wire.stream(body)


async def test_math_problems_get_a_worked_answer(wire: Wire) -> None:
    """A word problem is answered with arithmetic that is right."""
    answer = await wire.ask("Tom has 12 eggs and buys 30. How many has he?")

    left, sign, right, total = re.findall(
        r"(\d+) ([+*-]) (\d+) = (-?\d+)", message(answer)["content"]
    )[0]
    done = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign]
    assert done(int(left), int(right)) == int(total)
    assert message(answer)["content"].endswith(f"#### {total}")


async def test_json_mode_without_an_example(wire: Wire) -> None:
    """Without an example, or with a broken one, JSON mode still gives an object."""
    for text in (
        "A river as json",
        "Like {broken json",
        'Like {"a": {"b": [null]}} json',
    ):
        answer = await wire.ask(text, response_format={"type": "json_object"})
        assert isinstance(json.loads(message(answer)["content"]), dict)


async def test_chinese_is_answered_in_chinese(wire: Wire) -> None:
    """A Chinese question has a Chinese answer and is counted at 0.6 per character."""
    answer = await wire.ask("请介绍一下长江。" * 10)

    assert re.search(r"[\u4e00-\u9fff]", message(answer)["content"])
    assert answer["usage"]["prompt_tokens"] >= 48


async def test_answer_can_be_scripted(wire: Wire) -> None:
    """A callable decides text, reasoning, calls, finish reason and extra fields."""
    calls = (Call("a", {"x": 1}), Call("b", '{"broken', id="call_7"))
    wire.emulator.answer = lambda body: Answer(
        content=f"for {body['model']}",
        reasoning="because",
        tool_calls=calls,
        finish_reason="aborted",
        extra={"citations": [1]},
    )

    answer = await wire.ask("Go.")

    said = message(answer)
    assert said["content"] == "for deepseek-flash"
    assert said["reasoning_content"] == "because"
    assert said["citations"] == [1]
    assert said["tool_calls"][0]["function"] == {"name": "a", "arguments": '{"x": 1}'}
    assert said["tool_calls"][1]["id"] == "call_7"
    assert said["tool_calls"][1]["function"]["arguments"] == '{"broken'
    assert answer["choices"][0]["finish_reason"] == "aborted"


# Tools


@pytest.mark.parametrize(
    "said", ["Nothing is certain.", Answer(content="Nothing is certain.")], ids=type
)
async def test_one_answer_to_everything(wire: Wire, said: str | Answer) -> None:
    """Text or an answer needs no function around it; None brings the words back."""
    wire.emulator.answer = said
    for text in ("One?", "Two?"):
        answer = await wire.ask(text, **SHORT)
        assert message(answer)["content"] == "Nothing is certain."

    wire.emulator.answer = None
    assert message(await wire.ask("Three?"))["content"] != "Nothing is certain."


async def test_settings_of_the_wrong_kind_are_refused(wire: Wire) -> None:
    """They are told where they are given, not by an error of the server."""
    wrong: Any = 5
    fault: Any = Status(status=503)
    with pytest.raises(TypeError, match="text, an Answer or a function"):
        wire.emulator.answer = wrong
    for word in ("short", Answer(content="short"), [fault], Status):
        spoken: Any = word
        with pytest.raises(TypeError, match=r"faults only.*words go in `answer`"):
            wire.emulator.script(fault, spoken)
    with pytest.raises(TypeError, match="function of the request"):
        wire.emulator.fault = fault
    with pytest.raises(TypeError, match="function of the request"):
        DeepSeekEmulator(fault=fault)
    with pytest.raises(TypeError, match="faults only"):
        wire.emulator.fault_mix = {wrong: 0.5}

    assert wire.emulator.faults_left == 0
    assert message(await wire.ask("Still there?"))["content"]


async def test_mentioned_tool_is_called_once_per_name(wire: Wire) -> None:
    """Two cities make two parallel calls with ids that count up."""
    body = chat("Weather in Oslo and New York?", tools=[WEATHER])

    status, answer = await wire.post(body)

    assert status == 200
    calls = message(answer)["tool_calls"]
    arguments = [json.loads(call["function"]["arguments"]) for call in calls]
    assert arguments == [{"city": "Oslo"}, {"city": "New York"}]
    assert [call["index"] for call in calls] == [0, 1]
    assert [call["id"][:8] for call in calls] == ["call_00_", "call_01_"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


async def test_tool_stream_sends_name_first_then_fragments(wire: Wire) -> None:
    """Id, type and name come with the first fragment of a call only."""
    chunks = await wire.stream(chat("Weather in Oslo?", tools=[WEATHER], **SHORT))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]

    fragments = [d["tool_calls"][0] for d in deltas if "tool_calls" in d]
    assert fragments[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert fragments[0]["id"].startswith("call_00_")
    assert all(set(f) == {"index", "function"} for f in fragments[1:])
    joined = "".join(f["function"]["arguments"] for f in fragments)
    assert json.loads(joined) == {"city": "Oslo"}
    assert deltas[-1] == {"content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_second_round_answers_in_words(wire: Wire) -> None:
    """After tool messages the answer quotes them, if the reasoning came back."""
    body = chat("Weather in Oslo?", tools=[WEATHER])
    _, first = await wire.post(body)
    said = message(first)
    result = {
        "role": "tool",
        "tool_call_id": said["tool_calls"][0]["id"],
        "content": "-2 C",
    }
    forgetful = {k: v for k, v in said.items() if k != "reasoning_content"}
    messages = body["messages"]

    status, second = await wire.post({**body, "messages": [*messages, said, result]})
    refused = await wire.refuse({**body, "messages": [*messages, forgetful, result]})

    assert status == 200
    assert "-2 C" in message(second)["content"]
    assert "tool_calls" not in message(second)
    assert refused[0] == 400
    assert "must be passed back" in refused[1]


async def test_forced_tool_needs_thinking_off(wire: Wire) -> None:
    """Required and named choices force a call, and are refused while thinking."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        body = chat("Hello.", tools=[WEATHER], tool_choice=choice)
        assert message(await wire.ask("Hello.", **{**body, **SHORT}))["tool_calls"]
        assert (await wire.refuse(body))[1].startswith("Thinking mode does not support")
    quiet = chat("Weather in Rome?", tools=[WEATHER], tool_choice="none")
    assert "tool_calls" not in message((await wire.post(quiet))[1])


async def test_tool_rule_makes_calls(wire: Wire) -> None:
    """A rule calls a tool for a text, with given arguments or made ones."""
    wire.emulator.tool_rules[:] = [
        ToolRule(name="get_weather", when="coat", arguments=({"city": "Bonn"},)),
        ToolRule(name="get_weather", when="hat"),
    ]

    coat = message(await wire.ask("Take a coat?", tools=[WEATHER]))
    hat = message(await wire.ask("Take a hat?", tools=[WEATHER]))

    assert coat["tool_calls"][0]["function"]["arguments"] == '{"city": "Bonn"}'
    assert "city" in json.loads(hat["tool_calls"][0]["function"]["arguments"])


async def test_legacy_functions_answer_with_function_call(wire: Wire) -> None:
    """The older API's functions still work, awaited and streamed."""
    body = {
        "model": "deepseek-chat",
        "messages": chat("What's the weather like in New York?")["messages"],
        "functions": [WEATHER["function"]],
        "function_call": "auto",
    }

    _, answer = await wire.post(body)
    chunks = await wire.stream(body)

    called = message(answer)["function_call"]
    assert message(answer)["content"] is None
    assert answer["choices"][0]["finish_reason"] == "function_call"
    assert json.loads(called["arguments"]) == {"city": "New York"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    parts = [d["function_call"]["arguments"] for d in deltas if "function_call" in d]
    assert "".join(parts) == called["arguments"]
    history = [
        *body["messages"],
        message(answer),
        {"role": "function", "name": "get_weather", "content": "sunny"},
    ]
    _, last = await wire.post({**body, "messages": history})
    assert "sunny" in message(last)["content"]


async def test_arguments_fit_the_schema(wire: Wire) -> None:
    """Made arguments respect enums, ranges, formats, references and nesting."""
    schema = {
        "type": "object",
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}}},
        "properties": {
            "room": {"type": "integer", "minimum": 1, "maximum": 9},
            "unit": {"type": "string", "enum": ["c", "f"]},
            "mail": {"type": "string", "format": "email"},
            "who": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
            "rows": {"type": "array", "items": {"$ref": "#/$defs/point"}},
            "fixed": {"const": 3},
            "maybe": {"type": ["string", "null"]},
            "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "dozen": {"type": "integer", "multipleOf": 12},
        },
    }
    tool = {"type": "function", "function": {"name": "book", "parameters": schema}}

    answer = await wire.ask("Please book room 4 for us", tools=[tool])

    made = json.loads(message(answer)["tool_calls"][0]["function"]["arguments"])
    assert made["room"] == 4
    assert made["unit"] in {"c", "f"}
    assert "@" in made["mail"]
    assert isinstance(made["who"], bool)
    assert isinstance(made["rows"][0]["x"], int | float)
    assert made["fixed"] == 3
    assert isinstance(made["maybe"], str)
    assert 0 < made["share"] < 1
    assert made["dozen"] % 12 == 0


async def test_strict_schemas_are_checked_on_the_beta_base(wire: Wire) -> None:
    """Strict tools beyond the documented subset are refused on beta only."""
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }

    def tools(schema: Body) -> list[Body]:
        function = {"name": "f", "strict": True, "parameters": schema}
        return [{"type": "function", "function": function}]

    long = {**closed, "properties": {"a": {"type": "string", "maxLength": 3}}}
    refused = [{**closed, "additionalProperties": True}, {**closed, "required": []}]
    for schema in (*refused, long):
        body = chat("Hello.", tools=tools(schema))
        assert (await wire.post(body))[0] == 200
        status, text = await wire.refuse(body, "/beta/chat/completions")
        assert (status, text[:14]) == (400, "Invalid schema")
    mixed = chat("Hello.", tools=[*tools(closed), WEATHER])
    assert (await wire.refuse(mixed, "/beta/chat/completions"))[0] == 400
    good = chat("Hello.", tools=tools(closed))
    assert (await wire.post(good, "/beta/chat/completions"))[0] == 200


async def test_limit_cuts_tool_calls(wire: Wire) -> None:
    """A limit leaves arguments torn, or takes whole calls away."""
    wire.emulator.answer = lambda _: Answer(
        tool_calls=(Call("a", {"text": "some words here"}), Call("b", "{}"))
    )

    torn = await wire.ask("Go.", max_tokens=2, **SHORT)
    first = await wire.ask("Go.", max_tokens=8, **SHORT)
    stopped = await wire.ask("Go.", stop="text", **SHORT)

    assert torn["choices"][0]["finish_reason"] == "length"
    arguments = message(torn)["tool_calls"][0]["function"]["arguments"]
    assert '{"text": "some words here"}'.startswith(arguments)
    assert len(message(first)["tool_calls"]) == 1
    assert len(message(stopped)["tool_calls"]) == 2


async def test_odd_schemas_still_make_arguments(wire: Wire) -> None:
    """Missing and looping references, endless nesting and empty choices end."""
    schema = {
        "type": "object",
        "$defs": {
            "loop": {"$ref": "#/$defs/loop"},
            "deep": {"type": "array", "items": {"$ref": "#/$defs/deep"}},
            "tree": {"properties": {"next": {"$ref": "#/$defs/tree"}}},
        },
        "properties": {
            "loop": {"$ref": "#/$defs/loop"},
            "deep": {"$ref": "#/$defs/deep"},
            "tree": {"$ref": "#/$defs/tree"},
            "lost": {"$ref": "#/$defs/lost"},
            "given": {"default": 7},
            "above": {"type": "integer", "exclusiveMinimum": 5},
        },
    }
    tool = {"type": "function", "function": {"name": "grow", "parameters": schema}}
    bare = {"type": "function", "function": {"name": "ping"}}

    answer = await wire.ask("grow it, then ping", tools=[tool, bare])

    calls = message(answer)["tool_calls"]
    made = json.loads(calls[0]["function"]["arguments"])
    assert made["loop"] is None
    assert made["given"] == 7
    assert made["above"] > 5
    assert isinstance(made["lost"], str)
    assert json.loads(calls[1]["function"]["arguments"]) == {}


# Context cache


async def test_repeated_prompt_hits_the_cache_in_whole_units(wire: Wire) -> None:
    """A prompt seen before is cached in multiples of 128 tokens, per user_id."""
    text = "All rivers run to the sea. " * 40

    first = await wire.ask(text)
    second = await wire.ask(text)
    stranger = await wire.ask(text, user_id="other")

    assert first["usage"]["prompt_cache_hit_tokens"] == 0
    hit = second["usage"]["prompt_cache_hit_tokens"]
    assert hit > 0
    assert hit % 128 == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == hit
    assert stranger["usage"]["prompt_cache_hit_tokens"] == 0


async def test_common_prefix_is_cached_for_the_third_request(wire: Wire) -> None:
    """Two requests with a common beginning let the third one hit it."""
    document = "The treaty has many articles. " * 40
    hits = [
        (await wire.ask(f"{document} {question}"))["usage"]["prompt_cache_hit_tokens"]
        for question in ("Who signed?", "When was it?", "Where is it kept?")
    ]

    assert hits[:2] == [0, 0]
    assert hits[2] > 0


async def test_requests_at_the_same_time_learn_nothing_of_each_other(
    wire: Wire,
) -> None:
    """The cache learns from answers, so a burst pays for its prefix every time."""
    wire.emulator.pace = Pace(latency=0.05, tokens_per_second=0.0)
    document = "The treaty has many articles. " * 40

    burst = await asyncio.gather(
        *(wire.ask(f"{document} {number}") for number in range(10))
    )
    later = await wire.ask(f"{document} later")

    assert {a["usage"]["prompt_cache_hit_tokens"] for a in burst} == {0}
    assert later["usage"]["prompt_cache_hit_tokens"] > 0


async def test_cache_can_be_emptied(wire: Wire) -> None:
    """A cleared cache has no hits."""
    text = "All rivers run to the sea. " * 40
    await wire.ask(text)
    wire.emulator.model.cache.clear()

    assert (await wire.ask(text))["usage"]["prompt_cache_hit_tokens"] == 0


async def test_next_round_hits_the_previous_one(wire: Wire) -> None:
    """A conversation that goes on finds its earlier rounds in the cache."""
    opening = chat("Tell me everything about rivers and seas. " * 20)
    _, first = await wire.post(opening)
    said = {"role": "assistant", "content": message(first)["content"]}
    messages = [*opening["messages"], said, {"role": "user", "content": "More?"}]

    _, second = await wire.post({**opening, "messages": messages})

    assert second["usage"]["prompt_cache_hit_tokens"] >= 128


# FIM, models, balance


async def test_fim_works_on_the_beta_base_only(wire: Wire) -> None:
    """FIM fills the middle on beta; the plain base answers the documented 400."""
    body: Body = {
        "model": "deepseek-v4-pro",
        "prompt": "def add(a, b):\n    ",
        "suffix": "\n    return c",
        "logprobs": 1,
    }

    status, answer = await wire.post(body, "/beta/completions")
    refused = await wire.refuse(body, "/completions")

    assert status == 200
    assert answer["object"] == "text_completion"
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert choice["logprobs"]["text_offset"][0] == 0
    assert refused[0] == 400
    assert "only available when using beta api" in refused[1]


async def test_fim_streams(wire: Wire) -> None:
    """Streamed text joins to the awaited one; asked-for usage has its own chunk."""
    body = {"model": "deepseek-flash", "prompt": "Once upon a time,"}
    _, answer = await wire.post(body, "/beta/completions")

    plain = await wire.stream(body, "/beta/completions")
    options = {"stream_options": {"include_usage": True}}
    asked = await wire.stream({**body, **options}, "/beta/completions")

    text = "".join(chunk["choices"][0]["text"] for chunk in plain)
    assert text == answer["choices"][0]["text"]
    assert plain[-1]["usage"]["total_tokens"] > 0
    assert asked[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in asked[:-1])


async def test_fim_echo_and_limits(wire: Wire) -> None:
    """Echo repeats the prompt; wrong combinations and types are refused."""
    body = {"model": "deepseek-flash", "prompt": "x = "}
    _, echoed = await wire.post({**body, "echo": True}, "/beta/completions")

    assert echoed["choices"][0]["text"].startswith("x = ")
    wrongs: list[Body] = [
        {"echo": True, "suffix": "y"},
        {"logprobs": 21},
        {"max_tokens": 5000},
        {"suffix": 3},
        {"prompt": None},
        {"stop": 3},
        {"stream_options": {}},
    ]
    for wrong in wrongs:
        assert (await wire.refuse({**body, **wrong}, "/beta/completions"))[0] == 400
    wire.emulator.answer = lambda _: "middle"
    _, scripted = await wire.post(body, "/beta/completions")
    assert scripted["choices"][0]["text"] == "middle"


async def test_models_and_balance(wire: Wire) -> None:
    """The catalogue, one model, and a balance whose amounts are text."""
    url = wire.emulator.base_url

    async def get(path: str) -> tuple[int, Any]:
        async with wire.session.get(url + path) as response:
            return response.status, json.loads(await response.read())

    _, models = await get("/models")
    assert [m["id"] for m in models["data"]] == ["deepseek-flash", "deepseek-v4-pro"]
    assert await get("/v1/models/deepseek-flash") == (200, models["data"][0])
    assert (await get("/models/gpt"))[0] == 404
    assert (await get("/embeddings"))[0] == 404
    _, balance = await get("/user/balance")
    assert balance == {
        "is_available": True,
        "balance_infos": [
            {
                "currency": "USD",
                "total_balance": "110.00",
                "granted_balance": "10.00",
                "topped_up_balance": "100.00",
            }
        ],
    }


async def test_balance_falls_with_spending_when_asked() -> None:
    """A charged account pays for tokens and then refuses with 402."""
    async with DeepSeekEmulator(
        pace=Pace.instant(), charge=True, balance="0.00002"
    ) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            wire = Wire(emulator, session)
            await wire.ask("Spend. " * 50)
            assert emulator.balance < 0
            assert await wire.refuse(chat("More.")) == (402, "Insufficient Balance")
            emulator.balance = 5
            await wire.ask("More.")


# Refusals


async def test_errors_come_as_octet_stream_with_trace_id(wire: Wire) -> None:
    """Error bodies are JSON under a content type that does not say so."""
    url = wire.emulator.base_url + "/chat/completions"
    async with wire.session.post(url, data=b"{") as response:
        body = json.loads(await response.read())

    assert response.status == 400
    assert response.content_type == "application/octet-stream"
    assert response.headers["x-ds-trace-id"] == wire.emulator.requests[-1].trace_id
    assert "HWWAFSESTIME" in response.headers["set-cookie"]
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith("Failed to parse the request body")


async def test_wrong_key_is_refused_and_never_recorded(
    emulator: DeepSeekEmulator,
) -> None:
    """A 401 shows the key's last four characters; the record shows none."""
    async with aiohttp.ClientSession() as session:
        url = emulator.base_url + "/models"
        headers = {"Authorization": "Bearer sk-secret-9f3a"}
        async with session.get(url, headers=headers) as wrong:
            assert wrong.status == 401
            error = json.loads(await wrong.read())["error"]
        async with session.get(url) as missing:
            assert missing.status == 401

    text = "Authentication Fails, Your api key: ****9f3a is invalid"
    assert error["message"] == text
    assert error["type"] == "authentication_error"
    assert emulator.requests[0].headers["authorization"] == "***"


async def test_any_key_is_let_in_without_a_key() -> None:
    """An emulator without a key accepts every key."""
    async with (
        DeepSeekEmulator(api_key=None, pace=Pace.instant()) as emulator,
        aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as session,
    ):
        assert await Wire(emulator, session).ask("Hello.")


TOOL_REPLY = {"role": "tool", "content": "1", "tool_call_id": "c"}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}],
}
USER = {"role": "user", "content": "Hello."}


REFUSALS: list[tuple[Body, int, str]] = [
    ({"model": "gpt-4"}, 400, "The supported API model names are"),
    ({"model": None}, 400, "The supported API model names are"),
    ({"messages": []}, 400, "Empty input messages"),
    ({"messages": "hi"}, 400, "expected a sequence"),
    ({"messages": [3]}, 400, "expected a map"),
    ({"messages": [{"role": "developer"}]}, 400, "unknown variant `developer`"),
    ({"messages": [{"role": "user"}]}, 400, "expected a string"),
    ({"messages": [{"role": "user", "content": [3]}]}, 400, "missing field `type`"),
    ({"messages": [{"role": "system", "content": []}]}, 400, "expected a string"),
    ({"messages": [{"role": "tool", "content": "1"}]}, 400, "tool_call_id"),
    ({"messages": [USER, TOOL_REPLY]}, 400, "Messages with role 'tool' must be"),
    ({"messages": [USER, CALLED]}, 400, "An assistant message with 'tool_calls'"),
    ({"messages": [USER, CALLED, USER]}, 400, "must be followed by tool messages"),
    ({"messages": [USER, {**CALLED, "tool_calls": [3]}]}, 400, "deserialize"),
    ({"messages": [{**USER, "prefix": True}]}, 400, "beta api"),
    ({"thinking": True}, 422, "expected struct ThinkingOptions"),
    ({"thinking": {"type": "auto"}}, 400, "unknown variant `auto`"),
    ({"reasoning_effort": "huge"}, 400, "unknown variant `huge`"),
    ({"max_tokens": 0}, 400, "Invalid max_tokens value, the valid range"),
    ({"max_tokens": 400000}, 400, "[1, 393216]"),
    ({"max_tokens": "9"}, 400, "Invalid max_tokens"),
    ({"n": 2}, 400, "Invalid n value (currently only n = 1 is supported)"),
    ({"temperature": 3}, 400, "Invalid temperature"),
    ({"top_logprobs": 3}, 400, "logprobs is true"),
    ({"stop": ["x"] * 17}, 400, "at most 16"),
    ({"stop": {}}, 400, "expected a string or an array"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ({"response_format": {"type": "json_schema"}}, 400, "unavailable now"),
    ({"response_format": {"type": "xml"}}, 400, "unknown variant `xml`"),
    ({"response_format": {"type": "json_object"}}, 400, "the word 'json'"),
    ({"tools": [{"type": "retrieval"}]}, 400, "expected `function`"),
    ({"tools": [WEATHER, WEATHER]}, 400, "must be unique"),
    ({"functions": [{"name": "a b"}]}, 400, "Invalid function name"),
    ({"functions": [{"name": "ä"}]}, 400, "Invalid function name"),
    ({"safety_check": {"level": "mid"}}, 400, "safety_check level"),
    ({"user_id": "x" * 513}, 400, "user_id"),
]


@pytest.mark.parametrize(("fields", "status", "text"), REFUSALS)
async def test_refusals_of_the_catalogue(
    wire: Wire, fields: Body, status: int, text: str
) -> None:
    """What the service refuses is refused in its words."""
    refused = await wire.refuse({**chat("Hello."), **fields})

    assert refused[0] == status
    assert text in refused[1]


async def test_malformed_requests_are_refused(wire: Wire) -> None:
    """Bytes that are no JSON object, lone surrogates included, are a 400."""
    for raw in (b"", b"[]", b'{"a":"\\ud800"}', b"\xff", b"[" * 100_000):
        status, text = await wire.refuse(raw)
        assert status == 400
        assert text.startswith("Failed to")
    no_messages = {"model": "deepseek-flash"}
    assert (await wire.refuse(no_messages))[1].count("missing field `messages`")
    assert (await wire.refuse({}, "/nothing"))[0] == 404
    assert (await wire.refuse({}, "/x/completions"))[0] == 404


async def test_prefix_must_be_the_last_assistant_message(wire: Wire) -> None:
    """On beta a prefix on any other message is refused."""
    messages = [{"role": "assistant", "content": "a", "prefix": True}, USER]
    body = {"model": "deepseek-flash", "messages": messages}

    assert (await wire.refuse(body, "/beta/chat/completions"))[0] == 400


async def test_forced_tool_is_refused_under_safety_review(wire: Wire) -> None:
    """The high safety level allows no forced tool."""
    body = chat("Hello.", tools=[WEATHER], tool_choice="required", **SHORT)

    assert (await wire.post(body))[0] == 200
    assert (await wire.refuse({**body, "safety_check": {"level": "high"}}))[0] == 400


async def test_context_overflow_names_the_limit(wire: Wire) -> None:
    """A prompt beyond the context length is refused with both numbers."""
    wire.emulator.model.context_length = 50

    status, text = await wire.refuse(chat("word " * 100))

    assert status == 400
    assert text.startswith("This model's maximum context length is 50 tokens.")


async def test_retired_models_can_be_refused() -> None:
    """Old model names are a 400 when the emulator does not accept them."""
    async with DeepSeekEmulator(
        pace=Pace.instant(), accept_retired_models=False
    ) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            wire = Wire(emulator, session)
            assert (await wire.refuse(chat("Hi", model="deepseek-chat")))[0] == 400


# Pace, concurrency, life


async def test_concurrency_limit_is_told_and_changeable(wire: Wire) -> None:
    """Requests above the limit get a 429 that states it; raising it helps."""
    emulator = wire.emulator
    emulator.pace = Pace(latency=0.2, tokens_per_second=0)
    emulator.concurrency_limit = 2

    answers = await asyncio.gather(*(wire.post(chat("Hi")) for _ in range(5)))
    refused = [body["error"] for status, body in answers if status == 429]
    assert len(refused) == 3
    assert refused[0]["type"] == "rate_limit_error"
    assert "exceeds your concurrency limit of 2 based" in refused[0]["message"]
    assert emulator.peak_in_flight == 3
    emulator.concurrency_limit = None
    answers = await asyncio.gather(*(wire.post(chat("Hi")) for _ in range(5)))
    assert {status for status, _ in answers} == {200}
    await emulator.idle()
    assert emulator.in_flight == 0


async def test_queue_sends_blank_lines_and_comments(wire: Wire) -> None:
    """While queued an awaited answer gets blank lines, a stream gets comments."""
    emulator = wire.emulator
    emulator.pace = Pace(latency=0, tokens_per_second=0, queue=0.12, keep_alive=0.05)
    url = emulator.base_url + "/chat/completions"

    async with wire.session.post(url, json=chat("Hi")) as response:
        awaited = await response.read()
    async with wire.session.post(url, json=chat("Hi", stream=True)) as response:
        streamed = await response.read()

    assert awaited.startswith(b"\n\n{")
    assert json.loads(awaited)["choices"]
    assert streamed.startswith(b": keep-alive\n\n: keep-alive\n\ndata: {")


async def test_stream_flows_at_the_pace(wire: Wire) -> None:
    """Tokens arrive spread over time, and the last chunk after the review."""
    emulator = wire.emulator
    emulator.pace = Pace(latency=0.05, tokens_per_second=200, review=0.1)
    emulator.answer = lambda _: Answer(content="one two three four " * 5, reasoning="")
    body = chat("Hi", stream=True, safety_check={"level": "high"})
    url = emulator.base_url + "/chat/completions"
    begun = time.perf_counter()
    async with wire.session.post(url, json=body) as response:
        arrivals = [
            (time.perf_counter() - begun, data)
            async for data in response.content.iter_any()
        ]

    assert len(arrivals) > 5
    assert arrivals[0][0] >= 0.05
    assert arrivals[-1][0] - arrivals[-2][0] >= 0.05
    assert b"[DONE]" in arrivals[-1][1]


async def test_disconnect_frees_the_request(wire: Wire) -> None:
    """A client that goes away ends its answer at once."""
    wire.emulator.pace = Pace(latency=30)
    task = asyncio.create_task(wire.post(chat("Hi")))
    await wire.emulator.busy()
    task.cancel()
    async with asyncio.timeout(2):
        await wire.emulator.idle()

    assert wire.emulator.in_flight == 0


async def test_client_that_leaves_a_long_stream_is_no_error(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection closed amid a large answer ends it without a log line."""
    wire.emulator.answer = lambda _: Answer(content="word " * 60_000, reasoning="")
    body = chat("Hi", stream=True, max_tokens=100_000)
    url = wire.emulator.base_url + "/chat/completions"
    for _ in range(5):
        response = await wire.session.post(url, json=body)
        await response.content.readany()
        response.close()
    async with asyncio.timeout(5):
        await wire.emulator.idle()

    assert [r for r in caplog.records if r.name.startswith("aiohttp")] == []
    assert wire.emulator.connections_opened == 5


async def test_connections_are_counted(wire: Wire) -> None:
    """Requests one after another share one connection."""
    for _ in range(3):
        await wire.ask("Hi")

    assert wire.emulator.connections_opened == 1
    assert wire.emulator.open_connections == 1
    assert len(wire.emulator.requests) == 3
    assert wire.emulator.requests[0].body["messages"] == [
        {"role": "user", "content": "Hi"}
    ]


async def test_closing_ends_sleeping_answers_and_leaves_nothing() -> None:
    """Closing is prompt, ends stalled answers, and leaves no task or socket."""
    before = asyncio.all_tasks()
    begun = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        async with DeepSeekEmulator(api_key=None, pace=Pace(latency=60)) as emulator:
            session.headers["Authorization"] = "Bearer x"
            wire = Wire(emulator, session)
            asks = [asyncio.create_task(wire.post(chat("Hi"))) for _ in range(20)]
            await emulator.busy(20)
            port = int(emulator.base_url.rpartition(":")[2])
        ended = await asyncio.gather(*asks, return_exceptions=True)

    assert all(isinstance(error, aiohttp.ClientError) for error in ended)
    assert asyncio.all_tasks() == before
    assert time.perf_counter() - begun < 3
    assert emulator.open_connections == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.timing
async def test_five_hundred_sleeping_streams_are_fine() -> None:
    """Hundreds of paced streams run side by side without falling behind."""
    pace = Pace(latency=0.1, tokens_per_second=60)
    async with DeepSeekEmulator(pace=pace) as emulator:
        emulator.answer = lambda _: Answer(content="word " * 60, reasoning="")
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        connector = aiohttp.TCPConnector(limit=500)
        async with aiohttp.ClientSession(
            headers=headers, connector=connector
        ) as session:
            wire = Wire(emulator, session)
            begun = time.perf_counter()
            chunks = await asyncio.gather(
                *(wire.stream(chat("Hi", **SHORT)) for _ in range(500))
            )

        assert time.perf_counter() - begun < 15
        assert emulator.peak_in_flight == 500
        assert all(len(events) == len(chunks[0]) for events in chunks)


async def test_serve_forever_calls_ready_and_stops_on_cancel() -> None:
    """Serving tells when it listens and ends with its task."""
    ready = asyncio.Event()
    emulator = DeepSeekEmulator(pace=Pace.instant())
    task = asyncio.create_task(emulator.serve_forever(lambda _: ready.set()))
    await ready.wait()
    assert emulator.base_url.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeError, match="running already"):
        await emulator.start()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.base_url
    await emulator.aclose()


async def test_taken_port_is_an_error_that_leaves_nothing(
    emulator: DeepSeekEmulator,
) -> None:
    """A port in use raises OSError and the second emulator is closed again."""
    port = int(emulator.base_url.rpartition(":")[2])
    second = DeepSeekEmulator(port=port)
    with pytest.raises(OSError, match=str(port)):
        await second.start()

    with pytest.raises(RuntimeError):
        _ = second.base_url


async def test_emulator_can_run_again(wire: Wire) -> None:
    """A closed emulator can be started once more."""
    await wire.ask("Hi")
    await wire.emulator.aclose()
    await wire.emulator.start()

    assert await wire.ask("Hi")


async def test_large_body_is_refused(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request beyond the size limit is a 413."""
    monkeypatch.setattr("deepseek_async.testing.server._MAX_BODY", 1000)
    await wire.emulator.aclose()
    await wire.emulator.start()

    assert (await wire.refuse(chat("x" * 2000)))[0] == 413


async def test_record_is_bounded() -> None:
    """Only the newest requests are remembered."""
    async with DeepSeekEmulator(pace=Pace.instant(), record_limit=2) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for text in "abc":
                await Wire(emulator, session).ask(text)

        said = [request.body["messages"][0]["content"] for request in emulator.requests]
        assert said == ["b", "c"]


async def test_plugin_fixture_is_a_running_emulator(
    deepseek_emulator: DeepSeekEmulator,
) -> None:
    """The pytest plugin gives tests an instant emulator."""
    chosen: list[Recorded] = []

    def choose(request: Recorded) -> Status:
        chosen.append(request)
        return Status(status=503)

    deepseek_emulator.fault = choose
    headers = {"Authorization": f"Bearer {deepseek_emulator.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        refused = await Wire(deepseek_emulator, session).refuse(chat("Hi"))

    assert refused[0] == 503
    assert chosen[0].path == "/chat/completions"
    assert deepseek_emulator.pace == Pace.instant()


def test_package_tells_its_names() -> None:
    """The package lists its public names, loads each, and refuses others."""
    assert "DeepSeekEmulator" in dir(testing)
    for name in testing.__all__:
        assert getattr(testing, name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = testing.Nothing
