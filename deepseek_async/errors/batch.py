"""What can be wrong with a batch as a whole."""

from __future__ import annotations

from .root import DeepSeekError


class BatchError(DeepSeekError):
    """The root of the errors of a batch."""


class SourceError(BatchError):
    """The input could not be read on; results of everything before it stand."""


class BatchStoppedError(BatchError):
    """The batch ended before its input did; what was answered has been handed out.

    Attributes:
        reason: `authentication`, `balance`, `model`, `systematic`, `cost`, `tokens`,
            `failures`, `failure_ratio`, `wall_time`, or `stalled`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class JournalError(BatchError):
    """The journal cannot be read or written; the message names file and offset."""


class JournalLockedError(JournalError):
    """Another runner is at work on this journal."""


class JournalMismatchError(JournalError):
    """The journal belongs to another job: other input or other parameters."""


class CancelledItemError(BatchError):
    """The request was cancelled by `Batch.cancel`."""
