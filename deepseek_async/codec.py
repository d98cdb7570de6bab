"""Bytes to structs and back: every encoder and decoder, built once.

Whatever the server sends ends here as a struct or as a typed error.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from .decoders import decoder_of
from .errors import (
    BY_STATUS,
    APIStatusError,
    BadRequestError,
    ContentRiskError,
    ContextLengthExceededError,
    InternalServerError,
    MissingReasoningContentError,
    RateLimitError,
    UnknownModelError,
)
from .salvage import is_object, parse, salvage
from .types.account import Balance, Model, ModelList
from .types.chat import ChatCompletion, ChatCompletionChunk
from .types.fim import Completion, CompletionChunk

T = TypeVar("T", bound=Struct)

MAX_BODY_EXCERPT: Final = 2_048
"""How many characters of a body an error keeps."""

_REQUEST_ID_HEADERS: Final = ("x-ds-trace-id", "x-request-id", "x-deepseek-request-id")

_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Codec(Generic[T]):
    """Decodes one kind of answer, fast where it fits and generously where not.

    Args:
        cls: The struct to decode to.
    """

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls

    @cached_property
    def decode_strictly(self) -> Callable[[bytes], T]:
        """Decode what fits the struct. Built at the first answer, not at import."""
        return decoder_of(self.cls).decode

    def decode(self, data: bytes) -> T:
        """Decode one JSON object.

        Args:
            data: JSON text; blank lines around it do not matter.

        Returns:
            The struct, unknown fields kept in `extra`.

        Raises:
            ValueError: It is not a JSON object.
        """
        try:
            return self.decode_strictly(data)
        except _DECODE_ERRORS:
            pass
        found = parse(data)
        if not is_object(found):
            message = f"a JSON object was expected, not {type(found).__name__}"
            raise ValueError(message)
        return salvage(self.cls, found)


CHAT: Final = Codec(ChatCompletion)
CHAT_CHUNK: Final = Codec(ChatCompletionChunk)
FIM: Final = Codec(Completion)
FIM_CHUNK: Final = Codec(CompletionChunk)
MODEL: Final = Codec(Model)
MODELS: Final = Codec(ModelList)
BALANCE: Final = Codec(Balance)


def find_error(data: bytes) -> dict[str, Any] | None:
    """The error object of a payload, if it is an error rather than an answer.

    Args:
        data: JSON text.

    Returns:
        `message`, `type`, `param` and `code` as far as they were sent, else `None`.
    """
    try:
        found = parse(data)
    except ValueError:
        return None
    if not is_object(found):
        return None
    error: object = found.get("error")
    if is_object(error):
        return error
    if isinstance(error, str) and error:
        return {"message": error}
    if (
        error is None
        and isinstance(found.get("message"), str)
        and "choices" not in found
    ):
        return found
    return None


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The server's trace id among the response headers."""
    for name in _REQUEST_ID_HEADERS:
        if (value := headers.get(name)) is not None:
            return value
    return None


def status_error(
    status: int, headers: Mapping[str, str], body: bytes
) -> APIStatusError:
    """The exception for an error response.

    Args:
        status: The HTTP status.
        headers: The response headers.
        body: The body, which may be JSON under any content type, text or HTML.

    Returns:
        The exception, not raised.
    """
    found = find_error(body) or {}
    excerpt = excerpt_of(body)
    message = _text(found.get("message")) or _plain_text(excerpt, headers)
    error = _make(status, found, message or _unexplained(status, headers), excerpt)
    error.request_id = request_id_of(headers)
    error.retry_after = retry_after_of(headers)
    return error


def stream_error(found: Mapping[str, Any], body: bytes) -> APIStatusError:
    """The exception for an error object inside a response that began as 200.

    Args:
        found: The error object.
        body: The payload it came in.

    Returns:
        The exception, not raised.
    """
    status = _status_of(found)
    message = _text(found.get("message")) or "no message"
    error = _make(status, found, message, excerpt_of(body))
    error.in_stream = True
    return error


def excerpt_of(body: bytes) -> str:
    """The beginning of a body as text, for an error to keep."""
    return body[: 4 * MAX_BODY_EXCERPT].decode("utf-8", "replace")[:MAX_BODY_EXCERPT]


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait (`Retry-After`: seconds or a date)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < float("inf") else None


def _plain_text(excerpt: str, headers: Mapping[str, str]) -> str:
    kind = headers.get("content-type", "")
    if "html" in kind or excerpt.lstrip()[:1] == "<":
        return "an HTML page, from a gateway rather than the API"
    return excerpt.strip()[:500]


def _unexplained(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:  # noqa: PLR2004
        where = _origin(headers.get("location", ""))
        return f"a redirect to {where} was not followed: is the base URL right?"
    return "the server gave no message"


def _origin(location: str) -> str:
    try:
        target = urlsplit(location)
    except ValueError:
        return "no valid URL"
    return f"{target.scheme}://{target.hostname}" if target.hostname else "a path"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _word(value: object) -> str:
    # Of an array or object, however deep, no text is made: it may not even have one.
    return str(value) if isinstance(value, str | int | float) else ""


def _name(value: object) -> str | None:
    return _word(value)[:200] or None


_STATUS_BY_TYPE: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "service_unavailable_error": 503,
}


def _status_of(found: Mapping[str, Any]) -> int:
    """The status that an error object would have had as a response."""
    for key in ("status", "code"):
        value = _word(found.get(key))
        if value.isdecimal() and 400 <= int(value[:4]) <= 599:  # noqa: PLR2004
            return int(value[:4])
    return _STATUS_BY_TYPE.get(_word(found.get("type")), 500)


_CONCURRENCY: Final = r"current concurrency is (\d{1,9})"
_CONCURRENCY_LIMIT: Final = r"concurrency limit of (\d{1,9})"

_REASONS: Final[tuple[tuple[str, str, type[BadRequestError] | None], ...]] = (
    ("maximum context length", "context_length", ContextLengthExceededError),
    ("reasoning_content", "reasoning_content", MissingReasoningContentError),
    ("must be passed back", "reasoning_content", MissingReasoningContentError),
    ("content exists risk", "content_risk", ContentRiskError),
    ("supported api model names", "model", UnknownModelError),
    ("model not exist", "model", UnknownModelError),
    ("model not found", "model", UnknownModelError),
    ("invalid max_tokens", "max_tokens", None),
    ("does not support this tool_choice", "tool_choice", None),
    ("response_format type is unavailable", "response_format", None),
    ("prompt must contain the word 'json'", "json_instruction", None),
    ("'tool_calls' must be followed", "tool_messages", None),
    ("messages with role 'tool'", "tool_messages", None),
    ("no tool output found", "tool_messages", None),
    ("invalid n value", "n", None),
    ("only available when using beta", "beta_only", None),
    ("unknown variant", "unknown_variant", None),
    ("hex escape", "lone_surrogate", None),
    ("insufficient balance", "balance", None),
    ("concurrency limit", "concurrency", None),
    ("rate limit reached for tpm", "tokens_per_minute", None),
    ("failed to deserialize", "wrong_type", None),
    ("invalid type", "wrong_type", None),
    ("failed to parse the request body", "malformed_json", None),
)
"""What the server says, in lower case -> `reason`, and a class of its own for a 400.

https://api-docs.deepseek.com/quick_start/error_codes lists statuses only: the text is
the sole way to tell one 400 from another.
"""


def _make(
    status: int, found: Mapping[str, Any], message: str, excerpt: str
) -> APIStatusError:
    cls = BY_STATUS.get(status)
    if cls is None:
        server_side = status >= 500  # noqa: PLR2004
        cls = InternalServerError if server_side else APIStatusError
    lowered = message.lower()
    reason = None
    for text, name, special in _REASONS:
        if text in lowered:
            reason = name
            if special is not None and status == 400:  # noqa: PLR2004
                cls = special
            break
    error = cls(
        message[:MAX_BODY_EXCERPT],
        status=status,
        code=_name(found.get("code")),
        type=_name(found.get("type")),
        param=_name(found.get("param")),
        reason=reason,
        body=excerpt,
    )
    if isinstance(error, RateLimitError):
        error.concurrency_limit = _number(_CONCURRENCY_LIMIT, message)
        error.current_concurrency = _number(_CONCURRENCY, message)
    return error


def _number(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text, re.IGNORECASE)
    return int(match[1]) if match else None
