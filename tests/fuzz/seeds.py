"""Inputs to start from: what servers send, and what has gone wrong before."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_DATA: Final = Path(__file__).parent.parent / "data"

_TEXT: Final = b'{"choices":[{"index":0,"delta":{"content":"a"}}]}'
_ERROR: Final = b'{"error":{"message":"no","type":"server_error","code":"503"}}'

STREAMS: Final = (
    b"data: " + _TEXT + b"\n\ndata: [DONE]\n\n",
    b": keep-alive\n\ndata: " + _TEXT + b"\r\n\r\ndata: " + _TEXT + b"\r\r",
    b"event: error\ndata: " + _ERROR + b"\n\n",
    b"\xef\xbb\xbfid: 1\nretry: 20\ndata\ndata: {\ndata:  }\n\n",
    b'data: {"choices":null,"usage":{"total_tokens":"7"}}\n\n',
)

BODIES: Final = (
    _ERROR,
    b'{"error":"no"}',
    b'{"message":"Rate limit reached: current concurrency is 7","code":429}',
    b"<html><title>504</title></html>",
    b'{"choices":[{"message":{"content":"\\ud83d","x":[1,2]}}],"created":1e3}',
    b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{}}]}}]}',
    b'{"data":[{"id":"deepseek-flash"}],"is_available":true,"balance_infos":[]}',
    b'{"x":' + b"1" * 40 + b"}",
)

HEADERS: Final = (
    b"",
    b"120",
    b"-1",
    b"1e999",
    b"Wed, 21 Oct 2026 07:28:00 GMT",
    b"Wed, 99 Oct 0000 99:99:99 +9999",
    b"[::1",
)


def _recorded(ending: str) -> list[bytes]:
    found = sorted(_DATA.glob(f"chat_*{ending}")) + sorted(_DATA.glob(f"fim*{ending}"))
    return [path.read_bytes()[:3_000] for path in found]


def seeds_of(name: str) -> list[bytes]:
    """The inputs that a target starts from."""
    if name in {"sse", "chunks"}:
        cuts = b"\x03\x01\x05\x14"
        streams = [*STREAMS, *_recorded(".sse")]
        return [head + stream for stream in streams for head in (b"\0", cuts)]
    if name == "errors":
        heads = [b"\0\x81" + header + b"\n" for header in HEADERS]
        return [head + body for head in heads for body in BODIES]
    directions = [bytes([0, *range(k, 256, k), 255 - k]) for k in range(1, 40, 3)]
    return [*BODIES, *_recorded(".json"), *directions]
