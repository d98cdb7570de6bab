"""The history as an immutable value: forks and roll-backs cost nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

from msgspec import Struct
from msgspec.structs import replace

from ..errors import InvalidRequestError
from ..history import find_misshapen, is_for_caller, listed, plain_message
from ..tokens import TokenCounter, message_tokens
from ..types.discreet import Discreet
from ..types.request import Content, Message, PlainMessage

_OPENING = frozenset({"user", "latest_reminder"})


class Exchange(Discreet, Struct, frozen=True):
    """Messages that stay or go together: a question and everything up to the next.

    Attributes:
        messages: The messages; nobody changes them.
        tokens: How long they are, without reasoning.
        reasoning_tokens: How long their reasoning is.
    """

    messages: tuple[PlainMessage, ...] = ()
    tokens: int = 0
    reasoning_tokens: int = 0

    def __repr__(self) -> str:
        return f"Exchange({len(self.messages)} messages, {self.tokens} tokens)"

    @classmethod
    def of(cls, messages: Iterable[PlainMessage], counter: TokenCounter) -> Exchange:
        """Make an exchange of messages.

        Args:
            messages: The messages.
            counter: Counts their tokens, once.
        """
        kept = tuple(messages)
        counts = [message_tokens(message, counter) for message in kept]
        return cls(kept, sum(one for one, _ in counts), sum(two for _, two in counts))


class Transcript(Discreet, Struct, frozen=True):
    """A whole history.

    Attributes:
        head: The system messages at the beginning; they always stay.
        exchanges: The rest, oldest first.
        summary: What stands for exchanges that were dropped, after the head.
    """

    head: Exchange = Exchange()
    exchanges: tuple[Exchange, ...] = ()
    summary: Exchange | None = None

    def __repr__(self) -> str:
        return f"Transcript({len(self.exchanges)} exchanges)"

    @classmethod
    def of(cls, messages: Iterable[Message], counter: TokenCounter) -> Transcript:
        """Take a list of messages apart.

        Args:
            messages: A history in any form that `create` takes.
            counter: Counts tokens.

        Raises:
            InvalidRequestError: One is no message.
        """
        plain = [_sound(message) for message in messages]
        head = list(takewhile(lambda message: message["role"] == "system", plain))
        grouped = _grouped(plain[len(head) :])
        return cls(
            Exchange.of(head, counter),
            tuple(Exchange.of(group, counter) for group in grouped),
        )

    @property
    def messages(self) -> list[PlainMessage]:
        """All messages in the order of sending."""
        parts = (self.head, *filter(None, [self.summary]), *self.exchanges)
        return [message for part in parts for message in part.messages]

    @property
    def unanswered(self) -> list[str]:
        """The ids of calls in the last exchange that have no tool message yet."""
        waiting: list[str] = []
        for message in self.exchanges[-1].messages if self.exchanges else ():
            calls: list[PlainMessage] = message.get("tool_calls") or []
            waiting += [call["id"] for call in calls if is_for_caller(call.get("type"))]
            if message["role"] == "tool" and message.get("tool_call_id") in waiting:
                waiting.remove(message["tool_call_id"])
        return waiting

    def tokens(self, *, with_reasoning: bool) -> int:
        """How long the history is.

        Args:
            with_reasoning: Whether the server reads the reasoning too.
        """
        parts = (self.head, *filter(None, [self.summary]), *self.exchanges)
        return sum(
            part.tokens + part.reasoning_tokens * with_reasoning for part in parts
        )

    def with_last(self, exchange: Exchange, *, instead: bool = False) -> Transcript:
        """The history with one more exchange.

        Args:
            exchange: The newest one.
            instead: Whether it takes the place of the last one.
        """
        kept = self.exchanges[:-1] if instead else self.exchanges
        return replace(self, exchanges=(*kept, exchange))

    def without_oldest(self, count: int) -> Transcript:
        """The history without its first exchanges.

        Args:
            count: How many.
        """
        return replace(self, exchanges=self.exchanges[count:])


def _sound(message: Message) -> PlainMessage:
    plain = plain_message(message)
    problem = find_misshapen(plain)
    if problem:
        raise InvalidRequestError(problem, param="messages")
    return plain


def _grouped(messages: list[PlainMessage]) -> Iterator[list[PlainMessage]]:
    group: list[PlainMessage] = []
    for message in messages:
        opens = message["role"] in _OPENING
        follows = bool(group) and group[-1]["role"] == "latest_reminder"
        if opens and group and not follows:
            yield group
            group = []
        group.append(message)
    if group:
        yield group


def tool_messages(
    calls: Iterable[str], results: Mapping[str, Content]
) -> list[PlainMessage]:
    """The tool messages that answer calls, in the calls' order.

    Args:
        calls: The ids.
        results: A result for each.
    """
    return [
        plain_message({"role": "tool", "tool_call_id": i, "content": results[i]})
        for i in calls
    ]


def user_messages(content: Content | None, reminder: str | None) -> list[PlainMessage]:
    """What the user says, the metadata before it.

    Args:
        content: The message's content, if there is one.
        reminder: The metadata, if there is any.
    """
    found: list[PlainMessage] = []
    if reminder is not None:
        found.append({"role": "latest_reminder", "content": reminder})
    if content is not None:
        found.append(plain_message({"role": "user", "content": content}))
    return found


def system_messages(system: object) -> list[PlainMessage]:
    """The instructions at the head of a conversation.

    Args:
        system: One text, or several for several messages.

    Raises:
        InvalidRequestError: It is something else.
    """
    given = [system] if isinstance(system, str) else listed(system or (), "system")
    return [{"role": "system", "content": text} for text in given]
