"""Leaving a tool loop after n loop steps, for every n: nothing runs on or twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from faults.answers import (
    FIRST,
    PLACES,
    STREAM_HEAD,
    TEXT,
    completion,
    framed,
    good,
    head,
)
from faults.harness import (
    LOOPS,
    TOOL_MODES,
    Taken,
    by_tool_events,
    clean_client,
    client_of,
    pool_empty,
    run_on,
    within,
)
from faults.wire import FaultServer, Reply, Request, send, stall

from deepseek_async import AsyncDeepSeek, ClientClosedError, StreamClosedError

STEPS = 40
"""Loop steps from the start of a turn, and again from the start of its tools."""

SECONDS: dict[str, dict[bool, Reply]] = {
    "healthy": {},
    "no head": dict.fromkeys((False, True), (stall(),)),
    "no end": {
        False: (send(head(Content_Length="500") + completion()[:99]), stall()),
        True: (send(STREAM_HEAD + framed(FIRST)), stall()),
    },
}
"""What answers the second request of a turn, by whether it is streamed."""


class Turns:
    """A server for turns of two rounds.

    Args:
        second: What answers the second request; by default what is proper.
    """

    def __init__(self, second: dict[bool, Reply]) -> None:
        self.second = second
        self.server = FaultServer(self._reply)

    def _reply(self, request: Request) -> Reply:
        if request.may_call:
            return good(request)
        return self.second.get(request.is_stream) or good(request)


def _place(taken: Taken, requests: Sequence[Request]) -> str:
    """How far a turn has come."""
    if taken.running:
        return "tools"
    if any(not request.may_call for request in requests):
        return "second request"
    return "between" if taken.ran else "first request"


POINTS = [(since, count) for since in ("start", "tools") for count in range(STEPS)]


async def reached(since: str, taken: Taken, count: int) -> None:
    """Let the loop take that many steps since the start, or since that of the tools."""
    if since == "tools":
        await within(1.0, taken.began.wait())
    for _ in range(count):
        await asyncio.sleep(0)


def nothing_runs(taken: Taken) -> None:
    """No tool is left running, and none ran twice for one call."""
    assert taken.running == 0
    assert [t for t in asyncio.all_tasks() if t.get_name() == "look_up"] == []
    assert len(taken.ran) == len(set(taken.ran))


async def works(client: AsyncDeepSeek, mode: str) -> None:
    """The client can still take a whole turn."""
    taken = Taken()
    await within(1.0, TOOL_MODES[mode](client, taken))
    assert taken.text == TEXT
    assert sorted(taken.ran) == [*PLACES]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", TOOL_MODES)
@pytest.mark.parametrize("second", SECONDS)
def test_cancel_after_every_step(second: str, mode: str, loop: str) -> None:
    """Cancelled after n steps, a turn takes its tools with it and frees its slot."""
    turns = Turns(SECONDS[second])
    places: Counter[str] = Counter()

    async def cancel_after(client: AsyncDeepSeek, since: str, count: int) -> None:
        taken, before = Taken(), len(turns.server.requests)
        turns.second = SECONDS[second]
        task = asyncio.create_task(TOOL_MODES[mode](client, taken))
        await reached(since, taken, count)
        place = _place(taken, turns.server.requests[before:])
        was_running = task.cancel()
        await asyncio.wait([task], timeout=1.0)
        assert task.done()
        assert task.cancelled() == was_running, "a cancellation was swallowed"
        nothing_runs(taken)
        await pool_empty(client)
        places[place if was_running else "over"] += 1
        turns.second = {}
        await works(client, mode)

    async def sweep() -> None:
        async with turns.server as server:
            for point in POINTS:
                async with clean_client(server, max_connections=1) as client:
                    await cancel_after(client, *point)

    run_on(loop, sweep(), limit=8.0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", TOOL_MODES)
def test_close_the_client_after_every_step(mode: str, loop: str) -> None:
    """Closed after n steps, the client ends the turn with its own error."""

    async def close_after(url: str, since: str, count: int) -> bool:
        client, taken = client_of(url), Taken()
        call = asyncio.create_task(TOOL_MODES[mode](client, taken))
        await reached(since, taken, count)
        await client.aclose()
        (outcome,) = await within(0.5, asyncio.gather(call, return_exceptions=True))
        assert outcome is None or isinstance(outcome, ClientClosedError), repr(outcome)
        nothing_runs(taken)
        return outcome is not None

    async def sweep() -> int:
        async with Turns({}).server as server:
            closed = [await close_after(server.url, *point) for point in POINTS]
            await server.all_gone()
            return sum(closed)

    assert run_on(loop, sweep(), limit=6.0) > 10


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("second", SECONDS)
def test_close_the_turn_after_every_step(second: str, loop: str) -> None:
    """Closed by another task after n steps, a turn ends its reader and its tools."""
    turns = Turns(SECONDS[second])

    async def close_after(client: AsyncDeepSeek, since: str, count: int) -> bool:
        taken = Taken()
        reader = asyncio.create_task(by_tool_events(client, taken))
        await reached(since, taken, max(count, 1))
        assert taken.turn is not None
        await within(0.5, taken.turn.aclose())
        (outcome,) = await within(0.5, asyncio.gather(reader, return_exceptions=True))
        assert outcome is None or isinstance(outcome, StreamClosedError), repr(outcome)
        nothing_runs(taken)
        await pool_empty(client)
        return outcome is not None

    async def sweep() -> int:
        async with (
            turns.server as server,
            clean_client(server, max_connections=1) as client,
        ):
            closed = [await close_after(client, *point) for point in POINTS]
            turns.second = {}
            await works(client, "tool events")
            return sum(closed)

    assert run_on(loop, sweep(), limit=6.0) > 10
