"""Answers that arrived, but are not what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .root import DeepSeekError

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion


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


BY_FINISH_REASON: dict[str, type[UnfinishedAnswerError]] = {
    "length": LengthFinishError,
    "content_filter": ContentFilterFinishError,
    "insufficient_system_resource": InsufficientSystemResourceError,
    "aborted": AbortedFinishError,
}
"""Finish reasons that mean the answer is not whole."""


def is_refusal(completion: ChatCompletion) -> bool:
    """Whether an answer is a refusal, in fields the API does not document yet.

    Args:
        completion: An answer, awaited or folded from a stream.
    """
    return completion.finish_reason == "refusal" or any(
        choice.message.extra.get("refusal") for choice in completion.choices
    )


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
        RefusedAnswerError: It is a refusal.
        EmptyAnswerError: It has neither text nor tool calls.
        UnfinishedAnswerError: It ended with no finish reason, or with a word that
            this library does not know.
    """
    reason = completion.finish_reason
    error: type[UnfinishedAnswerError] | None = None
    if reason in BY_FINISH_REASON:
        error = BY_FINISH_REASON[reason]
    elif is_refusal(completion):
        error = RefusedAnswerError
    elif not completion.is_finished:
        error = UnfinishedAnswerError
    elif completion.is_empty:
        error = EmptyAnswerError
    if error is None:
        return completion
    hint = " with reasoning only" if completion.is_reasoning_only else ""
    message = f"the answer ended{hint}, finish_reason {reason!r}"
    if error is RefusedAnswerError:
        message = "the model refused to answer"
    raise error(message, completion=completion, finish_reason=reason)
