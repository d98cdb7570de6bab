"""Conversations as JSON: the file format. It holds no key, no tool and no client."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..decoders import make_ready
from ..errors import InvalidRequestError, SavedConversationError
from ..history import find_misshapen
from ..params import CallOptions, ChatOptions
from ..salvage import is_mapping
from ..tokens import TokenCounter
from ..types.discreet import Discreet
from ..types.request import Content, PlainMessage, RequestStruct
from ..types.usage import Usage
from .transcript import Exchange, Transcript

VERSION: Final = 1

_LEFT_OUT: Final = frozenset(
    {*CallOptions.__annotations__, "tools", "functions", "resume"}
)


class SavedConversation(Discreet, Struct, kw_only=True):
    """What a file holds.

    Attributes:
        version: Of the format.
        model: The model.
        options: The chat options that are JSON; tools, clocks, retry and resume
            policy, headers and tag are the program's own affair.
        head: The first system messages.
        summary: The summary, if there is one.
        exchanges: The other messages, by exchange.
        results: Results of pending calls that were not sent yet, by call id.
        usage: Token counts of all turns.
        cost: What they cost in US dollars, if that is known.
        dropped: How many exchanges were dropped.
    """

    version: int
    model: str
    options: dict[str, Any] = {}
    head: list[PlainMessage] = []
    summary: list[PlainMessage] | None = None
    exchanges: list[list[PlainMessage]] = []
    results: dict[str, Any] = {}
    usage: Usage = Usage()
    cost: Decimal | None = None
    dropped: int = 0

    def __repr__(self) -> str:
        return f"SavedConversation({len(self.exchanges)} exchanges)"

    def transcript(self, counter: TokenCounter) -> Transcript:
        """The history.

        Args:
            counter: Counts tokens.
        """
        return Transcript(
            Exchange.of(self.head, counter),
            tuple(Exchange.of(one, counter) for one in self.exchanges),
            Exchange.of(self.summary, counter) if self.summary else None,
        )


def save(
    model: str,
    options: Mapping[str, Any],
    transcript: Transcript,
    *,
    results: Mapping[str, Content],
    usage: Usage,
    cost: Decimal | None,
    dropped: int,
) -> bytes:
    """Write a file.

    Args:
        model: The model.
        options: The conversation's options.
        transcript: The history.
        results: Results of pending calls.
        usage: Token counts so far.
        cost: What they cost.
        dropped: How many exchanges were dropped.

    Raises:
        InvalidRequestError: An option is no JSON.
    """
    summary = transcript.summary
    try:
        saved = SavedConversation(
            version=VERSION,
            model=model,
            options=_saved_options(options),
            head=list(transcript.head.messages),
            summary=list(summary.messages) if summary else None,
            exchanges=[list(one.messages) for one in transcript.exchanges],
            results=dict(results),
            usage=usage,
            cost=cost,
            dropped=dropped,
        )
        return msgspec.json.encode(saved)
    except (TypeError, ValueError, NotImplementedError):
        message = "an option of the conversation cannot be saved as JSON"
    raise InvalidRequestError(message)


def _saved_options(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in options.items()
        if name not in _LEFT_OUT and value is not None
    }
    plain: dict[str, Any] = msgspec.to_builtins(kept, enc_hook=_opened)
    return plain


def _opened(value: object) -> object:
    if isinstance(value, RequestStruct):
        return msgspec.structs.asdict(value)
    if is_mapping(value):
        return dict(value)
    raise NotImplementedError


def load(data: str | bytes) -> SavedConversation:
    """Read a file.

    Args:
        data: What `Conversation.to_json` returned.

    Raises:
        SavedConversationError: It is something else, or of a newer version.
    """
    problem = "it is not JSON of the right shape"
    make_ready(SavedConversation)
    try:
        saved = msgspec.json.decode(data, type=SavedConversation)
    except msgspec.ValidationError as error:
        problem = str(error)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    else:
        problem = _problem(saved)
        if not problem:
            return saved
    message = f"this is no saved conversation: {problem}"
    raise SavedConversationError(message)


def _problem(saved: SavedConversation) -> str:
    if saved.version != VERSION:
        return f"version {saved.version} is not known here"
    if saved.cost is not None and not (saved.cost.is_finite() and saved.cost >= 0):
        return "its cost is no amount of money"
    groups = [saved.head, saved.summary or [], *saved.exchanges]
    for message in (one for group in groups for one in group):
        problem = find_misshapen(message)
        if problem:
            return f"a message is misshapen: {problem}"
    for name in saved.options:
        if name in _LEFT_OUT or name not in ChatOptions.__annotations__:
            return f"{name} does not belong in a file"
    return ""
