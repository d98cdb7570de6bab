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
    ├── BatchError
    │   ├── SourceError                       the input cannot be read on
    │   ├── BatchStoppedError                 a ceiling, or failures all alike
    │   ├── JournalError                      it cannot be read or written
    │   │   ├── JournalLockedError            another runner is at work on it
    │   │   └── JournalMismatchError          it belongs to another job
    │   └── CancelledItemError                one row was cancelled
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

from .above import (
    ContextBudgetError,
    ConversationBusyError,
    ConversationError,
    InvalidToolCallError,
    SavedConversationError,
    SchemaError,
    StrictSchemaError,
    ToolCallsPendingError,
    ToolDefinitionError,
    ToolError,
    ToolExecutionError,
    ToolRoundsExceededError,
)
from .answer import (
    BY_FINISH_REASON,
    AbortedFinishError,
    ContentFilterFinishError,
    EmptyAnswerError,
    InsufficientSystemResourceError,
    InvalidAnswerError,
    LengthFinishError,
    RefusedAnswerError,
    UnfinishedAnswerError,
    raise_for_finish_reason,
)
from .batch import (
    BatchError,
    BatchStoppedError,
    CancelledItemError,
    JournalError,
    JournalLockedError,
    JournalMismatchError,
    SourceError,
)
from .root import (
    ClientClosedError,
    ConfigurationError,
    DeepSeekError,
    DeepSeekWarning,
    InvalidRequestError,
    MissingExtraError,
    MissingReasoningError,
    SpendLimitError,
    SSEEventTooLargeError,
    StreamClosedError,
    StreamInUseError,
)
from .status import (
    BY_STATUS,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContentRiskError,
    ContextLengthExceededError,
    InsufficientBalanceError,
    InternalServerError,
    MissingReasoningContentError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    ServiceUnavailableError,
    UnknownModelError,
    UnprocessableEntityError,
)
from .wire import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineExceededError,
    EmptyResponseError,
    FirstPayloadTimeoutError,
    PayloadGapTimeoutError,
    ResponseDecodeError,
    ResponseHeadTimeoutError,
    ResponseTooLargeError,
    SilenceTimeoutError,
    StreamInterruptedError,
    TruncatedResponseError,
    UnexpectedContentTypeError,
)

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
    "BatchError",
    "BatchStoppedError",
    "CancelledItemError",
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
    "JournalError",
    "JournalLockedError",
    "JournalMismatchError",
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
    "SourceError",
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
