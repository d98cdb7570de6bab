"""The shapes of DeepSeek's wire that every endpoint shares: headers and errors.

Error bodies are JSON that is served as ``application/octet-stream``, and their
``code`` is always ``invalid_request_error``: only the status and the message tell
them apart (https://api-docs.deepseek.com/quick_start/error_codes).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeGuard

import msgspec

#: A decoded JSON object whose shape only the endpoint knows, hence ``Any``.
Body: TypeAlias = dict[str, Any]

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
OCTETS: Final = "application/octet-stream"
HTML: Final = "text/html"

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE_COMMENT: Final = b": keep-alive\n\n"
KEEP_ALIVE_LINE: Final = b"\n"

UNAUTHORIZED: Final = 401
NO_BALANCE: Final = 402
NOT_FOUND: Final = 404
UNPROCESSABLE: Final = 422
TOO_MANY_REQUESTS: Final = 429

_ERROR_TYPES: Final = {
    UNAUTHORIZED: "authentication_error",
    NO_BALANCE: "unknown_error",
    TOO_MANY_REQUESTS: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}
_ERROR_MESSAGES: Final = {
    400: "Bad request.",
    UNAUTHORIZED: "Authentication Fails (no such user)",
    NO_BALANCE: "Insufficient Balance",
    NOT_FOUND: "Not Found",
    UNPROCESSABLE: "Invalid parameters.",
    TOO_MANY_REQUESTS: "Too many requests. Please slow down.",
    500: "Internal server error.",
    503: "Service is too busy. Please try again later.",
    504: "Gateway timeout.",
}

_JSON_NAMES: Final[dict[type, str]] = {str: "string", list: "sequence", dict: "map"}

encode: Final = msgspec.json.Encoder().encode


class WireError(Exception):
    """A request that the service refuses with an HTTP error.

    Attributes:
        status: HTTP status of the answer.
        message: Text of ``error.message``.
        type: Text of ``error.type``; by default the one real traffic shows.
    """

    def __init__(self, status: int, message: str = "", kind: str = "") -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message or _ERROR_MESSAGES.get(status, "Error")
        self.type = kind or _ERROR_TYPES.get(status, "invalid_request_error")

    def body(self) -> bytes:
        """Return the JSON envelope of the error."""
        return error_body(self.message, self.type)


def error_body(message: str, kind: str = "invalid_request_error") -> bytes:
    """Return DeepSeek's error envelope as JSON bytes."""
    error = {
        "message": message,
        "type": kind,
        "param": None,
        "code": "invalid_request_error",
    }
    return encode({"error": error})


def event(payload: bytes) -> bytes:
    """Return one server-sent event that carries `payload`."""
    return b"data: " + payload + b"\n\n"


def decode_request(raw: bytes) -> Body:
    """Decode a request body.

    Raises:
        WireError: 400 when `raw` is not a JSON object.
    """
    try:
        body: object = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        reason = f"Failed to parse the request body as JSON: {error}"
        raise WireError(400, reason) from None
    if not is_object(body):
        raise WireError(400, deserialize_failure("", "expected struct", len(raw)))
    return body


def is_object(value: object) -> TypeGuard[Body]:
    """Return whether a decoded JSON value is an object."""
    return isinstance(value, dict)


def section(body: Body, field: str) -> Body:
    """Return an optional object of `body`, empty when it is missing or null."""
    value: object = body.get(field)
    return value if is_object(value) else {}


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Return whether a decoded JSON value is an array."""
    return isinstance(value, list)


def deserialize_failure(field: str, problem: str, column: int) -> str:
    """Return the text the service gives when a field has the wrong type."""
    where = f"{field}: " if field else ""
    return (
        "Failed to deserialize the JSON body into the target type: "
        f"{where}{problem} at line 1 column {column}"
    )


def describe(value: object) -> str:
    """Name a JSON value the way the service's type errors do."""
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"number `{value}`"
    if value is None:
        return "null"
    return _JSON_NAMES.get(type(value), "value")
