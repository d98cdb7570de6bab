"""The tool loop against the emulator: rounds, errors, limits, events, cancellation."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import msgspec
import pytest

from deepseek_async import (
    AsyncDeepSeek,
    BadRequestError,
    ChatCompletionMessage,
    ConfigurationError,
    Finished,
    InvalidToolCallError,
    Message,
    MissingReasoningContentError,
    MissingReasoningError,
    Resumed,
    RoundFinished,
    ServerTool,
    StreamClosedError,
    StreamInterruptedError,
    TextDelta,
    ToolCall,
    ToolCallFinished,
    ToolDefinitionError,
    ToolEnded,
    ToolExecutionError,
    ToolPolicy,
    ToolRoundsExceededError,
    ToolStarted,
    TurnEvent,
    TurnStream,
    find_missing_reasoning,
    tool,
)
from deepseek_async.testing import (
    Answer,
    Call,
    Cut,
    DeepSeekEmulator,
    Fault,
    Status,
)

Body = dict[str, Any]
MODEL = "deepseek-flash"
QUICK = {"type": "disabled"}


class Weather(msgspec.Struct):
    city: str
    celsius: int


@tool
async def get_weather(city: str) -> Weather:
    """Weather by city."""
    return Weather(city=city, celsius=len(city))


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def asking(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def saying(*answers: Answer | str) -> Callable[[Body], Answer | str]:
    """An emulated model that says one thing after another."""
    said: Iterator[Answer | str] = iter(answers)
    return lambda _: next(said)


def calling(*calls: Call, content: str = "") -> Answer:
    return Answer(content=content, tool_calls=calls)


def sent(emulator: DeepSeekEmulator, number: int = -1) -> list[Body]:
    """The messages of one request the emulator received."""
    found: list[Body] = emulator.requests[number].body["messages"]
    return found


async def test_two_calls_one_round(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Parallel calls are answered in their order and the answer ends the turn."""
    emulator.answer = saying(
        calling(Call("get_weather", {"city": "Oslo"}), Call("add", {"a": 1, "b": 2})),
        "Cold, and three.",
    )
    messages = asking("Weather in Oslo, and 1 + 2?")

    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=messages, tools=[get_weather, add]
    )

    assert turn.text == "Cold, and three."
    assert [message["role"] for message in turn.messages] == [
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert turn.messages[1]["content"] == '{"city":"Oslo","celsius":4}'
    assert turn.messages[2]["content"] == "3"
    assert turn.usage.total_tokens == sum(
        one.completion.usage.total_tokens
        for one in turn.rounds
        if one.completion.usage is not None
    )
    assert {call.tool_call.function.name for call in turn.calls} == {
        "get_weather",
        "add",
    }
    assert sent(emulator) == [*messages, *turn.messages[:3]]
    assert repr(turn) == "Turn(2 rounds, 2 calls)"


async def test_three_rounds_of_thinking_keep_their_reasoning(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Three thinking rounds pass the server's rule: all reasoning goes back."""
    emulator.answer = saying(
        calling(Call("get_weather", {"city": "Oslo"})),
        calling(Call("get_weather", {"city": "Rome"})),
        calling(Call("add", {"a": 4, "b": 4})),
        "Eight.",
    )

    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Weather?"), tools=[get_weather, add]
    )

    assert len(turn.rounds) == 4
    spoken = [m for m in sent(emulator) if m["role"] == "assistant"]
    assert len(spoken) == 3
    assert all(message["reasoning_content"] for message in spoken)
    assert not find_missing_reasoning(sent(emulator), [get_weather])


async def test_the_rule_bites(client: AsyncDeepSeek) -> None:
    """Reasoning left out is a 400 of the server, and found before by the check."""
    history = [
        *asking("Weather in Oslo?"),
        {"role": "assistant", "content": "Where?"},
        *asking("Oslo")[:],
    ]

    with pytest.raises(MissingReasoningContentError):
        await client.chat.completions.create(
            model=MODEL, messages=history, tools=[get_weather]
        )
    with pytest.raises(MissingReasoningError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL, messages=history, tools=[get_weather]
        )

    assert caught.value.indexes == find_missing_reasoning(history, [get_weather])
    assert caught.value.indexes == (1,)
    assert caught.value.param == "messages[1].reasoning_content"
    assert find_missing_reasoning(history, []) == ()
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=history, tools=[get_weather], thinking=QUICK
    )
    assert turn.rounds


def test_missing_reasoning_is_found_in_every_form_of_message() -> None:
    """Structs and messages of answers are looked at as dicts are."""
    messages: list[Message] = [
        ChatCompletionMessage(content="a", reasoning_content=""),
        ChatCompletionMessage(content="b"),
        {"role": "assistant", "content": "c", "prefix": True},
    ]

    assert find_missing_reasoning(messages, [ServerTool(type="x")]) == (1,)


async def test_sync_and_async_tools_run_side_by_side(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Calls of one answer overlap, a plain function in a thread of its own."""
    both = threading.Barrier(2, timeout=10)

    @tool
    def left() -> str:
        both.wait()
        return threading.current_thread().name

    @tool
    async def right() -> str:
        await asyncio.to_thread(both.wait)
        return threading.current_thread().name

    emulator.answer = saying(calling(Call("left"), Call("right")), "done")
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Go"), tools=[left, right]
    )

    names = [m["content"] for m in turn.messages if m["role"] == "tool"]
    assert names[0] != names[1] == threading.main_thread().name


async def test_parallel_calls_are_bounded(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """No more tools run at once than the policy allows."""
    running = peak = 0

    @tool
    async def work() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    emulator.answer = saying(calling(*[Call("work")] * 9), "done")
    turn = await client.chat.completions.run_tools(
        model=MODEL,
        messages=asking("Go"),
        tools=[work],
        policy=ToolPolicy(max_parallel=3),
    )

    assert peak == 3
    assert len(turn.calls) == 9


async def test_wrong_calls_are_told_and_repaired(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Unknown tools, broken JSON and wrong values go back to the model as errors."""
    emulator.answer = saying(
        calling(Call("get_wether", {"city": "Oslo"})),
        calling(Call("get_weather", '{"city": "Os')),
        calling(Call("get_weather", {"city": 7})),
        calling(Call("get_weather", {"city": "Oslo"})),
        "Four degrees.",
    )

    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Weather?"), tools=[get_weather]
    )

    errors = [call.error for call in turn.calls]
    assert errors == ["unknown_tool", "invalid_arguments", "invalid_arguments", None]
    told = [msgspec.json.decode(str(call.content)) for call in turn.calls[:3]]
    assert told[0] == {"error": "there is no such tool; the tools are: get_weather"}
    assert "not valid JSON" in told[1]["error"]
    assert "Expected `str`, got `int` - at `$.city`" in told[2]["error"]
    assert turn.text == "Four degrees."


async def test_repairs_are_bounded(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A model that never learns ends the turn with a typed error."""
    emulator.answer = lambda _: calling(Call("nothing"))

    with pytest.raises(InvalidToolCallError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL,
            messages=asking("Weather?"),
            tools=[get_weather],
            policy=ToolPolicy(max_repairs=2),
        )

    assert caught.value.name == "nothing"
    assert caught.value.problem == "unknown_tool"
    assert len(emulator.requests) == 3


async def test_an_endless_loop_ends(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A model that calls for ever is stopped after the allowed rounds."""
    emulator.answer = lambda _: calling(Call("add", {"a": 1, "b": 1}))

    with pytest.raises(ToolRoundsExceededError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL,
            messages=asking("Count"),
            tools=[add],
            policy=ToolPolicy(max_rounds=4),
        )

    assert caught.value.rounds == 4
    assert len(emulator.requests) == 4


@tool
async def fail(word: str) -> str:
    """Fail."""
    raise LookupError(word)


async def test_exceptions_are_told_by_default(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The model reads what a tool raised, and goes on."""
    emulator.answer = saying(calling(Call("fail", {"word": "gone"})), "Sorry.")
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Go"), tools=[fail]
    )

    assert turn.messages[1]["content"] == '{"error":"LookupError: gone"}'
    assert turn.calls[0].error == "exception"


async def test_exceptions_can_end_the_turn(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """With `raise` the tool's exception is the cause of a typed error."""
    emulator.answer = saying(calling(Call("fail", {"word": "gone"}), Call("hang")))
    cancelled = asyncio.Event()

    @tool
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ToolExecutionError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL,
            messages=asking("Go"),
            tools=[fail, hang],
            policy=ToolPolicy(on_error="raise"),
        )

    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.name == "fail"
    assert caught.value.call_id.startswith("call_")
    assert "gone" not in str(caught.value)
    assert cancelled.is_set()


async def test_exceptions_can_be_worded(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A function decides what the model reads about an exception."""
    emulator.answer = saying(calling(Call("fail", {"word": "gone"})), "Sorry.")

    def word(call: ToolCall, error: Exception) -> str:
        return f"{call.function.name} is out of order ({len(str(error))})"

    turn = await client.chat.completions.run_tools(
        model=MODEL,
        messages=asking("Go"),
        tools=[fail],
        policy=ToolPolicy(on_error=word),
    )

    assert turn.messages[1]["content"] == "fail is out of order (4)"


async def test_a_slow_tool_is_cut_off(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A tool over its time is cancelled, the others are not, and the model is told."""

    @tool(timeout=0.01)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    @tool
    async def own_timeout() -> str:
        raise TimeoutError

    emulator.answer = saying(
        calling(Call("slow"), Call("own_timeout"), Call("add", {"a": 1, "b": 1})),
        "Late.",
    )
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Go"), tools=[slow, own_timeout, add]
    )

    by_name = {call.tool_call.function.name: call.error for call in turn.calls}
    assert by_name == {"slow": "timeout", "own_timeout": "exception", "add": None}
    assert "0.01 seconds" in turn.messages[1]["content"]


async def test_a_tool_that_cancels_itself(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A cancellation within a tool is the tool's failure, not the turn's end."""

    @tool
    async def give_up() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    emulator.answer = saying(calling(Call("give_up")), "Well.")
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Go"), tools=[give_up]
    )

    assert turn.messages[1]["content"] == '{"error":"RuntimeError: cancelled"}'


async def test_a_slow_thread_is_left_behind(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A plain function over its time does not hold the turn up."""
    let_go = threading.Event()

    @tool(timeout=0.01)
    def slow() -> bool:
        return let_go.wait(10)

    emulator.answer = saying(calling(Call("slow")), "Late.")
    try:
        turn = await client.chat.completions.run_tools(
            model=MODEL, messages=asking("Go"), tools=[slow]
        )
    finally:
        let_go.set()

    assert turn.calls[0].error == "timeout"
    assert turn.calls[0].elapsed < 5


async def test_results_are_bounded(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A result that is too long is cut, and the model is told so."""
    emulator.answer = saying(calling(Call("long")), "ok")
    turn = await client.chat.completions.run_tools(
        model=MODEL,
        messages=asking("Go"),
        tools=[tool(name="long")(lambda: "x" * 100)],
        policy=ToolPolicy(max_result=10),
    )

    assert turn.messages[1]["content"] == "xxxxxxxxxx\n[cut: 10 of 100 characters]"


async def test_duplicate_names_and_bare_functions_are_refused(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Two tools of one name, or a function nobody decorated, send nothing."""
    twin = dict(add)
    pairs: list[list[Any]] = [
        [add, twin],
        [twin, twin],
        [add, tool(name="add")(lambda: 0)],
    ]
    for tools in pairs:
        with pytest.raises(ToolDefinitionError, match="two tools are called 'add'"):
            await client.chat.completions.run_tools(
                model=MODEL, messages=asking("Go"), tools=tools
            )
    bare: Any = test_missing_reasoning_is_found_in_every_form_of_message
    with pytest.raises(ToolDefinitionError, match="with @tool"):
        await client.chat.completions.run_tools(
            model=MODEL, messages=asking("Go"), tools=[bare]
        )

    assert not emulator.requests


async def test_dict_functions_are_left_to_the_caller(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A call of a function that is only a dict ends the turn as pending."""
    other = {"type": "function", "function": {"name": "other"}}
    emulator.answer = saying(
        calling(Call("other", id="call_o"), Call("add", {"a": 1, "b": 2})), "Done."
    )

    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Go"), tools=[add, other]
    )

    assert [call.id for call in turn.pending] == ["call_o"]
    assert [message["role"] for message in turn.messages] == ["assistant", "tool"]
    answered = {"role": "tool", "tool_call_id": "call_o", "content": "ok"}
    end = await client.chat.completions.run_tools(
        model=MODEL,
        messages=[*asking("Go"), *turn.messages, answered],
        tools=[add, other],
    )
    assert end.text == "Done."


async def test_server_tools_pass_through_and_are_echoed(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Server tools are sent as they are, and unknown fields go back unchanged."""
    blocks = [{"type": "web_search_result", "url": "https://example.com", "n": 1.5}]
    emulator.answer = saying(
        Answer(
            content="",
            tool_calls=(Call("add", {"a": 1, "b": 1}),),
            extra={"server_tool_blocks": blocks},
        ),
        "It is two.",
    )
    web = ServerTool(type="deepseek_web_search")

    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Search"), tools=[web, add]
    )

    assert emulator.requests[0].body["tools"][0] == {"type": "deepseek_web_search"}
    assert sent(emulator)[1]["server_tool_blocks"] == blocks
    assert turn.messages[0]["server_tool_blocks"] == blocks


async def test_strict_tools_go_to_beta(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A strict tool routes to beta by itself and passes the server's schema check."""

    @tool(strict=True)
    def book(room: int, guest: str | None = None) -> str:
        """Book a room."""
        return f"{room} for {guest}"

    emulator.answer = saying(
        calling(Call("book", {"room": 4, "guest": None})), "Booked."
    )
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Book room 4"), tools=[book]
    )

    assert turn.messages[1]["content"] == "4 for None"
    assert all(one.path.startswith("/beta/") for one in emulator.requests)
    with pytest.raises(BadRequestError, match="All functions must set strict"):
        await client.chat.completions.run_tools(
            model=MODEL, messages=asking("Book"), tools=[book, add]
        )


async def test_a_forced_choice_is_for_the_first_round(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A forced call is forced once; after it the model may answer."""
    turn = await client.chat.completions.run_tools(
        model=MODEL,
        messages=asking("Hello"),
        tools=[get_weather],
        tool_choice="required",
        thinking=QUICK,
    )

    assert len(turn.calls) == 1
    assert [one.body["tool_choice"] for one in emulator.requests] == [
        "required",
        "auto",
    ]


async def test_the_whole_loop_streams_as_events(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Every round's deltas, every tool and every round's end come as typed events."""
    emulator.answer = saying(
        calling(Call("get_weather", {"city": "Oslo"})), "It is four degrees."
    )
    events: list[Any] = []

    async with client.chat.completions.stream_tools(
        model=MODEL, messages=asking("Weather?"), tools=[get_weather]
    ) as stream:
        events += [event async for event in stream]
        turn = await stream.turn()

    kinds: list[type] = [type(event) for event in events]
    order = [ToolCallFinished, ToolStarted, ToolEnded, RoundFinished]
    places = [kinds.index(kind) for kind in order]
    assert places == sorted(places)
    assert kinds.count(RoundFinished) == kinds.count(Finished) == 2
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == "It is four degrees." == turn.text
    assert turn.messages[0]["reasoning_content"]
    assert turn.completion.request_id
    assert "complete" in repr(stream)
    assert "Oslo" not in "".join(
        repr(e) for e in events if isinstance(e, ToolEnded | RoundFinished)
    )


async def test_text_of_a_streamed_turn(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The text of all rounds can be had without the events."""
    emulator.answer = saying(
        calling(Call("add", {"a": 1, "b": 1}), content="Let me see. "), "Two."
    )
    async with client.chat.completions.stream_tools(
        model=MODEL, messages=asking("1 + 1?"), tools=[add]
    ) as stream:
        text = "".join([piece async for piece in stream.text()])

    assert text == "Let me see. Two."
    assert len(stream.so_far.rounds) == 2


async def test_a_failed_turn_keeps_its_finished_rounds(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The error has what was done, and the turn can go on from there."""
    emulator.answer = saying(calling(Call("add", {"a": 4, "b": 4})), "Eight.")
    emulator.script(Fault(), Status(status=400))
    messages = asking("4 + 4?")

    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL, messages=messages, tools=[add]
        )
    done = pickle.loads(pickle.dumps(caught.value)).so_far  # noqa: S301 - our own

    assert [message["role"] for message in done.messages] == ["assistant", "tool"]
    assert [call.content for call in done.calls] == ["8"]
    assert done.usage.total_tokens > 0
    end = await client.chat.completions.run_tools(
        model=MODEL, messages=messages + done.messages, tools=[add]
    )
    assert end.text == "Eight."
    assert end.calls == []


async def stopped_by_a_tool(client: AsyncDeepSeek, *tools: Any) -> ToolExecutionError:
    """The error of a turn that ends when one of its tools raises."""
    with pytest.raises(ToolExecutionError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL,
            messages=asking("Go"),
            tools=tools,
            policy=ToolPolicy(on_error="raise"),
        )
    return caught.value


async def test_a_failed_round_keeps_the_calls_that_ended(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A tool's effect is told even if another one of the same answer raised."""
    is_added = asyncio.Event()

    @tool
    async def note() -> str:
        is_added.set()
        return "noted"

    @tool
    async def fail() -> None:
        await is_added.wait()
        raise OSError

    emulator.answer = saying(calling(Call("note"), Call("fail")))

    done = (await stopped_by_a_tool(client, note, fail)).so_far

    assert done is not None
    assert [call.content for call in done.calls] == ["noted"]
    assert done.rounds == []


async def test_a_call_that_ends_while_it_is_cancelled_is_kept(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """What a tool has done is told, however late it ended."""
    begun = asyncio.Event()

    @tool
    async def pay() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "paid"
        return "never"

    @tool
    async def fail() -> None:
        await begun.wait()
        raise OSError

    emulator.answer = saying(calling(Call("pay"), Call("fail")))

    done = (await stopped_by_a_tool(client, pay, fail)).so_far

    assert done is not None
    assert [call.content for call in done.calls] == ["paid"]
    with pytest.raises(LookupError, match="no round"):
        _ = done.text


async def test_a_turn_within_a_tool_leaves_nothing_in_the_outer_error(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """What is kept is of the turn that failed, not of one that a tool of it made."""

    def on_error(call: ToolCall, error: Exception) -> str:
        del call
        raise error

    @tool
    async def ask_on() -> str:
        inner = await client.chat.completions.run_tools(
            model=MODEL, messages=asking("Inner"), tools=[add]
        )
        return inner.text

    emulator.answer = saying(
        calling(Call("ask_on")), calling(Call("add", {"a": 1, "b": 1}))
    )
    emulator.script(Fault(), Fault(), Status(status=400))

    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL,
            messages=asking("Outer"),
            tools=[ask_on],
            policy=ToolPolicy(on_error=on_error),
        )

    assert caught.value.so_far is None


async def test_an_error_before_any_tool_has_nothing_to_keep(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """There is nothing to go on from, and nothing is said to be."""
    emulator.script(Status(status=400))

    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.run_tools(
            model=MODEL, messages=asking("4 + 4?"), tools=[add]
        )

    assert caught.value.so_far is None


async def test_leaving_a_stream_cancels_its_tools(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Leaving the block ends the tools that run, and the stream says it was left."""
    ended = asyncio.Event()

    @tool
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    emulator.answer = saying(calling(Call("hang"), Call("add", {"a": 1, "b": 1})))
    async with client.chat.completions.stream_tools(
        model=MODEL, messages=asking("Go"), tools=[hang, add]
    ) as stream:
        async for event in stream:
            if isinstance(event, ToolEnded):
                break

    assert ended.is_set()
    with pytest.raises(StreamClosedError):
        await stream.turn()


async def test_leaving_in_mid_answer_closes_the_connection(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Leaving while the model still speaks is seen by the server."""
    emulator.pace = msgspec.structs.replace(
        emulator.pace, tokens_per_second=20.0, latency=0.0
    )
    async with client.chat.completions.stream_tools(
        model=MODEL, messages=asking("Talk"), tools=[add], thinking=QUICK
    ) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break

    async with asyncio.timeout(5):
        await emulator.idle()
    assert client.base_url


async def test_cancelling_a_turn_cancels_its_tools(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Cancellation reaches the running tools and waits for their clean-up."""
    begun, cleaned = asyncio.Event(), asyncio.Event()

    @tool
    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    emulator.answer = saying(calling(Call("hang")))
    task = asyncio.create_task(
        client.chat.completions.run_tools(
            model=MODEL, messages=asking("Go"), tools=[hang]
        )
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert cleaned.is_set()
    assert [t for t in asyncio.all_tasks() if t.get_name() == "hang"] == []


async def test_a_broken_stream_ends_the_turn(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A connection lost in the second round raises what a stream raises."""
    emulator.answer = saying(calling(Call("add", {"a": 1, "b": 1})), "Two." * 50)
    emulator.script(Fault(), Cut(events=4))

    with pytest.raises(StreamInterruptedError):
        async with client.chat.completions.stream_tools(
            model=MODEL, messages=asking("Go"), tools=[add]
        ) as stream:
            await stream.turn()


async def test_text_that_began_anew_is_not_mixed() -> None:
    """Text that a restart made void is an error for whoever reads text only."""

    async def events() -> AsyncGenerator[TurnEvent, None]:
        yield TextDelta(text="old")
        yield Resumed(
            action="restarted",
            outcome="StreamInterruptedError",
            request_id=None,
            chunks=1,
            characters=3,
        )
        yield TextDelta(text="new")

    text = TurnStream(events()).text()

    assert await anext(text) == "old"
    with pytest.raises(StreamInterruptedError, match="began anew"):
        await anext(text)


async def test_options_of_streams_do_not_disturb_awaited_rounds(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """`resume` and `stream_options` count for streams, and are no error elsewhere."""
    emulator.answer = lambda _: "ok"
    turn = await client.chat.completions.run_tools(
        model=MODEL,
        messages=asking("Go"),
        tools=[add],
        resume=True,
        stream_options={"include_usage": True},
    )
    async with client.chat.completions.stream_tools(
        model=MODEL, messages=asking("Go"), tools=[add], resume=True
    ) as stream:
        assert (await stream.turn()).text == turn.text

    assert "stream_options" not in emulator.requests[0].body


async def test_calls_with_one_id_are_kept_apart(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Repeated ids do not mix the results up."""
    emulator.answer = saying(
        calling(
            Call("add", {"a": 1, "b": 1}, id="x"), Call("add", {"a": 2, "b": 2}, id="x")
        ),
        "Two and four.",
    )
    turn = await client.chat.completions.run_tools(
        model=MODEL, messages=asking("Go"), tools=[add]
    )

    results = [m for m in turn.messages if m["role"] == "tool"]
    assert [m["content"] for m in results] == ["2", "4"]
    assert len({m["tool_call_id"] for m in results}) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_rounds": 0},
        {"max_parallel": 0},
        {"max_repairs": -1},
        {"timeout": 0},
        {"on_error": "ignore"},
    ],
)
def test_a_policy_makes_sense(wrong: dict[str, Any]) -> None:
    """Limits that could never work are refused at once."""
    with pytest.raises(ConfigurationError):
        ToolPolicy(**wrong)
