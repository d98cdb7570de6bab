"""What the server says no to.

https://api-docs.deepseek.com/quick_start/error_codes
"""

from __future__ import annotations

from typing import Final

from .wire import APIError

_NO_SUCH_PATH: Final = frozenset(
    {"Not Found", "404 page not found", "the server gave no message"}
)
"""What a server says of a path that it does not know."""


class APIStatusError(APIError):
    """The server answered with an error status, or with an error in the stream.

    Attributes:
        status: The HTTP status (for an error inside a stream, the status that an
            error of this type would have had).
        status_code: The same, under the name the `openai` package uses.
        code: `error.code` of the body; mostly `invalid_request_error` whatever
            went wrong.
        type: `error.type` of the body.
        param: `error.param` of the body.
        reason: A stable word for the server's message, such as `context_length`,
            or `None` where the message is not known to this library.
        body: The beginning of the body, at most 2,048 characters.
        retry_after: Seconds the server asked to wait, or `None`.
        in_stream: Whether the error arrived inside a response that began as 200.
    """

    def __init__(  # noqa: PLR0913 - the wire has that many
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the wire's word
        param: str | None = None,
        reason: str | None = None,
        body: str = "",
        retry_after: float | None = None,
        in_stream: bool = False,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.reason = reason
        self.body = body
        self.retry_after = retry_after
        self.in_stream = in_stream

    @property
    def status_code(self) -> int:
        """The HTTP status, under the name the `openai` package uses."""
        return self.status

    def __str__(self) -> str:
        return f"{self.status}: {super().__str__()}"


class BadRequestError(APIStatusError):
    """400: the server cannot make sense of the request; `reason` says more."""


class ContextLengthExceededError(BadRequestError):
    """400: messages and `max_tokens` together exceed the context window."""


class MissingReasoningContentError(BadRequestError):
    """400: in thinking mode with tools, an assistant message lost its reasoning.

    Send every assistant message back as it came, `reasoning_content` included.
    See https://api-docs.deepseek.com/guides/thinking_mode
    """


class ContentRiskError(BadRequestError):
    """400: the input was refused by content moderation."""


class UnknownModelError(BadRequestError):
    """400: the model does not exist (any more)."""


class AuthenticationError(APIStatusError):
    """401: the API key is wrong."""


class InsufficientBalanceError(APIStatusError):
    """402: the account has run out of money."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this, or a firewall refused the request."""


class NotFoundError(APIStatusError):
    """404: no such path or object."""

    def __str__(self) -> str:
        hint = "; is the base URL right?" if self.message in _NO_SUCH_PATH else ""
        return super().__str__() + hint


class RequestTimeoutError(APIStatusError):
    """408: the server waited too long for the request."""


class RequestTooLargeError(APIStatusError):
    """413: the request body is too large."""


class UnprocessableEntityError(APIStatusError):
    """422: a parameter has a wrong type or value."""


class RateLimitError(APIStatusError):
    """429: more requests at once than the account may have.

    Attributes:
        concurrency_limit: The limit the server stated in its message, or `None`.
        current_concurrency: The concurrency it counted, or `None`.
    """

    concurrency_limit: int | None = None
    current_concurrency: int | None = None


class InternalServerError(APIStatusError):
    """5xx: the server failed; the same request may work later."""


class ServiceUnavailableError(InternalServerError):
    """503: the server is overloaded."""


BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientBalanceError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: InternalServerError,
    503: ServiceUnavailableError,
}
"""Status code to error class; other 5xx are `InternalServerError`."""
