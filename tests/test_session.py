"""The session manager: slots, headers, origins, proxies, and closing under load."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from faults.answers import (
    EVENTS,
    FIRST,
    GOOD_ANSWER,
    GOOD_STREAM,
    STREAM_HEAD,
    TEXT,
    completion,
    framed,
    good,
    whole,
)
from faults.harness import (
    KEY,
    ONCE,
    PATIENT,
    REQUEST,
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
    session_of,
    slots_in_use,
    within,
)
from faults.wire import FaultServer, Reply, Request, closed_port, pause, send, stall

from deepseek_async import (
    AsyncDeepSeek,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    RetryPolicy,
    StreamClosedError,
    Timeouts,
)

# -- what is sent ----------------------------------------------------------------------


@limited(3.0)
async def test_headers_of_a_request() -> None:
    """A request carries the bearer key and asks for no compression."""
    async with served(good) as (server, client):
        await by_await(client, Taken())
        await by_completion(client, Taken())

    awaited, streaming = (request.headers for request in server.requests)
    assert awaited["authorization"] == streaming["authorization"] == f"Bearer {KEY}"
    assert awaited["accept"] == "application/json"
    assert streaming["accept"] == "text/event-stream"
    assert awaited["accept-encoding"] == "identity"
    assert awaited["content-type"] == "application/json"
    assert awaited["user-agent"].startswith("deepseek-async/")
    assert "cookie" not in awaited


@limited(3.0)
async def test_no_cookies() -> None:
    """A cookie that the server sets is not sent back."""
    reply = (send(whole(completion(), Set_Cookie="a=b; Path=/")),)
    async with served(reply) as (server, client):
        await by_await(client, Taken())
        await by_await(client, Taken())

    assert "cookie" not in server.requests[1].headers


@limited(3.0)
async def test_extra_headers_of_a_call() -> None:
    """Extra headers go with one call only."""
    async with served(good) as (server, client):
        await ask(client, extra_headers={"X-Mine": "1"})
        await by_await(client, Taken())

    assert server.requests[0].headers["x-mine"] == "1"
    assert "x-mine" not in server.requests[1].headers


@limited(3.0)
async def test_paths() -> None:
    """Beta features go to the beta path, everything else below the base URL."""
    reply = (send(whole(b'{"choices":[{"text":"x"}],"data":[],"id":"m"}')),)
    async with (
        FaultServer(reply) as server,
        clean_client(f"{server.url}/v1/") as client,
    ):
        await ask(client)
        await client.completions.create(model="m", prompt="x")
        await client.models.list()
        await client.models.retrieve("a/b c")
        await client.balance()
        prefix = {"role": "assistant", "content": "x", "prefix": True}
        messages = [*REQUEST["messages"], prefix]
        await client.chat.completions.create(model="m", messages=messages)

    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/v1/chat/completions"),
        ("POST", "/beta/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/a%2Fb%20c"),
        ("GET", "/v1/user/balance"),
        ("POST", "/beta/chat/completions"),
    ]


@limited(3.0)
async def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are used only when asked for."""
    dead = f"http://127.0.0.1:{closed_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, dead)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with FaultServer(good) as server:
        async with clean_client(server.url) as client:
            await by_await(client, Taken())
        async with clean_client(server.url, trust_env=True) as client:
            with pytest.raises(ConnectError):
                await by_await(client, Taken())


@limited(3.0)
async def test_netrc_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials of a netrc file never replace the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with served(good) as (server, client):
        await by_await(client, Taken())

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@limited(3.0)
async def test_explicit_proxy() -> None:
    """A proxy that is given gets the request with the full URL."""
    async with (
        FaultServer(good) as proxy,
        clean_client("http://localhost:9", proxy=proxy.url) as client,
    ):
        taken = Taken()
        await by_await(client, taken)

    assert taken.text == TEXT
    assert proxy.requests[0].path == "http://localhost:9/chat/completions"


# -- slots -----------------------------------------------------------------------------


@limited(3.0)
async def test_no_more_connections_than_slots() -> None:
    """However many calls there are, the server sees `max_connections` at most."""
    most = 0

    def reply(_: Request) -> Reply:
        nonlocal most
        most = max(most, server.open_connections)
        return (pause(0.005), *GOOD_ANSWER)

    server = FaultServer(reply)
    async with server, clean_client(server.url, max_connections=3) as client:
        await asyncio.gather(*(by_await(client, Taken()) for _ in range(60)))

    assert most == 3
    assert len(server.connections) == 3


@limited(3.0)
async def test_first_come_first_served() -> None:
    """Calls that wait for a slot get it in the order they came."""
    async with served((pause(0.002), *GOOD_ANSWER), max_connections=1) as (
        _server,
        client,
    ):
        finished: list[int] = []

        async def call(number: int) -> None:
            await by_await(client, Taken())
            finished.append(number)

        await asyncio.gather(*(call(number) for number in range(20)))

    assert finished == list(range(20))


@limited(3.0)
async def test_an_open_stream_holds_its_slot() -> None:
    """A stream holds one slot until it ends; then the next call has it."""
    reply = (send(STREAM_HEAD + framed(FIRST)), stall())
    async with served(reply, GOOD_ANSWER, max_connections=1) as (_server, client):
        stream = await open_stream(client)
        assert slots_in_use(client) == 1
        waiting = asyncio.create_task(by_await(client, Taken()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await stream.close()
        await within(0.5, waiting)


@limited(3.0)
async def test_a_waiter_that_gives_up_takes_no_slot() -> None:
    """Calls cancelled while they wait for a slot leave the queue intact."""
    reply = (pause(0.05), *GOOD_ANSWER)
    async with served(reply, max_connections=1) as (server, client):
        calls = [asyncio.create_task(by_await(client, Taken())) for _ in range(9)]
        await asyncio.sleep(0.01)
        for call in calls[1::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [outcome is None for outcome in outcomes] == [
        number % 2 == 0 for number in range(9)
    ]
    assert len(server.requests) == 5


@pytest.mark.parametrize("number", [0, -1, 1.5, True, None, "4"])
@pytest.mark.parametrize("name", ["max_connections", "max_body_size"])
def test_limits_are_checked(name: str, number: object) -> None:
    """A limit that is no positive whole number is refused at once, by name."""
    with pytest.raises(ConfigurationError, match=name):
        client_of("http://127.0.0.1:9", **{name: number})


# -- closing ---------------------------------------------------------------------------


@limited(3.0)
async def test_closing_wakes_every_kind_of_wait() -> None:
    """Closing ends calls in head, body, stream, queue and retry sleep at once."""

    def reply(_: Request) -> Reply:
        kinds: tuple[Reply, ...] = (
            (stall(),),
            (send(whole(completion())[:-5]), stall()),
            (send(STREAM_HEAD + framed(FIRST)), stall()),
            (send(whole(b"", "503 x", Retry_After="30")),),
        )
        return kinds[len(server.requests) - 1]

    server = FaultServer(reply)
    async with server:
        client = client_of(server.url, retry=RetryPolicy(), max_connections=3)
        taken = Taken()
        calls = [asyncio.create_task(by_await(client, Taken()))]
        await server.requested(1)
        calls.append(asyncio.create_task(by_await(client, Taken())))
        await server.requested(2)
        calls.append(asyncio.create_task(by_chunks(client, taken)))
        await server.requested(3)
        await asyncio.sleep(0.02)
        calls += [asyncio.create_task(by_await(client, Taken())) for _ in range(3)]
        await asyncio.sleep(0.01)
        await client.aclose()
        outcomes = await within(0.5, asyncio.gather(*calls, return_exceptions=True))
        await server.all_gone()

    assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 6
    assert isinstance(outcomes[2], ClientClosedError)
    assert outcomes[2].partial is not None
    assert outcomes[2].partial.text == "one "


@limited(3.0)
async def test_closing_wakes_a_retry_sleep() -> None:
    """A call that sleeps before its next attempt ends when the client closes."""
    busy = (send(whole(b"", "503 x", Retry_After="30")),)
    async with FaultServer(busy) as server:
        client = client_of(server.url, retry=RetryPolicy())
        call = asyncio.create_task(by_await(client, Taken()))
        await server.requested(1)
        await asyncio.sleep(0.02)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await within(0.2, call)


@limited(3.0)
async def test_closing_in_a_task_group_is_an_error_not_a_cancellation() -> None:
    """Inside a TaskGroup a call whose client is closed fails; it does not vanish."""
    async with FaultServer((stall(),)) as server:
        client = client_of(server.url, max_connections=1)
        failures: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(_recorded(client, failures))
                await server.requested(1)
                await client.aclose()
        except* ClientClosedError as found:
            failures.extend(found.exceptions)

    assert failures
    assert all(isinstance(failure, ClientClosedError) for failure in failures)


async def _recorded(client: AsyncDeepSeek, failures: list[BaseException]) -> None:
    try:
        await by_await(client, Taken())
    except ClientClosedError as error:
        failures.append(error)


@limited(3.0)
async def test_use_after_close_and_double_close() -> None:
    """A closed client says so to every call; closing again does nothing."""
    async with FaultServer(good) as server:
        client = client_of(server.url)
        await by_await(client, Taken())
        view = client.with_options(timeout=1.0)
        await asyncio.gather(client.aclose(), client.aclose(), view.aclose())
        await client.close()
        for closed in (client, view):
            assert closed.is_closed
            assert "closed" in repr(closed)
            for mode in (by_await, by_completion):
                with pytest.raises(ClientClosedError):
                    await mode(closed, Taken())
            with pytest.raises(ClientClosedError):
                await closed.balance()

    assert len(server.requests) == 1


@limited(3.0)
async def test_never_used_client_needs_no_closing() -> None:
    """A client that was made and dropped, or closed unused, leaves nothing behind."""
    client_of("http://127.0.0.1:9")
    async with client_of("http://127.0.0.1:9") as client:
        assert session_of(client) is None


@limited(3.0)
async def test_view_shares_connections() -> None:
    """A client made by `with_options` uses the same connections and slots."""
    async with served(good) as (server, client):
        await by_await(client, Taken())
        await by_await(client.with_options(timeouts=Timeouts(), retry=ONCE), Taken())

    assert len(server.connections) == 1


@limited(3.0)
async def test_closing_keeps_what_had_arrived() -> None:
    """Closing the client loses nothing a stream had received by then."""
    reply = (
        send(STREAM_HEAD + framed(FIRST)),
        pause(0.02),
        send(framed(EVENTS[len(FIRST) : -40])),
        stall(),
    )
    async with FaultServer(reply) as server:
        client = client_of(server.url)
        stream = await open_stream(client)
        await anext(stream)
        await asyncio.sleep(0.1)
        await client.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await stream.completion()

    assert caught.value.partial == stream.partial
    assert stream.partial.text == TEXT


@limited(3.0)
async def test_a_stream_closed_first_keeps_its_own_reason() -> None:
    """A stream that its reader closed tells so, also after the client is closed."""
    async with FaultServer((send(STREAM_HEAD + framed(FIRST)), stall())) as server:
        async with clean_client(server.url) as client:
            stream = await open_stream(client)
            await stream.close()
            await stream.close()
            await pool_empty(client)
        with pytest.raises(StreamClosedError):
            await stream.completion()


@limited(3.0)
async def test_a_complete_stream_outlives_its_client() -> None:
    """What a complete stream has received stays readable after closing."""
    async with FaultServer(GOOD_STREAM) as server:
        async with clean_client(server.url) as client:
            stream = await open_stream(client)
            await stream.completion()
        assert (await stream.completion()).text == TEXT


def test_closing_from_another_loop() -> None:
    """Closing in one loop also ends the calls of a loop in another thread."""
    heard = threading.Event()

    def reply(_: Request) -> Reply:
        heard.set()
        return (stall(),)

    with serving(reply) as server:
        client = client_of(server.url, timeouts=PATIENT)
        outcomes: list[BaseException] = []

        async def call() -> None:
            try:
                await by_await(client, Taken())
            except ClientClosedError as error:
                outcomes.append(error)

        thread = threading.Thread(target=lambda: asyncio.run(call()))
        thread.start()

        async def close() -> None:
            await asyncio.to_thread(heard.wait, 2.0)
            await client.aclose()

        asyncio.run(close())
        thread.join(2.0)

        assert not thread.is_alive()
        assert len(outcomes) == 1
