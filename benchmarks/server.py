"""The server under the benchmarks: bytes encoded beforehand, a raw protocol.

`python -m benchmarks.server [--certificate PEM --key PEM] [--core N]` prints its
ports as one line of JSON and serves until its standard input closes. The first part
of the request path names a slot, and the control port says what a slot answers, so
that a client keeps its connections from one scenario to the next:

    ask              an answer of about 1 KB
    long             an answer of about 1 MB with log probabilities
    bulk CHUNKS      a stream of CHUNKS chunks, sent at once
    tools BYTES      a streamed tool call with BYTES of arguments, sent at once
    live RATE N      a stream of N chunks, RATE a second, one packet each, which
                     begins when the control port is told `go SLOT`

The control port speaks lines: `set SLOT SCENARIO`, `go SLOT` and `cpu`; each is
answered with the CPU seconds that the server has used so far.
"""

import argparse
import asyncio
import functools
import json
import os
import ssl
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import cast

from . import payloads

RAMP = 0.05  # seconds from `go` to the first chunk
TAIL = 0.25  # seconds from the last chunk to the end of the stream


class LiveGroup:
    """The live streams that start together, evenly out of step."""

    def __init__(self) -> None:
        self.streams: list[LiveStream] = []

    def go(self) -> None:
        """Start every stream, its beat shifted by its place in the group."""
        start = asyncio.get_running_loop().time() + RAMP
        for place, stream in enumerate(self.streams):
            stream.begin(start + place / len(self.streams) * stream.beat)
        self.streams.clear()


class LiveStream:
    """One paced stream: a timer, a chunk, the next timer."""

    def __init__(self, transport: asyncio.Transport, rate: float, chunks: int) -> None:
        self.transport = transport
        self.beat = 1 / rate
        self.left = chunks
        self.loop = asyncio.get_running_loop()
        transport.write(payloads.LIVE_START)

    def begin(self, at: float) -> None:
        """Send the first chunk at loop time `at`."""
        self.at = at
        self.loop.call_at(at, self._send)

    def _send(self) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(payloads.live_frame())
        self.left -= 1
        self.at += self.beat if self.left else TAIL
        self.loop.call_at(self.at, self._send if self.left else self._finish)

    def _finish(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(payloads.LIVE_END)


Answer = Callable[[asyncio.Transport], None]


def _whole(body: bytes) -> Answer:
    return lambda transport: transport.write(body)


def _live(group: LiveGroup, rate: str, chunks: str) -> Answer:
    def answer(transport: asyncio.Transport) -> None:
        group.streams.append(LiveStream(transport, float(rate), int(chunks)))

    return answer


@functools.lru_cache(maxsize=16)
def encoded(scenario: str, size: int) -> bytes:
    """Return the whole HTTP response of a scenario that is sent at once."""
    if scenario == "ask":
        return payloads.json_response(payloads.short_answer())
    if scenario == "long":
        return payloads.json_response(payloads.long_answer())
    if scenario == "bulk":
        return payloads.sse_response(payloads.answer_events(size))
    if scenario == "tools":
        return payloads.sse_response(payloads.tool_events(size))
    message = f"no scenario is called {scenario!r}"
    raise ValueError(message)


class Slot:
    """What one client is answered at the moment."""

    def __init__(self) -> None:
        self.group = LiveGroup()
        self.answer = _whole(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def set(self, scenario: str, *numbers: str) -> None:
        """Answer with `scenario` from now on."""
        if scenario == "live":
            self.group = LiveGroup()
            self.answer = _live(self.group, *numbers)
        else:
            self.answer = _whole(encoded(scenario, int(numbers[0]) if numbers else 0))


SLOTS: defaultdict[str, Slot] = defaultdict(Slot)


class AnswerProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1: heads, content lengths, keep-alive."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.due = 0  # bytes of the request at hand, 0 while its head is unread
        self.slot = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.buffer and self._take():
            pass

    def _take(self) -> bool:
        if not self.due and not self._read_head():
            return False
        if len(self.buffer) < self.due:
            return False
        del self.buffer[: self.due]
        self.due = 0
        SLOTS[self.slot].answer(self.transport)
        return True

    def _read_head(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.buffer[:end])
        self.slot = head.split(b"/", 2)[1].decode()
        _, _, after = head.lower().partition(b"content-length:")
        self.due = end + 4 + int(after.split(b"\r\n", 1)[0] or 0)
        return True


class ControlProtocol(asyncio.Protocol):
    """Lines in, lines out: `set SLOT SCENARIO`, `go SLOT`, `cpu`."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        verb, *words = data.decode().split()
        if verb == "set":
            SLOTS[words[0]].set(*words[1:])
        elif verb == "go":
            SLOTS[words[0]].group.go()
        self.transport.write(b"%.9f\n" % time.process_time())


async def serve(certificate: str, key: str) -> None:
    """Serve plain, TLS and control ports until standard input closes."""
    loop = asyncio.get_running_loop()
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(certificate, key)
    here = "127.0.0.1"
    servers = {
        "http": await loop.create_server(AnswerProtocol, here, 0, backlog=2048),
        "https": await loop.create_server(
            AnswerProtocol, here, 0, backlog=2048, ssl=secure
        ),
        "control": await loop.create_server(ControlProtocol, here, 0),
    }
    ports = {name: s.sockets[0].getsockname()[1] for name, s in servers.items()}
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers.values():
        server.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's factory where it is installed, else asyncio's."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--core", type=int, default=-1)
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(options.certificate, options.key))


if __name__ == "__main__":
    main()
