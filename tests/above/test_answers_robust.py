"""Streams and caches where hooks, stores, connections and prices misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from deepseek_async import (
    AsyncDeepSeek,
    ChatCompletion,
    ChatStream,
    ConfigurationError,
    DeadlineExceededError,
    DeepSeekWarning,
    MemoryCache,
    PatternRedactor,
    Price,
    Redactor,
    ResponseCache,
    Resumed,
    RetryPolicy,
    ServiceUnavailableError,
    StreamInterruptedError,
    TextDelta,
    Timeouts,
    ToolCallFinished,
    Usage,
    UsageMeter,
    Vault,
)
from deepseek_async.pricing import Bill
from deepseek_async.redaction import PATTERNS
from deepseek_async.resume import Resume
from deepseek_async.testing import (
    Answer,
    Call,
    Cut,
    DeepSeekEmulator,
    Fault,
    Pace,
    Queue,
    Raw,
    Recorded,
    Stall,
    Status,
)

FLASH = "deepseek-flash"
MESSAGES = [{"role": "user", "content": "Write to ada@example.org."}]
TEXT = "I write to [EMAIL_1] and say [EMAIL_1] again, at once and for good."
SHOWN = TEXT.replace("[EMAIL_1]", "ada@example.org")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as running:
        running.answer = lambda _: Answer(content=TEXT)
        yield running


def client_of(emulator: DeepSeekEmulator, **options: Any) -> AsyncDeepSeek:
    options.setdefault("retry", RetryPolicy(base=0))
    return AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, **options
    )


async def ask(client: AsyncDeepSeek, **more: Any) -> ChatCompletion:
    given: dict[str, Any] = {"model": FLASH, "messages": MESSAGES, **more}
    answer: ChatCompletion = await client.chat.completions.create(stream=False, **given)
    return answer


async def ask_stream(client: AsyncDeepSeek, **more: Any) -> ChatStream:
    given: dict[str, Any] = {"model": FLASH, "messages": MESSAGES, **more}
    stream: ChatStream = await client.chat.completions.create(stream=True, **given)
    return stream


# -- redaction ---------------------------------------------------------------------


class FailsOnce(PatternRedactor):
    """Raises at the third piece of an answer, the first time it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def incoming(self, text: str, vault: Vault) -> str:
        del vault
        self.calls += 1
        if self.calls == 3:
            message = "not now"
            raise RuntimeError(message)
        return text


class StallsOnce(PatternRedactor):
    """Never comes back from the third piece, the first time it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def incoming(self, text: str, vault: Vault) -> str:
        del vault
        self.calls += 1
        if self.calls == 3:
            await asyncio.Event().wait()
        return text


async def test_a_redactor_that_fails_loses_no_text(emulator: DeepSeekEmulator) -> None:
    """Whoever reads on after its error gets the rest, beginning with that piece."""
    async with client_of(emulator, redact=[FailsOnce()]) as client:
        stream = await ask_stream(client)
        with pytest.raises(RuntimeError, match="not now"):
            await stream.completion()

        assert not stream.is_complete
        assert (await stream.completion()).text == SHOWN


async def test_a_reader_that_gives_up_on_a_redactor_loses_no_text(
    emulator: DeepSeekEmulator,
) -> None:
    """A timeout around the wait for a redactor leaves the stream as it was."""
    async with client_of(emulator, redact=[StallsOnce()]) as client:
        stream = await ask_stream(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stream.completion()

        assert (await stream.completion()).text == SHOWN


def test_a_placeholder_that_is_hidden_again_is_restored_whole() -> None:
    """A later pattern may swallow what an earlier one has hidden."""
    vault = Vault()
    messages = [{"role": "user", "content": "my id 12345 ok"}]
    PatternRedactor({"NUM": r"\d{5}", "IDENT": r"id \S+"}).outgoing(messages, vault)

    assert messages[0]["content"] == "my [IDENT_1] ok"
    assert vault.restore("my [IDENT_1] ok") == "my id 12345 ok"


def test_a_pattern_never_cuts_a_placeholder() -> None:
    """A pattern that matches digits or capitals leaves placeholders whole."""
    vault = Vault()
    text = "Write to ada@example.org, room 7, EMAIL"
    messages = [{"role": "user", "content": text}]
    PatternRedactor({**PATTERNS, "NUM": r"\d+", "WORD": r"[A-Z]{4,}"}).outgoing(
        messages, vault
    )

    assert messages[0]["content"] == "Write to [EMAIL_1], room [NUM_1], [WORD_1]"
    assert vault.restore(messages[0]["content"]) == text


@pytest.mark.parametrize("calls", ["abc", [5], 7])
def test_malformed_tool_calls_are_left_to_others(calls: object) -> None:
    """The ready redactor finds text where it is, and stumbles over nothing."""
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": "to a@b.io", "tool_calls": calls}
    ]
    PatternRedactor().outgoing(messages, Vault())

    assert messages == [
        {"role": "assistant", "content": "to [EMAIL_1]", "tool_calls": calls}
    ]


# -- going on ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redact", "cache", "both"])
async def test_an_answer_is_begun_anew_under_redaction_and_cache(
    emulator: DeepSeekEmulator, kind: str
) -> None:
    """Who takes the whole, or events, gets one whole call and is told."""
    city = "Paris, to ada@example.org"
    emulator.answer = lambda _: Answer(
        tool_calls=(Call("get_weather", {"city": "Paris, to [EMAIL_1]"}),)
    )
    options: dict[str, Any] = {}
    if kind in {"redact", "both"}:
        options["redact"] = [PatternRedactor(), Listener()]
    else:
        city = "Paris, to [EMAIL_1]"
    if kind in {"cache", "both"}:
        options["cache"] = MemoryCache()
    emulator.script(Cut(events=8))
    more: dict[str, Any] = {"tools": [TOOL], "thinking": {"type": "disabled"}}
    async with client_of(emulator, **options) as client:
        stream = await ask_stream(client, resume=True, **more)
        whole = await stream.completion()
        calls = whole.choices[0].message.tool_calls
        assert calls is not None
        assert len(calls) == 1
        assert json.loads(calls[0].function.arguments) == {"city": city}
        assert [resumed.action for resumed in stream.breaks] == ["restarted"]

        emulator.script(Cut(events=8))
        stream = await ask_stream(client, resume=True, cache_control="refresh", **more)
        events = [event async for event in stream.events()]

    place = next(i for i, event in enumerate(events) if isinstance(event, Resumed))
    finished = [i for i, e in enumerate(events) if isinstance(e, ToolCallFinished)]
    assert len(finished) == 1
    assert finished[0] > place


class Listener(Redactor):
    """Looks at every piece, and takes a moment."""

    async def incoming(self, text: str, vault: Vault) -> str:
        del vault
        await asyncio.sleep(0)
        return text


@pytest.mark.parametrize("kind", ["redact", "cache"])
async def test_what_was_shown_is_not_begun_anew_through_others(
    emulator: DeepSeekEmulator, kind: str
) -> None:
    """A reader of text meets the break, redacted and shared streams included."""
    emulator.answer = lambda _: '{"numbers": [1, 2, 3, 4, 5, 6, 7, 8, 9]} '
    emulator.script(Cut(events=20))
    options: dict[str, Any] = {"redact": [PatternRedactor()]}
    if kind == "cache":
        options = {"cache": MemoryCache()}
    async with client_of(emulator, **options) as client:
        stream = await ask_stream(
            client,
            messages=[{"role": "user", "content": "Count in json."}],
            response_format={"type": "json_object"},
            thinking={"type": "disabled"},
            resume=True,
        )
        with pytest.raises(StreamInterruptedError):
            async for _ in stream.text():
                pass

    assert len(emulator.requests) == 1


async def test_a_continuation_without_an_end_is_a_break(
    emulator: DeepSeekEmulator,
) -> None:
    """A second part of nothing but the end mark does not pass for the rest."""
    done = b"data: [DONE]\n\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(done)}\r\n".encode()
    head += b"Content-Type: text/event-stream\r\n\r\n"
    emulator.script(Cut(events=12), Raw(data=head + done))
    async with client_of(emulator) as client:
        stream = await ask_stream(client, resume=True)
        completion = await stream.completion()

    assert completion.text == TEXT
    assert completion.finish_reason == "stop"
    assert [resumed.action for resumed in stream.breaks] == ["continued"] * 2
    assert len(emulator.requests) == 3


async def test_a_failed_continuation_is_tried_again(
    emulator: DeepSeekEmulator,
) -> None:
    """One 503 on the way back is survived, and paid from the limit."""
    emulator.script(Cut(events=12), Status(status=503))
    async with client_of(emulator, retry=RetryPolicy(base=0, attempts=1)) as client:
        stream = await ask_stream(client, resume=Resume(limit=5))
        completion = await stream.completion()

        assert completion.text == TEXT
        assert [resumed.action for resumed in stream.breaks] == ["continued"]
        assert [attempt.outcome for attempt in stream.attempts][-1] == "ok"
        assert len(stream.attempts) == 3


async def test_a_continuation_that_keeps_failing_names_the_break(
    emulator: DeepSeekEmulator,
) -> None:
    """The last failure is raised, caused by the first, with every attempt."""

    def choose(_: Recorded) -> Fault:
        return Cut(events=12) if len(emulator.requests) == 1 else Status(status=503)

    emulator.fault = choose
    async with client_of(emulator, retry=RetryPolicy(base=0, attempts=1)) as client:
        stream = await ask_stream(client, resume=Resume(limit=2))
        with pytest.raises(ServiceUnavailableError) as raised:
            await stream.completion()

    assert isinstance(raised.value.__cause__, StreamInterruptedError)
    assert len(emulator.requests) == 3
    assert [attempt.number for attempt in raised.value.attempts] == [1, 2, 3]
    assert raised.value.partial is not None


# -- shared calls ------------------------------------------------------------------


async def test_a_leaders_deadline_is_not_its_followers(
    emulator: DeepSeekEmulator,
) -> None:
    """A patient follower asks again where an impatient leader gave up."""
    emulator.script(Queue(seconds=0.6))
    async with client_of(emulator, cache=MemoryCache()) as client:
        leader = asyncio.create_task(ask(client, timeouts=Timeouts(deadline=0.2)))
        await emulator.busy()
        follower = await ask(client)
        with pytest.raises(DeadlineExceededError):
            await leader

    assert follower.text == TEXT


async def test_a_leading_streams_deadline_is_not_its_followers(
    emulator: DeepSeekEmulator,
) -> None:
    """Each listener of a shared stream has a clock of its own, and it runs."""
    emulator.script(Queue(seconds=1.0))
    async with client_of(emulator, cache=MemoryCache()) as client:
        leader = asyncio.create_task(
            ask_stream(client, timeouts=Timeouts(deadline=0.4))
        )
        await emulator.busy()
        follower = await ask_stream(client)
        with pytest.raises(DeadlineExceededError):
            await (await leader).completion()

        assert (await follower.completion()).text == TEXT
        assert len(emulator.requests) == 1

    emulator.script(Stall(after=2))
    async with client_of(emulator, cache=MemoryCache()) as client:
        leading = await ask_stream(client)
        impatient = await ask_stream(client, timeouts=Timeouts(deadline=0.1))
        with pytest.raises(DeadlineExceededError):
            await impatient.completion()
        leading.abort()


async def test_only_calls_on_the_same_terms_are_shared(
    emulator: DeepSeekEmulator,
) -> None:
    """A follower's `resume` is not lost to a leader that has none."""
    emulator.script(Cut(events=12), Cut(events=12))
    async with client_of(emulator, cache=MemoryCache()) as client:
        leader, follower = await asyncio.gather(
            ask_stream(client), ask_stream(client, resume=True)
        )
        with pytest.raises(StreamInterruptedError):
            await leader.completion()

        assert (await follower.completion()).text == TEXT


class BrokenCache(ResponseCache):
    """Fails at everything."""

    async def get(self, key: str) -> bytes | None:
        del key
        raise OSError

    async def set(self, key: str, value: bytes) -> None:
        del key, value
        raise OSError

    async def clear(self) -> None:
        raise OSError


class SlowCache(MemoryCache):
    """Writes when it is let, and not before."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def set(self, key: str, value: bytes) -> None:
        await self.go.wait()
        await super().set(key, value)


async def test_a_broken_cache_costs_no_answer(emulator: DeepSeekEmulator) -> None:
    """It is a warning, and every answer comes from the server."""
    async with client_of(emulator, cache=BrokenCache()) as client:
        with pytest.warns(DeepSeekWarning, match="could not be"):
            assert (await ask(client)).text == TEXT
        with pytest.warns(DeepSeekWarning, match="could not be read"):
            stream = await ask_stream(client)
        with pytest.warns(DeepSeekWarning, match="could not be written"):
            assert (await stream.completion()).text == TEXT

    assert len(emulator.requests) == 2


async def test_a_slow_cache_holds_no_answer_up(emulator: DeepSeekEmulator) -> None:
    """The answer is handed out, and found, while it is still being written."""
    cache = SlowCache()
    async with client_of(emulator, cache=cache) as client:
        first = await asyncio.wait_for(ask(client), 2)
        again = await asyncio.wait_for(ask(client), 2)

        assert again == first
        assert again.is_cached
        cache.go.set()
        await asyncio.sleep(0)

    assert len(emulator.requests) == 1


# -- money -------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.1, 1, True, "0.2", Decimal("NaN"), Decimal(-1)])
@pytest.mark.parametrize("name", ["cache_hit", "cache_miss", "output", "peak_factor"])
def test_a_price_must_be_money(name: str, amount: Any) -> None:
    """A wrong price is found when the client is made, not after an answer was paid."""
    given: dict[str, Any] = dict.fromkeys(
        ("cache_hit", "cache_miss", "output"), Decimal("0.1")
    )
    price = Price(**{**given, name: amount})
    with pytest.raises(ConfigurationError, match=name):
        UsageMeter(prices={FLASH: price})
    with pytest.raises(ConfigurationError, match=name):
        AsyncDeepSeek(api_key="sk-test", prices={FLASH: price})


@pytest.mark.parametrize("prices", [{FLASH: 0.5}, {FLASH: {"output": 1}}, 5, [FLASH]])
def test_a_price_table_is_checked_at_once(prices: Any) -> None:
    """A client or meter with a table of something else is never made."""
    with pytest.raises(ConfigurationError, match="Price"):
        UsageMeter(prices=prices)
    with pytest.raises(ConfigurationError, match="Price"):
        AsyncDeepSeek(api_key="sk-test", prices=prices)


def test_a_limit_set_amid_counting_misses_nothing() -> None:
    """What other threads count while the limit is set is held against it."""
    meter = UsageMeter()
    usage = Usage(prompt_tokens=1_000, completion_tokens=1_000)
    problems: list[Exception] = []

    def count(thread: int) -> None:
        for hour in range(400):
            at = 1_700_000_000.0 + 3_600 * hour
            meter.count(Bill(model=FLASH, at=at), usage, f"{thread}-{hour % 7}")

    def look() -> None:
        try:
            for _ in range(200):
                meter.spend_limit = "1000000"
                _ = meter.spent
        except RuntimeError as error:
            problems.append(error)

    threads = [threading.Thread(target=count, args=(one,)) for one in range(4)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert meter._spent == meter.spent


async def test_text_is_told_once_with_a_restart_of_nothing(
    emulator: DeepSeekEmulator,
) -> None:
    """Events of a redacted stream that is continued tell each text once."""
    emulator.script(Cut(events=12))
    async with client_of(emulator, redact=[PatternRedactor(), Listener()]) as client:
        stream = await ask_stream(client, resume=True)
        events = [event async for event in stream.events()]

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == SHOWN
    assert sum(isinstance(event, Resumed) for event in events) == 1
