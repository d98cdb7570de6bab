"""Identical requests answered once: from memory, from a file, or by joining a call."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from deepseek_async import (
    AsyncDeepSeek,
    AuthenticationError,
    BadRequestError,
    ChatCompletion,
    ChatStream,
    ConfigurationError,
    DeadlineExceededError,
    DeepSeekError,
    DeepSeekWarning,
    FileCache,
    Finished,
    InternalServerError,
    InvalidRequestError,
    MemoryCache,
    ResponseCache,
    RetryPolicy,
    SpendLimitError,
    StreamClosedError,
    StreamInterruptedError,
    TextDelta,
    Timeouts,
    UsageReported,
    tool,
)
from deepseek_async.caching.sharing import key_of
from deepseek_async.caching.store import encode_answer, pack, unpack
from deepseek_async.codec import CHAT
from deepseek_async.request import WireRequest, chat_request
from deepseek_async.testing import (
    Answer,
    Call,
    Cut,
    DeepSeekEmulator,
    Fault,
    Finish,
    Pace,
    Queue,
    Stall,
    Status,
)
from deepseek_async.testing.reply import Reply

FLASH = "deepseek-flash"
MESSAGES = [{"role": "user", "content": "Where does the Rhine begin?"}]


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as running:
        yield running


@pytest.fixture(params=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> ResponseCache:
    if request.param == "memory":
        return MemoryCache()
    return FileCache(tmp_path / "new" / "cache.db")


def client_of(emulator: DeepSeekEmulator, **options: Any) -> AsyncDeepSeek:
    options.setdefault("cache", MemoryCache())
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


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


# -- from the cache ----------------------------------------------------------------


async def test_an_identical_request_is_answered_without_the_server(
    emulator: DeepSeekEmulator, cache: ResponseCache
) -> None:
    """The second answer equals the first, costs nothing, and says where it is from."""
    async with client_of(emulator, cache=cache) as client:
        first = await ask(client, tag="a")
        second = await ask(client, tag="b")

        assert second == first
        assert second is not first
        assert len(emulator.requests) == 1
        assert not first.is_cached
        assert second.is_cached
        assert second.cost == 0
        assert second.request_id == first.request_id
        assert client.meter.spent == first.cost
        assert (client.meter.total.calls, client.meter.total.cached) == (1, 1)
        assert client.meter.by_tag()["b"].cached == 1


async def test_a_file_outlives_the_client(
    emulator: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Another client, later, finds the answer in the same file."""
    path = tmp_path / "cache.db"
    async with client_of(emulator, cache=FileCache(path)) as client:
        first = await ask(client)
    async with client_of(emulator, cache=FileCache(path)) as client:
        assert await ask(client) == first

    assert len(emulator.requests) == 1


async def test_another_request_is_another_answer(emulator: DeepSeekEmulator) -> None:
    """Any difference in body, path, scope, headers or base URL is a miss."""
    cache = MemoryCache()
    async with client_of(emulator, cache=cache) as client:
        await ask(client)
        await ask(client, temperature=0.5)
        await ask(client, user_id="u1")
        await ask(client, user_id="u2")
        await ask(client, extra_headers={"X-Variant": "1"})
        await client.chat.completions.create(model="deepseek-v4-pro", messages=MESSAGES)
    cache.scope = "elsewhere"
    async with client_of(emulator, cache=cache) as client:
        await ask(client)
    async with AsyncDeepSeek(
        api_key=emulator.api_key, base_url=f"{emulator.base_url}/v1", cache=cache
    ) as client:
        await ask(client)

    assert len(emulator.requests) == 8


async def test_the_order_of_fields_does_not_matter(emulator: DeepSeekEmulator) -> None:
    """The same request written in another order, or with a tag, is the same."""
    turned = [{"content": "Where does the Rhine begin?", "role": "user"}]
    async with client_of(emulator) as client:
        await client.chat.completions.create(
            model=FLASH, messages=MESSAGES, temperature=1.0, max_tokens=999
        )
        await client.chat.completions.create(
            max_tokens=999, temperature=1.0, messages=turned, model=FLASH, tag="x"
        )

    assert len(emulator.requests) == 1


def test_the_api_key_has_no_part_in_keys() -> None:
    """A key is a digest of the request alone; two API keys share it."""
    made = chat_request({"model": FLASH, "messages": MESSAGES, "stream": True})
    plain = chat_request({"model": FLASH, "messages": MESSAGES})
    assert isinstance(made, WireRequest)
    assert isinstance(plain, WireRequest)

    key = key_of(made, "https://x", "")
    assert key == key_of(plain, "https://x", "")
    assert len(key) == 64
    assert (
        len({key, key_of(plain, "https://y", ""), key_of(plain, "https://x", "s")}) == 3
    )


async def test_calls_choose(emulator: DeepSeekEmulator) -> None:
    """`bypass` neither reads nor writes; `refresh` writes; nonsense is refused."""
    answers = iter("abcdef")
    emulator.answer = lambda _: next(answers)
    async with client_of(emulator) as client:
        assert (await ask(client, cache_control="bypass")).text == "a"
        assert (await ask(client)).text == "b"
        assert (await ask(client, cache_control="bypass")).text == "c"
        assert (await ask(client, cache_control="default")).text == "b"
        assert (await ask(client, cache_control="refresh")).text == "d"
        assert (await ask(client)).text == "d"
        with pytest.raises(InvalidRequestError, match="cache_control"):
            await ask(client, cache_control="never")
    async with client_of(emulator, cache=None) as client:
        assert (await ask(client, cache_control="refresh")).text == "e"


async def test_only_finished_answers_are_kept(emulator: DeepSeekEmulator) -> None:
    """Cut, filtered, aborted, empty and failed answers are asked for again."""
    async with client_of(emulator, max_retries=0, retry=None) as client:
        for fault in (
            Finish(reason="length", after=5),
            Finish(reason="content_filter"),
            Finish(reason="aborted"),
        ):
            emulator.script(fault)
            await ask(client)
        emulator.script(Status(status=500))
        with pytest.raises(InternalServerError):
            await ask(client)
        emulator.answer = lambda _: Answer(content="", reasoning="Hm.")
        assert (await ask(client)).is_empty
        emulator.answer = None
        assert len(emulator.requests) == 5
        await ask(client)
        await ask(client)

    assert len(emulator.requests) == 6


async def test_unknown_fields_and_calls_are_kept(
    emulator: DeepSeekEmulator, cache: ResponseCache
) -> None:
    """What must go back to the server survives the cache: calls, blocks, reasoning."""
    tools: list[Any] = [
        {"type": "function", "function": {"name": "f", "parameters": {}}}
    ]
    emulator.answer = lambda _: Answer(
        reasoning="Hm.",
        tool_calls=(Call("f", {"a": 'x"y'}), Call("f", {"b": 2})),
        extra={"blocks": [{"type": "web"}], "note": None},
    )
    async with client_of(emulator, cache=cache) as client:
        first = await ask(client, tools=tools, logprobs=True)
        second = await ask(client, tools=tools, logprobs=True)

    assert second.is_cached
    assert second.choices[0].message.to_dict() == first.choices[0].message.to_dict()
    assert second.choices[0].message.extra["blocks"] == [{"type": "web"}]
    assert second == first


async def test_fill_in_the_middle_is_cached(emulator: DeepSeekEmulator) -> None:
    """Awaited FIM completions are cached too; its streams are not."""
    async with client_of(emulator) as client:
        first = await client.completions.create(model=FLASH, prompt="def f(")
        second = await client.completions.create(model=FLASH, prompt="def f(")
        async with await client.completions.create(
            model=FLASH, prompt="def f(", stream=True
        ) as stream:
            third = await stream.completion()

    assert first == second
    assert (first.is_cached, second.is_cached, third.is_cached) == (False, True, False)
    assert third.text == first.text
    assert len(emulator.requests) == 2


async def test_a_spend_limit_lets_cached_answers_through(
    emulator: DeepSeekEmulator,
) -> None:
    """What costs nothing is given even when nothing may be spent any more."""
    async with client_of(emulator, spend_limit="0.000001") as client:
        first = await ask(client)

        assert await ask(client) == first
        with pytest.raises(SpendLimitError):
            await ask(client, temperature=0.1)
        with pytest.raises(SpendLimitError):
            await ask_stream(client, temperature=0.1)


# -- joined calls ------------------------------------------------------------------


async def test_identical_requests_at_once_are_sent_once(
    emulator: DeepSeekEmulator,
) -> None:
    """Twenty at the same time are one request, one cost, and twenty answers."""
    emulator.script(Queue(seconds=0.05))
    async with client_of(emulator) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(20)))

        assert len(emulator.requests) == 1
        assert all(answer == answers[0] for answer in answers)
        assert len({id(answer) for answer in answers}) == 20
        assert [answer.is_cached for answer in answers].count(False) == 1
        assert client.meter.spent == sum(answer.cost or 0 for answer in answers)


async def test_a_cancelled_leader_does_not_end_its_followers(
    emulator: DeepSeekEmulator,
) -> None:
    """Whoever sent the request may be cancelled; the others get their answer."""
    emulator.script(Queue(seconds=0.2))
    async with client_of(emulator) as client:
        leader = asyncio.create_task(ask(client))
        await emulator.busy()
        followers = [asyncio.create_task(ask(client)) for _ in range(3)]
        await asyncio.sleep(0)
        leader.cancel()
        answers = await asyncio.gather(*followers)
        with pytest.raises(asyncio.CancelledError):
            await leader

        assert len(emulator.requests) == 1
        assert all(answer == answers[0] for answer in answers)
        assert client.meter.total.calls == 1
        assert await ask(client) == answers[0]


async def test_a_call_nobody_waits_for_ends(emulator: DeepSeekEmulator) -> None:
    """When all who waited are cancelled the request is given up."""
    emulator.script(Stall(phase="head"))
    async with client_of(emulator) as client:
        tasks = [asyncio.create_task(ask(client)) for _ in range(3)]
        await emulator.busy()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await emulator.idle()

        assert (await ask(client)).text
        assert len(emulator.requests) == 2


async def test_a_failure_reaches_everyone_who_waits(
    emulator: DeepSeekEmulator,
) -> None:
    """Each gets an error of its own, and the next request is sent."""
    emulator.script(Status(status=401))
    async with client_of(emulator) as client:
        found = await asyncio.gather(
            *(ask(client) for _ in range(3)), return_exceptions=True
        )

        assert [type(error) for error in found] == [AuthenticationError] * 3
        assert len({id(error) for error in found}) == 3
        assert len(emulator.requests) == 1
        assert (await ask(client)).text


async def test_a_follower_keeps_its_own_deadline(emulator: DeepSeekEmulator) -> None:
    """Who joins another's call waits no longer than its own deadline allows."""
    emulator.script(Queue(seconds=0.5))
    async with client_of(emulator) as client:
        leader = asyncio.create_task(ask(client))
        await emulator.busy()
        with pytest.raises(DeadlineExceededError):
            await ask(client, timeouts=Timeouts(deadline=0.1))

        assert (await leader).text


async def test_closing_the_client_ends_joined_calls(emulator: DeepSeekEmulator) -> None:
    """`aclose` reaches calls that run in a task of their own."""
    emulator.script(Stall(phase="head"))
    client = client_of(emulator)
    task = asyncio.create_task(ask(client))
    await emulator.busy()
    await client.aclose()
    with pytest.raises(Exception, match="closed"):
        await task
    await emulator.idle()


# -- streams -----------------------------------------------------------------------


async def test_streams_replay_as_streams(
    emulator: DeepSeekEmulator, cache: ResponseCache
) -> None:
    """A cached answer streams in pieces, with events, usage and the end it had."""
    async with client_of(emulator, cache=cache) as client:
        async with await ask_stream(client) as live:
            first = await live.completion()
        async with await ask_stream(client) as stream:
            pieces = [piece async for piece in stream.text()]
        replay = await ask_stream(client)
        events = [event async for event in replay.events()]
        async with await ask_stream(client) as again:
            second = await again.completion()
        awaited = await ask(client)

    assert len(emulator.requests) == 1
    assert len(pieces) > 5
    assert "".join(pieces) == first.text
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == first.text
    assert events[-1] == Finished(finish_reason="stop")
    assert first.usage is not None
    assert events[-2] == UsageReported(usage=first.usage)
    assert second == first == awaited
    assert (first.is_cached, second.is_cached, awaited.is_cached) == (0, 1, 1)
    assert second.cost == 0
    assert second.meta.request_id == replay.request_id == first.request_id
    assert stream.is_complete


async def test_an_awaited_answer_replays_as_a_stream(
    emulator: DeepSeekEmulator,
) -> None:
    """Answers do not care how they were asked for: calls and extras stream too."""
    tools: list[Any] = [
        {"type": "function", "function": {"name": "f", "parameters": {}}}
    ]
    emulator.answer = lambda _: Answer(
        reasoning="Hm so.", tool_calls=(Call("f", {"a": 1}),), extra={"blocks": [1]}
    )
    async with client_of(emulator) as client:
        first = await ask(client, tools=tools, logprobs=True)
        async with await ask_stream(client, tools=tools, logprobs=True) as stream:
            second = await stream.completion()

    assert second == first
    assert second.choices[0].message.to_dict() == first.choices[0].message.to_dict()
    assert len(emulator.requests) == 1


async def test_streams_at_once_share_one_request(emulator: DeepSeekEmulator) -> None:
    """A second reader plays from the start what the first is still receiving."""
    emulator.pace = Pace(latency=0.02, tokens_per_second=200)
    async with client_of(emulator) as client:
        streams = await asyncio.gather(*(ask_stream(client) for _ in range(3)))
        await anext(streams[0])
        late = await ask_stream(client)
        answers = await asyncio.gather(
            *(stream.completion() for stream in (*streams, late))
        )

        assert len(emulator.requests) == 1
        assert all(answer == answers[0] for answer in answers)
        assert [answer.is_cached for answer in answers].count(False) == 1
        assert client.meter.total.calls == 1
        assert client.meter.total.cached == 3
        assert client.meter.spent == sum(answer.cost or 0 for answer in answers)


async def test_a_leading_stream_may_be_closed(emulator: DeepSeekEmulator) -> None:
    """The first reader leaves; the second still gets it all, and so does the cache."""
    emulator.pace = Pace(latency=0.02, tokens_per_second=300)
    async with client_of(emulator) as client:
        leader = await ask_stream(client)
        follower = await ask_stream(client)
        await anext(leader)
        leader.abort()
        whole = await follower.completion()

        assert whole.is_finished
        assert await ask(client) == whole
        assert len(emulator.requests) == 1
        with pytest.raises(StreamClosedError):
            await leader.completion()


async def test_a_stream_nobody_reads_ends(emulator: DeepSeekEmulator) -> None:
    """Closed or dropped by all its readers, the live stream is closed."""
    emulator.script(Stall(after=3), Stall(after=3))
    async with client_of(emulator) as client:
        stream = await ask_stream(client)
        await anext(stream)
        stream.abort()
        await emulator.idle()
        dropped = await ask_stream(client)
        del dropped
        await emulator.idle()

        assert len(emulator.requests) == 2
        assert client.meter.total.unfinished == 2
        assert client.meter.total.cached == 0


async def test_closing_a_shared_stream_wakes_its_reader(
    emulator: DeepSeekEmulator,
) -> None:
    """Another task's `close` ends the wait for the next chunk."""
    emulator.script(Stall(after=3))
    async with client_of(emulator) as client:
        stream = await ask_stream(client)
        reading = asyncio.create_task(stream.completion())
        while not stream.partial.choices:  # noqa: ASYNC110 - chunks tell nobody
            await asyncio.sleep(0)
        stream.abort()
        with pytest.raises(StreamClosedError) as raised:
            await reading

        assert raised.value.partial is not None


async def test_broken_streams_are_not_kept(emulator: DeepSeekEmulator) -> None:
    """A cut reaches every reader with the partial answer, and is asked for again."""
    emulator.script(Cut(events=9))
    async with client_of(emulator) as client:
        streams = await asyncio.gather(*(ask_stream(client) for _ in range(2)))
        for stream in streams:
            with pytest.raises(StreamInterruptedError) as raised:
                await stream.completion()
            assert raised.value.partial is not None
            assert raised.value.partial.choices
        async with await ask_stream(client) as stream:
            assert (await stream.completion()).is_finished

    assert len(emulator.requests) == 2


async def test_a_refused_stream_is_refused_at_once(emulator: DeepSeekEmulator) -> None:
    """As without a cache, `create` raises what the server says before the stream."""
    emulator.script(Status(status=401))
    async with client_of(emulator) as client:
        found = await asyncio.gather(
            *(ask_stream(client) for _ in range(2)), return_exceptions=True
        )

        assert [type(error) for error in found] == [AuthenticationError] * 2
        assert len(emulator.requests) == 1


async def test_streams_may_bypass_and_resume(emulator: DeepSeekEmulator) -> None:
    """`bypass` streams live; a resumed stream is kept whole, its breaks reported."""
    emulator.script(Cut(events=30))
    async with client_of(emulator) as client:
        live = await ask_stream(client, cache_control="bypass", resume=True)
        first = await live.completion()
        emulator.script(Cut(events=30))
        shared = await ask_stream(client, resume=True)
        second = await shared.completion()

        assert second.text == first.text == (await ask(client)).text
        assert len(live.breaks) == len(shared.breaks) == 1
        assert len(emulator.requests) == 4


# -- the stores --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_answers_grow_old(kind: str, tmp_path: Path) -> None:
    """After `ttl` seconds an answer is no longer given."""
    clock = Clock()
    cache: ResponseCache = MemoryCache(ttl=10, clock=clock)
    if kind == "file":
        cache = FileCache(tmp_path / "c.db", ttl=10, clock=clock)
    await cache.set("a", b"1")
    clock.now += 9.9
    assert await cache.get("a") == b"1"
    clock.now += 0.2
    assert await cache.get("a") is None
    await cache.set("a", b"2")
    assert await cache.get("a") == b"2"
    await cache.clear()
    assert await cache.get("a") is None


async def test_memory_keeps_what_was_used_last() -> None:
    """Past the limits of number and size, the answers used longest ago go."""
    cache = MemoryCache(max_entries=3, max_bytes=100)
    for key in "abc":
        await cache.set(key, b"x" * 10)
    await cache.get("a")
    await cache.set("d", b"x" * 10)
    assert [key for key in "abcd" if await cache.get(key)] == ["a", "c", "d"]
    await cache.set("e", b"x" * 85)
    assert [key for key in "acde" if await cache.get(key)] == ["d", "e"]
    await cache.set("f", b"x" * 101)
    assert not [key for key in "def" if await cache.get(key)]
    await cache.set("d", b"x")
    await cache.set("d", b"xx")
    assert repr(cache) == "MemoryCache(1 answers, 2 bytes)"


async def test_a_file_keeps_what_was_used_last(tmp_path: Path) -> None:
    """The limits of a file are enforced when a process opens it."""
    clock = Clock()
    path = tmp_path / "c.db"
    writer = FileCache(path, clock=clock)
    for key in "abcde":
        clock.now += 1
        await writer.set(key, b"x" * 10)
    clock.now += 1
    await writer.get("a")
    small = FileCache(path, clock=clock, max_entries=4, max_bytes=35)
    clock.now += 1
    await small.set("f", b"x" * 10)

    assert [key for key in "abcdef" if await small.get(key)] == ["a", "e", "f"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
async def test_a_file_is_for_its_owner_alone(
    emulator: DeepSeekEmulator, tmp_path: Path
) -> None:
    """New files and directories are private; a file that was not is made so."""
    path = tmp_path / "new" / "cache.db"
    async with client_of(emulator, cache=FileCache(path)) as client:
        await ask(client)
        path.chmod(0o644)
    async with client_of(emulator, cache=FileCache(path)) as client:
        await ask(client)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert emulator.api_key.encode() not in path.read_bytes()
    assert b"Rhine begin" not in path.read_bytes().replace(b"the Rhine", b"")


async def test_a_damaged_file_fails_no_call(
    emulator: DeepSeekEmulator, tmp_path: Path
) -> None:
    """What cannot be read is warned of, and the server is asked."""
    path = tmp_path / "cache.db"
    path.write_bytes(b"this is no database" * 100)
    async with client_of(emulator, cache=FileCache(path)) as client:
        with pytest.warns(DeepSeekWarning, match="response cache"):
            assert (await ask(client)).text
    nowhere = tmp_path / "file"
    nowhere.touch()
    async with client_of(emulator, cache=FileCache(nowhere / "c.db")) as client:
        with pytest.warns(DeepSeekWarning, match="response cache"):
            assert (await ask(client)).text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no O_NOFOLLOW")
async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link in place of the file, which may lead anywhere, is not used."""
    target = tmp_path / "other"
    target.write_bytes(b"")
    target.chmod(0o644)
    link = tmp_path / "cache.db"
    link.symlink_to(target)
    with pytest.warns(DeepSeekWarning, match="response cache"):
        await FileCache(link).set("a", b"1")

    assert target.read_bytes() == b""
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"{", b'{"answer":1}', b'{"answer":{}}', b'{"answer":{},"version":2}'],
)
async def test_nonsense_in_a_file_is_a_miss(
    emulator: DeepSeekEmulator, tmp_path: Path, value: bytes
) -> None:
    """Whatever somebody wrote into the file, the answer comes from the server."""
    path = tmp_path / "cache.db"
    async with client_of(emulator, cache=FileCache(path)) as client:
        first = await ask(client)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE answers SET value = ?", (value,))
        connection.close()

        again = await ask(client)
        assert again.text == first.text
        assert not again.is_cached
        assert len(emulator.requests) == 2


async def test_a_deleted_file_is_made_anew(
    emulator: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Deleting the file empties the cache, no more."""
    path = tmp_path / "cache.db"
    async with client_of(emulator, cache=FileCache(path)) as client:
        await ask(client)
        path.unlink()
        await ask(client)
        await ask(client)

    assert len(emulator.requests) == 2


async def test_answers_of_any_length_go_in_and_come_out() -> None:
    """What is packed is unpacked unchanged, unknown fields of every part included."""
    data = (
        b'{"id":"1","new":{"a":[1]},"choices":[{"index":0,"finish_reason":"stop",'
        b'"message":{"content":"x","blocks":[null],"tool_calls":[{"id":"c","y":1}]}}]}'
    )
    answer = CHAT.decode(data)
    kept = unpack(pack(encode_answer(answer), "r"))

    assert kept is not None
    again = CHAT.decode(bytes(kept.answer))
    assert again == answer
    assert again.extra == {"new": {"a": [1]}}
    assert again.choices[0].message.extra == {"blocks": [None]}
    calls = again.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].extra == {"y": 1}


def test_limits_and_kinds_are_checked(tmp_path: Path) -> None:
    """Limits must be above 0, and a cache must be one."""
    wrong: Any = {}
    with pytest.raises(ConfigurationError, match="ttl"):
        MemoryCache(ttl=0)
    with pytest.raises(ConfigurationError, match="max_bytes"):
        FileCache(tmp_path / "x", max_bytes=-1)
    with pytest.raises(ConfigurationError, match="cache"):
        AsyncDeepSeek(api_key="k", cache=wrong)


async def failure_of(call: Awaitable[object]) -> DeepSeekError:
    with pytest.raises(BadRequestError) as caught:
        await call
    return caught.value


class LateRefusal(Status, frozen=True, kw_only=True):
    """A refusal that leaves time for others to join the call."""

    status: int = 400

    def instead(self) -> Reply:
        """Return the late error."""
        reply = super().instead()
        reply.delay = 0.1
        return reply


async def test_a_joined_call_has_nothing_of_anothers_turn(
    emulator: DeepSeekEmulator,
) -> None:
    """The failure is shared; what was done before it is not."""

    @tool
    async def look() -> str:
        return "seen"

    def answer(body: dict[str, Any]) -> Answer | str:
        is_first = len(body["messages"]) == 1
        return Answer(content="", tool_calls=(Call("look"),)) if is_first else "End."

    async with client_of(emulator, cache=MemoryCache()) as client:
        completions = client.chat.completions
        asked: dict[str, Any] = {"model": FLASH, "messages": MESSAGES, "tools": [look]}
        emulator.answer = answer
        emulator.script(Fault(), Status(status=400), LateRefusal())
        with pytest.raises(BadRequestError) as first:
            await completions.run_tools(**asked)
        assert first.value.so_far is not None
        done = first.value.so_far.messages
        further: dict[str, Any] = {**asked, "messages": MESSAGES + done}

        outcomes = await asyncio.gather(
            failure_of(completions.run_tools(**asked)),
            failure_of(completions.run_tools(**further)),
            failure_of(completions.create(stream=False, **further)),
        )

    assert len(emulator.requests) == 3  # the second round was one request for all
    assert [one.so_far is not None for one in outcomes] == [True, False, False]


def test_a_python_without_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the file needs it, and says so."""
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert MemoryCache().max_entries
    with pytest.raises(ConfigurationError, match="sqlite3"):
        FileCache(tmp_path / "c.db")


def test_the_import_leaves_the_database_alone() -> None:
    """Its library is loaded by those who keep answers in a file, not by everybody."""
    code = (
        "import sys; before = set(sys.modules); import deepseek_async;"
        " sys.exit('sqlite3' in set(sys.modules) - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603
    assert ran.returncode == 0
