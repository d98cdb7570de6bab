"""Brotli and Zstandard bombs: refused at the limit, in bounded memory.

The client asks for no compression at all; a server that compresses all the same is
read by aiohttp where a decoder is installed, and refused with a typed error where not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from faults.answers import EVENTS, TEXT, completion, whole
from faults.harness import Taken, by_await, by_completion, limited, served
from faults.wire import Reply, Request, send
from test_limits import MB, memory

from deepseek_async import (
    APIError,
    InternalServerError,
    ResponseTooLargeError,
)

BOMB_SIZE = 64
"""Of a bomb when unpacked, in megabytes."""


def module(name: str) -> Any:
    """An optional module, or the test is skipped."""
    return pytest.importorskip(name)


def brotli(parts: list[bytes]) -> bytes:
    """Compress with Brotli, if aiohttp can unpack it."""
    squeeze = module("brotli").Compressor(quality=5)
    return b"".join([*map(squeeze.process, parts), squeeze.finish()])


def zstandard(parts: list[bytes]) -> bytes:
    """Compress with Zstandard, if aiohttp can unpack it."""
    newer = sys.version_info >= (3, 14)
    found = module("compression.zstd" if newer else "backports.zstd")
    squeeze = found.ZstdCompressor()
    return b"".join([*map(squeeze.compress, parts), squeeze.flush()])


CODECS: dict[str, Callable[[list[bytes]], bytes]] = {"br": brotli, "zstd": zstandard}


def packed(
    encoding: str, parts: list[bytes], kind: str, status: str = "200 OK"
) -> Reply:
    """A compressed body, which the client never asked for."""
    body = CODECS[encoding](parts)
    return (send(whole(body, status, kind, Content_Encoding=encoding)),)


def bomb(encoding: str, first: bytes, kind: str, status: str = "200 OK") -> Reply:
    """A body that unpacks to `BOMB_SIZE` megabytes."""
    return packed(encoding, [first, *[b"x" * MB] * BOMB_SIZE], kind, status)


@limited(10.0, debug=False)
@pytest.mark.parametrize("encoding", CODECS)
async def test_bomb_for_an_answer(encoding: str) -> None:
    """A body that unpacks to 64 MB is refused at the limit, in bounded memory."""
    reply = bomb(encoding, b'{"a":"', "application/json")
    async with served(reply, max_body_size=2 * MB) as (_server, client):
        with memory() as growth, pytest.raises(ResponseTooLargeError, match="2000000"):
            await by_await(client, Taken())

    assert growth.peak < 8 * MB


@limited(10.0, debug=False)
@pytest.mark.parametrize("encoding", CODECS)
async def test_bomb_for_a_stream(encoding: str) -> None:
    """An event that unpacks to 64 MB is refused at the limit, in bounded memory."""
    reply = bomb(encoding, b"data: ", "text/event-stream")
    async with served(reply) as (_server, client):
        with memory() as growth, pytest.raises(ResponseTooLargeError):
            await by_completion(client, Taken())

    assert growth.peak < 24 * MB


@limited(10.0, debug=False)
@pytest.mark.parametrize("encoding", CODECS)
async def test_bomb_for_an_error(encoding: str) -> None:
    """An error body that unpacks to 64 MB is read in part only."""
    reply = bomb(encoding, b"no ", "text/plain", "500 x")
    async with served(reply) as (_server, client):
        with memory() as growth, pytest.raises(InternalServerError) as caught:
            await by_await(client, Taken())

    assert len(caught.value.body) <= 2_048
    assert growth.peak < 8 * MB


@limited(5.0)
@pytest.mark.parametrize("encoding", CODECS)
async def test_honest_compression_is_read(encoding: str) -> None:
    """An answer and a stream that a gateway has compressed are read like any other."""
    answer = packed(encoding, [completion()], "application/json")
    stream = packed(encoding, [EVENTS], "text/event-stream")

    def reply(request: Request) -> Reply:
        return stream if request.is_stream else answer

    async with served(reply, reply) as (_server, client):
        for mode in (by_await, by_completion):
            taken = Taken()
            await mode(client, taken)
            assert taken.text == TEXT


@limited(5.0)
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip", "deflate", "compress", "x"])
@pytest.mark.parametrize("mode", [by_await, by_completion])
async def test_what_is_not_compressed_as_it_says(encoding: str, mode: Any) -> None:
    """A body that is not what its encoding says, or of none known, is a typed error."""
    head = (send(whole(b"\x93not packed", Content_Encoding=encoding)),)
    async with served(head) as (_server, client):
        with pytest.raises(APIError):
            await mode(client, Taken())
