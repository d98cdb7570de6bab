"""Sensitive text: hidden before it leaves, back in the answer, over chunk borders."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from deepseek_async import (
    AsyncDeepSeek,
    ChatCompletion,
    ChatStream,
    ConfigurationError,
    InvalidRequestError,
    MemoryCache,
    PatternRedactor,
    Redactor,
    RetryPolicy,
    StreamInterruptedError,
    TextDelta,
    ToolCallFinished,
    Vault,
)
from deepseek_async.redaction import PATTERNS
from deepseek_async.redaction.redaction import Restorer
from deepseek_async.testing import Answer, Call, Cut, DeepSeekEmulator, Pace

FLASH = "deepseek-flash"
MAIL = "ada.lovelace+x@example.co.uk"
PHONE = "+49 171 2345678"
KEY = "sk-0123456789abcdef0123456789abcdef"
SECRETS = (MAIL, PHONE, KEY)
QUESTION = f"Write to {MAIL}, call {PHONE}, use {KEY}. Again: {MAIL}"
HIDDEN = "Write to [EMAIL_1], call [PHONE_1], use [KEY_1]. Again: [EMAIL_1]"
MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    """A service that repeats the last message, in reasoning and in text."""
    async with DeepSeekEmulator(pace=Pace.instant()) as running:
        running.answer = echo
        yield running


def echo(body: dict[str, Any]) -> Answer:
    messages = [m for m in body.get("messages", []) if not m.get("prefix")]
    text = messages[-1]["content"] if messages else body["prompt"]
    return Answer(content=text, reasoning=f"They say: {text}")


def client_of(emulator: DeepSeekEmulator, **options: Any) -> AsyncDeepSeek:
    options.setdefault("redact", [PatternRedactor()])
    options.setdefault("retry", RetryPolicy(base=0))
    return AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, **options
    )


async def ask(client: AsyncDeepSeek, **more: Any) -> ChatCompletion:
    params: dict[str, Any] = {"model": FLASH, "messages": MESSAGES, **more}
    answer: ChatCompletion = await client.chat.completions.create(
        stream=False, **params
    )
    return answer


async def ask_stream(client: AsyncDeepSeek, **more: Any) -> ChatStream:
    params: dict[str, Any] = {"model": FLASH, "messages": MESSAGES, **more}
    stream: ChatStream = await client.chat.completions.create(stream=True, **params)
    return stream


def sent(emulator: DeepSeekEmulator) -> str:
    return json.dumps([request.body for request in emulator.requests])


def assert_nothing_leaked(emulator: DeepSeekEmulator) -> None:
    assert emulator.requests
    assert not [secret for secret in SECRETS if secret in sent(emulator)]


# -- what is found -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("EMAIL", "a@b.io"),
        ("EMAIL", "o'neil_1%x@mail-1.example.museum"),
        ("EMAIL", "jörg.müller@exämple.de"),
        ("PHONE", "+1 (212) 555-0123"),
        ("PHONE", "+86 138 1234 5678"),
        ("PHONE", "+491712345678"),
        ("PHONE", "030 1234567"),
        ("PHONE", "0171/2345678"),
        ("PHONE", "(030) 123 45 67"),
        ("PHONE", "212-555-0123"),
        ("PHONE", "13812345678"),
        ("KEY", KEY),
        ("KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("KEY", "ghp_" + "a1B2" * 9),
        ("KEY", "github_pat_" + "a" * 30),
        ("KEY", "xoxb-123456789012-abcdef"),
        ("KEY", "AIza" + "x" * 35),
        ("KEY", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0x.c2lnbmF0dXJl"),
        ("KEY", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "x {}, y", "({})", "电话{}。", "“{}”", "{}."])
def test_patterns_find_what_they_promise(kind: str, text: str, around: str) -> None:
    """Each kind is found alone, in a sentence, in brackets and amid Chinese."""
    vault = Vault()
    messages = [{"role": "user", "content": around.format(text)}]
    PatternRedactor().outgoing(messages, vault)

    assert messages[0]["content"] == around.format(f"[{kind}_1]")
    assert vault.restore(messages[0]["content"]) == around.format(text)


@pytest.mark.parametrize(
    "text",
    [
        "on 2026-11-20 at 10:30:00",
        "3.14159265358979 and 1,234,567.89",
        "192.168.100.200",
        "10 000 000 000 people",
        "version 1.2.3-4, order 1234567890",
        "user@host, @name, a @ b.c",
        "sk-short, task-0123456789abcdef0123",
        "0.0001 0 1 2 3 4 5",
        "[EMAIL_1]",
        "ISBN 978-3-16-148410-0",
    ],
)
def test_patterns_leave_the_rest_alone(text: str) -> None:
    """Dates, sums, versions, addresses of machines and handles are not touched."""
    messages = [{"role": "user", "content": text}]
    PatternRedactor().outgoing(messages, Vault())

    assert messages[0]["content"] == text


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "eyJ" * 70_000, "+1 " * 70_000, "1-" * 100_000]
)
def test_patterns_take_linear_time(text: str) -> None:
    """No text makes a pattern search for long."""

    async def search() -> None:
        async with asyncio.timeout(5):
            await asyncio.to_thread(
                lambda: [list(re.finditer(each, text)) for each in PATTERNS.values()]
            )

    asyncio.run(search())


def test_patterns_can_be_joined() -> None:
    """They are text, and what they say of characters is of them alone."""
    joined = re.compile("é+|" + "|".join(PATTERNS.values()))

    assert joined.findall(f"éé {MAIL}") == ["éé", MAIL]


def test_patterns_can_be_ones_own() -> None:
    """Other patterns replace the set; names of kinds and patterns are checked."""
    messages = [{"role": "user", "content": f"Project Sturgeon, {MAIL}"}]
    vault = Vault()
    PatternRedactor({"PROJECT": r"Project \w+"}).outgoing(messages, vault)

    assert messages[0]["content"] == f"[PROJECT_1], {MAIL}"
    with pytest.raises(ConfigurationError, match="capitals"):
        PatternRedactor({"project": "x"})
    with pytest.raises(ConfigurationError, match="compiled"):
        PatternRedactor({"P": "("})


# -- out and back ------------------------------------------------------------------


async def test_an_answer_is_as_if_nothing_had_been_hidden(
    emulator: DeepSeekEmulator,
) -> None:
    """The server sees placeholders; text and reasoning have the originals."""
    async with client_of(emulator) as client:
        completion = await ask(client)

    assert emulator.requests[0].body["messages"][0]["content"] == HIDDEN
    assert_nothing_leaked(emulator)
    assert completion.text == QUESTION
    assert completion.choices[0].message.reasoning_content == f"They say: {QUESTION}"
    assert completion.cost
    assert MESSAGES == [{"role": "user", "content": QUESTION}]  # the caller's own


async def test_every_part_of_a_message_is_looked_at(
    emulator: DeepSeekEmulator,
) -> None:
    """Parts, reasoning and arguments are redacted; what is no text is not."""
    picture = "data:image/png;base64,AKIAIOSFODNN7EXAMPLE"
    arguments = json.dumps({"to": MAIL, "n": 1})
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "mail", "arguments": arguments},
    }
    emulator.answer = lambda _: "ok"
    async with client_of(emulator) as client:
        await ask(
            client,
            messages=[
                {"role": "system", "content": PHONE},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": MAIL},
                        {"type": "image_url", "image_url": {"url": picture}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": f"I mail {MAIL}",
                    "tool_calls": [call],
                },
                {"role": "tool", "tool_call_id": "c", "content": f"sent to {MAIL}"},
            ],
        )

    messages = emulator.requests[0].body["messages"]
    assert_nothing_leaked(emulator)
    assert messages[1]["content"][1]["image_url"]["url"] == picture
    assert messages[2]["reasoning_content"] == "I mail [EMAIL_1]"
    function = messages[2]["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == {"to": "[EMAIL_1]", "n": 1}
    assert messages[3]["content"] == "sent to [EMAIL_1]"


async def test_tool_arguments_stay_valid_json(emulator: DeepSeekEmulator) -> None:
    """An original with quotes and line breaks is escaped where JSON wants it."""
    nasty = 'say "hi"\n\\ö'
    tools: list[Any] = [
        {"type": "function", "function": {"name": "f", "parameters": {}}}
    ]
    emulator.answer = lambda _: Answer(
        reasoning="",
        content="x [QUOTE_1]",
        tool_calls=(Call("f", {"a": "<[QUOTE_1]>"}), Call("f", {"b": "[QUOTE_1]"})),
    )
    redactor = PatternRedactor({"QUOTE": r"say .*\n\\ö"})
    ask_it: dict[str, Any] = {
        "messages": [{"role": "user", "content": nasty}],
        "tools": tools,
    }
    async with client_of(emulator, redact=[redactor]) as client:
        awaited = await ask(client, **ask_it)
        async with await ask_stream(client, **ask_it) as stream:
            streamed = await stream.completion()
        stream = await ask_stream(client, **ask_it)
        events = [event async for event in stream.events()]

    finished = [e.tool_call for e in events if isinstance(e, ToolCallFinished)]
    for calls in (
        awaited.choices[0].message.tool_calls,
        streamed.choices[0].message.tool_calls,
        finished,
    ):
        assert calls is not None
        assert [json.loads(call.function.arguments) for call in calls] == [
            {"a": f"<{nasty}>"},
            {"b": nasty},
        ]
    assert awaited.text == streamed.text == f"x {nasty}"


async def test_titles_and_legacy_calls_are_restored(
    emulator: DeepSeekEmulator,
) -> None:
    """Titles and `function_call`, awaited and streamed, have the originals too."""
    emulator.answer = lambda _: Answer(
        content="ok",
        reasoning="",
        title="Mail to [EMAIL_1]",
        tool_calls=(Call("f", '{"to": "[EMAIL_1]"} [EMAIL_'),),
    )
    legacy: dict[str, Any] = {
        "functions": [{"name": "f", "parameters": {}}],
        "title": {"enabled": True},
    }
    current: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    }
    arguments = f'{{"to": "{MAIL}"}} [EMAIL_'
    async with client_of(emulator) as client:
        for more in (legacy, current):
            awaited = await ask(client, **more)
            async with await ask_stream(client, **more) as stream:
                streamed = await stream.completion()
            for answer in (awaited, streamed):
                message = answer.choices[0].message
                calls = [call.function for call in message.tool_calls or ()]
                calls += [message.function_call] if message.function_call else []
                assert [call.arguments for call in calls] == [arguments]
                assert message.title == (f"Mail to {MAIL}" if "title" in more else None)


async def test_a_redactor_may_do_nothing(emulator: DeepSeekEmulator) -> None:
    """The base class changes neither what goes out nor what comes in."""
    async with client_of(emulator, redact=[Redactor()]) as client:
        assert (await ask(client)).text == QUESTION

    assert emulator.requests[0].body["messages"] == MESSAGES
    assert Redactor().incoming("x", Vault()) == "x"


async def test_json_answers_stay_valid_json(emulator: DeepSeekEmulator) -> None:
    """In JSON mode the originals are escaped in the text too, awaited and streamed."""
    nasty = 'a "b"\nc'
    emulator.answer = lambda _: '{"said": "[QUOTE_1]"}'
    ask_it: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"as json: {nasty}"}],
        "response_format": {"type": "json_object"},
    }
    async with client_of(
        emulator, redact=[PatternRedactor({"QUOTE": r"a .*\nc"})]
    ) as client:
        awaited = await ask(client, **ask_it)
        async with await ask_stream(client, **ask_it) as stream:
            streamed = await stream.completion()

    assert json.loads(awaited.text) == json.loads(streamed.text) == {"said": nasty}


async def test_placeholders_of_the_callers_own_are_left_alone(
    emulator: DeepSeekEmulator,
) -> None:
    """Text that looks like a placeholder is no placeholder."""
    text = f"[EMAIL_1] is not {MAIL}, nor [EMAIL_3]; [EMAIL_2"
    async with client_of(emulator) as client:
        completion = await ask(client, messages=[{"role": "user", "content": text}])

    hidden = emulator.requests[0].body["messages"][0]["content"]
    assert hidden == "[EMAIL_1] is not [EMAIL_2], nor [EMAIL_3]; [EMAIL_2"
    assert completion.text == text


async def test_numbers_stay_the_same_as_a_conversation_grows(
    emulator: DeepSeekEmulator,
) -> None:
    """A history sent again is hidden in the same words: the context cache hits."""
    async with client_of(emulator) as client:
        messages: list[Any] = [{"role": "user", "content": f"I am {MAIL}"}]
        first = await ask(client, messages=messages)
        messages += [first.choices[0].message]
        messages += [{"role": "user", "content": f"Not x@y.org, but {MAIL}"}]
        await ask(client, messages=messages)

    one, two = (request.body["messages"] for request in emulator.requests)
    assert two[0] == one[0]
    assert two[1]["content"] == "I am [EMAIL_1]"
    assert two[2]["content"] == "Not [EMAIL_2], but [EMAIL_1]"


async def test_fill_in_the_middle_is_redacted(emulator: DeepSeekEmulator) -> None:
    """Prompt and suffix are hidden and the text restored; its streams are refused."""
    async with client_of(emulator) as client:
        completion = await client.completions.create(
            model=FLASH, prompt=f"to = '{MAIL}'", suffix=f"call('{PHONE}')"
        )
        with pytest.raises(InvalidRequestError, match="restored"):
            await client.completions.create(model=FLASH, prompt=MAIL, stream=True)

    assert_nothing_leaked(emulator)
    assert emulator.requests[0].body["suffix"] == "call('[PHONE_1]')"
    assert MAIL in completion.text
    assert len(emulator.requests) == 1


async def test_batches_are_redacted(emulator: DeepSeekEmulator) -> None:
    """A batch of the client goes through the same redactors."""
    async with client_of(emulator) as client:
        requests = [{"model": FLASH, "messages": MESSAGES} for _ in range(3)]
        async with client.batch(requests) as results:
            answers = [result async for result in results]

    assert_nothing_leaked(emulator)
    assert len(answers) == 3
    for answer in answers:
        assert answer.ok
        assert getattr(answer, "completion").text == QUESTION  # noqa: B009


# -- streams -----------------------------------------------------------------------


@given(
    text=st.lists(
        st.sampled_from(
            ["[EMAIL_1]", "[EMAIL_11]", "[EMAIL_", "[", "]", "1", "x", "[E"]
        ),
        max_size=12,
    ).map("".join),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_a_text_is_restored_however_it_is_cut(text: str, cuts: list[int]) -> None:
    """Pieces cut anywhere are restored to the same as the whole."""
    vault = Vault()
    for number in range(11):
        vault.hide("EMAIL", f"mail{number}@example.org")
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    restorer = Restorer(vault)

    shown = [restorer.feed(piece) for piece in pieces]
    assert "".join(shown) + restorer.end() == vault.restore(text)
    if "[" not in text:
        assert shown == pieces  # nothing is held back without need


async def test_a_placeholder_cut_by_chunks_is_restored(
    emulator: DeepSeekEmulator,
) -> None:
    """The emulator cuts placeholders into several tokens; the reader sees none."""
    async with client_of(emulator) as client:
        stream = await ask_stream(client)
        chunks = [chunk async for chunk in stream]
        other = await ask_stream(client)
        events = [event async for event in other.events()]
        async with await ask_stream(client) as third:
            completion = await third.completion()
        pieces = [piece async for piece in (await ask_stream(client)).text()]

    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert_nothing_leaked(emulator)
    assert "".join(texts) == "".join(pieces) == completion.text == QUESTION
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == QUESTION
    assert stream.partial.text == QUESTION
    assert completion.choices[0].message.reasoning_content == f"They say: {QUESTION}"
    assert not [text for text in texts if "[" in text or "_1" in text]
    assert completion.cost
    assert completion.usage == stream.usage
    assert client.meter.total.calls == 4


async def test_what_only_looks_like_a_placeholder_is_not_lost(
    emulator: DeepSeekEmulator,
) -> None:
    """Text held back at the end of reasoning, text and stream is shown after all."""
    emulator.answer = lambda _: Answer(
        content=f"see [EMAIL_1] [EMAIL_9] [EM {'[EMAIL_1'}", reasoning="so: [EMAIL"
    )
    async with client_of(emulator) as client:
        async with await ask_stream(client) as stream:
            streamed = await stream.completion()
        awaited = await ask(client)

    assert streamed.text == awaited.text == f"see {MAIL} [EMAIL_9] [EM [EMAIL_1"
    assert streamed.choices[0].message.reasoning_content == "so: [EMAIL"


async def test_a_cut_stream_keeps_what_was_held_back(
    emulator: DeepSeekEmulator,
) -> None:
    """`partial` has every character that had arrived, restored where possible."""
    emulator.answer = lambda _: Answer(content="x [EMAIL_1] [EMAIL_1]", reasoning="")
    async with client_of(emulator) as client:
        plain = await ask_stream(client)
        count = len([chunk async for chunk in plain])
        partials: set[str] = set()
        for cut in range(1, 12):
            emulator.script(Cut(events=cut))
            stream = await ask_stream(client)
            with pytest.raises(StreamInterruptedError) as raised:
                await stream.completion()
            assert raised.value.partial is not None
            partials.add(raised.value.partial.text)

    assert count > 8
    assert f"x {MAIL}" in partials
    assert "x [EMAIL" in partials


async def test_resuming_sends_nothing_that_was_hidden(
    emulator: DeepSeekEmulator,
) -> None:
    """What goes back to continue a cut answer is the text as the server wrote it."""
    for cut in range(2, 40, 3):
        emulator.script(Cut(events=cut))
        async with client_of(emulator) as client:
            stream = await ask_stream(client, resume=True)
            pieces = [piece async for piece in stream.text()]

            assert (cut, "".join(pieces)) == (cut, QUESTION)
            assert len(stream.breaks) == 1
    assert_nothing_leaked(emulator)


async def test_the_cache_never_holds_what_was_hidden(
    emulator: DeepSeekEmulator,
) -> None:
    """Two users share a cached answer, and each finds their own address in it."""
    cache = MemoryCache()
    texts = [f"Dear {name}@example.org" for name in ("ann", "bob")]
    requests = [[{"role": "user", "content": text}] for text in texts]
    async with client_of(emulator, cache=cache) as client:
        together = await asyncio.gather(*(ask(client, messages=r) for r in requests))
        later = [await ask(client, messages=r) for r in requests]
        streams = [await ask_stream(client, messages=r) for r in requests]
        played = [await stream.completion() for stream in streams]
        emulator.requests.clear()
        fresh = await asyncio.gather(
            *(ask_stream(client, messages=r, cache_control="refresh") for r in requests)
        )
        refreshed = [await stream.completion() for stream in fresh]

    for answers in (together, later, played, refreshed):
        assert [answer.text for answer in answers] == texts
    assert not [value for _, value in cache._kept.values() if b"example" in value]


# -- hooks of one's own ------------------------------------------------------------


class Shouting(Redactor):
    """Sees both ways, one of them asynchronously."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.seen: list[str] = []

    def outgoing(self, messages: list[dict[str, Any]], vault: Vault) -> None:
        del vault
        messages[-1]["content"] += self.mark

    async def incoming(self, text: str, vault: Vault) -> str:
        del vault
        await asyncio.sleep(0)
        self.seen.append(text)
        return text.replace(self.mark, self.mark.lower())


async def test_hooks_are_called_in_order(emulator: DeepSeekEmulator) -> None:
    """Sync and async functions and redactors see what those before them made."""

    def plain(messages: list[dict[str, Any]], vault: Vault) -> list[dict[str, Any]]:
        name = vault.hide("NAME", "Ada")
        return [{**m, "content": m["content"].replace("Ada", name)} for m in messages]

    async def slow(messages: list[dict[str, Any]], vault: Vault) -> None:
        del vault
        await asyncio.sleep(0)
        messages[-1]["content"] += " B"

    shouting = Shouting(" C")
    hooks = [plain, slow, shouting, Shouting(" D")]
    async with client_of(emulator, redact=hooks) as client:
        question = [{"role": "user", "content": "Hi Ada"}]
        awaited = await ask(client, messages=question)
        assert shouting.seen[0] == "Hi Ada B C D"
        async with await ask_stream(client, messages=question) as stream:
            streamed = await stream.completion()

    assert emulator.requests[0].body["messages"][0]["content"] == "Hi [NAME_1] B C D"
    assert awaited.text == streamed.text == "Hi Ada B c d"


async def test_a_hook_that_fails_sends_nothing(emulator: DeepSeekEmulator) -> None:
    """Its exception is the call's; so is a return value that is no messages."""

    def broken(messages: list[dict[str, Any]], vault: Vault) -> None:
        del vault
        raise KeyError(messages[0]["role"])

    returned: list[Any] = [[], "text", [1], [{"role": object(), "content": "x"}]]
    async with client_of(emulator, redact=[broken]) as client:
        with pytest.raises(KeyError):
            await ask(client)
        with pytest.raises(KeyError):
            await ask_stream(client)
    for value in returned:

        def nonsense(_: Any, __: Vault, value: Any = value) -> Any:
            return value

        async with client_of(emulator, redact=[nonsense]) as client:
            with pytest.raises(InvalidRequestError, match="redactor"):
                await ask(client)

    assert not emulator.requests


async def test_one_redactor_needs_no_list(emulator: DeepSeekEmulator) -> None:
    """A single redactor, or a single function, is taken as it is."""

    def shout(messages: list[dict[str, Any]], _: Vault) -> list[dict[str, Any]]:
        return [{**message, "content": "HELLO"} for message in messages]

    for redact, shown in ((PatternRedactor(), "[EMAIL_1]"), (shout, "HELLO")):
        async with client_of(emulator, redact=redact) as client:
            await ask(client)

        assert shown in sent(emulator)
        assert MAIL not in sent(emulator)


def test_hooks_and_kinds_are_checked() -> None:
    """What is no hook, and what is no name of a kind, is refused."""
    wrong: Any = ["text"]
    with pytest.raises(ConfigurationError, match="redact"):
        AsyncDeepSeek(api_key="k", redact=wrong)
    wrong = [PatternRedactor]
    with pytest.raises(ConfigurationError, match="redact"):
        AsyncDeepSeek(api_key="k", redact=wrong)
    with pytest.raises(ConfigurationError, match="capitals"):
        Vault().hide("e-mail", "x")


def test_a_vault_shows_nothing() -> None:
    """Neither `repr` nor text of a vault holds what it hides."""
    vault = Vault()
    vault.hide("EMAIL", MAIL)

    assert MAIL not in repr(vault) + str(vault)
    assert len(vault) == 1


async def test_with_options_keeps_the_redactors(emulator: DeepSeekEmulator) -> None:
    """A view of the client hides what the client hides."""
    async with client_of(emulator) as client:
        await ask(client.with_options(max_retries=0))

    assert_nothing_leaked(emulator)
    assert msgspec.json.encode(emulator.requests[0].body)
