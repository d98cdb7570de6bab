"""Every exception this library raises, in one tree.

::

    DeepSeekError
    ├── ConfigurationError (ValueError)       key, base URL, limit: fix the client
    ├── InvalidRequestError (ValueError)      a parameter, refused before a byte left
    │   └── MissingReasoningError             a message that must carry its reasoning
    ├── MissingExtraError (ImportError)       an optional extra is not installed
    ├── SpendLimitError                       the client's own limit: nothing was sent
    ├── ClientClosedError                     the client was closed
    ├── StreamClosedError                     the stream was closed by its reader
    ├── StreamInUseError                      two tasks read one stream
    ├── SSEEventTooLargeError                 raised by `SSEDecoder`
    ├── UnfinishedAnswerError                 asked for by `raise_for_finish_reason`
    │   ├── LengthFinishError                 cut by `max_tokens` or the context window
    │   ├── ContentFilterFinishError
    │   ├── InsufficientSystemResourceError
    │   ├── AbortedFinishError
    │   ├── EmptyAnswerError                  reasoning only, or nothing at all
    │   ├── RefusedAnswerError                the model would not answer
    │   └── InvalidAnswerError                it does not fit the type asked for
    ├── SchemaError (ValueError)              a type JSON Schema cannot express
    │   └── StrictSchemaError                 ... or strict mode cannot
    ├── ToolError
    │   ├── ToolDefinitionError (ValueError)  a function that cannot be a tool
    │   ├── ToolExecutionError                a tool raised, and the policy says stop
    │   ├── InvalidToolCallError              the model keeps calling wrongly
    │   └── ToolRoundsExceededError           the model keeps calling for ever
    ├── ConversationError
    │   ├── ConversationBusyError             two turns at the same time
    │   ├── ToolCallsPendingError             calls want results before the next turn
    │   ├── ContextBudgetError                one turn alone is too long
    │   └── SavedConversationError (ValueError)
    └── APIError                              something happened on the wire
        ├── APIConnectionError
        │   ├── ConnectError                  DNS, TCP or TLS: nothing was sent
        │   ├── ConnectionLostError           the connection died during the call
        │   │   └── StreamInterruptedError    ... or ended, in the midst of an answer
        │   └── APITimeoutError (TimeoutError)
        │       ├── ConnectTimeoutError
        │       ├── ResponseHeadTimeoutError
        │       ├── FirstPayloadTimeoutError
        │       ├── PayloadGapTimeoutError
        │       ├── SilenceTimeoutError
        │       └── DeadlineExceededError
        ├── ResponseDecodeError               a success status with an unusable body
        │   ├── EmptyResponseError
        │   ├── TruncatedResponseError
        │   ├── UnexpectedContentTypeError
        │   └── ResponseTooLargeError
        └── APIStatusError                    the server said no
            ├── BadRequestError               400
            │   ├── ContextLengthExceededError
            │   ├── MissingReasoningContentError
            │   ├── ContentRiskError
            │   └── UnknownModelError
            ├── AuthenticationError           401
            ├── InsufficientBalanceError      402
            ├── PermissionDeniedError         403
            ├── NotFoundError                 404
            ├── RequestTimeoutError           408
            ├── RequestTooLargeError          413
            ├── UnprocessableEntityError      422
            ├── RateLimitError                429
            └── InternalServerError           500 and every other 5xx
                └── ServiceUnavailableError   503

All of them pickle. None holds the API key, a prompt, or an object of the HTTP
library: what the transport said survives as the short text `cause`.

Status codes: https://api-docs.deepseek.com/quick_start/error_codes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from .types.chat import ChatCompletion
    from .types.fim import Completion
    from .types.meta import Attempt

__all__ = [
    "BY_FINISH_REASON",
    "BY_STATUS",
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AbortedFinishError",
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "ContentFilterFinishError",
    "ContentRiskError",
    "ContextBudgetError",
    "ContextLengthExceededError",
    "ConversationBusyError",
    "ConversationError",
    "DeadlineExceededError",
    "DeepSeekError",
    "DeepSeekWarning",
    "EmptyAnswerError",
    "EmptyResponseError",
    "FirstPayloadTimeoutError",
    "InsufficientBalanceError",
    "InsufficientSystemResourceError",
    "InternalServerError",
    "InvalidAnswerError",
    "InvalidRequestError",
    "InvalidToolCallError",
    "LengthFinishError",
    "MissingExtraError",
    "MissingReasoningContentError",
    "MissingReasoningError",
    "NotFoundError",
    "PayloadGapTimeoutError",
    "PermissionDeniedError",
    "RateLimitError",
    "RefusedAnswerError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "ResponseDecodeError",
    "ResponseHeadTimeoutError",
    "ResponseTooLargeError",
    "SSEEventTooLargeError",
    "SavedConversationError",
    "SchemaError",
    "ServiceUnavailableError",
    "SilenceTimeoutError",
    "SpendLimitError",
    "StreamClosedError",
    "StreamInUseError",
    "StreamInterruptedError",
    "StrictSchemaError",
    "ToolCallsPendingError",
    "ToolDefinitionError",
    "ToolError",
    "ToolExecutionError",
    "ToolRoundsExceededError",
    "TruncatedResponseError",
    "UnexpectedContentTypeError",
    "UnfinishedAnswerError",
    "UnknownModelError",
    "UnprocessableEntityError",
    "raise_for_finish_reason",
]


class DeepSeekWarning(UserWarning):
    """A parameter has no effect on this API, or was renamed on its way out."""


def _rebuild(
    cls: type[DeepSeekError], args: tuple[object, ...], state: dict[str, object]
) -> DeepSeekError:
    """Unpickle an error without calling its `__init__`, which wants keywords."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class DeepSeekError(Exception):
    """The root of the tree.

    Attributes:
        message: What happened and what to do about it, in one or two sentences.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:  # the protocol's own loose type
        # Subclasses take keyword arguments, so they are rebuilt from their state.
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigurationError(DeepSeekError, ValueError):
    """The client cannot work with this key, base URL, header or limit."""


class InvalidRequestError(DeepSeekError, ValueError):
    """A parameter was refused before any byte was sent.

    Attributes:
        param: The path of the offending field, such as `messages[2].content`.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MissingReasoningError(InvalidRequestError):
    """With tools and thinking, an assistant message lacks its `reasoning_content`.

    The server would refuse it with a 400; nothing was sent.
    See https://api-docs.deepseek.com/guides/thinking_mode

    Attributes:
        indexes: The places in `messages` of those that lack it.
    """

    def __init__(self, indexes: tuple[int, ...]) -> None:
        where = f"messages[{indexes[0]}].reasoning_content"
        super().__init__(
            f"{where} is missing: with tools and thinking on, every assistant message "
            f"goes back with its reasoning ({len(indexes)} lack it)",
            param=where,
        )
        self.indexes = indexes


class MissingExtraError(DeepSeekError, ImportError):
    """A feature needs an optional extra that is not installed.

    Attributes:
        extra: The name to install, as in `pip install "deepseek-async[NAME]"`.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f'{feature} needs an optional extra: pip install "deepseek-async[{extra}]"'
        )
        self.extra = extra


class SpendLimitError(DeepSeekError):
    """The client's own spend limit is used up; nothing was sent.

    Attributes:
        limit: The limit in US dollars.
        spent: What the calls so far have cost.
    """

    def __init__(self, *, limit: Decimal, spent: Decimal) -> None:
        super().__init__(
            f"the spend limit of {limit} USD is used up ({spent} USD spent):"
            " raise it, or reset the client's meter"
        )
        self.limit = limit
        self.spent = spent


class ClientClosedError(DeepSeekError):
    """The client was closed before, or while, this call used it."""

    def __init__(self, message: str = "the client is closed") -> None:
        super().__init__(message)
        #: What a stream had received when the client was closed.
        self.partial: ChatCompletion | Completion | None = None


class StreamClosedError(DeepSeekError):
    """The stream was closed (or left early) and cannot be read any further.

    Attributes:
        partial: What had been received by then.
    """

    def __init__(self, message: str = "the stream is closed") -> None:
        super().__init__(message)
        self.partial: ChatCompletion | Completion | None = None


class StreamInUseError(DeepSeekError):
    """Two tasks tried to read one stream at the same time."""


class SSEEventTooLargeError(DeepSeekError):
    """A server-sent event grew past the decoder's limit.

    Attributes:
        limit: The limit in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"a server-sent event is larger than {limit} bytes")
        self.limit = limit


class UnfinishedAnswerError(DeepSeekError):
    """The answer arrived whole, but the model did not finish what was asked.

    Attributes:
        completion: The answer as far as it goes.
        finish_reason: The server's word for why it ended.
    """

    def __init__(
        self,
        message: str,
        *,
        completion: ChatCompletion | None = None,
        finish_reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.completion = completion
        self.finish_reason = finish_reason


class LengthFinishError(UnfinishedAnswerError):
    """`max_tokens` (which includes reasoning) or the context window ran out."""


class ContentFilterFinishError(UnfinishedAnswerError):
    """The content filter withheld or cut the answer."""


class InsufficientSystemResourceError(UnfinishedAnswerError):
    """The inference system ran out of capacity; the request may be repeated."""


class AbortedFinishError(UnfinishedAnswerError):
    """The server aborted the generation; the request may be repeated."""


class EmptyAnswerError(UnfinishedAnswerError):
    """The answer has neither text nor tool calls (possibly reasoning only)."""


class RefusedAnswerError(UnfinishedAnswerError):
    """The model, or a review of its answer, refused to answer."""


class InvalidAnswerError(UnfinishedAnswerError):
    """The answer does not fit the type asked for, and asking again did not help.

    Attributes:
        problem: Where and how it does not fit.
        repairs: How often the model was shown its error.
    """

    def __init__(
        self,
        problem: str,
        *,
        repairs: int = 0,
        completion: ChatCompletion | None = None,
        finish_reason: str | None = None,
    ) -> None:
        super().__init__(
            f"the answer does not fit, after {repairs} repairs: {problem}",
            completion=completion,
            finish_reason=finish_reason,
        )
        self.problem = problem
        self.repairs = repairs


class SchemaError(DeepSeekError, ValueError):
    """JSON Schema cannot express a type."""


class StrictSchemaError(SchemaError):
    """Strict mode's subset of JSON Schema cannot express something.

    See https://api-docs.deepseek.com/guides/tool_calls

    Attributes:
        path: Where, such as `$.filters.tags[]`.
        keyword: What, such as `maxItems`.
    """

    def __init__(self, path: str, keyword: str, hint: str = "") -> None:
        super().__init__(
            f"{path}: {keyword} cannot be expressed in strict mode"
            + (f" ({hint})" if hint else "")
        )
        self.path = path
        self.keyword = keyword


class ToolError(DeepSeekError):
    """Something is wrong with a tool of the caller's, or with calls of it."""


class ToolDefinitionError(ToolError, ValueError):
    """A function cannot be a tool: its name, or a parameter of it."""


class ToolExecutionError(ToolError):
    """A tool raised (its exception is the `__cause__`) and the policy is to stop.

    Attributes:
        name: The tool.
        call_id: The id of the call.
    """

    def __init__(self, message: str, *, name: str, call_id: str) -> None:
        super().__init__(message)
        self.name = name
        self.call_id = call_id


class InvalidToolCallError(ToolError):
    """The model kept calling unknown tools, or with arguments that do not fit.

    Attributes:
        name: The function of the last such call.
        problem: What was wrong with it.
    """

    def __init__(self, message: str, *, name: str, problem: str) -> None:
        super().__init__(message)
        self.name = name
        self.problem = problem


class ToolRoundsExceededError(ToolError):
    """The model still wanted calls made after the allowed number of rounds.

    Attributes:
        rounds: How many rounds there were.
    """

    def __init__(self, rounds: int) -> None:
        super().__init__(f"the model still calls tools after {rounds} rounds")
        self.rounds = rounds


class ConversationError(DeepSeekError):
    """A conversation cannot do what was asked of it; its history is unchanged."""


class ConversationBusyError(ConversationError):
    """A turn of this conversation is still under way; `fork` for a parallel one."""


class ToolCallsPendingError(ConversationError):
    """Calls of the last answer have no result yet, or a result has no call.

    Attributes:
        call_ids: The calls concerned.
    """

    def __init__(self, message: str, call_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.call_ids = call_ids


class ContextBudgetError(ConversationError):
    """What the policy must keep is longer than the context has room for.

    Attributes:
        tokens: How long it is.
        limit: How much room there is.
    """

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the conversation takes {tokens} tokens where {limit} have room, "
            "and nothing more can be dropped"
        )
        self.tokens = tokens
        self.limit = limit


class SavedConversationError(ConversationError, ValueError):
    """What is to be loaded is no saved conversation."""


class APIError(DeepSeekError):
    """Something went wrong on the wire or on the server.

    Attributes:
        request_id: The server's trace id (`x-ds-trace-id`), if a head arrived.
        attempts: Every attempt made for this call, the last one included.
        partial: What a stream had received before the error; `None` elsewhere.
        cause: The transport's own words, or `None`.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.cause = cause
        self.attempts: tuple[Attempt, ...] = ()
        self.partial: ChatCompletion | Completion | None = None

    def __str__(self) -> str:
        notes = [self.message]
        if self.cause:
            notes.append(f"[{self.cause}]")
        if self.request_id:
            notes.append(f"(request id {self.request_id})")
        if len(self.attempts) > 1:
            notes.append(f"(after {len(self.attempts)} attempts)")
        return " ".join(notes)


class APIConnectionError(APIError):
    """The server could not be reached, or the connection failed."""


class ConnectError(APIConnectionError):
    """No connection could be made: name lookup, TCP or TLS. Nothing was sent."""


class ConnectionLostError(APIConnectionError):
    """The connection died after the request had been sent, or while sending it.

    Attributes:
        stale: Whether it was a reused idle connection that gave no byte of a reply:
            most likely the server had just closed it.
    """

    stale: bool = False


class StreamInterruptedError(ConnectionLostError):
    """A stream ended without `data: [DONE]`: the answer is cut.

    `partial` holds everything that had arrived.
    """


class APITimeoutError(APIConnectionError, TimeoutError):
    """One of the clocks of `Timeouts` ran out.

    Attributes:
        clock: The name of the field of `Timeouts`.
        limit: Its value in seconds.
        bytes_received: Body bytes received in this attempt.
        keep_alives: Keep-alive comments or blank lines received in this attempt.
        payloads: JSON payloads received in this attempt.
    """

    clock = "timeout"

    def __init__(
        self,
        message: str,
        *,
        limit: float,
        bytes_received: int = 0,
        keep_alives: int = 0,
        payloads: int = 0,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.limit = limit
        self.bytes_received = bytes_received
        self.keep_alives = keep_alives
        self.payloads = payloads


class ConnectTimeoutError(APITimeoutError):
    """Name lookup, TCP and TLS took longer than `Timeouts.connect`."""

    clock = "connect"


class ResponseHeadTimeoutError(APITimeoutError):
    """No response head came within `Timeouts.head`."""

    clock = "head"


class FirstPayloadTimeoutError(APITimeoutError):
    """The server kept the request queued for longer than `Timeouts.first_payload`."""

    clock = "first_payload"


class PayloadGapTimeoutError(APITimeoutError):
    """The answer had begun, then no payload came for `Timeouts.payload_gap`."""

    clock = "payload_gap"


class SilenceTimeoutError(APITimeoutError):
    """Not one byte, keep-alives included, came for `Timeouts.silence`."""

    clock = "silence"


class DeadlineExceededError(APITimeoutError):
    """`Timeouts.deadline`, which spans all attempts and the body, has passed."""

    clock = "deadline"


class ResponseDecodeError(APIError):
    """The server answered with success, but the body is not what it should be.

    Attributes:
        status: The HTTP status.
        body: The beginning of the body, at most 2,048 characters.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.body = body


class EmptyResponseError(ResponseDecodeError):
    """A success status with an empty or blank body (seen under load)."""


class TruncatedResponseError(ResponseDecodeError):
    """The JSON begins well and is cut short: the connection ended too early."""


class UnexpectedContentTypeError(ResponseDecodeError):
    """A success status with HTML or another body that is not the API's."""


class ResponseTooLargeError(ResponseDecodeError):
    """The body (or one event of it) is larger than the client's limit."""


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

BY_FINISH_REASON: dict[str, type[UnfinishedAnswerError]] = {
    "length": LengthFinishError,
    "content_filter": ContentFilterFinishError,
    "insufficient_system_resource": InsufficientSystemResourceError,
    "aborted": AbortedFinishError,
}
"""Finish reasons that mean the answer is not whole."""


def raise_for_finish_reason(completion: ChatCompletion) -> ChatCompletion:
    """Return the completion, or raise if its answer is not whole.

    Args:
        completion: An answer, awaited or folded from a stream.

    Returns:
        The same completion.

    Raises:
        LengthFinishError: `max_tokens` or the context window ran out.
        ContentFilterFinishError: The content filter cut or withheld it.
        InsufficientSystemResourceError: The server ran out of capacity.
        AbortedFinishError: The server aborted it.
        EmptyAnswerError: It has neither text nor tool calls.
        UnfinishedAnswerError: It ended with no finish reason, or with a word that
            this library does not know.
    """
    reason = completion.finish_reason
    error: type[UnfinishedAnswerError] | None = None
    if reason in BY_FINISH_REASON:
        error = BY_FINISH_REASON[reason]
    elif not completion.is_finished:
        error = UnfinishedAnswerError
    elif completion.is_empty:
        error = EmptyAnswerError
    if error is None:
        return completion
    hint = " with reasoning only" if completion.is_reasoning_only else ""
    message = f"the answer ended{hint}, finish_reason {reason!r}"
    raise error(message, completion=completion, finish_reason=reason)
