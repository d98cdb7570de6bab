"""Every fault of a wire, times every way to take an answer, times every event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest
from faults.answers import (
    PLACES,
    TEXT,
    good,
    head,
)
from faults.harness import (
    LOOPS,
    MATRIX_MODES,
    MODES,
    PATIENT,
    PROMPTLY,
    STREAM_MODES,
    TOOL_MODES,
    Mode,
    Taken,
    clean_client,
    pool_empty,
    run_on,
)
from faults.matrix import FAULTS, LIMIT, TIMED, UNTIMED, Fault
from faults.proxy import FaultProxy, Toxics
from faults.wire import (
    FaultServer,
    Reply,
    Request,
    closed_port,
    send,
    stall,
)

from deepseek_async import (
    APIStatusError,
    AsyncDeepSeek,
    ConnectError,
    DeepSeekError,
    RetryPolicy,
)

STREAMED = {*STREAM_MODES, "tool events"}
PERSISTENT = RetryPolicy(attempts=2, base=0.0, timeouts=True)
AFTER_TOOLS = [name for name, fault in FAULTS.items() if not fault.greeting]
"""Faults that can hit a request on a connection that has served another."""


async def _suffer(fault: Fault, name: str, mode: Mode) -> None:
    """Run one fault in one mode, and check everything that is promised."""
    is_stream = name in STREAMED
    expected = (fault.stream_error if is_stream else None) or fault.error
    greeting = fault.answer if fault.greeting else None
    options = {"timeouts": fault.timeouts, "max_body_size": 1_000_000}
    taken = Taken()
    started = asyncio.get_running_loop().time()
    async with FaultServer(fault.reply, greeting=greeting) as server:
        url = server.url.replace("http:", "https:") if fault.greeting else server.url
        async with clean_client(url, **options) as client:
            with pytest.raises(expected) as caught:
                await mode(client, taken)
            error = caught.value
            if fault.closes:
                await server.all_gone()
        await server.all_gone()
    elapsed = asyncio.get_running_loop().time() - started
    assert elapsed < 2.5
    assert elapsed >= LIMIT - 0.01 or not fault.clock
    assert getattr(error, "status", None) == fault.status or fault.status is None
    if is_stream and fault.partial is not None:
        _kept(fault, error, taken, folded=name == "completion")
    assert len(server.requests) == (0 if fault.greeting else 1)
    assert taken.ran == []


def _kept(fault: Fault, error: DeepSeekError, taken: Taken, *, folded: bool) -> None:
    """Everything that had arrived is in the error, and the consumer saw it."""
    partial = getattr(error, "partial", None)
    assert partial is not None
    if fault.partial != "?":
        assert partial.text == fault.partial
    assert folded or taken.text == partial.text
    if taken.stream is not None:
        assert taken.stream.partial == partial
        assert not taken.stream.is_complete


async def _suffer_after_tools(fault: Fault, name: str) -> None:
    """Have the fault hit the second request of a turn, once its tools have run."""
    is_stream = name in STREAMED
    expected = (fault.stream_error if is_stream else None) or fault.error
    is_broken = True
    taken, again = Taken(), Taken()

    def reply(request: Request) -> Reply:
        if request.may_call or not is_broken:
            return good(request)
        return fault.reply(request)

    options = {"timeouts": fault.timeouts, "max_body_size": 1_000_000}
    async with FaultServer(reply) as server, clean_client(server, **options) as client:
        with pytest.raises(expected) as caught:
            await TOOL_MODES[name](client, taken)
        if fault.closes:
            await server.all_gone()
        await pool_empty(client)
        assert len(server.requests) == 2
        is_broken = False
        healthy = client.with_options(timeouts=PATIENT)
        await TOOL_MODES[name](healthy, again)
    assert again.text == TEXT
    status = getattr(caught.value, "status", None)
    assert status == fault.status or fault.status is None
    if is_stream and fault.partial is not None:
        _kept(fault, caught.value, taken, folded=False)
    for one in (taken, again):
        assert (sorted(one.ran), one.running) == ([*PLACES], 0)
    if taken.turn is not None:
        _round_kept(taken)


def _round_kept(taken: Taken) -> None:
    """The round before the fault is whole, and can be taken up by another turn."""
    assert taken.turn is not None
    (first,) = taken.turn.so_far.rounds
    roles = [message["role"] for message in first.messages]
    assert roles == ["assistant", "tool", "tool"]
    assert [call.error for call in taken.turn.so_far.calls] == [None, None]


async def _suffer_all(names: Iterable[str]) -> None:
    """Run faults side by side, each in every mode; a failure names its place."""

    async def suffer(name: str, mode: str) -> None:
        try:
            await _suffer(FAULTS[name], mode, MATRIX_MODES[mode])
            if mode in TOOL_MODES and name in AFTER_TOOLS:
                await _suffer_after_tools(FAULTS[name], mode)
        except BaseException as error:
            error.add_note(f"fault: {name}, mode: {mode}")
            raise

    async with asyncio.TaskGroup() as group:
        for name in names:
            for mode in MATRIX_MODES:
                group.create_task(suffer(name, mode))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", UNTIMED)
def test_fault(name: str, loop: str) -> None:
    """Each way to take an answer ends with the right error and leaves nothing."""
    run_on(loop, _suffer_all([name]), limit=4.0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("part", range(3))
def test_faults_that_take_time(part: int, loop: str) -> None:
    """Each stall ends with the error of its own clock and leaves nothing."""
    run_on(loop, _suffer_all(TIMED[part::3]), limit=4.0)


async def _suffer_once(fault: Fault, name: str) -> bool:
    """One fault after the tools, then a healthy server; whether the turn ended well."""
    faults = iter([fault.reply])
    taken = Taken()

    def reply(request: Request) -> Reply:
        return (good if request.may_call else next(faults, good))(request)

    options = {"timeouts": fault.timeouts, "max_body_size": 1_000_000}
    async with (
        FaultServer(reply) as server,
        clean_client(server, retry=PERSISTENT, **options) as client,
    ):
        try:
            await TOOL_MODES[name](client, taken)
        except DeepSeekError:
            sent = 2
        else:
            sent = 3
    assert len(server.requests) == sent
    assert sent == 2 or taken.text == TEXT
    assert (sorted(taken.ran), taken.running) == ([*PLACES], 0)
    return sent == 3


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", TOOL_MODES)
def test_a_retry_runs_no_tool_again(mode: str, loop: str) -> None:
    """A request repeated in mid-turn repeats nothing that came before it."""

    async def suffer_all() -> list[bool]:
        work = (_suffer_once(FAULTS[name], mode) for name in AFTER_TOOLS)
        return await asyncio.gather(*work)

    ended_well = run_on(loop, suffer_all(), limit=6.0)
    assert 20 < sum(ended_well) < len(ended_well)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", MATRIX_MODES)
def test_refused(mode: str, loop: str) -> None:
    """Nobody listens: a ConnectError that names host and port, and nothing left."""

    async def refused() -> None:
        async with clean_client(f"http://127.0.0.1:{closed_port()}") as client:
            with pytest.raises(ConnectError, match=r"127\.0\.0\.1"):
                await MATRIX_MODES[mode](client, Taken())

    run_on(loop, refused())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
def test_redirect(status: str, loop: str) -> None:
    """A redirect is an error and not followed: key and prompt stay at the origin."""

    async def redirected() -> None:
        async with FaultServer((stall(),)) as other:
            location = f"{other.url}/stolen?x=secret"
            reply = (send(head(status, Location=location, Content_Length="0")),)
            async with FaultServer(reply) as server:
                for mode in MATRIX_MODES.values():
                    async with clean_client(server.url) as client:
                        with pytest.raises(APIStatusError) as caught:
                            await mode(client, Taken())
                        assert caught.value.status == int(status[:3])
                        assert "secret" not in str(caught.value)
                assert len(server.requests) == len(MATRIX_MODES)
            assert other.connections == []

    run_on(loop, redirected())


@pytest.mark.parametrize(
    "name",
    [
        "stall at the handshake",
        "stall at the head",
        "stall before the first payload",
        "stall in the midst of the body",
        "silence before the first payload",
        "the deadline before the head",
    ],
)
async def test_a_clock_names_itself(name: str) -> None:
    """A timeout tells which clock ran out, its limit, and where to change it."""
    fault = FAULTS[name]
    (clock,) = fault.clock
    greeting = fault.answer if fault.greeting else None
    async with FaultServer(fault.reply, greeting=greeting) as server:
        url = server.url.replace("http:", "https:") if fault.greeting else server.url
        async with clean_client(url, timeouts=fault.timeouts) as client:
            with pytest.raises(fault.error, match=f"Timeouts.{clock}") as caught:
                await MODES["completion"](client, Taken())

    assert getattr(caught.value, "clock", None) == clock
    assert getattr(caught.value, "limit", None) == getattr(fault.timeouts, clock)
    assert isinstance(caught.value, TimeoutError)


async def _chance(client: AsyncDeepSeek, chance: random.Random) -> str:
    """One call with a random end of its own; how it ended."""
    taken = Taken()
    mode = chance.choice(list(MATRIX_MODES))
    call = asyncio.create_task(MATRIX_MODES[mode](client, taken))
    end = chance.random()
    if end < 0.3:
        await asyncio.sleep(chance.uniform(0.0, 0.02))
        if end < 0.2:
            call.cancel()
        elif taken.stream is not None:
            await taken.stream.close()
        elif taken.turn is not None:
            await taken.turn.aclose()
    await asyncio.wait([call], timeout=2.0)
    assert call.done(), f"{mode} hangs"
    assert taken.running == 0
    assert len(taken.ran) == len(set(taken.ran)), "a tool ran twice for one call"
    if call.cancelled():
        return "cancelled"
    error = call.exception()
    assert error is None or isinstance(error, DeepSeekError), repr(error)
    assert TEXT.startswith(taken.text)
    assert error is not None or taken.text == TEXT
    return type(error).__name__


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("seed", [1])
def test_random_faults(seed: int, loop: str) -> None:
    """Random cuts, slices, cancellations and closings end typed and leave nothing."""
    chance = random.Random(seed)  # noqa: S311 - reproducible
    script = [
        Toxics(
            seed=number,
            largest=chance.choice([9, 90, 65_536]),
            cut_at=chance.randint(1, 4_000),
            cut=chance.choice(["fin", "reset"]),
        )
        for number in range(500)
    ]

    async def storm() -> list[str]:
        places = asyncio.Semaphore(12)  # so that a call's limit is for itself

        async def one(client: AsyncDeepSeek) -> str:
            async with places:
                return await _chance(client, chance)

        async with (
            FaultServer(good) as server,
            FaultProxy(server.port, script).running() as proxy,
            clean_client(proxy.url, retry=PROMPTLY, max_connections=8) as client,
        ):
            return await asyncio.gather(*(one(client) for _ in range(150)))

    ends = run_on(loop, storm(), limit=8.0)
    assert {"cancelled", "NoneType"} < set(ends)
