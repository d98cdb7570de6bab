"""Fill-in-the-middle completions, on the beta base only.

Facts: https://api-docs.deepseek.com/api/create-completion
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from .answers import Answer, digest_of
from .chat import FINGERPRINT, Envelope
from .logprobs import token_logprob
from .reply import Reply, stream_reply
from .validation import check_max_tokens, check_range, check_stop, check_stream_options
from .wire import JSON, Body, WireError, deserialize_failure, encode, event

if TYPE_CHECKING:
    from .generation import Generation

MAX_TOKENS: Final = 4096
_MAX_LOGPROBS: Final = 20
_MAX_TEMPERATURE: Final = 2

_LINES: Final = (
    "result = {a}",
    "if {a} is None:\n        return {b}",
    "{a} = {b} + 1",
    "for item in {a}:\n        {b}.append(item)",
    "{b} = sorted({a})",
)
_NAMES: Final = ("value", "total", "items", "left", "right", "count", "name", "rows")

BETA_ONLY: Final = (
    "completions api is only available when using beta api "
    '(set base_url="https://api.deepseek.com/beta")'
)


def check_fim(body: Body, size: int) -> None:
    """Refuse a completion request that the service would refuse.

    Raises:
        WireError: 400 with the reason.
    """
    for field in ("prompt", "suffix"):
        value = body.get(field)
        if value is not None and not isinstance(value, str):
            problem = "invalid type, expected a string"
            raise WireError(400, deserialize_failure(field, problem, size))
    if not isinstance(body.get("prompt"), str):
        raise WireError(400, deserialize_failure("", "missing field `prompt`", size))
    if body.get("echo") and (body.get("suffix") or body.get("logprobs") is not None):
        raise WireError(400, "echo cannot be used together with suffix or logprobs")
    check_range("logprobs", body.get("logprobs"), _MAX_LOGPROBS)
    check_range("temperature", body.get("temperature"), _MAX_TEMPERATURE)
    check_range("top_p", body.get("top_p"), 1)
    check_max_tokens(body.get("max_tokens"), MAX_TOKENS)
    check_stop(body.get("stop"))
    check_stream_options(body)


def default_middle(body: Body, seed: int) -> Answer:
    """Return a few lines of code that depend on prompt and suffix only."""
    context = f"{body['prompt']}\0{body.get('suffix') or ''}"
    rng = random.Random(digest_of(context, seed))  # noqa: S311
    lines = [
        line.format(a=rng.choice(_NAMES), b=rng.choice(_NAMES))
        for line in rng.sample(_LINES, rng.randint(1, 3))
    ]
    return Answer(content="\n    ".join(lines))


def echoed(body: Body, said: Generation) -> Generation:
    """Return `said` with the prompt before it when the request asks for an echo."""
    if body.get("echo"):
        said.content.insert(0, body["prompt"])
    return said


def fim_completion(said: Generation, envelope: Envelope, usage: Body) -> Reply:
    """Return the completion as one JSON body."""
    choice = _choice(said.content, 0, envelope, said.finish_reason)
    body = {**_head(envelope), "choices": [choice], "usage": usage}
    return Reply(
        pieces=[encode(body)], content_type=JSON, generated=True, tokens=said.tokens
    )


def fim_chunks(
    said: Generation, envelope: Envelope, usage: Body, *, include_usage: bool
) -> Reply:
    """Return the completion as a stream.

    Unlike chat, this endpoint's page describes a separate last chunk with an empty
    ``choices`` when usage is asked for; without asking, the last chunk carries it.
    """
    head = _head(envelope)
    nothing: Body = {"usage": None} if include_usage else {}
    offset, events = 0, list[bytes]()
    for token in said.content:
        choices = [_choice([token], offset, envelope, None)]
        events.append(event(encode({**head, "choices": choices, **nothing})))
        offset += len(token)
    closing = {"index": 0, "text": "", "logprobs": None}
    choices = [{**closing, "finish_reason": said.finish_reason}]
    last = {**head, "choices": choices, "usage": None if include_usage else usage}
    events.append(event(encode(last)))
    if include_usage:
        events.append(event(encode({**head, "choices": [], "usage": usage})))
    return stream_reply(events)


def _head(envelope: Envelope) -> Body:
    return {
        "id": envelope.id,
        "object": "text_completion",
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(
    tokens: list[str], offset: int, envelope: Envelope, reason: str | None
) -> Body:
    return {
        "text": "".join(tokens),
        "index": 0,
        "logprobs": _logprobs(tokens, offset, envelope.top_logprobs),
        "finish_reason": reason,
    }


def _logprobs(tokens: list[str], offset: int, top: int | None) -> Body | None:
    if top is None:
        return None
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    scores = [token_logprob(token) for token in tokens]
    pairs = zip(tokens, scores, strict=True)
    return {
        "text_offset": offsets,
        "token_logprobs": scores,
        "tokens": tokens,
        "top_logprobs": [{token: score} for token, score in pairs],
    }
