"""Chat completions, awaited and streamed.

Facts: https://api-docs.deepseek.com/api/create-chat-completion
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from .logprobs import token_entry
from .reply import Reply, stream_reply
from .wire import JSON, Body, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .answers import Answer
    from .generation import Generation, SpokenCall

_DEFAULT_MAX: Final = 8 * 1024
_DEFAULT_MAX_THINKING: Final = 64 * 1024
_DEFAULT_MAX_HARD: Final = 128 * 1024

FINGERPRINT: Final = "fp_e5a1b2c3d4_prod_emulator"


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every chunk of one answer repeats, and how it is to be rendered.

    Attributes:
        id: The completion's id.
        created: Unix time in seconds.
        model: Name of the model that answers.
        thinks: Whether the answer begins with reasoning.
        legacy: Whether calls are rendered as ``function_call``.
        top_logprobs: Alternatives per token; None sends no log probabilities.
    """

    id: str
    created: int
    model: str
    thinks: bool
    legacy: bool = False
    top_logprobs: int | None = None


def token_limit(body: Body, *, thinks: bool) -> int:
    """Return the most tokens the request allows, reasoning included."""
    if body.get("max_tokens"):
        return int(body["max_tokens"])
    if not thinks:
        return _DEFAULT_MAX
    hard = body.get("reasoning_effort") in {"max", "ultra"}
    return _DEFAULT_MAX_HARD if hard else _DEFAULT_MAX_THINKING


def continued(answer: Answer, prefix: Body) -> Answer:
    """Return what is left of `answer` after the text of the `prefix` message.

    A prefix that does not begin the answer is followed by the whole answer.
    """
    text: str = prefix.get("content") or ""
    thought: str = prefix.get("reasoning_content") or ""
    reasoning = "" if text else (answer.reasoning or "").removeprefix(thought)
    content = answer.content.removeprefix(text)
    return msgspec.structs.replace(answer, content=content, reasoning=reasoning)


def chat_completion(said: Generation, envelope: Envelope, usage: Body) -> Reply:
    """Return the answer as one JSON body."""
    choice: Body = {
        "index": 0,
        "message": _message(said, envelope),
        "logprobs": _logprobs(said.content, said.reasoning, envelope),
        "finish_reason": _reason(said, envelope),
    }
    body: Body = {
        "id": envelope.id,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": FINGERPRINT,
    }
    return Reply(
        pieces=[encode(body)], content_type=JSON, generated=True, tokens=said.tokens
    )


def _message(said: Generation, envelope: Envelope) -> Body:
    message: Body = {"role": "assistant", "content": "".join(said.content)}
    if envelope.thinks:
        message["reasoning_content"] = "".join(said.reasoning)
    if said.calls and envelope.legacy:
        message["content"] = None
        message["function_call"] = said.calls[0].function
    elif said.calls:
        message["tool_calls"] = [
            {"index": n, "id": call.id, "type": "function", "function": call.function}
            for n, call in enumerate(said.calls)
        ]
    if said.title is not None:
        message["title"] = said.title
    return message | said.extra


def _reason(said: Generation, envelope: Envelope) -> str:
    legacy = envelope.legacy and said.finish_reason == "tool_calls"
    return "function_call" if legacy else said.finish_reason


def _logprobs(
    content: list[str], reasoning: list[str], envelope: Envelope
) -> Body | None:
    top = envelope.top_logprobs
    if top is None:
        return None
    return {
        "content": [token_entry(token, top) for token in content] or None,
        "reasoning_content": [token_entry(token, top) for token in reasoning] or None,
    }


def chat_chunks(
    said: Generation, envelope: Envelope, usage: Body, *, include_usage: bool
) -> Reply:
    """Return the answer as a stream of chunks.

    The last chunk always carries the usage; `include_usage` puts ``"usage":null``
    into all others.
    """
    events = list(_Chunks(envelope, include_usage=include_usage).all(said, usage))
    return stream_reply(events)


class _Chunks:
    """Writes chunks around a head and a tail that are encoded once per answer."""

    __slots__ = ("_envelope", "_head", "_tail")

    def __init__(self, envelope: Envelope, *, include_usage: bool) -> None:
        head = {
            "id": envelope.id,
            "object": "chat.completion.chunk",
            "created": envelope.created,
            "model": envelope.model,
            "system_fingerprint": FINGERPRINT,
        }
        self._envelope = envelope
        self._head = b"data: " + encode(head)[:-1] + b',"choices":[{"index":0,"delta":'
        usage = b',"usage":null' if include_usage else b""
        self._tail = b',"finish_reason":null}]' + usage + b"}\n\n"

    def all(self, said: Generation, usage: Body) -> Iterator[bytes]:
        first: Body = {"role": "assistant", "content": ""}
        if self._envelope.thinks:
            first = {"role": "assistant", "content": None, "reasoning_content": ""}
        yield self._chunk(encode(first), b"null")
        yield from self._reasoning(said.reasoning)
        yield from self._content(said.content)
        for number, call in enumerate(said.calls):
            yield from self._call(number, call)
        yield self._last(said, usage)

    def _reasoning(self, tokens: list[str]) -> Iterator[bytes]:
        for token in tokens:
            text = encode(token)
            delta = b'{"content":null,"reasoning_content":' + text + b"}"
            yield self._chunk(delta, self._scores([], [token]))

    def _content(self, tokens: list[str]) -> Iterator[bytes]:
        end = b',"reasoning_content":null}' if self._envelope.thinks else b"}"
        for token in tokens:
            delta = b'{"content":' + encode(token) + end
            yield self._chunk(delta, self._scores([token], []))

    def _call(self, number: int, call: SpokenCall) -> Iterator[bytes]:
        opening: Body = {"name": call.name, "arguments": ""}
        yield self._fragment(
            number, {"id": call.id, "type": "function", "function": opening}
        )
        for token in call.tokens:
            yield self._fragment(number, {"function": {"arguments": token}})

    def _fragment(self, number: int, fragment: Body) -> bytes:
        if self._envelope.legacy:
            delta: Body = {"function_call": fragment["function"]}
        else:
            delta = {"tool_calls": [{"index": number, **fragment}]}
        return self._chunk(encode(delta), b"null")

    def _last(self, said: Generation, usage: Body) -> bytes:
        delta: Body = {"content": ""}
        if self._envelope.thinks:
            delta["reasoning_content"] = None
        if said.title is not None:
            delta["title"] = said.title
        reason = encode(_reason(said, self._envelope))
        finish = b',"finish_reason":' + reason + b'}],"usage":' + encode(usage)
        logprobs = b',"logprobs":null'
        return self._head + encode(delta | said.extra) + logprobs + finish + b"}\n\n"

    def _scores(self, content: list[str], reasoning: list[str]) -> bytes:
        if self._envelope.top_logprobs is None:
            return b"null"
        return encode(_logprobs(content, reasoning, self._envelope))

    def _chunk(self, delta: bytes, logprobs: bytes) -> bytes:
        return self._head + delta + b',"logprobs":' + logprobs + self._tail
