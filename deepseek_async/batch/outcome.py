"""What a failed attempt means: for the request, and for the account.

| outcome               | the limit     | tried again  | billed   |
|-----------------------|---------------|--------------|----------|
| 429                   | was exceeded  | always       | no       |
| 5xx, empty 200        | overload      | as by policy | no       |
| no connection         | overload      | as by policy | no       |
| lost, timed out       | overload      | as by policy | possibly |
| unreadable 200        | says nothing  | as by policy | possibly |
| 401, 402, 403         | says nothing  | no: stop all | no       |
| 400 and other         | says nothing  | no           | no       |

`Attempts` counts no attempt of a request while nobody is answered: in an outage, and
for a while where there was no server (no connection, 502, 503).
"""

from __future__ import annotations

import random
from enum import Enum
from typing import Final

from ..errors import (
    BY_FINISH_REASON,
    APIConnectionError,
    AuthenticationError,
    ConnectError,
    ConnectTimeoutError,
    DeadlineExceededError,
    DeepSeekError,
    EmptyResponseError,
    InsufficientBalanceError,
    InternalServerError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ResponseTooLargeError,
    SpendLimitError,
    UnfinishedAnswerError,
)
from ..retry import RetryPolicy
from ..types.chat import ChatCompletion

REPEATED_FINISH: Final = frozenset({"insufficient_system_resource", "aborted"})
"""Finish reasons by which the server says that the request may be repeated."""

_UNAVAILABLE: Final = frozenset({502, 503})
_FIRST_REFUSAL_WAIT: Final = 0.05
_LONGEST_REFUSAL_WAIT: Final = 2.0


class Kind(Enum):
    """What an attempt's failure says about the server."""

    REFUSED = "refused"
    OVERLOAD = "overload"
    ANSWERED = "answered"
    WITHDRAWN = "withdrawn"


def kind_of(error: DeepSeekError) -> Kind:
    """What a failure says about the server."""
    if isinstance(error, RateLimitError):
        return Kind.REFUSED
    if isinstance(error, DeadlineExceededError):
        return Kind.WITHDRAWN
    overload = (
        InternalServerError
        | EmptyResponseError
        | APIConnectionError
        | RequestTimeoutError
    )
    return Kind.OVERLOAD if isinstance(error, overload) else Kind.ANSWERED


def is_unavailable(error: DeepSeekError) -> bool:
    """Whether the server was not there: that says nothing about the request."""
    if isinstance(error, InternalServerError):
        return error.status in _UNAVAILABLE
    return isinstance(error, ConnectError | ConnectTimeoutError)


def fatal_reason(error: DeepSeekError) -> str | None:
    """Why no further request can succeed, or `None`."""
    if isinstance(error, AuthenticationError):
        return "authentication"
    if isinstance(error, PermissionDeniedError):
        return "permission"
    if isinstance(error, SpendLimitError):
        return "spend_limit"
    return "balance" if isinstance(error, InsufficientBalanceError) else None


def may_be_billed(error: DeepSeekError) -> bool:
    """Whether the server may have done the work and billed it."""
    if isinstance(error, ConnectError | ConnectTimeoutError):
        return False
    return isinstance(error, APIConnectionError) or (
        isinstance(error, ResponseDecodeError)
        and not isinstance(error, EmptyResponseError)
    )


def wait_before_retry(
    policy: RetryPolicy, counted: int, error: DeepSeekError
) -> float | None:
    """Seconds until the next attempt, or `None` for none.

    Args:
        policy: The policy of the request.
        counted: Attempts so far.
        error: How the last one failed.
    """
    unreadable = isinstance(error, ResponseDecodeError) and not isinstance(
        error, ResponseTooLargeError
    )
    if unreadable or isinstance(error, UnfinishedAnswerError):
        # A body cut on its way: the same request may well succeed.
        error = EmptyResponseError(error.message)
    return policy.wait(counted, error)


def wait_after_refusal(
    policy: RetryPolicy, refusals: int, error: RateLimitError
) -> float:
    """Seconds until a refused request may go again.

    The limit already sees to it that fewer go; this only spreads them.

    Args:
        policy: Caps what the server asks for.
        refusals: Refusals of this request so far.
        error: The last one.
    """
    most = _FIRST_REFUSAL_WAIT * 2.0 ** min(refusals, 20)
    wait = random.uniform(0.0, min(_LONGEST_REFUSAL_WAIT, most))  # noqa: S311 - jitter
    asked = min(error.retry_after or 0.0, policy.retry_after_cap)
    return max(wait, asked)


def unfinished(completion: ChatCompletion) -> UnfinishedAnswerError | None:
    """The error for an answer that the server gave up on, or `None`."""
    reason = completion.choices[0].finish_reason if completion.choices else None
    if reason not in REPEATED_FINISH:
        return None
    message = f"the server gave up on the answer, finish_reason {reason!r}"
    return BY_FINISH_REASON[reason or ""](
        message, completion=completion, finish_reason=reason
    )
