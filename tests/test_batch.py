"""The bounded batch: back-pressure, laziness, order, and every way to end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aioresponses import CallbackResult, aioresponses
from recorded import body, document

from deepseek_async import (
    AsyncDeepSeek,
    AuthenticationError,
    BatchFailed,
    BatchOk,
    ChatCompletionRequest,
    DeepSeekError,
    InvalidRequestError,
    Usage,
    UserMessage,
)

URL = "https://api.deepseek.com/chat/completions"
ANSWER = body("chat_plain.json")


def ask(text: str, **params: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "deepseek-flash", "messages": [message], **params}


class Service:
    """The stubbed API: counts what is under way, and answers when it is told to."""

    def __init__(self, api: aioresponses) -> None:
        self.now = self.most = self.seen = 0
        self.gates: dict[int, asyncio.Event] = {}
        self.status: dict[int, int] = {}
        api.post(URL, callback=self.answer, repeat=True)

    def hold(self, number: int) -> asyncio.Event:
        """Keep the nth request waiting until the event is set."""
        gate = self.gates[number] = asyncio.Event()
        return gate

    async def answer(self, *_: object, **__: object) -> CallbackResult:
        number, self.seen = self.seen, self.seen + 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if number in self.gates:
                await self.gates[number].wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.now -= 1
        return CallbackResult(status=self.status.get(number, 200), body=ANSWER)


@pytest.fixture
def service(api: aioresponses) -> Service:
    return Service(api)


@pytest.fixture
async def client() -> AsyncIterator[AsyncDeepSeek]:
    async with AsyncDeepSeek(api_key="sk-batch", max_retries=0) as client:
        yield client


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(200):
        await asyncio.sleep(0)


class Source:
    """An endless source that counts how far it was read."""

    def __init__(self, length: int = 1_000_000) -> None:
        self.taken = 0
        self.length = length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.taken < self.length:
            self.taken += 1
            yield ask(str(self.taken))


async def test_every_request_has_its_result(
    client: AsyncDeepSeek, service: Service
) -> None:
    """Keys, places, usage and attempts of all requests come out."""
    requests = [(f"k{i}", ask(str(i))) for i in range(50)]

    async with client.batch(requests, concurrency=7) as results:
        done = [result async for result in results]

    assert sorted(r.index for r in done) == list(range(50))
    assert {r.key for r in done} == {f"k{i}" for i in range(50)}
    assert all(isinstance(r, BatchOk) and r.ok for r in done)
    total = document("chat_plain.json")["usage"]["total_tokens"]
    assert sum(r.usage.total_tokens for r in done) == 50 * total
    assert all(len(r.attempts) == 1 and r.latency >= 0 for r in done)
    assert done[0].unwrap().text == "The Ucayali."
    assert service.most <= 7


async def test_the_key_is_the_place_unless_given(
    client: AsyncDeepSeek, service: Service
) -> None:
    """Dicts, structs and pairs mix; a key of another type becomes text."""
    struct = ChatCompletionRequest(model="m", messages=[UserMessage(content="b")])
    requests: list[Any] = [ask("a"), struct, ("mine", struct), (7, ask("c"))]

    async with client.batch(requests, concurrency=1, order="input") as results:
        done = [result async for result in results]

    assert [r.key for r in done] == ["0", "1", "mine", "7"]
    assert all(r.ok for r in done)
    assert service.seen == 4


async def test_input_order_is_kept(client: AsyncDeepSeek, service: Service) -> None:
    """In input order a slow first request holds its place."""
    gate = service.hold(0)
    requests = [ask(str(i)) for i in range(12)]

    async with client.batch(requests, concurrency=4, order="input") as results:
        first = asyncio.ensure_future(anext(aiter(results)))
        await settle()
        assert not first.done()
        assert service.seen > 4
        gate.set()
        done = [await first, *[result async for result in results]]

    assert [r.index for r in done] == list(range(12))


async def test_completed_order_waits_for_nobody(
    client: AsyncDeepSeek, service: Service
) -> None:
    """As completed, a slow request comes when it is done."""
    gate = service.hold(0)
    requests = [ask(str(i)) for i in range(6)]

    async with client.batch(requests, concurrency=2) as results:
        early = [(await anext(aiter(results))).index for _ in range(5)]
        gate.set()
        late = [result.index async for result in results]

    assert sorted(early) == [1, 2, 3, 4, 5]
    assert late == [0]


async def test_no_more_than_the_bound_is_under_way(
    client: AsyncDeepSeek, service: Service
) -> None:
    """Neither requests on the wire nor tasks exceed the bound."""
    before = len(asyncio.all_tasks())
    most = 0
    async with client.batch(Source(400), concurrency=5) as results:
        async for _ in results:
            most = max(most, len(asyncio.all_tasks()) - before)

    assert service.seen == 400
    assert 1 < service.most <= 5
    assert most <= 5 + 5
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_the_source_is_read_no_faster_than_results_are_taken(
    client: AsyncDeepSeek, service: Service, order: Any
) -> None:
    """A reader that pauses stops the source: nothing piles up."""
    source = Source()
    async with client.batch(source, concurrency=4, order=order) as results:
        await settle()
        paused = source.taken
        assert 4 <= paused <= 6 * 4
        await settle()
        assert source.taken == paused
        for _ in range(10):
            await anext(aiter(results))
        await settle()
        assert 10 <= source.taken <= paused + 10 + 4
    assert service.now == 0


async def test_a_slow_first_request_does_not_let_the_rest_run_ahead(
    client: AsyncDeepSeek, service: Service
) -> None:
    """In input order the results kept for a slow request are bounded too."""
    gate = service.hold(0)
    source = Source()
    async with client.batch(source, concurrency=4, order="input") as results:
        waiting = asyncio.ensure_future(anext(aiter(results)))
        await settle()
        bound = source.taken
        await settle()
        assert source.taken == bound <= 40
        gate.set()
        assert (await waiting).index == 0


async def test_nothing_is_read_before_the_batch_is_entered(
    client: AsyncDeepSeek, service: Service
) -> None:
    """Making a batch costs nothing, and it wants its block."""
    source = Source()
    batch = client.batch(source, concurrency=2)

    with pytest.raises(DeepSeekError, match="async with"):
        await anext(aiter(batch))
    assert source.taken == 0
    assert service.seen == 0


async def test_an_async_source_is_read_lazily_and_closed(
    client: AsyncDeepSeek, service: Service
) -> None:
    """An async generator feeds a batch, and is closed when it is left early."""
    told: list[str] = []

    async def source() -> AsyncIterator[dict[str, Any]]:
        try:
            for i in range(1_000):
                await asyncio.sleep(0)
                yield ask(str(i))
        finally:
            told.append("closed")

    async with client.batch(source(), concurrency=3) as results:
        async for result in results:
            if result.index > 10:
                break

    assert told == ["closed"]
    assert service.seen < 40


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_a_failing_source_is_told_after_its_results(
    client: AsyncDeepSeek, service: Service, order: Any
) -> None:
    """What the source raised comes after the results of everything before it."""

    def source() -> Iterator[dict[str, Any]]:
        for i in range(9):
            yield ask(str(i))
        message = "the file is broken"
        raise OSError(message)

    done: list[int] = []

    async def run() -> None:
        async with client.batch(source(), concurrency=4, order=order) as results:
            async for result in results:
                done.append(result.index)  # noqa: PERF401 - raises on its way

    with pytest.raises(OSError, match="the file is broken"):
        await run()
    assert sorted(done) == list(range(9))
    assert service.now == 0


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_leaving_early_ends_what_is_under_way(
    client: AsyncDeepSeek, service: Service, order: Any
) -> None:
    """After a `break` no task, no request and no slot is left behind."""
    for number in range(6, 400):
        service.hold(number)
    before = asyncio.all_tasks()

    async with client.batch(Source(), concurrency=5, order=order) as results:
        async for result in results:
            if result.index == 3:
                break

    assert service.now == 0
    assert asyncio.all_tasks() == before


async def test_an_exception_of_the_reader_passes_as_it_is(
    client: AsyncDeepSeek, service: Service
) -> None:
    """What the reader raises in the block is neither wrapped nor lost."""
    service.hold(1)

    async def run() -> None:
        async with client.batch(Source(), concurrency=3) as results:
            async for _ in results:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await run()
    assert service.now == 0


async def test_cancelling_the_reader_ends_the_batch(
    client: AsyncDeepSeek, service: Service
) -> None:
    """A cancelled batch ends its requests and stays cancelled."""
    for number in range(100):
        service.hold(number)

    async def run() -> None:
        async with client.batch(Source(), concurrency=3) as results:
            async for _ in results:
                pass

    task = asyncio.ensure_future(run())
    await settle()
    assert service.now == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert service.now == 0


def entries() -> list[tuple[Any, str | None]]:
    return [
        (5, "requests[0]"),
        ("text", "requests[0]"),
        (None, "requests[0]"),
        (("k", 5), "requests[0]"),
        (ask("x", stream=True), "stream"),
        (ask("x", temprature=1), "temprature"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m"}, "messages"),
        ({}, None),
        (("k", {"model": "m", "messages": "x"}), "messages"),
    ]


@pytest.mark.parametrize(("entry", "param"), entries(), ids=str)
async def test_a_bad_entry_fails_alone(
    client: AsyncDeepSeek, service: Service, entry: Any, param: str | None
) -> None:
    """An entry that makes no sense is a failed result, and the rest goes on."""
    requests = [entry, ask("good"), entry, ask("good")]

    async with client.batch(requests, concurrency=2, order="input") as results:
        done = [result async for result in results]

    assert [r.ok for r in done] == [False, True, False, True]
    failed = done[0]
    assert isinstance(failed, BatchFailed)
    assert type(failed.error) is InvalidRequestError
    if param is not None:
        assert failed.error.param == param
    assert failed.key == (
        "k" if isinstance(entry, tuple) and param == "messages" else failed.key
    )
    assert failed.attempts == ()
    assert failed.usage == Usage()
    with pytest.raises(InvalidRequestError):
        failed.unwrap()
    assert service.seen == 2


async def test_a_refused_request_is_a_failed_result(
    client: AsyncDeepSeek, service: Service
) -> None:
    """An error of the server belongs to its request, with its attempts."""
    service.status[1] = 401
    requests = [(name, ask(name)) for name in "abc"]

    async with client.batch(requests, concurrency=1, order="input") as results:
        done = {result.key: result async for result in results}

    failed = done["b"]
    assert isinstance(failed, BatchFailed)
    assert isinstance(failed.error, AuthenticationError)
    assert [a.status for a in failed.attempts] == [401]
    assert failed.latency > 0
    assert done["a"].ok
    assert done["c"].ok


async def test_a_failed_result_holds_no_frames(
    client: AsyncDeepSeek, service: Service
) -> None:
    """A result kept for long keeps neither the request nor the worker alive."""
    service.status[0] = 400
    async with client.batch([ask("a")], concurrency=1) as results:
        (failed,) = [result async for result in results]

    assert isinstance(failed, BatchFailed)
    assert failed.error.__traceback__ is None
    assert failed.error.__context__ is None


@pytest.mark.parametrize("make", [list, iter, tuple], ids=lambda f: f.__name__)
async def test_an_empty_batch_ends_at_once(
    client: AsyncDeepSeek, service: Service, make: Callable[[list[Any]], Any]
) -> None:
    """No request, no result, no waiting."""
    async with client.batch(make([]), concurrency=8) as results:
        assert [result async for result in results] == []
    assert service.seen == 0


async def test_a_batch_left_unread_leaves_nothing(
    client: AsyncDeepSeek, service: Service
) -> None:
    """A block without a loop is no error and no leak."""
    async with client.batch(Source(), concurrency=3):
        await settle()

    gc.collect()
    assert service.now == 0
