"""How the command ends: exit codes, and which failure has which."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

from ..errors import (
    AuthenticationError,
    BatchError,
    BatchStoppedError,
    ConfigurationError,
    DeepSeekError,
    InsufficientBalanceError,
    InvalidRequestError,
    MissingExtraError,
    PermissionDeniedError,
)

#: Errors that every further request of the same key would meet as well.
FATAL = AuthenticationError, InsufficientBalanceError, PermissionDeniedError


class ExitCode(IntEnum):
    """The exit codes of `deepseek-async`.

    Attributes:
        OK: Everything worked.
        FAILED: The API refused or broke off, an answer is unfinished, or some rows
            of a batch failed.
        USAGE: A wrong option, bad input, or a file that cannot be read or written.
        CONFIGURATION: No key, a malformed key or base URL, a missing extra.
        FATAL: The key is wrong, has no rights, or the account has no money.
        INTERRUPTED: Ctrl-C.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    FATAL = 4
    INTERRUPTED = 130


class CommandError(Exception):
    """A failure that ends the command with one line on stderr.

    Attributes:
        message: The line.
        code: The exit code.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def code_of(error: DeepSeekError) -> ExitCode:
    """The exit code of an error of the library."""
    if isinstance(error, FATAL):
        return ExitCode.FATAL
    if isinstance(error, ConfigurationError | MissingExtraError):
        return ExitCode.CONFIGURATION
    if isinstance(error, BatchStoppedError):
        return ExitCode.FAILED
    if isinstance(error, InvalidRequestError | BatchError):
        return ExitCode.USAGE
    return ExitCode.FAILED


@contextmanager
def usage_errors() -> Generator[None]:
    """Have options that the library refuses be wrong usage, not configuration."""
    try:
        yield
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
