"""Rows of a batch out of a JSONL or CSV file, checked before anything is sent."""

from __future__ import annotations

import csv
import io
import shutil
import string
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeGuard, TypeVar

import msgspec

from ..params import CallOptions
from .exits import CommandError
from .options import DEFAULT_MODEL

Record = Mapping[str, Any]  # a row's values are whatever JSON its author wrote
Params = dict[str, Any]
_T = TypeVar("_T")
Rows = Generator[_T, None, None]

MAX_LINE: Final = 64 * 1024 * 1024
"""The longest line of a JSONL file and the largest field of a CSV file, in bytes."""

_ENDPOINT: Final = "/chat/completions"
_NOT_IN_A_BODY: Final = {*CallOptions.__annotations__, "extra_body", "stream"}


class Template:
    """A prompt with columns in braces, such as `"Solve: {question}"`.

    A name in braces is taken as it stands, dots and blanks included; `{{` and `}}`
    are braces.

    Args:
        text: The prompt.

    Raises:
        CommandError: The braces do not match, or name no column.
    """

    def __init__(self, text: str) -> None:
        try:
            self._parts = list(string.Formatter().parse(text))
        except ValueError as error:
            message = f"--prompt: {error}"
            raise CommandError(message) from None
        if not any(name for _, name, *_ in self._parts):
            message = '--prompt names no column: write "{column}"'
            raise CommandError(message)

    def fill(self, record: Record) -> str:
        """The prompt of one row.

        Raises:
            CommandError: The row lacks a column, or has null there.
        """
        filled: list[str] = []
        for literal, name, *_ in self._parts:
            filled.append(literal)
            if name is not None:
                filled.append(_cell(record, name))
        return "".join(filled)


def _cell(record: Record, name: str) -> str:
    value = record.get(name)
    if value is None:
        has = ", ".join(str(column) for column in record) or "no columns"
        what = "is null" if name in record else f"is missing; the row has: {has}"
        message = f"column {name!r} {what}"
        raise CommandError(message)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class Shape:
    """How a row becomes a request.

    Args:
        prompt: A template, or `None` where rows are requests themselves.
        model: Asked in place of the row's own model, if given.
        system: A system message in front of a template's prompt.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        model: str | None = None,
        system: str | None = None,
    ) -> None:
        self._template = None if prompt is None else Template(prompt)
        self._model = model
        self._system = system
        if system is not None and prompt is None:
            message = "--system goes with --prompt"
            raise CommandError(message)

    def request(self, record: Record) -> tuple[str | None, Params]:
        """The row's `custom_id`, if it has one, and its parameters of `create`.

        Raises:
            CommandError: The row is no request.
        """
        key: object = record.get("custom_id")
        if not isinstance(key, str | int | None):
            message = "custom_id must be text"
            raise CommandError(message)
        params = self._params(record)
        params["model"] = self._model or params.get("model") or DEFAULT_MODEL
        return None if key is None else str(key), params

    def _params(self, record: Record) -> Params:
        if self._template is not None:
            prompt = {"role": "user", "content": self._template.fill(record)}
            system = {"role": "system", "content": self._system}
            return {"messages": [system, prompt] if self._system else [prompt]}
        if "body" in record:
            return _body(_openai_body(record))
        if "messages" in record:
            return _body({k: v for k, v in record.items() if k != "custom_id"})
        message = (
            "neither an OpenAI batch line nor a request with messages; "
            'for other columns use --prompt "{column}"'
        )
        raise CommandError(message)


def _openai_body(record: Record) -> Record:
    """The request in a line of the OpenAI batch format."""
    body: object = record["body"]
    url = str(record.get("url") or _ENDPOINT)
    if str(record.get("method") or "POST").upper() != "POST":
        message = "method must be POST"
        raise CommandError(message)
    if not url.endswith(_ENDPOINT):
        message = f"url must end with {_ENDPOINT}"
        raise CommandError(message)
    return _mapping(body, "body")


def _body(request: Record) -> Params:
    foreign = sorted(_NOT_IN_A_BODY.intersection(request))
    if foreign:
        message = f"a row cannot set {', '.join(foreign)}"
        raise CommandError(message)
    return dict(request)


def _mapping(value: object, what: str) -> Record:
    if not _is_object(value):
        message = f"{what} must be a JSON object"
        raise CommandError(message)
    return value


def _is_object(value: object) -> TypeGuard[Record]:
    return isinstance(value, dict)


class RowFile:
    """A file of rows that can be read twice: to check it, then to send it.

    Args:
        path: A `.csv` file or JSONL; `-` is JSONL from standard input.
        shape: How a row becomes a request.

    Raises:
        CommandError: The file cannot be read.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        self.name = "stdin" if str(path) == "-" else str(path)
        self._path = path
        self._shape = shape
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._file = self._open()
        except OSError as error:
            message = f"cannot read {self.name}: {error.strerror or error}"
            raise CommandError(message) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _open(self) -> BinaryIO:
        if self.name == "stdin":
            source: BinaryIO = sys.stdin.buffer
        else:
            source = self._stack.enter_context(self._path.open("rb"))
            if source.seekable():
                return source
        # A pipe can be read once only.
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
        self._stack.enter_context(spool)
        shutil.copyfileobj(source, spool)
        return spool

    def check(self) -> int:
        """Read every row and return their number.

        Raises:
            CommandError: There is none, or one is wrong; the line is named.
        """
        seen: dict[str, int] = {}
        with closing(self._rows()) as rows:
            for line, key, _ in rows:
                first = seen.setdefault(key, line)
                if first != line:
                    message = f"custom_id {key!r} is already on line {first}"
                    raise self._at(line, message)
        if not seen:
            message = f"{self.name} has no rows"
            raise CommandError(message)
        return len(seen)

    def requests(self) -> Rows[tuple[str, Params]]:
        """The rows as keys and parameters of `create`."""
        with closing(self._rows()) as rows:
            for _, key, params in rows:
                yield key, params

    def _rows(self) -> Rows[tuple[int, str, Params]]:
        self._file.seek(0)
        is_csv = self._path.suffix.lower() == ".csv"
        with closing(self._csv() if is_csv else self._jsonl()) as records:
            for number, (line, record) in enumerate(records, 1):
                try:
                    key, params = self._shape.request(record)
                except CommandError as error:
                    raise self._at(line, error.message) from None
                yield line, key or f"request-{number}", params

    def _jsonl(self) -> Rows[tuple[int, Record]]:
        line = 0
        while data := self._file.readline(MAX_LINE + 1):
            line += 1
            if len(data) > MAX_LINE:
                raise self._at(line, "the line is longer than 64 MiB")
            data = data.removeprefix(b"\xef\xbb\xbf") if line == 1 else data
            if data.strip():
                yield line, self._decode(line, data)

    def _decode(self, line: int, data: bytes) -> Record:
        try:
            value: object = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._at(line, f"not valid JSON ({error})") from None
        try:
            return _mapping(value, "a row")
        except CommandError as error:
            raise self._at(line, error.message) from None

    def _csv(self) -> Rows[tuple[int, Record]]:
        text = io.TextIOWrapper(self._file, encoding="utf-8-sig", newline="")
        csv.field_size_limit(MAX_LINE)
        reader: csv.DictReader[str] = csv.DictReader(text, strict=True)
        try:
            for record in reader:
                if None in record:
                    raise self._at(reader.line_num, "more fields than columns")
                yield reader.line_num, record
        except UnicodeDecodeError:
            raise self._at(reader.line_num + 1, "not UTF-8") from None
        except csv.Error as error:
            raise self._at(reader.line_num, f"not valid CSV ({error})") from None
        finally:
            text.detach()

    def _at(self, line: int, problem: str) -> CommandError:
        return CommandError(f"{self.name}, line {line}: {problem}")
