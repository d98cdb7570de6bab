"""Results of a batch as lines of the OpenAI batch output format."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..batch import BatchFailed, BatchResult
from ..errors import APIStatusError
from .exits import CommandError

Line = dict[str, Any]  # a line of JSON


def line_of(result: BatchResult) -> Line:
    """One result as a line.

    A refusal by the server has both its `response`, as OpenAI writes it, and an
    `error`, so that either tells it from an answer.

    Args:
        result: What became of a row.
    """
    line: Line = {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": result.key,
        "response": None,
        "error": None,
    }
    if isinstance(result, BatchFailed):
        line["response"] = _refusal(result)
        line["error"] = {
            "code": type(result.error).__name__,
            "message": str(result.error),
        }
        return line
    completion = result.completion
    line["response"] = {
        "status_code": completion.meta.status,
        "request_id": completion.request_id,
        "body": completion.to_dict(),
    }
    return line


def _refusal(result: BatchFailed) -> Line | None:
    error = result.error
    if not isinstance(error, APIStatusError):
        return None
    body = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    return {
        "status_code": error.status,
        "request_id": error.request_id,
        "body": {"error": body},
    }


def write_line(file: BinaryIO, result: BatchResult) -> None:
    """Write one result and push it to the operating system.

    Raises:
        OSError: The file cannot be written.
    """
    file.write(msgspec.json.encode(line_of(result)) + b"\n")
    file.flush()


def opened(path: Path) -> BinaryIO:
    """A new file for results.

    Raises:
        CommandError: It cannot be made.
    """
    try:
        return path.open("wb")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise CommandError(message) from None
