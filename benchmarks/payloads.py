"""Deterministic answers in the wire's own shape, encoded once.

Shapes follow the chat completion pages of the API: https://api-docs.deepseek.com
A stream chunk is about 300 bytes and travels as one HTTP chunk, as a server that
flushes every token sends it.
"""

import functools
import json
import time
from collections.abc import Iterator, Sequence

COMPLETION_ID = "5b0f4d0e-6d0a-4f0e-9a0b-0d6f1c2e3a44"
FINGERPRINT = "fp_11223344_prod0820_fp8_kvcache_20260402"
MODEL = "deepseek-flash"
WORDS = (
    " the", " prime", " 13", " times", " 17", " is", " 221", ",", " so", " it",
    " cannot", " be", " prime", ".", " Hence", " we", " factor", " again",
)  # fmt: skip
STAMP_WIDTH = 20  # digits of a nanosecond clock, padded, so frames keep one length
TOOL_FRAGMENT = 100  # bytes of arguments in one tool-call chunk
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nx-ds-trace-id: 0f3a6c\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = b"data: [DONE]\n\n"
HTTP_END = b"0\r\n\r\n"

Delta = dict[str, object]


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _usage(completion_tokens: int) -> dict[str, object]:
    return {
        "prompt_tokens": 12,
        "completion_tokens": completion_tokens,
        "total_tokens": 12 + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": completion_tokens // 2},
        "prompt_cache_hit_tokens": 0,
        "prompt_cache_miss_tokens": 12,
    }


def _event(
    delta: Delta, finish: str | None = None, usage: object | None = None
) -> bytes:
    chunk = {
        "id": COMPLETION_ID,
        "object": "chat.completion.chunk",
        "created": 1795132802,
        "model": MODEL,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        ],
        "usage": usage,
    }
    return b"data: " + _dumps(chunk) + b"\n\n"


ROLE_EVENT = _event({"role": "assistant", "content": None, "reasoning_content": ""})
FINISH_EVENT = _event({"content": "", "reasoning_content": None}, "stop", _usage(1000))


def http_chunk(data: bytes) -> bytes:
    """Frame `data` as one chunk of the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@functools.cache
def _word_events(field: str) -> tuple[bytes, ...]:
    other = "content" if field == "reasoning_content" else "reasoning_content"
    return tuple(_event({field: word, other: None}) for word in WORDS)


@functools.lru_cache(maxsize=8)
def answer_events(chunks: int) -> tuple[bytes, ...]:
    """SSE events of an answer of `chunks` chunks: half thinking, half text."""
    middle = chunks - 2
    thinking = _word_events("reasoning_content")
    text = _word_events("content")
    half = middle // 2
    events = [thinking[i % len(WORDS)] for i in range(half)]
    events += [text[i % len(WORDS)] for i in range(middle - half)]
    return (ROLE_EVENT, *events, FINISH_EVENT, STREAM_END)


@functools.lru_cache(maxsize=8)
def tool_events(argument_bytes: int) -> tuple[bytes, ...]:
    """SSE events of one tool call whose arguments measure `argument_bytes`."""
    call = {"id": "call_00_Ab3", "type": "function"}
    head = {"index": 0, **call, "function": {"name": "save", "arguments": '{"t":"'}}
    piece = _tool_event("x" * TOOL_FRAGMENT)
    fragments = (argument_bytes - 8) // TOOL_FRAGMENT
    rest = _tool_event("x" * (argument_bytes - 8 - fragments * TOOL_FRAGMENT) + '"}')
    finish = _event({"content": ""}, "tool_calls", _usage(1000))
    first = _event({"tool_calls": [head]})
    return (ROLE_EVENT, first, *([piece] * fragments), rest, finish, STREAM_END)


def _tool_event(arguments: str) -> bytes:
    return _event({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})


def sse_body(events: Sequence[bytes]) -> bytes:
    """Return the events as a client reads them: without HTTP framing."""
    return b"".join(events)


def sse_response(events: Sequence[bytes]) -> bytes:
    """Return a whole HTTP response, one HTTP chunk per event."""
    framed = b"".join(map(http_chunk, events[:-1]))
    return SSE_HEAD + framed + http_chunk(events[-1]) + HTTP_END


def live_frames() -> tuple[bytes, bytes]:
    """Return what stands before and after the time stamp of a live chunk."""
    mark = "0" * STAMP_WIDTH
    frame = http_chunk(_event({"content": mark, "reasoning_content": None}))
    before, after = frame.split(mark.encode())
    return before, after


LIVE_FRAME_BEFORE, LIVE_FRAME_AFTER = live_frames()
LIVE_EVENT_BYTES = len(
    _event({"content": "0" * STAMP_WIDTH, "reasoning_content": None})
)
LIVE_START = SSE_HEAD + http_chunk(ROLE_EVENT)
LIVE_END = http_chunk(FINISH_EVENT) + http_chunk(STREAM_END) + HTTP_END


def live_frame() -> bytes:
    """Return a live chunk whose text is the monotonic clock, in nanoseconds."""
    stamp = b"%020d" % time.monotonic_ns()
    return LIVE_FRAME_BEFORE + stamp + LIVE_FRAME_AFTER


def _token(word: str) -> dict[str, object]:
    return {"token": word, "logprob": -0.0231, "bytes": list(word.encode())}


def _logprobs(tokens: int) -> dict[str, object]:
    alternatives = [_token(word) for word in WORDS[:2]]
    content = [
        {**_token(WORDS[i % len(WORDS)]), "top_logprobs": alternatives}
        for i in range(tokens)
    ]
    return {"content": content, "reasoning_content": None}


def _words(count: int) -> Iterator[str]:
    return (WORDS[i % len(WORDS)] for i in range(count))


def completion(tokens: int, *, logprobs: bool = False) -> bytes:
    """Return a whole answer of `tokens` tokens as JSON, thinking included."""
    message = {
        "role": "assistant",
        "content": "".join(_words(tokens)),
        "reasoning_content": "".join(_words(tokens // 2)),
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(tokens) if logprobs else None,
        "finish_reason": "stop",
    }
    return _dumps(
        {
            "id": COMPLETION_ID,
            "object": "chat.completion",
            "created": 1795132802,
            "model": MODEL,
            "system_fingerprint": FINGERPRINT,
            "choices": [choice],
            "usage": _usage(tokens * 3 // 2),
        }
    )


SHORT_ANSWER_TOKENS = 70  # about 1 KB
LONG_ANSWER_TOKENS = 4_700  # about 1 MB with log probabilities


@functools.cache
def short_answer() -> bytes:
    """Return a completion of about 1 KB."""
    return completion(SHORT_ANSWER_TOKENS)


@functools.cache
def long_answer() -> bytes:
    """Return a completion of about 1 MB with log probabilities."""
    return completion(LONG_ANSWER_TOKENS, logprobs=True)


def answer_text(tokens: int) -> str:
    """Return the text that a completion of `tokens` tokens carries."""
    return "".join(_words(tokens))


def json_response(body: bytes) -> bytes:
    """Return a whole HTTP response around a JSON body."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    head += b"x-ds-trace-id: 0f3a6c\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def answer_text_size(chunks: int) -> int:
    """Return how many characters of text `answer_events(chunks)` carries."""
    middle = chunks - 2
    return len(answer_text(middle - middle // 2))
