"""What aiohttp's readers share keeps nothing of a call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from faults.answers import FIRST, STREAM_HEAD, framed, head
from faults.harness import MODES, PROMPT, Taken, limited, served
from faults.wire import Reply, Request, send, stall

from deepseek_async import PayloadGapTimeoutError, Timeouts
from deepseek_async.request import WireRequest


@pytest.fixture(autouse=True)
def only_what_is_new() -> Iterator[None]:
    """Keep what other tests left in memory out of the looks at all objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def prompts_held() -> int:
    """How many requests with the prompt are still in memory."""
    gc.collect()
    held = [it for it in gc.get_objects() if isinstance(it, WireRequest)]
    return sum(PROMPT.encode() in one.body for one in held)


@limited(5.0)
@pytest.mark.parametrize("mode", MODES)
async def test_a_call_whose_clock_ran_out_leaves_no_request_behind(mode: str) -> None:
    """After the error is gone nothing holds the request, and so the prompt.

    aiohttp raises one and the same exception in all readers that are closed while
    they wait; its traceback would keep the frames of each of them for ever.
    """

    def reply(request: Request) -> Reply:
        if request.is_stream:
            return (send(STREAM_HEAD + framed(FIRST)), stall())
        return (send(head(Content_Length="99") + b"{"), stall())

    clocks = Timeouts(payload_gap=0.1)
    async with served(*[reply] * 3, timeouts=clocks) as (_server, client):
        for _ in range(3):
            with pytest.raises(PayloadGapTimeoutError):
                await MODES[mode](client, Taken())
        for _ in range(100):  # the loop lets go of a connection a few steps later
            if not prompts_held():
                return
            await asyncio.sleep(0.01)

    pytest.fail(f"{prompts_held()} requests are held")
