"""Over TLS, as every caller of the real server is: both loops, real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import pytest
import trustme
from faults.answers import (
    DONE,
    EVENTS,
    FINISH,
    FIRST,
    LAST_CHUNK,
    SECOND,
    STREAM_HEAD,
    TEXT,
    UNFRAMED_HEAD,
    completion,
    framed,
    head,
    text_event,
    whole,
)
from faults.harness import (
    KEY,
    LOOPS,
    PROMPT,
    Taken,
    ask,
    by_text,
    clean_client,
    open_stream,
    run_on,
)
from faults.wire import FaultServer, Reply, fin, reset, send, signal, until
from leaks import leaks

from deepseek_async import (
    AsyncDeepSeek,
    ConnectError,
    DeepSeekError,
    StreamInterruptedError,
    Timeouts,
)

pytestmark = pytest.mark.parametrize("loop", LOOPS)

GOOD_STREAM: Reply = [
    send(STREAM_HEAD + framed(FIRST) + framed(SECOND)),
    send(framed(EVENTS[len(FIRST + SECOND) :]) + LAST_CHUNK),
]


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    return context


def client_side() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@asynccontextmanager
async def served(
    *replies: Reply, **options: Any
) -> AsyncGenerator[tuple[FaultServer, AsyncDeepSeek], None]:
    server = FaultServer(*replies, tls=server_side())
    options = {"ssl_context": client_side(), **options}
    async with server, clean_client(server, **options) as client:
        yield server, client


def test_answers_and_streams_share_a_connection(loop: str) -> None:
    """One handshake for all of them, one after the other."""

    async def calls() -> None:
        whole_answer: Reply = [send(whole(completion()))]
        replies = [whole_answer, GOOD_STREAM, whole_answer, GOOD_STREAM]
        async with served(*replies) as (server, client):
            for _ in range(2):
                assert (await ask(client)).text == TEXT
                taken = Taken()
                await by_text(client, taken)
                assert taken.text == TEXT
            assert len(server.connections) == 1

    run_on(loop, calls())


def test_a_certificate_nobody_vouches_for_is_refused(loop: str) -> None:
    """Before the key or the prompt is sent; the error says why."""

    async def call() -> None:
        trusting_others = ssl.create_default_context()
        async with served([send(whole(completion()))], ssl_context=trusting_others) as (
            server,
            client,
        ):
            with pytest.raises(ConnectError) as caught:
                await ask(client)
            assert not server.requests
        assert "certificate" in str(caught.value).lower()
        assert not leaks(caught.value, KEY)
        assert not leaks(caught.value, PROMPT)

    run_on(loop, call())


def test_a_server_without_tls_is_a_failed_connection(loop: str) -> None:
    """It answers in plain text where a handshake is due."""

    async def call() -> None:
        plain = FaultServer(greeting=[send(whole(b"{}")), fin()])
        options = {"ssl_context": client_side()}
        async with plain:
            url = plain.url.replace("http:", "https:")
            async with clean_client(url, **options) as client:
                with pytest.raises(ConnectError):
                    await ask(client)

    run_on(loop, call())


@pytest.mark.parametrize("ending", [fin, reset], ids=["close", "reset"])
def test_a_cut_stream_keeps_what_had_arrived(loop: str, ending: Any) -> None:
    """However the connection ends, TLS's own goodbye or none."""

    async def call() -> None:
        cut = [send(STREAM_HEAD + framed(FIRST + SECOND)), ending()]
        async with served(cut) as (_, client):
            taken = Taken()
            with pytest.raises(StreamInterruptedError) as caught:
                await by_text(client, taken)
        assert taken.text == "one two "
        assert caught.value.partial is not None
        assert caught.value.partial.text == "one two "

    run_on(loop, call())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("count", [3_000, 20_000, 43_000])
def test_a_body_of_tiny_http_chunks_arrives_whole(
    loop: str, count: int, *, late: bool
) -> None:
    """More than the parser takes in one go; the server closes the connection."""
    text = "y" * (count // len(text_event("y")))
    body = b"".join(map(text_event, text)) + FINISH + DONE
    closing = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in body)

    async def call() -> None:
        sent, read = asyncio.Event(), asyncio.Event()
        reply = [send(closing + tiny + LAST_CHUNK), signal(sent), until(read), fin()]
        async with served(reply) as (_, client):
            stream = await open_stream(client)
            if late:
                await sent.wait()
            read.set()
            found = [piece async for piece in stream.text()]
        assert "".join(found) == text

    run_on(loop, call())


def test_a_whole_answer_in_tiny_http_chunks(loop: str) -> None:
    """An awaited answer has no reader meanwhile."""
    text = "y" * 20_000
    closing = head(Transfer_Encoding="chunked", Connection="close")
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in completion(text))

    async def call() -> None:
        async with served([send(closing + tiny + LAST_CHUNK), fin()]) as (_, client):
            assert (await ask(client)).text == text

    run_on(loop, call())


def test_a_handshake_that_stalls_ends_by_the_clock(loop: str) -> None:
    """The connect clock covers it."""

    async def call() -> None:
        silent = FaultServer(greeting=[])
        timeouts = Timeouts(connect=0.2)
        async with silent:
            url = silent.url.replace("http:", "https:")
            options = {"ssl_context": client_side(), "timeouts": timeouts}
            async with clean_client(url, **options) as client:
                with pytest.raises(DeepSeekError, match="connect"):
                    await ask(client)

    run_on(loop, call())


def test_a_stream_without_a_frame_ends_with_its_connection(loop: str) -> None:
    """A body up to the end of the connection is whole if `[DONE]` was in it."""

    async def call() -> None:
        async with served([send(UNFRAMED_HEAD + EVENTS), fin()]) as (_, client):
            taken = Taken()
            await by_text(client, taken)
            assert taken.text == TEXT

    run_on(loop, call())
