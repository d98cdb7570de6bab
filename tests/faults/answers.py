"""The bytes a healthy server sends, for replies to be put together from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .wire import Reply, Request, fin, send

PIECES = ("one ", "two ", "three")
TEXT = "".join(PIECES)
USAGE = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
TRACE_ID = "trace-of-the-fault-server"


def head(status: str = "200 OK", kind: str = "application/json", **more: str) -> bytes:
    """A response head; underscores in further header names become dashes."""
    lines = [f"HTTP/1.1 {status}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines.append(f"x-ds-trace-id: {TRACE_ID}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(
    body: bytes, status: str = "200 OK", kind: str = "application/json", **more: str
) -> bytes:
    """A response with its length."""
    return head(status, kind, Content_Length=str(len(body)), **more) + body


def framed(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
STREAM_HEAD = head(kind="text/event-stream", Transfer_Encoding="chunked")
UNFRAMED_HEAD = head(kind="text/event-stream", Connection="close")
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def chunk(
    content: str | None = None, *, finish_reason: str | None = None, **delta: Any
) -> dict[str, Any]:
    """One chunk of a chat stream."""
    if content is not None:
        delta["content"] = content
    return {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "deepseek-flash",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def event(payload: Mapping[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return f"data: {text}\n\n".encode()


def text_event(content: str) -> bytes:
    """An event with a piece of the answer."""
    return event(chunk(content))


FIRST, SECOND, THIRD = (text_event(piece) for piece in PIECES)
FINISH = event({**chunk(finish_reason="stop"), "usage": USAGE})
EVENTS = FIRST + SECOND + THIRD + FINISH + DONE


def completion(content: str = TEXT) -> bytes:
    """A whole answer."""
    return json.dumps(
        {
            "id": "c-1",
            "object": "chat.completion",
            "created": 1,
            "model": "deepseek-flash",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }
    ).encode()


PLACES = ("Oslo", "Rome")
CALLS = [
    {
        "index": number,
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "look_up", "arguments": json.dumps({"place": place})},
    }
    for number, place in enumerate(PLACES)
]


def calling() -> bytes:
    """A whole answer that calls a function twice."""
    answer = json.loads(completion())
    message = {"role": "assistant", "content": None, "tool_calls": CALLS}
    answer["choices"] = [
        {"index": 0, "message": message, "finish_reason": "tool_calls"}
    ]
    return json.dumps(answer).encode()


CALLING_EVENTS = (
    event(chunk(tool_calls=CALLS))
    + event({**chunk(finish_reason="tool_calls"), "usage": USAGE})
    + DONE
)
GOOD_STREAM: Reply = (send(STREAM_HEAD + framed(EVENTS) + LAST_CHUNK),)
GOOD_ANSWER: Reply = (send(whole(completion())),)
CALLING_STREAM: Reply = (send(STREAM_HEAD + framed(CALLING_EVENTS) + LAST_CHUNK),)
CALLING_ANSWER: Reply = (send(whole(calling())),)
CLOSING_ANSWER: Reply = (send(whole(completion())), fin())


def good(request: Request) -> Reply:
    """What a healthy server answers: with tools at hand, calls of them first."""
    if request.may_call:
        return CALLING_STREAM if request.is_stream else CALLING_ANSWER
    return GOOD_STREAM if request.is_stream else GOOD_ANSWER


def error_body(message: str, kind: str = "invalid_request_error") -> bytes:
    """The documented form of an error."""
    found = {"message": message, "type": kind, "param": None, "code": kind}
    return json.dumps({"error": found}).encode()


HTML = b"<html><head><title>504</title></head><body>Gateway Time-out</body></html>"
