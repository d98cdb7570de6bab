"""One exchange and its repetition: clocks, cuts at every byte, reuse, retries."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any, Literal

import pytest
from aiohttp.client_proto import ResponseHandler
from faults.answers import (
    CLOSING_ANSWER,
    DONE,
    EVENTS,
    FINISH,
    FIRST,
    GOOD_ANSWER,
    GOOD_STREAM,
    KEEP_ALIVE,
    LAST_CHUNK,
    SECOND,
    STREAM_HEAD,
    TEXT,
    THIRD,
    completion,
    error_body,
    framed,
    good,
    head,
    whole,
)
from faults.harness import (
    MODES,
    PROMPTLY,
    REQUEST,
    Mode,
    Taken,
    ask,
    by_await,
    by_chunks,
    by_completion,
    clean_client,
    client_of,
    limited,
    open_stream,
    pool_empty,
    served,
    serving,
)
from faults.proxy import FaultProxy, Toxics
from faults.wire import (
    FaultServer,
    Reply,
    Request,
    Step,
    drip,
    fin,
    pause,
    reset,
    send,
    stall,
)

from deepseek_async import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncDeepSeek,
    BadRequestError,
    ChatCompletion,
    ConnectionLostError,
    DeadlineExceededError,
    DeepSeekError,
    EmptyResponseError,
    InternalServerError,
    PayloadGapTimeoutError,
    RateLimitError,
    ResponseHeadTimeoutError,
    RetryPolicy,
    ServiceUnavailableError,
    SilenceTimeoutError,
    StreamInterruptedError,
    Timeouts,
)

NEVER = 9.0


async def timed(work: Mode, url: str, **options: object) -> tuple[Exception, float]:
    """How a call fails, and how long that takes."""
    async with clean_client(url, **options) as client:
        started = time.monotonic()
        with pytest.raises(DeepSeekError) as caught:
            await work(client, Taken())
        return caught.value, time.monotonic() - started


# -- clocks ----------------------------------------------------------------------------


@limited(3.0)
async def test_keep_alives_wind_the_silence_clock_only() -> None:
    """A request queued for longer than `silence` is fine while comments come."""
    beats = [step for _ in range(6) for step in (send(framed(KEEP_ALIVE)), pause(0.05))]
    reply = (send(STREAM_HEAD), *beats, send(framed(EVENTS) + LAST_CHUNK))
    clocks = Timeouts(first_payload=2.0, silence=0.2)
    async with served(reply, timeouts=clocks) as (_server, client):
        taken = Taken()
        await by_chunks(client, taken)

    assert taken.text == TEXT
    assert taken.stream is not None
    assert taken.stream.keep_alives == 6


@limited(3.0)
async def test_blank_lines_wind_the_silence_clock_only() -> None:
    """An awaited call queued for longer than `silence` is fine while lines come."""
    beats = [step for _ in range(6) for step in (send(framed(b"\n")), pause(0.05))]
    reply = (
        send(head(Transfer_Encoding="chunked")),
        *beats,
        send(framed(completion()) + LAST_CHUNK),
    )
    clocks = Timeouts(first_payload=2.0, silence=0.2)
    async with served(reply, timeouts=clocks) as (_server, client):
        taken = Taken()
        await by_await(client, taken)

    assert taken.text == TEXT


@limited(3.0)
async def test_each_payload_winds_the_gap_clock() -> None:
    """A steady stream may last for many times `payload_gap`."""
    paced = [step for _ in range(9) for step in (send(framed(FIRST)), pause(0.04))]
    reply = (send(STREAM_HEAD), *paced, send(framed(FINISH + DONE) + LAST_CHUNK))
    clocks = Timeouts(payload_gap=0.2, first_payload=0.2, silence=0.2)
    async with served(reply, timeouts=clocks) as (_server, client):
        taken = Taken()
        await by_chunks(client, taken)

    assert taken.text == "one " * 9


@limited(3.0)
async def test_late_first_payload_and_short_gap() -> None:
    """The first payload has a limit of its own, apart from the gap between two."""
    reply = (
        send(STREAM_HEAD),
        pause(0.25),
        send(framed(FIRST)),
        stall(),
    )
    clocks = Timeouts(first_payload=2.0, payload_gap=0.15, silence=2.0)
    async with FaultServer(reply) as server:
        error, elapsed = await timed(by_chunks, server.url, timeouts=clocks)

    assert isinstance(error, PayloadGapTimeoutError)
    assert 0.4 <= elapsed < 0.7


@limited(3.0)
async def test_clocks_run_out_on_time() -> None:
    """A clock that starts late in the body is as exact as one at its beginning."""
    paced = [step for _ in range(3) for step in (send(framed(FIRST)), pause(0.13))]
    reply = (send(STREAM_HEAD), *paced, stall())
    clocks = Timeouts(first_payload=0.2, payload_gap=0.2, silence=0.2)
    async with FaultServer(reply) as server:
        _, elapsed = await timed(by_chunks, server.url, timeouts=clocks)

    assert 0.26 + 0.2 <= elapsed < 0.26 + 0.2 + 0.15


@limited(3.0)
@pytest.mark.parametrize("mode", [by_await, by_completion])
async def test_deadline_spans_attempts(mode: Mode) -> None:
    """The deadline bounds all attempts and waits together."""
    reply = (pause(0.12), send(whole(error_body("busy"), "503 Busy")))
    policy = RetryPolicy(attempts=50, base=0.0)
    clocks = Timeouts(deadline=0.4)
    async with FaultServer(reply) as server:
        error, elapsed = await timed(mode, server.url, timeouts=clocks, retry=policy)

    assert isinstance(error, DeadlineExceededError | ServiceUnavailableError)
    assert isinstance(error, APIError)
    assert elapsed < 0.6
    assert 3 <= len(error.attempts) == len(server.requests) <= 5


@limited(3.0)
async def test_deadline_spans_the_body() -> None:
    """The deadline ends a stream that is healthy otherwise, and keeps the partial."""
    paced = [step for _ in range(40) for step in (send(framed(FIRST)), pause(0.03))]
    async with FaultServer((send(STREAM_HEAD), *paced)) as server:
        clocks = Timeouts(deadline=0.3)
        error, elapsed = await timed(by_chunks, server.url, timeouts=clocks)

    assert isinstance(error, DeadlineExceededError)
    assert error.partial is not None
    assert error.partial.text.startswith("one one one ")
    assert error.limit == 0.3
    assert 0.29 <= elapsed < 0.5


@limited(3.0)
async def test_no_retry_begins_that_the_deadline_would_end() -> None:
    """A wait that reaches beyond the deadline is not begun."""
    reply = (send(whole(error_body("busy"), "503 Busy", Retry_After="5")),)
    async with FaultServer(reply) as server:
        clocks = Timeouts(deadline=1.0)
        error, elapsed = await timed(
            by_await, server.url, timeouts=clocks, retry=PROMPTLY
        )

    assert isinstance(error, ServiceUnavailableError)
    assert elapsed < 0.3


@limited(4.0)
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ((stall(),), ResponseHeadTimeoutError),
        ((send(STREAM_HEAD), stall()), SilenceTimeoutError),
    ],
    ids=["head", "silence"],
)
async def test_timeouts_are_not_multiplied_by_retries(
    reply: Reply, error: type[APITimeoutError]
) -> None:
    """With the default policy a timeout is told after one limit, not after three."""
    clocks = Timeouts(head=0.2, silence=0.2)
    async with FaultServer(reply) as server:
        for mode in (by_await, by_completion):
            found, elapsed = await timed(
                mode, server.url, timeouts=clocks, retry=RetryPolicy()
            )
            assert isinstance(found, error)
            assert elapsed < 0.39


@limited(3.0)
async def test_waiting_for_a_slot_is_no_timeout() -> None:
    """The wait for one of the client's own slots runs on no clock of the network."""
    clocks = Timeouts(
        connect=0.15, head=0.5, first_payload=0.15, payload_gap=0.15, silence=0.15
    )
    reply = (pause(0.1), *GOOD_ANSWER)
    async with served(reply, timeouts=clocks, max_connections=1) as (server, client):
        started = time.monotonic()
        taken = [Taken() for _ in range(5)]
        await asyncio.gather(*(by_await(client, each) for each in taken))
        elapsed = time.monotonic() - started

    assert [each.text for each in taken] == [TEXT] * 5
    assert len(server.connections) == 1
    assert elapsed >= 0.5


@limited(3.0)
async def test_deadline_counts_the_wait_for_a_slot() -> None:
    """The overall deadline is the only clock that runs in the client's own queue."""
    async with FaultServer((stall(),)) as server:
        clocks = Timeouts(deadline=0.2)
        async with client_of(server.url, max_connections=1) as client:
            first = asyncio.create_task(by_await(client, Taken()))
            await server.requested(1)
            with pytest.raises(DeadlineExceededError):
                await ask(client, timeouts=clocks)
            assert len(server.requests) == 1
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await pool_empty(client)


@limited(3.0)
async def test_deadline_ends_a_stream_nobody_reads() -> None:
    """The deadline frees the slot of a stream whose reader is busy elsewhere."""
    reply = (send(STREAM_HEAD + framed(FIRST)), stall())
    clocks = Timeouts(deadline=0.2)
    async with served(reply, timeouts=clocks) as (server, client):
        stream = await open_stream(client)
        await server.all_gone()
        await pool_empty(client)
        with pytest.raises(DeadlineExceededError) as caught:
            await stream.completion()

    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "


# -- cuts at every byte ----------------------------------------------------------------

SMALL = STREAM_HEAD + framed(FIRST + KEEP_ALIVE + SECOND) + framed(FINISH + DONE)
COMPLETE_AT = len(SMALL) - 4
"""From here on [DONE] is there: its blank line and the chunk's line end may be cut."""


@limited(8.0, debug=False)
@pytest.mark.parametrize("cut", ["fin", "reset"])
async def test_stream_cut_at_every_byte(cut: Literal["fin", "reset"]) -> None:
    """A stream cut after any byte is an error with a prefix, unless [DONE] had come."""
    step = 13
    script = [Toxics(cut_at=at, cut=cut) for at in range(1, len(SMALL), step)]
    async with (
        FaultServer((send(SMALL + LAST_CHUNK),)) as server,
        FaultProxy(server.port, script).running() as proxy,
        clean_client(proxy.url) as client,
    ):
        texts = [await _cut_stream(client, each.cut_at or 0) for each in script]

    assert texts == sorted(texts)
    assert texts[0] == ""
    assert "one " in texts
    assert texts[-1] == "one two "


async def _cut_stream(client: AsyncDeepSeek, at: int) -> str:
    """The text received of a stream that is cut after so many bytes."""
    taken = Taken()
    if at >= COMPLETE_AT:
        await by_chunks(client, taken)
        return taken.text
    with pytest.raises(ConnectionLostError) as caught:
        await by_chunks(client, taken)
    if taken.stream is None:
        assert at < len(STREAM_HEAD)
    else:
        assert isinstance(caught.value, StreamInterruptedError)
        assert caught.value.partial == taken.stream.partial
    return taken.text


@limited(8.0, debug=False)
async def test_answer_cut_at_every_byte() -> None:
    """An awaited answer cut after any byte is an error, never an answer."""
    data = whole(completion())
    script = [
        Toxics(cut_at=at, cut="reset" if at % 2 else "fin")
        for at in range(1, len(data), 9)
    ]
    async with (
        FaultServer((send(data),)) as server,
        FaultProxy(server.port, script).running() as proxy,
        clean_client(proxy.url) as client,
    ):
        for _ in script:
            with pytest.raises(ConnectionLostError):
                await by_await(client, Taken())

    assert proxy.connections == len(script)


@limited(6.0, debug=False)
async def test_slices_and_delays_change_nothing() -> None:
    """Seeded slices and delays of head and body change nothing in the answer."""
    script = [Toxics(seed=seed, largest=1 + 5 * seed) for seed in range(12)]
    script.append(Toxics(seed=99, largest=40, delay=0.005))
    script.append(Toxics(rate=20_000.0, largest=200))
    async with (
        FaultServer(lambda request: (*good(request), fin())) as server,
        FaultProxy(server.port, script).running() as proxy,
    ):
        for number, _ in enumerate(script):
            async with clean_client(proxy.url) as client:
                taken = Taken()
                await list(MODES.values())[number % len(MODES)](client, taken)
                assert taken.text == TEXT


@limited(4.0)
@pytest.mark.parametrize("seed", range(6))
async def test_injected_bytes_are_an_error_or_harmless(seed: int) -> None:
    """Foreign bytes anywhere in a stream never become a wrong answer silently."""
    data = STREAM_HEAD + framed(EVENTS) + LAST_CHUNK
    at = 1 + seed * (len(data) // 7)
    script = [Toxics(inject_at=at, inject=b"\x00\xffzz\r\n")]
    clocks = Timeouts(head=0.3, payload_gap=0.3, first_payload=0.3)
    async with (
        FaultServer((send(data), fin())) as server,
        FaultProxy(server.port, script).running() as proxy,
        clean_client(proxy.url, timeouts=clocks) as client,
    ):
        with pytest.raises(APIError):
            await by_chunks(client, Taken())


# -- reuse -----------------------------------------------------------------------------


@limited(8.0, debug=False)
async def test_stale_keep_alive_connections() -> None:
    """300 requests in a row succeed on a server that closes after every answer."""
    async with served(CLOSING_ANSWER, retry=PROMPTLY) as (server, client):
        for _ in range(300):
            taken = Taken()
            await by_await(client, taken)
            assert taken.text == TEXT

    assert len(server.connections) >= 300


def test_all_connections_stale_at_once() -> None:
    """When the server drops all idle connections unseen, one repetition is enough."""
    with serving(good) as server:
        client = client_of(server.url, retry=PROMPTLY, max_connections=20)

        async def call() -> ChatCompletion:
            await asyncio.gather(*(by_await(client, Taken()) for _ in range(10)))
            for connection in list(server.connections):
                connection.loop.call_soon_threadsafe(connection.reset)
            time.sleep(0.1)  # noqa: ASYNC251 - this loop must not see it happen
            return await ask(client)

        answer = asyncio.run(call())

    assert [a.outcome for a in answer.attempts] == ["ConnectionLostError", "ok"]


@limited(3.0)
async def test_stale_reuse_is_listed_and_costs_no_budget() -> None:
    """A repetition on a stale connection is listed, and not waited for."""
    stale = RetryPolicy(attempts=2, base=30.0)

    def reply(request: Request) -> Reply:
        return (reset(),) if len(server.requests) == 2 else good(request)

    async with served(reply, retry=stale) as (server, client):
        before = client._manager.budget.balance
        await by_await(client, Taken())
        answer = await ask(client)
        after = client._manager.budget.balance

    assert [a.outcome for a in answer.attempts] == ["ConnectionLostError", "ok"]
    assert answer.attempts[0].wait == 0.0
    assert after >= before
    assert len(server.connections) == 2


@limited(3.0)
async def test_answers_share_a_connection() -> None:
    """Awaited answers, error answers included, reuse one connection."""
    refusal: Reply = (send(whole(error_body("no"), "400 Bad Request")),)
    async with served(GOOD_ANSWER, refusal, GOOD_ANSWER) as (server, client):
        await by_await(client, Taken())
        with pytest.raises(BadRequestError):
            await by_await(client, Taken())
        await by_await(client, Taken())

    assert len(server.connections) == 1


# -- retries ---------------------------------------------------------------------------


@limited(3.0)
@pytest.mark.parametrize("mode", [by_await, by_completion])
@pytest.mark.parametrize(
    "status", ["408 x", "429 x", "500 x", "502 x", "503 x", "504 x"]
)
async def test_retried_status(status: str, mode: Mode) -> None:
    """A status that may pass is repeated until the answer comes."""
    failed = (send(whole(error_body("later"), status)),)
    async with served(failed, failed, good, retry=PROMPTLY) as (server, client):
        taken = Taken()
        await mode(client, taken)

    assert taken.text == TEXT
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1


@limited(3.0)
@pytest.mark.parametrize("mode", [by_await, by_completion])
@pytest.mark.parametrize(
    "status", ["400 x", "401 x", "402 x", "403 x", "404 x", "413 x", "422 x"]
)
async def test_status_not_retried(status: str, mode: Mode) -> None:
    """A status that will not pass is told after one attempt."""
    failed = (send(whole(error_body("no"), status)),)
    async with FaultServer(failed) as server:
        error, _ = await timed(mode, server.url, retry=PROMPTLY)

    assert isinstance(error, APIError)
    assert [(a.number, a.status) for a in error.attempts] == [(1, int(status[:3]))]
    assert len(server.requests) == 1


BROKEN: dict[str, Reply] = {
    "empty": (send(whole(b"")),),
    "blank": (send(whole(b"\n\n")),),
    "reset at the head": (reset(),),
    "no HTTP": (send(b"hello\r\n\r\n"), fin()),
    "a stream without a payload": (send(STREAM_HEAD + framed(KEEP_ALIVE)), fin()),
}


@limited(3.0)
@pytest.mark.parametrize("mode", [by_await, by_completion])
@pytest.mark.parametrize("name", BROKEN)
async def test_retried_reply(name: str, mode: Mode) -> None:
    """A reply that holds nothing is repeated, and the result tells so."""
    async with served(BROKEN[name], good, retry=PROMPTLY) as (server, client):
        taken = Taken()
        await mode(client, taken)

    assert taken.text == TEXT
    assert len(server.requests) == 2
    if taken.stream is not None:
        outcomes = [attempt.outcome for attempt in taken.stream.attempts]
        assert outcomes[1:] == ["ok"]
        assert outcomes[0] != "ok"


@limited(3.0)
async def test_refused_then_there() -> None:
    """A refused connection is repeated; the attempts name the reason."""
    async with FaultServer(good) as server:
        pass
    policy = RetryPolicy(attempts=30, base=0.05, cap=0.05)
    async with clean_client(server.url, retry=policy) as client:
        call = asyncio.create_task(ask(client))
        await asyncio.sleep(0.1)
        async with server:
            answer = await call

    outcomes = [attempt.outcome for attempt in answer.attempts]
    assert outcomes[-1] == "ok"
    assert set(outcomes[:-1]) == {"ConnectError"}


@limited(3.0)
@pytest.mark.parametrize("ending", [fin(), reset()], ids=["FIN", "RST"])
async def test_stream_is_never_repeated_after_its_first_payload(ending: Step) -> None:
    """Once a payload has come, a broken stream is an error and not asked again."""
    broken = (send(STREAM_HEAD + framed(FIRST)), ending)
    async with FaultServer(broken, good) as server:
        error, _ = await timed(by_chunks, server.url, retry=PROMPTLY)

    assert isinstance(error, StreamInterruptedError)
    assert len(server.requests) == 1


@limited(3.0)
async def test_error_in_the_stream_before_the_first_payload_is_repeated() -> None:
    """A 503 inside a stream, before any payload, is repeated like a status."""
    body = error_body("overloaded", "service_unavailable_error").decode()
    inside = (send(STREAM_HEAD + framed(f"data: {body}\n\n".encode()) + LAST_CHUNK),)
    async with served(inside, good, retry=PROMPTLY) as (_server, client):
        taken = Taken()
        await by_completion(client, taken)

    assert taken.text == TEXT
    assert taken.stream is not None
    assert [a.outcome for a in taken.stream.attempts] == [
        "ServiceUnavailableError",
        "ok",
    ]


@limited(3.0)
@pytest.mark.parametrize(
    ("retry_after", "least", "most", "requests"),
    [
        ("0.25", 0.25, 0.6, 2),
        ("-5", 0.0, 0.3, 2),
        ("soon", 0.0, 0.3, 2),
        ("nan", 0.0, 0.3, 2),
        ("1e999", 0.0, 0.3, 2),
        ("86400", 0.0, 0.3, 1),
        (formatdate(time.time() - 3600, usegmt=True), 0.0, 0.3, 2),
        (formatdate(time.time() + 86_400, usegmt=True), 0.0, 0.3, 1),
    ],
    ids=["soon", "past", "words", "nan", "infinite", "far", "old date", "far date"],
)
async def test_retry_after(
    retry_after: str, least: float, most: float, requests: int
) -> None:
    """Retry-After is kept within reason; beyond the cap there is no retry at all."""
    busy = (send(whole(error_body("slow"), "429 x", Retry_After=retry_after)),)
    async with served(busy, good, retry=PROMPTLY) as (server, client):
        started = time.monotonic()
        failed = False
        try:
            await by_await(client, Taken())
        except RateLimitError:
            failed = True
        elapsed = time.monotonic() - started

    assert failed == (requests == 1)
    assert len(server.requests) == requests
    assert least <= elapsed < most


@limited(6.0, debug=False)
async def test_budget_bounds_an_outage() -> None:
    """In a total outage the attempts per call stay near one."""
    calls = 120
    async with served((send(whole(b"", "503 Busy")),), retry=PROMPTLY) as (
        server,
        client,
    ):
        attempts: list[int] = []
        for _ in range(calls):
            with pytest.raises(InternalServerError) as caught:
                await by_await(client, Taken())
            attempts.append(len(caught.value.attempts))

    assert len(server.requests) == sum(attempts)
    assert attempts[0] == 3
    assert attempts[-1] <= 2
    assert sum(attempts) <= 1.1 * calls + 12


@limited(3.0)
async def test_attempts_tell_reason_wait_and_trace_id() -> None:
    """Each attempt is listed with its reason, status, wait and trace id."""
    busy = (send(whole(error_body("slow"), "429 x", Retry_After="0.05")),)
    async with served(busy, (send(whole(b"")),), GOOD_ANSWER, retry=PROMPTLY) as (
        _server,
        client,
    ):
        answer = await ask(client)

    assert [(a.number, a.outcome, a.status) for a in answer.attempts] == [
        (1, "RateLimitError", 429),
        (2, "EmptyResponseError", 200),
        (3, "ok", 200),
    ]
    assert [a.wait >= 0.05 for a in answer.attempts] == [True, False, False]
    assert all(attempt.request_id for attempt in answer.attempts)


@limited(3.0)
async def test_policy_of_a_call_wins() -> None:
    """A call may forbid its own repetition."""
    async with served((send(whole(b"")),), retry=PROMPTLY) as (server, client):
        once = RetryPolicy(attempts=1)
        with pytest.raises(EmptyResponseError):
            await ask(client, retry=once)
        with pytest.raises(EmptyResponseError):
            await client.with_options(max_retries=0).chat.completions.create(**REQUEST)

    assert len(server.requests) == 2


@limited(3.0)
async def test_every_error_is_an_api_error() -> None:
    """Nothing of the transport leaks: whatever breaks is an APIError with its words."""
    replies: list[Reply] = [
        (send(b"\x16\x03\x01\x02\x00\x01\x00"), fin()),
        (send(b"HTTP/9.9 999 Odd\r\n\r\n"), fin()),
        (send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), fin()),
        (send(head(Content_Length="abc")), fin()),
        (send(head(Content_Length="-1")), fin()),
        (send(head(Transfer_Encoding="gzip, chunked") + b"5\r\n"), fin()),
        (send(head(kind="a\x01b")), fin()),
        (send(b"\r\n\r\n\r\n"), fin()),
    ]
    async with served(*replies) as (_server, client):
        for _ in replies:
            with pytest.raises(APIError):
                await by_await(client, Taken())


@limited(3.0)
async def test_dripping_head_and_body() -> None:
    """A healthy answer that comes a byte at a time is an answer."""
    reply = (drip(whole(b'{"choices":[{"message":{"content":"x"}}]}'), 0.001),)
    async with served(reply) as (_server, client):
        taken = Taken()
        await by_await(client, taken)

    assert taken.text == "x"


@limited(3.0)
async def test_large_request_body() -> None:
    """A request of some megabytes arrives whole, and again after a retry."""
    prompt = "x" * 3_000_000
    failed = (send(whole(b"", "503 Busy")),)
    async with served(failed, GOOD_ANSWER, retry=PROMPTLY) as (server, client):
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": prompt}]
        )

    assert [len(request.body) > 3_000_000 for request in server.requests] == [True] * 2
    assert prompt.encode() in server.requests[1].body


@limited(3.0)
async def test_server_refuses_a_large_body_early() -> None:
    """A server that closes while a large body is being sent gives a typed error."""
    async with (
        FaultServer(greeting=(reset(),)) as server,
        clean_client(server) as client,
    ):
        with pytest.raises(APIConnectionError):
            await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "x" * 8_000_000}],
            )


@limited(3.0)
async def test_the_rest_of_a_long_drain_is_skipped() -> None:
    """A server that talks on after [DONE] loses its connection, the reader nothing."""
    talk = framed(b": more\n\n" * 20_000)
    reply = (send(STREAM_HEAD + framed(FIRST + THIRD + FINISH + DONE)), send(talk * 9))
    async with served(reply, GOOD_STREAM) as (server, client):
        taken = Taken()
        await by_chunks(client, taken)
        again = await (await open_stream(client)).completion()

    assert taken.text == "one three"
    assert again.text == TEXT
    assert len(server.connections) == 2


@limited(20.0)
async def test_many_small_pieces_hold_the_connection_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody reads: pieces of one byte wait with the server, not in memory."""
    held_up = asyncio.Event()
    hold = ResponseHandler.pause_reading

    def pause_reading(protocol: ResponseHandler) -> None:
        hold(protocol)
        held_up.set()

    monkeypatch.setattr(ResponseHandler, "pause_reading", pause_reading)
    body = framed(FIRST) + b"1\r\n\n\r\n" * 300_000 + framed(FINISH) + framed(DONE)
    patient = Timeouts.uniform(20.0)  # so many take a slow machine seconds
    reply = (send(STREAM_HEAD + body + LAST_CHUNK),)
    async with served(reply, timeouts=patient) as (_, client):
        stream: Any = await open_stream(client)
        first = await anext(stream)
        await held_up.wait()

        content = stream._response._content
        assert first.choices[0].delta.content
        assert len(content._buffer) <= content._high_water_chunks + 1
        completion = await stream.completion()
        assert completion.finish_reason == "stop"
        assert stream.is_complete


@limited(3.0)
async def test_an_answer_of_many_pieces_that_came_with_the_head() -> None:
    """However the server cuts an answer, all of it is read, also if it is there."""
    text = "word " * 200
    pieces = b"".join(framed(bytes([byte])) for byte in completion(text))
    start = head(Transfer_Encoding="chunked")
    async with served((send(start + pieces + LAST_CHUNK),)) as (_, client):
        taken = Taken()
        await by_await(client, taken)

    assert taken.text == text
