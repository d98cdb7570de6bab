"""How many tokens a text or a message is, counted exactly or estimated.

Exact counts need the extra `tokenizer` and the tokenizer file that DeepSeek publishes
for download; without it the published rule of thumb is used. Either way a count says
which it is. Nothing is ever downloaded.

https://api-docs.deepseek.com/quick_start/token_usage
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec
from msgspec import Struct

from .errors import ConfigurationError, InvalidRequestError, MissingExtraError
from .errors.root import frameless

Method: TypeAlias = str
"""How tokens were counted: `estimate`, `tokenizer`, or a counter's own word."""

# Chinese, Japanese and Korean scripts begin here.
_WIDE: Final = "[^\x00-\u2e7f]+"  # compiles faster than its complement
_NARROW_TENTHS: Final = 3
_WIDE_TENTHS: Final = 6
_TENTHS: Final = 10

MESSAGE_OVERHEAD: Final = 4
"""Tokens assumed for the markers around a message; the API does not publish them."""

MEDIA_TOKENS: Final = 1_024
"""Tokens assumed for an image or a file: the most that the API takes for an image.

https://api-docs.deepseek.com/guides/vision
"""


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    @property
    def method(self) -> Method:
        """How it counts: `estimate`, `tokenizer`, or a word of your own."""
        ...

    def count(self, text: str) -> int:
        """The tokens of a text."""
        ...


def checked_counter(counter: TokenCounter | None) -> TokenCounter:
    """Return a counter, the estimating one for `None`, or refuse what is none.

    Args:
        counter: What a caller gave as one.

    Raises:
        ConfigurationError: It cannot count.
    """
    if counter is None:
        return EstimatedTokens()
    if isinstance(counter, type) or not (
        hasattr(counter, "method") and callable(getattr(counter, "count", None))
    ):
        message = "tokens are counted by a counter, such as TokenizerFile(path)"
        raise ConfigurationError(message)
    return counter


class EstimatedTokens:
    """The published rule: 0.3 token per character, 0.6 per Chinese one."""

    __slots__ = ()

    @property
    def method(self) -> Method:
        """`estimate`."""
        return "estimate"

    def __repr__(self) -> str:
        return "EstimatedTokens()"

    def count(self, text: str) -> int:
        """The estimated tokens of a text, rounded up."""
        wide = 0 if text.isascii() else sum(map(len, re.findall(_WIDE, text)))
        tenths = _NARROW_TENTHS * (len(text) - wide) + _WIDE_TENTHS * wide
        return -(-tenths // _TENTHS)


class TokenizerFile:
    """Exact counts by a tokenizer file, such as DeepSeek's `tokenizer.json`.

    Needs the extra `tokenizer`. The file is part of the archive linked from
    https://api-docs.deepseek.com/quick_start/token_usage

    Args:
        path: The file.

    Raises:
        MissingExtraError: The extra is not installed.
        ConfigurationError: The file cannot be read, or is no tokenizer.
    """

    __slots__ = ("_tokenizer", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._tokenizer = _load(self.path)

    @property
    def method(self) -> Method:
        """`tokenizer`."""
        return "tokenizer"

    def __repr__(self) -> str:
        return f"TokenizerFile({self.path.name!r})"

    def count(self, text: str) -> int:
        """The tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _load(path: Path) -> Any:  # noqa: ANN401 - a class of an optional library
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an optional extra
    except ImportError:
        loader = None
    else:
        loader = Tokenizer
    if loader is None:
        feature = "counting tokens exactly"
        raise MissingExtraError(feature, "tokenizer")
    try:
        return loader.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        problem = f"{path.name} is no tokenizer file: {error}"
    raise ConfigurationError(problem)


class TokenCount(Struct, frozen=True, kw_only=True):
    """A number of tokens, and how it was found.

    Attributes:
        tokens: How many.
        method: `estimate` or `tokenizer`.
    """

    tokens: int
    method: Method


@frameless
def count_tokens(
    content: str | Iterable[Mapping[str, Any]], counter: TokenCounter | None = None
) -> TokenCount:
    """Count the tokens of a text, or of messages as a request would send them.

    Args:
        content: Text, or messages as dicts.
        counter: A `TokenizerFile` for exact numbers; estimated if not given.

    Returns:
        The count and its method. For messages even a tokenizer's count leans on
        assumptions: `MESSAGE_OVERHEAD` and `MEDIA_TOKENS`.

    Raises:
        InvalidRequestError: It is neither text nor messages as dicts.
        ConfigurationError: `counter` cannot count.
    """
    chosen = checked_counter(counter)
    if isinstance(content, str):
        tokens = chosen.count(content)
    else:
        tokens = _messages_tokens(content, chosen)
    return TokenCount(tokens=tokens, method=chosen.method)


def _messages_tokens(
    messages: Iterable[Mapping[str, Any]], counter: TokenCounter
) -> int:
    try:
        return sum(sum(message_tokens(message, counter)) for message in messages)
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        problem = "messages to be counted must be dicts of JSON values"
    raise InvalidRequestError(problem, param="messages")


def message_tokens(
    message: Mapping[str, Any], counter: TokenCounter
) -> tuple[int, int]:
    """The tokens of one message.

    Args:
        message: The message as a dict.
        counter: Counts its texts.

    Returns:
        Tokens without the reasoning, and tokens of the reasoning, which the server
        reads only if the request has tools.
    """
    tokens = MESSAGE_OVERHEAD
    reasoning = 0
    for name, value in message.items():
        if name == "reasoning_content":
            reasoning = counter.count(value) if isinstance(value, str) else 0
        elif name == "content":
            tokens += _content_tokens(value, counter)
        elif name not in {"role", "tool_call_id"} and value:
            tokens += counter.count(msgspec.json.encode(value).decode())
    return tokens, reasoning


def _content_tokens(content: Any, counter: TokenCounter) -> int:  # noqa: ANN401
    if isinstance(content, str):
        return counter.count(content)
    if not isinstance(content, list):
        return 0
    parts = cast("list[dict[str, Any]]", content)
    return sum(
        counter.count(part.get("text", ""))
        if part.get("type") == "text"
        else MEDIA_TOKENS
        for part in parts
    )
