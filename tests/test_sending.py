"""The direct way against the ordinary one: the same bytes out, the same outcome."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aioresponses import aioresponses
from faults.answers import (
    GOOD_ANSWER,
    GOOD_STREAM,
    completion,
    error_body,
    good,
    head,
    whole,
)
from faults.harness import (
    REQUEST,
    Taken,
    ask,
    by_await,
    by_completion,
    clean_client,
    client_of,
    limited,
    open_stream,
    served,
)
from faults.wire import FaultServer, Reply, fin, reset, send, stall

from deepseek_async import (
    AsyncDeepSeek,
    ConnectTimeoutError,
    DeepSeekError,
    ResponseHeadTimeoutError,
    Timeouts,
    inside,
    sending,
    transport,
)

Call = Callable[[AsyncDeepSeek], Awaitable[object]]


@pytest.fixture
def directly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that went the direct way."""
    paths: list[str] = []
    send_directly = sending.Sender._send_directly

    async def noted(self: Any, request: Any, *others: Any) -> Any:
        paths.append(request.path)
        return await send_directly(self, request, *others)

    monkeypatch.setattr(sending.Sender, "_send_directly", noted)
    return paths


def know_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an aiohttp that is not the one we know."""
    monkeypatch.setattr(sending, "KNOWN", False)
    monkeypatch.setattr(transport, "KNOWN", False)


# -- the same bytes --------------------------------------------------------------------


async def _sent(call: Call, base_path: str = "") -> bytes:
    """What one call writes to its connection, to the byte."""
    received = bytearray()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while b"}" not in received[-3:]:
            received.extend(await reader.read(65_536))
        writer.write(whole(completion()))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}{base_path}") as client:
            await call(client)
    return bytes(received).replace(str(port).encode(), b"PORT")


UNICODE = [{"role": "user", "content": "Grüße, 世界 \x00\r\n\u2028🌍"}]
PREFIX = [*REQUEST["messages"], {"role": "assistant", "content": "x", "prefix": True}]

CALLS: dict[str, Call] = {
    "awaited": ask,
    "streamed": open_stream,
    "unicode": lambda client: ask(client, messages=UNICODE),
    "beta": lambda client: ask(client, messages=PREFIX),
    "fill in the middle": lambda client: client.completions.create(
        model="m", prompt="x"
    ),
    "extra headers": lambda client: ask(
        client, extra_headers={"X-B": "1", "x-a": "", "USER-AGENT": "me", "Cookie": "a"}
    ),
    "60 KB": lambda client: ask(
        client, messages=[{"role": "user", "content": "x" * 60_000}]
    ),
}


@limited(5.0)
@pytest.mark.parametrize("base_path", ["", "/v1", "/a%20b"])
@pytest.mark.parametrize("name", CALLS)
async def test_the_same_bytes(
    name: str, base_path: str, directly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server cannot tell the two ways apart."""
    direct = await _sent(CALLS[name], base_path)
    assert len(directly) == 1
    know_nothing(monkeypatch)
    ordinary = await _sent(CALLS[name], base_path)
    assert len(directly) == 1

    assert direct == ordinary
    assert direct.count(b"Content-Length: ") == direct.count(b"Host: ") == 1


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\x7fb"])
@pytest.mark.parametrize("place", ["name", "value", "target"])
def test_no_header_is_smuggled_in(bad: str, place: str) -> None:
    """Control characters are refused wherever they stand, as aiohttp refuses them."""
    parts = {"name": "X-Mine", "value": "1", "target": "/", place: bad}
    line = f"POST {parts['target']} HTTP/1.1"

    with pytest.raises(ValueError, match="Forbidden control character"):
        inside.head_of(line, {parts["name"]: parts["value"]})


# -- the same outcome ------------------------------------------------------------------

REPLIES: dict[str, Reply] = {
    "good answer": GOOD_ANSWER,
    "good stream": GOOD_STREAM,
    "more headers": (
        send(whole(completion(), X_One="1", X_Two="ü", Set_Cookie="a=b")),
    ),
    "informational heads first": (
        send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"),
        *GOOD_ANSWER,
    ),
    "refused": (send(whole(error_body("no"), "400 Bad Request")),),
    "busy": (
        send(whole(error_body("slow down"), "429 Too Many Requests", Retry_After="7")),
    ),
    "redirect": (send(whole(b"", "302 Found", Location="http://elsewhere/")),),
    "no content": (send(head("204 No Content")),),
    "other protocol": (
        send(head("101 Switching Protocols", Upgrade="x", Connection="upgrade")),
    ),
    "empty": (send(whole(b"")),),
    "up to the end of the connection": (send(head() + completion()), fin()),
    "HTTP 1.0": (
        send(whole(completion()).replace(b"HTTP/1.1", b"HTTP/1.0")),
        fin(),
    ),
    "zipped unasked": (
        send(whole(gzip.compress(completion()), Content_Encoding="gzip")),
    ),
    "not HTTP": (send(b"220 mail.example.org ESMTP\r\n\r\n"),),
    "half a head": (send(head()[:20]), fin()),
    "endless header": (send(head(X_Long="x" * 9_000)),),
    "too many headers": (send(head(**{f"X{i}": "1" for i in range(200)})),),
    "no head": (fin(),),
    "reset": (reset(),),
    "cut": (send(whole(completion())[:-5]), fin()),
    "broken framing": (send(head(Transfer_Encoding="chunked") + b"zz\r\n"), fin()),
    "two lengths": (send(head(Content_Length="1", Transfer_Encoding="chunked")), fin()),
}


async def _outcome(reply: Reply, *, stream: bool) -> list[object]:
    """All that a caller can see of a call."""
    taken = Taken()
    seen: list[object] = []
    async with served(reply) as (server, client):
        for _ in range(2):  # the second finds the connection as the first left it
            try:
                await (by_completion if stream else by_await)(client, taken)
            except DeepSeekError as error:
                shown = {
                    name: value
                    for name, value in vars(error).items()
                    if name not in {"attempts", "partial"}
                }
                seen += [type(error), str(error), shown]
            if taken.stream is not None:
                seen += [taken.stream.request_id, list(taken.stream.headers.items())]
            seen += [taken.text, [request.connection for request in server.requests]]
    return seen


@limited(9.0)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REPLIES)
async def test_the_same_outcome(
    name: str, *, stream: bool, directly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statuses, headers, bodies, errors and the use of connections are the same."""
    direct = await _outcome(REPLIES[name], stream=stream)
    sent_directly = len(directly)
    know_nothing(monkeypatch)
    ordinary = await _outcome(REPLIES[name], stream=stream)

    assert sent_directly == len(directly) == 2
    assert direct == ordinary
    if name == "more headers" and not stream:
        assert "one two three" in direct


@limited(5.0)
@pytest.mark.parametrize("known", [True, False])
async def test_clocks_of_both_ways(
    *, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection, and then a head, may each take only so long."""
    if not known:
        know_nothing(monkeypatch)
    async with served((stall(),), timeouts=Timeouts(head=0.1)) as (server, client):
        with pytest.raises(ResponseHeadTimeoutError):
            await ask(client)
        await server.connections[0].gone.wait()

    clocks = Timeouts(connect=0.1, head=3.0)
    # Nobody speaks TLS here: the handshake never ends.
    async with FaultServer((stall(),), greeting=(stall(),)) as silent:
        url = silent.url.replace("http:", "https:")
        async with clean_client(url, timeouts=clocks) as client:
            with pytest.raises(ConnectTimeoutError):
                await ask(client)


# -- who goes which way ----------------------------------------------------------------


@limited(5.0)
async def test_both_ways_share_their_connections(directly: list[str]) -> None:
    """A large body goes the ordinary way, over the connection of a small one."""
    large = [{"role": "user", "content": "x" * 70_000}]
    async with served(good) as (server, client):
        await ask(client)
        await ask(client, messages=large)
        await ask(client)
        await client.models.list()

    assert len(directly) == 2
    assert {request.connection for request in server.requests} == {0}
    assert len(server.requests) == 4


@limited(5.0)
async def test_proxies_take_the_ordinary_way(directly: list[str]) -> None:
    """So does a client that reads the environment, proxies or not."""
    async with served(good, trust_env=True) as (_server, client):
        await ask(client)
    async with (
        FaultServer(good) as proxy,
        clean_client("http://localhost:9", proxy=proxy.url) as client,
    ):
        await ask(client)

    assert not directly


@limited(5.0)
async def test_a_stub_in_the_place_of_aiohttp_is_used(directly: list[str]) -> None:
    """Tests of other people's programs work, even with a client used before."""
    async with served(good) as (server, client):
        await ask(client)
        with aioresponses() as stub:
            url = f"{server.url}/chat/completions"
            stub.post(url, exception=aiohttp.ClientConnectionError("stubbed"))
            with pytest.raises(DeepSeekError, match="no connection"):
                await ask(client)
        await ask(client)

    assert len(server.requests) == len(directly) == 2


@limited(5.0)
async def test_tracers_see_every_request(
    directly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instrumentation that gives each new session a trace config sees the request."""
    seen: list[str] = []
    tracing = aiohttp.TraceConfig()

    async def note(_session: object, _context: object, params: Any) -> None:
        seen.append(params.url.path)

    tracing.on_request_start.append(note)
    make = aiohttp.ClientSession.__init__

    def make_traced(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, trace_configs=[tracing], **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", make_traced)
    async with served(good) as (_server, client):
        await ask(client)

    assert seen == ["/chat/completions"]
    assert not directly


# -- whether aiohttp is the one we know ------------------------------------------------


def test_this_aiohttp_is_known() -> None:
    """If a new aiohttp fails here, all still works, but no faster than aiohttp."""
    assert inside.KNOWN


def _refuse(*_: object, **__: object) -> None:
    message = "unknown"
    raise TypeError(message)


def _unchecked(line: str, headers: dict[str, str]) -> bytes:
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{line}\r\n{text}\r\n".encode()


def _nothing(*_: object) -> None:
    pass


OTHERS: list[tuple[Any, str, object]] = [
    (inside, "_serialize", None),
    (inside, "_serialize", _unchecked),
    (ResponseHandler, "set_response_params", _refuse),
    (ResponseHandler, "data_received", _nothing),
    (ResponseHandler, "read", _refuse),
    (ResponseHandler, "pause_reading", _nothing),
    (ResponseHandler, "resume_reading", _nothing),
    (ResponseHandler, "should_close", True),
    (aiohttp.StreamReader, "_buffer", property(_nothing)),
    (aiohttp.StreamReader, "_size", 3),
    (aiohttp.StreamReader, "_waiter", None),
    (aiohttp.StreamReader, "_http_chunk_splits", property(_refuse)),
    (aiohttp.StreamReader, "is_eof", _nothing),
]


@pytest.mark.parametrize(("place", "name", "value"), OTHERS)
def test_another_aiohttp_is_found_out(
    place: Any, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that is gone, or does something else, is noticed by the sample."""
    assert inside._is_known_for_sure()
    monkeypatch.setattr(place, name, value)

    assert not inside._is_known_for_sure()


@limited(5.0)
async def test_another_request_of_aiohttp_is_no_obstacle(
    directly: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no route can be made of aiohttp's request, calls go the ordinary way."""
    monkeypatch.setattr(sending._Route, "__init__", _refuse)
    async with served(good) as (_server, client):
        await ask(client)

    assert not directly


def test_a_wrapped_session_is_never_taken_for_the_original(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tracer that was there first is not passed by either."""
    own = aiohttp.ClientSession._request
    assert inside._own(aiohttp.ClientSession, "_request") is own

    async def wrapped(*args: Any, **options: Any) -> Any:
        return await own(*args, **options)

    wrapped.__module__ = own.__module__
    monkeypatch.setattr(aiohttp.ClientSession, "_request", wrapped)
    assert inside._own(aiohttp.ClientSession, "_request") is None


class _Pausable(asyncio.Transport):
    """A transport that only counts how often it is told to go on."""

    is_paused = False
    resumed = 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False
        self.resumed += 1


async def _body(sent: bytes) -> tuple[Any, _Pausable, aiohttp.StreamReader]:
    """A protocol of ours that has received a head and so much of a body."""
    protocol: Any = inside.PromptProtocol(asyncio.get_running_loop())
    protocol.transport = transport = _Pausable()
    protocol.set_response_params(read_until_eof=True, read_bufsize=64)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    protocol.data_received(head + sent)
    _, content = await inside.read_head(protocol)
    return protocol, transport, content


async def test_a_connection_held_up_is_told_once_to_go_on() -> None:
    """However many pieces there are, they are read as one."""
    protocol, transport, content = await _body(b"")
    assert inside.make_plain(content)
    protocol.data_received(b"1\r\na\r\n" * 250)
    assert transport.is_paused

    read = b"".join(inside.take(content) or b"" for _ in range(250))
    assert read == b"a" * 250
    assert (transport.is_paused, transport.resumed) == (False, 1)


async def _read_on(
    protocol: Any, content: aiohttp.StreamReader, *pieces: bytes
) -> bytes:
    """All that is read while the rest of a body comes in."""
    found: list[bytes] = []
    for sent in (b"", *pieces):
        protocol.data_received(sent)
        while data := inside.take(content):
            found.append(data)
    assert content.is_eof()
    return b"".join(found)


@pytest.mark.parametrize("count", range(2, 14))
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_body_that_held_the_connection_up_before_it_was_read(
    count: int, *, at_once: bool
) -> None:
    """For the number of its HTTP chunks, wherever in them the parser was held up."""
    protocol, _, content = await _body(b"1\r\na\r\n" * count)
    assert inside.make_plain(content)

    rest = b"1\r\nb\r\n" * 3 + b"0\r\n\r\n"
    pieces = [rest] if at_once else [rest[i : i + 1] for i in range(len(rest))]
    read = await _read_on(protocol, content, *pieces)

    assert read == b"a" * count + b"b" * 3


async def test_what_the_parser_keeps_is_fetched_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of too many pieces some are left, but the connection goes on: it may close."""
    monkeypatch.setattr(inside, "_MOST_PIECES", 2)
    _, _, content = await _body(b"1\r\na\r\n" * 900)
    assert inside.make_plain(content)
    taken = 0
    while inside.take(content):
        taken += 1
    assert taken < 300  # 540, if it went on only when nothing is left


def test_the_insides_of_aiohttp_are_in_one_place() -> None:
    """No other module touches a private member of a reader or a protocol."""
    package = Path(inside.__file__).parent
    names = ("_http_chunk_splits", "_reading_paused", "_serialize_headers")
    touching = {
        path.name
        for path in package.rglob("*.py")
        if any(name in path.read_text() for name in names)
    }
    assert touching == {"inside.py"}
