"""Streams that survive: cut anywhere, joined without a seam, over real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from deepseek_async import (
    AsyncDeepSeek,
    AuthenticationError,
    ChatCompletion,
    ChatStream,
    ConfigurationError,
    DeadlineExceededError,
    Finished,
    Heartbeat,
    InternalServerError,
    InvalidRequestError,
    PayloadGapTimeoutError,
    ReasoningDelta,
    Resume,
    Resumed,
    RetryPolicy,
    StreamClosedError,
    StreamInterruptedError,
    StreamInUseError,
    TextDelta,
    Timeouts,
    ToolCallFinished,
    Usage,
    UsageReported,
)
from deepseek_async.codec import CHAT
from deepseek_async.resume.policy import Parts, continuation
from deepseek_async.testing import (
    Answer,
    Cut,
    DeepSeekEmulator,
    Fault,
    MissingDone,
    Pace,
    Queue,
    Recorded,
    Stall,
    Status,
    StreamError,
    ToolRule,
)

WORDS = " ".join(f"w{number}" for number in range(12))
LONG = "".join(chr(ord("a") + number % 26) + " " for number in range(390))
THOUGHT = "First this, then that, and so on to the end."
FLASH = "deepseek-flash"
MESSAGES = [{"role": "user", "content": "Count."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
AT_ONCE = RetryPolicy(base=0)


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as running:
        running.answer = lambda _: Answer(content=WORDS, reasoning=THOUGHT)
        yield running


def client_of(emulator: DeepSeekEmulator, **options: Any) -> AsyncDeepSeek:
    options.setdefault("retry", AT_ONCE)
    return AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, **options
    )


async def open_stream(
    client: AsyncDeepSeek, resume: Resume | None = None
) -> ChatStream:
    return await client.chat.completions.create(
        model=FLASH, messages=MESSAGES, stream=True, resume=resume or True
    )


def cut_then_stall(emulator: DeepSeekEmulator) -> asyncio.Event:
    """Cut the first answer, let the second never begin; the event says it was asked."""
    asked = asyncio.Event()

    def choose(_: Recorded) -> Fault:
        if len(emulator.requests) == 1:
            return Cut(events=20)
        asked.set()
        return Stall(phase="head")

    emulator.fault = choose
    return asked


async def read_chunks(stream: ChatStream) -> None:
    async for _ in stream:
        pass


async def read_one_by_one(stream: ChatStream) -> None:
    while not stream.is_complete:
        await anext(stream)


def said(completion: ChatCompletion) -> tuple[str, str | None, str | None]:
    message = completion.choices[0].message
    return completion.text, message.reasoning_content, completion.finish_reason


async def text_of(stream: ChatStream) -> str:
    async with stream:
        return "".join([piece async for piece in stream.text()])


# -- the promise -------------------------------------------------------------------


async def test_an_answer_cut_at_any_chunk_ends_equal_to_the_uncut_one() -> None:
    """400 chunks, cut once at each: the same text, nothing twice, one id."""
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        emulator.answer = lambda _: Answer(content=LONG, reasoning=THOUGHT)
        async with client_of(emulator) as client:
            stream = await client.chat.completions.create(
                model=FLASH, messages=MESSAGES, stream=True
            )
            count = len([chunk async for chunk in stream])
            uncut = stream.partial
        assert count >= 400
        for cut in range(1, count + 1):
            emulator.script(Cut(events=cut))
            async with client_of(emulator) as client:
                stream = await open_stream(client)
                chunks = [chunk async for chunk in stream]

            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert (cut, text) == (cut, LONG)
            assert (cut, said(stream.partial)) == (cut, said(uncut))
            assert len({chunk.id for chunk in chunks}) == 1
            assert len({chunk.created for chunk in chunks}) == 1
            assert len(stream.breaks) == 1
            assert emulator.faults_left == 0


@pytest.mark.parametrize("seed", range(25))
async def test_an_answer_cut_three_times_ends_equal_to_the_uncut_one(seed: int) -> None:
    """Three cuts at random places, by FIN or RST: the same text and reasoning."""
    rng = random.Random(seed)  # noqa: S311
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        emulator.answer = lambda _: Answer(content=LONG, reasoning=THOUGHT)
        places = sorted(rng.sample(range(2, 370), 3))
        lengths = [places[0], places[1] - places[0], places[2] - places[1]]
        emulator.script(
            *(Cut(events=1 + n, ending=rng.choice(["fin", "reset"])) for n in lengths)
        )
        async with client_of(emulator) as client:
            async with await open_stream(client) as stream:
                completion = await stream.completion()
            whole = await client.chat.completions.create(model=FLASH, messages=MESSAGES)

    assert said(completion) == said(whole)
    assert len(stream.breaks) <= 3
    assert emulator.faults_left == 0


async def test_a_cut_amid_an_event_loses_and_repeats_nothing(
    emulator: DeepSeekEmulator,
) -> None:
    """Cut at a byte, not between events, the answer is whole all the same."""
    for size in range(700, 4_000, 97):
        emulator.script(Cut(size=size))
        async with client_of(emulator) as client:
            assert (size, await text_of(await open_stream(client))) == (size, WORDS)


# -- what is said of it ------------------------------------------------------------


async def test_the_continuation_sends_back_what_was_received(
    emulator: DeepSeekEmulator,
) -> None:
    """Text and reasoning go back as a prefix message, on the beta path, once."""
    emulator.answer = lambda _: Answer(content=WORDS, reasoning="Hm.")
    emulator.script(Cut(events=8))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        await text_of(stream)

    first, second = emulator.requests
    *before, prefix = second.body["messages"]
    assert second.path == "/beta/chat/completions"
    assert before == first.body["messages"]
    assert prefix["prefix"] is True
    assert WORDS.startswith(prefix["content"])
    assert len(prefix["content"]) + 3 == stream.breaks[0].characters
    assert prefix["reasoning_content"] == "Hm."
    rest = {**second.body, "messages": before}
    assert rest == first.body


async def test_a_break_is_reported_in_its_place(emulator: DeepSeekEmulator) -> None:
    """`Resumed` comes between the events of the two parts, and `breaks` lists it."""
    emulator.script(Cut(events=25))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        events = [event async for event in stream.events()]

    place = next(i for i, event in enumerate(events) if isinstance(event, Resumed))
    before = "".join(e.text for e in events[:place] if isinstance(e, TextDelta))
    after = "".join(e.text for e in events[place:] if isinstance(e, TextDelta))
    thought = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert before
    assert after
    assert (before + after, thought) == (WORDS, THOUGHT)
    assert stream.breaks == (events[place],)
    assert stream.breaks[0].action == "continued"
    assert stream.breaks[0].outcome == "StreamInterruptedError"
    assert stream.breaks[0].request_id == emulator.requests[0].trace_id
    assert stream.request_id == emulator.requests[1].trace_id
    assert isinstance(events[-2], UsageReported)
    assert events[-2].usage == stream.usage
    assert events[-1] == Finished(finish_reason="stop")
    assert [attempt.outcome for attempt in stream.attempts] == [
        "StreamInterruptedError",
        "ok",
    ]
    assert [attempt.number for attempt in stream.attempts] == [1, 2]


async def test_usage_and_cost_of_all_parts_are_added(
    emulator: DeepSeekEmulator,
) -> None:
    """The prompt counts once a part; the output once, whatever part it came in."""
    async with client_of(emulator) as client:
        whole = await client.chat.completions.create(model=FLASH, messages=MESSAGES)
        assert whole.usage is not None
        client.meter.reset()
        emulator.script(Cut(events=10), Cut(events=5))
        async with await open_stream(client) as stream:
            completion = await stream.completion()

        assert completion.usage is not None
        assert completion.usage.prompt_tokens > whole.usage.prompt_tokens
        assert completion.usage.completion_tokens == whole.usage.completion_tokens
        assert completion.usage.reasoning_tokens == whole.usage.reasoning_tokens
        assert [resumed.chunks for resumed in stream.breaks] == [9, 4]
        assert client.meter.total.calls == 1
        assert client.meter.spent == completion.cost


def test_parts_add_up() -> None:
    """A part begun anew gave nothing back; one that goes on gave all before it."""
    parts = Parts()
    for anew in (False, True, False):
        parts.chunks = 10
        parts.next(anew=anew)

    total = parts.total(Usage(prompt_tokens=110, completion_tokens=5))
    # 100 asked, 100 + 10 given back, 100 asked anew, 100 + 10 given back.
    assert total.prompt_tokens == 100 + 110 + 100 + 110
    assert total.completion_tokens == 10 + 10 + 10 + 5
    assert parts.received == 10


async def test_only_the_end_mark_missing_is_no_reason_to_ask_again(
    emulator: DeepSeekEmulator,
) -> None:
    """With its finish reason an answer is whole; that it was cut is still reported."""
    emulator.script(MissingDone(), MissingDone())
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        events = [event async for event in stream.events()]
        completion = await (await open_stream(client)).completion()

    assert said(completion) == (WORDS, THOUGHT, "stop")
    assert stream.breaks[0].action == "completed"
    assert stream.breaks[0] in events
    assert stream.is_complete
    assert stream.meta is not None
    assert [attempt.outcome for attempt in completion.attempts] == [
        "StreamInterruptedError"
    ]
    assert completion.cost
    assert len(emulator.requests) == 2


async def test_log_probabilities_are_joined(emulator: DeepSeekEmulator) -> None:
    """Each token has its log probability once, as in the uncut answer."""
    async with client_of(emulator) as client:
        whole = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, logprobs=True
        )
        emulator.script(Cut(events=20))
        stream = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, logprobs=True, stream=True, resume=True
        )
        completion = await stream.completion()

    assert whole.choices[0].logprobs is not None
    assert completion.choices[0].logprobs == whole.choices[0].logprobs


# -- what kinds of breaks ----------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Cut(events=9, ending="reset"),
        Cut(events=9, framing="length"),
        Cut(events=9, framing="close"),
        Stall(after=9),
        Stall(after=9, keep_alive=0.02),
        StreamError(after=9),
        StreamError(after=9, type="service_unavailable_error", done=True),
    ],
    ids=["reset", "short", "close", "stall", "queue", "error", "overload"],
)
async def test_every_passing_failure_is_survived(
    emulator: DeepSeekEmulator, fault: Fault
) -> None:
    """Resets, short bodies, stalls and server errors amid the stream are survived."""
    emulator.script(fault)
    timeouts = Timeouts(payload_gap=0.15)
    async with client_of(emulator, timeouts=timeouts) as client:
        stream = await open_stream(client)

        assert await text_of(stream) == WORDS
        assert len(stream.breaks) == 1


async def test_a_lasting_failure_is_raised(emulator: DeepSeekEmulator) -> None:
    """An error that another attempt would meet again is not survived."""
    emulator.script(StreamError(after=30, type="authentication_error"))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        with pytest.raises(AuthenticationError) as raised:
            await text_of(stream)

    assert raised.value.partial is not None
    assert WORDS.startswith(raised.value.partial.text)
    assert len(emulator.requests) == 1


async def test_stalls_can_be_left_to_the_caller(emulator: DeepSeekEmulator) -> None:
    """With `timeouts=False` a stall is raised, not survived."""
    emulator.script(Stall(after=9))
    async with client_of(emulator, timeouts=Timeouts(payload_gap=0.1)) as client:
        stream = await open_stream(client, Resume(timeouts=False))
        with pytest.raises(PayloadGapTimeoutError):
            await text_of(stream)

    assert len(emulator.requests) == 1


async def test_breaks_are_limited(emulator: DeepSeekEmulator) -> None:
    """One break more than the limit is raised, with all the text there was."""
    emulator.script(Cut(events=20), Cut(events=4), Cut(events=4))
    async with client_of(emulator) as client:
        stream = await open_stream(client, Resume(limit=2))
        with pytest.raises(StreamInterruptedError) as raised:
            await stream.completion()

        assert raised.value.partial is not None
        assert WORDS.startswith(raised.value.partial.text)
        assert len(raised.value.partial.text) > 10
        assert len(stream.breaks) == 2
        assert len(emulator.requests) == 3
        assert client.meter.total.unfinished == 1
        with pytest.raises(StreamInterruptedError):  # and it stays broken
            await stream.completion()
        assert len(emulator.requests) == 3


async def test_resumes_are_paid_from_the_retry_budget(
    emulator: DeepSeekEmulator,
) -> None:
    """When the client's retries are spent, a break is raised."""
    emulator.script(Cut(events=5))
    async with client_of(emulator) as client:
        budget = client._manager.budget
        while budget.balance >= 1:
            budget.spend(asyncio.get_running_loop().time())
        with pytest.raises(StreamInterruptedError):
            await text_of(await open_stream(client))

    assert len(emulator.requests) == 1


async def test_a_break_before_the_first_payload_is_an_ordinary_retry(
    emulator: DeepSeekEmulator,
) -> None:
    """Before anything came the same request is sent again, as without `resume`."""
    emulator.script(Cut(events=0), Cut(events=20), Cut(events=0))
    async with client_of(emulator) as client:
        stream = await open_stream(client)

        assert await text_of(stream) == WORDS
        assert len(stream.breaks) == 1
        assert [attempt.outcome for attempt in stream.attempts][-1] == "ok"
        assert len(stream.attempts) == 4


async def test_the_deadline_spans_all_parts(emulator: DeepSeekEmulator) -> None:
    """A continuation has what is left of the call's deadline, not one of its own."""
    emulator.script(Cut(events=20), Stall(after=1))
    async with client_of(emulator, timeouts=Timeouts(deadline=0.4)) as client:
        started = asyncio.get_running_loop().time()
        stream = await open_stream(client)
        await asyncio.sleep(0.2)
        with pytest.raises(DeadlineExceededError) as raised:
            await text_of(stream)

    assert asyncio.get_running_loop().time() - started < 0.6
    assert raised.value.partial is not None
    assert raised.value.partial.text


# -- where going on is impossible --------------------------------------------------


async def test_tool_calls_are_begun_anew_for_who_awaits_the_whole(
    emulator: DeepSeekEmulator,
) -> None:
    """`completion()` gets one whole call, and the restart is reported."""
    emulator.answer = None
    emulator.tool_rules.append(
        ToolRule(name="get_weather", arguments=({"city": "Paris"},))
    )
    async with client_of(emulator) as client:
        whole = await client.chat.completions.create(
            model=FLASH, messages=WEATHER, tools=[TOOL]
        )
        stream = await client.chat.completions.create(
            model=FLASH, messages=WEATHER, tools=[TOOL], stream=True
        )
        count = len([chunk async for chunk in stream])
        emulator.script(Cut(events=count - 2))
        stream = await client.chat.completions.create(
            model=FLASH, messages=WEATHER, tools=[TOOL], stream=True, resume=True
        )
        completion = await stream.completion()

    calls = completion.choices[0].message.tool_calls
    wanted = whole.choices[0].message.tool_calls
    assert calls is not None
    assert wanted is not None
    assert [call.function for call in calls] == [call.function for call in wanted]
    assert [resumed.action for resumed in stream.breaks] == ["restarted"]
    assert emulator.requests[-1].path == "/chat/completions"
    assert emulator.requests[-1].body == emulator.requests[-2].body


async def test_a_restart_is_an_event(emulator: DeepSeekEmulator) -> None:
    """After `Resumed` with `restarted` the events tell the answer from its start."""
    emulator.answer = None
    emulator.tool_rules.append(
        ToolRule(name="get_weather", arguments=({"city": "Paris"},))
    )
    async with client_of(emulator) as client:
        plain = await client.chat.completions.create(
            model=FLASH, messages=WEATHER, tools=[TOOL], stream=True
        )
        expected = [event async for event in plain.events()]
        count = len(expected)
        emulator.script(Cut(events=count - 4))
        stream = await client.chat.completions.create(
            model=FLASH, messages=WEATHER, tools=[TOOL], stream=True, resume=True
        )
        events = [event async for event in stream.events()]

    place = next(i for i, event in enumerate(events) if isinstance(event, Resumed))
    again = events[place + 1 :]
    assert sum(isinstance(event, ToolCallFinished) for event in events) == 1
    assert [type(event) for event in again] == [type(event) for event in expected]
    reasoning = "".join(e.text for e in again if isinstance(e, ReasoningDelta))
    assert reasoning == "".join(
        e.text for e in expected if isinstance(e, ReasoningDelta)
    )


async def test_what_was_shown_is_never_begun_anew(emulator: DeepSeekEmulator) -> None:
    """A reader of chunks could not know, so there the break is raised."""
    emulator.answer = lambda _: '{"numbers": [1, 2, 3, 4, 5]} '
    messages = [{"role": "user", "content": "Count in json."}]
    emulator.script(Cut(events=30), Cut(events=30), Cut(events=30))
    async with client_of(emulator) as client:
        for read in (text_of, read_chunks, read_one_by_one):
            stream = await client.chat.completions.create(
                model=FLASH,
                messages=messages,
                response_format={"type": "json_object"},
                stream=True,
                resume=True,
            )
            with pytest.raises(StreamInterruptedError):
                await read(stream)
            assert stream.breaks == ()


async def test_restarting_can_be_ruled_out(emulator: DeepSeekEmulator) -> None:
    """With `restart=False` an answer that cannot be continued is raised."""
    emulator.script(Cut(events=20))
    async with client_of(emulator) as client:
        stream = await client.chat.completions.create(
            model=FLASH,
            messages=[{"role": "user", "content": "json"}],
            response_format={"type": "json_object"},
            stream=True,
            resume=Resume(restart=False),
        )
        with pytest.raises(StreamInterruptedError):
            await stream.completion()

    assert len(emulator.requests) == 1


async def test_nothing_seen_is_begun_anew_for_everyone(
    emulator: DeepSeekEmulator,
) -> None:
    """Cut after the role, before any text, the request is simply sent again."""
    emulator.script(Cut(events=1))
    async with client_of(emulator) as client:
        stream = await open_stream(client, Resume(restart=False))

        assert await text_of(stream) == WORDS
        assert emulator.requests[0].body == emulator.requests[1].body


async def test_a_server_that_will_not_continue_is_asked_anew(
    emulator: DeepSeekEmulator,
) -> None:
    """A refused continuation is restarted unseen, else the break itself is raised."""
    refusal = Status(status=400, path="/beta")
    async with client_of(emulator) as client:
        emulator.script(Cut(events=20), refusal)
        completion = await (await open_stream(client)).completion()
        emulator.script(Cut(events=20), refusal)
        with pytest.raises(StreamInterruptedError):
            await text_of(await open_stream(client))

    assert said(completion) == (WORDS, THOUGHT, "stop")


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthenticationError), (500, InternalServerError)]
)
async def test_another_refusal_is_raised_with_the_text(
    emulator: DeepSeekEmulator, status: int, error: type[Exception]
) -> None:
    """When the continuation fails for good, its error carries what had come."""
    emulator.script(Cut(events=30), Status(status=status, path="/beta", times=99))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        with pytest.raises(error) as raised:
            await stream.completion()

    assert WORDS.startswith(getattr(raised.value, "partial").text)  # noqa: B009


async def test_max_tokens_covers_all_parts(emulator: DeepSeekEmulator) -> None:
    """The continuation may write what is left of `max_tokens`; nothing left is told."""
    async with client_of(emulator) as client:
        emulator.script(Cut(events=11))
        stream = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, max_tokens=20, stream=True, resume=True
        )
        completion = await stream.completion()
        whole = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, max_tokens=20
        )
        emulator.script(Cut(events=21))
        stream = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, max_tokens=20, stream=True, resume=True
        )
        with pytest.raises(StreamInterruptedError):
            await text_of(stream)

    assert emulator.requests[1].body["max_tokens"] == 10
    assert said(completion) == said(whole)
    assert completion.finish_reason == "length"


async def test_a_prefix_of_the_callers_own_is_extended(
    emulator: DeepSeekEmulator,
) -> None:
    """The text received is appended to the beginning that the caller prescribed."""
    emulator.script(Cut(events=5))
    async with client_of(emulator) as client:
        stream = await client.chat.completions.create(
            model=FLASH,
            thinking={"type": "disabled"},
            messages=[
                {"role": "user", "content": "Count."},
                {"role": "assistant", "content": "w0 w1", "prefix": True, "name": "x"},
            ],
            stream=True,
            resume=True,
        )
        text = await text_of(stream)

    prefix = emulator.requests[1].body["messages"][-1]
    assert "w0 w1" + text == WORDS
    assert len(emulator.requests[1].body["messages"]) == 2
    assert prefix["content"].startswith("w0 w1 w2")
    assert prefix["name"] == "x"
    assert "reasoning_content" not in prefix


async def test_a_stop_text_across_the_seam_is_not_missed(
    emulator: DeepSeekEmulator,
) -> None:
    """Where the text ends like a stop text begins, the answer is begun anew."""
    emulator.answer = lambda _: Answer(content="a b", reasoning="")
    async with client_of(emulator) as client:
        plain = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, stream=True
        )
        count = len([chunk async for chunk in plain])
        emulator.script(Cut(events=count - 1))
        stream = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, stop=["b <end>"], stream=True, resume=True
        )
        completion = await stream.completion()

    assert completion.text == "a b"
    assert stream.breaks[0].action == "restarted"


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "blocks": [1]},
        {"content": "a", "tool_calls": [{"id": "x", "index": 0}]},
        {"content": "a", "function_call": {"name": "f"}},
        {"content": ""},
    ],
)
def test_only_text_can_be_continued(message: dict[str, Any]) -> None:
    """Calls, and fields that must be echoed as they came, have no continuation."""
    body = b'{"messages":[{"role":"user","content":"x"}]}'
    data = {"choices": [{"index": 0, "message": message}]}
    partial = CHAT.decode(msgspec.json.encode(data))

    assert continuation(body, partial, 1) is None


# -- leaving, and using it wrongly -------------------------------------------------


async def test_close_ends_a_continuation_under_way(emulator: DeepSeekEmulator) -> None:
    """Another task's `close` ends the wait for the continuation at once."""
    asked = cut_then_stall(emulator)
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        reading = asyncio.create_task(stream.completion())
        await asked.wait()
        with pytest.raises(StreamInUseError):
            await anext(stream)
        stream.abort()
        with pytest.raises(StreamClosedError) as raised:
            await reading

        assert raised.value.partial is not None
        assert raised.value.partial.choices
        assert repr(stream) == "<ResumingStream closed>"
    await emulator.idle()


async def test_close_ends_the_wait_before_a_continuation(
    emulator: DeepSeekEmulator,
) -> None:
    """Closed during the back-off, the stream sends nothing more."""
    emulator.script(Cut(events=20))
    async with client_of(emulator, retry=RetryPolicy(base=3600, cap=3600)) as client:
        stream = await open_stream(client)
        reading = asyncio.create_task(stream.completion())
        await emulator.idle()
        await asyncio.sleep(0.05)
        stream.abort()
        with pytest.raises(StreamClosedError):
            await asyncio.wait_for(reading, 5)

    assert len(emulator.requests) == 1


async def test_cancelling_the_reader_leaves_no_connection(
    emulator: DeepSeekEmulator,
) -> None:
    """A reader cancelled amid a continuation gives everything back."""
    asked = cut_then_stall(emulator)
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        reading = asyncio.create_task(stream.completion())
        await asked.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await emulator.idle()


async def test_leaving_early_closes_the_part_being_read(
    emulator: DeepSeekEmulator,
) -> None:
    """A `break` after a resume closes the connection of the second part."""
    emulator.script(Cut(events=25), Stall(after=5))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        async for _ in stream:
            if stream.breaks:
                break
        await emulator.idle()

        assert not stream.is_complete
        with pytest.raises(StreamClosedError):
            await stream.completion()


async def test_a_dropped_stream_is_counted(emulator: DeepSeekEmulator) -> None:
    """A resuming stream that nobody reads closes its connection, and is counted."""
    emulator.script(Stall(after=3))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        del stream
        await emulator.idle()

        assert client.meter.total.unfinished == 1


async def test_heartbeats_tell_of_the_continuation_too(
    emulator: DeepSeekEmulator,
) -> None:
    """While the continuation queues, `events()` yields heartbeats."""
    emulator.pace = Pace(latency=0, tokens_per_second=0, keep_alive=0.03)
    emulator.script(Cut(events=20), Queue(seconds=0.2))
    async with client_of(emulator) as client:
        stream = await open_stream(client)
        events = [event async for event in stream.events()]

    place = next(i for i, event in enumerate(events) if isinstance(event, Resumed))
    assert any(isinstance(event, Heartbeat) for event in events[place:])
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == WORDS
    assert stream.keep_alives
    assert stream.headers["server"] == "openresty"


async def test_without_resume_nothing_is_resumed(emulator: DeepSeekEmulator) -> None:
    """Resuming is opt-in: a plain stream raises at its first break."""
    emulator.script(Cut(events=20))
    async with client_of(emulator) as client:
        stream = await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, stream=True, resume=False
        )
        with pytest.raises(StreamInterruptedError):
            await stream.completion()

        assert stream.breaks == ()


async def test_resume_is_checked_before_a_byte_is_sent(
    emulator: DeepSeekEmulator,
) -> None:
    """Without `stream=True`, or with something else than a `Resume`, it is refused."""
    wrong: Any = 3
    async with client_of(emulator) as client:
        with pytest.raises(InvalidRequestError, match="stream=True"):
            await client.chat.completions.create(
                model=FLASH, messages=MESSAGES, resume=True
            )
        with pytest.raises(InvalidRequestError, match="must be a Resume"):
            await client.chat.completions.create(
                model=FLASH, messages=MESSAGES, stream=True, resume=wrong
            )
        with pytest.raises(ConfigurationError):
            Resume(limit=0)

    assert not emulator.requests
