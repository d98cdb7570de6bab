"""Hiding sensitive text from the server, and putting it back into the answer.

A redactor sees the messages of a request just before it is encoded, and the text of
the answer just before the caller gets it. What it hides in the call's `Vault` becomes
a placeholder such as `[EMAIL_1]` on the wire; wherever the model repeats that, the
original is put back.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from ..errors import ConfigurationError, InvalidRequestError
from ..request import WireRequest
from ..salvage import is_array, is_object
from ..types.chat import ChatCompletion, ChatCompletionMessage
from ..types.fim import Completion

Messages: TypeAlias = list[dict[str, Any]]

_LONGEST: Final = 1 + 32 + 1 + 9 + 1
_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9]{0,31}_[0-9]{1,9}\]")
KIND: Final = re.compile(r"[A-Z][A-Z0-9]{0,31}")
"""What the kind of a hidden text may be called."""

_encoder: Final = msgspec.json.Encoder()


class Vault:
    """What was hidden in one request. Its `repr` shows nothing of it."""

    __slots__ = ("_counts", "_originals", "_placeholders", "_taken")

    def __init__(self) -> None:
        self._originals: dict[str, str] = {}
        self._placeholders: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    def __repr__(self) -> str:
        return f"Vault({len(self._originals)} hidden)"

    def __len__(self) -> int:
        return len(self._originals)

    def reserve(self, text: str) -> None:
        """Never use placeholders that a text contains of its own."""
        self._taken.update(_PLACEHOLDER.findall(text))

    def hide(self, kind: str, original: str) -> str:
        """Hide a text.

        Args:
            kind: What it is, in capitals, such as `EMAIL`: the model reads it.
            original: The text.

        Returns:
            The placeholder, always the same one for the same text and kind.

        Raises:
            ConfigurationError: `kind` is not a word of capitals and digits.
        """
        found = self._placeholders.get((kind, original))
        if found is not None:
            return found
        if not KIND.fullmatch(kind):
            message = "the kind of a hidden text must be a word in capitals"
            raise ConfigurationError(message)
        number = self._counts.get(kind, 0) + 1
        while (made := f"[{kind}_{number}]") in self._taken:
            number += 1
        self._counts[kind] = number
        self._placeholders[kind, original] = made
        # It may hold placeholders itself: another redactor has been there before.
        self._originals[made] = self.restore(original)
        return made

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """Put the originals back.

        Args:
            text: Text with placeholders.
            in_json: Whether it is JSON, so that the originals must be escaped.
        """
        if not self._originals or "[" not in text:
            return text

        def original_of(match: re.Match[str]) -> str:
            found = self._originals.get(match[0])
            if found is None:
                return match[0]
            return _encoder.encode(found)[1:-1].decode() if in_json else found

        return _PLACEHOLDER.sub(original_of, text)

    def cuts(self, text: str, start: int, end: int) -> bool:
        """Whether a piece of a text begins or ends amid a placeholder of this vault.

        Args:
            text: The text.
            start: Where the piece begins.
            end: Where it ends.
        """
        return any(self._is_amid(text, place) for place in (start, end))

    def _is_amid(self, text: str, place: int) -> bool:
        opened = text.rfind("[", max(0, place - _LONGEST), place)
        found = _PLACEHOLDER.match(text, opened) if opened >= 0 else None
        return found is not None and found.end() > place and found[0] in self._originals

    def begins(self, text: str) -> bool:
        """Whether a text is the beginning of a placeholder, but not all of it."""
        return any(
            len(text) < len(placeholder) and placeholder.startswith(text)
            for placeholder in self._originals
        )


class Restorer:
    """Restores a text that comes in pieces; a placeholder may be cut anywhere.

    Args:
        vault: What was hidden.
        in_json: Whether the text is JSON.
    """

    __slots__ = ("_held", "_in_json", "_vault")

    def __init__(self, vault: Vault, *, in_json: bool = False) -> None:
        self._vault = vault
        self._in_json = in_json
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece.

        Returns:
            What can be shown; the beginning of a placeholder is held back.
        """
        text = self._held + piece
        start = text.rfind("[")
        if start >= 0 and self._vault.begins(text[start:]):
            text, self._held = text[:start], text[start:]
        else:
            self._held = ""
        return self._vault.restore(text, in_json=self._in_json)

    def end(self) -> str:
        """What was held back, for the text is over."""
        held, self._held = self._held, ""
        return held


class Redactor:
    """Sees what goes out and what comes in; subclass it, and override either.

    Both methods may be `async`.
    """

    def outgoing(
        self, messages: Messages, vault: Vault
    ) -> Messages | Awaitable[Messages | None] | None:
        """Change the messages of a request.

        Args:
            messages: Copies, to do with what you like; in a fill-in-the-middle
                request one of role `prompt`, and one of role `suffix` if it has one.
            vault: Takes what is to be put back into the answer.

        Returns:
            The messages to send, or `None` for `messages` as they are now.
        """
        del messages, vault
        return None

    def incoming(self, text: str, vault: Vault) -> str | Awaitable[str]:
        """Change a text of the answer.

        Args:
            text: Visible text, reasoning, or a title, with what was hidden put back
                into it; in a stream one piece of it. A piece for which this raised,
                or was cancelled, comes again if the stream is read on.
            vault: What was hidden.

        Returns:
            The text for the caller.
        """
        del vault
        return text


Hook: TypeAlias = (
    Redactor
    | Callable[[Messages, Vault], Messages | None]
    | Callable[[Messages, Vault], Awaitable[Messages | None]]
)
"""A `Redactor`, or a function, plain or `async`, to be called as its `outgoing`."""


class _Outgoing(Redactor):
    """A function as a redactor."""

    def __init__(self, function: Callable[[Messages, Vault], Any]) -> None:
        self._function = function

    def outgoing(
        self, messages: Messages, vault: Vault
    ) -> Messages | Awaitable[Messages | None] | None:
        changed: Messages | Awaitable[Messages | None] | None
        changed = self._function(messages, vault)
        return changed


class Redaction:
    """A client's redactors, in order.

    Args:
        hooks: The redactors, or a single one.

    Raises:
        ConfigurationError: One of them is neither a `Redactor` nor a function.
    """

    def __init__(self, hooks: Hook | Sequence[Hook]) -> None:
        listed: Sequence[object] = (hooks,)
        if isinstance(hooks, Sequence):
            listed = cast("Sequence[object]", hooks)
        self._redactors = [_redactor(hook) for hook in listed]
        self._listeners = [
            redactor
            for redactor in self._redactors
            if type(redactor).incoming is not Redactor.incoming
        ]

    @property
    def listens(self) -> bool:
        """Whether any of them looks at answers."""
        return bool(self._listeners)

    async def hide(self, request: WireRequest) -> tuple[WireRequest, Vault]:
        """The request as it may be sent, and what was hidden in it.

        Raises:
            InvalidRequestError: A redactor returned no messages.
            Exception: Whatever a redactor raised; nothing was sent.
        """
        vault = Vault()
        vault.reserve(request.body.decode())
        body: dict[str, Any] = msgspec.json.decode(request.body)
        messages = _messages_of(body)
        for redactor in self._redactors:
            changed = redactor.outgoing(messages, vault)
            if inspect.isawaitable(changed):
                changed = await changed
            messages = messages if changed is None else changed
        _put_back(body, messages)
        hidden = copy.copy(request)
        hidden.body = _encode(body)
        return hidden, vault

    async def show(
        self, answer: ChatCompletion | Completion, request: WireRequest, vault: Vault
    ) -> None:
        """Put what was hidden back into a whole answer.

        Args:
            answer: The answer, which is changed.
            request: What was asked.
            vault: What was hidden.
        """
        in_json = wants_json(request)
        if isinstance(answer, Completion):
            for choice in answer.choices:
                choice.text = await self.shown(vault.restore(choice.text), vault)
            return
        for said in answer.choices:
            await self._show_message(said.message, vault, in_json=in_json)

    async def _show_message(
        self, message: ChatCompletionMessage, vault: Vault, *, in_json: bool
    ) -> None:
        if message.content:
            text = vault.restore(message.content, in_json=in_json)
            message.content = await self.shown(text, vault)
        for field in ("reasoning_content", "title"):
            text = getattr(message, field)
            if text:
                shown = await self.shown(vault.restore(text), vault)
                setattr(message, field, shown)
        functions = [call.function for call in message.tool_calls or ()]
        if message.function_call is not None:
            functions.append(message.function_call)
        for function in functions:
            function.arguments = vault.restore(function.arguments, in_json=True)

    async def shown(self, text: str, vault: Vault) -> str:
        """A text as the redactors want the caller to see it."""
        for redactor in self._listeners:
            changed = redactor.incoming(text, vault)
            text = changed if isinstance(changed, str) else await changed
        return text


def _redactor(hook: object) -> Redactor:
    if isinstance(hook, Redactor):
        return hook
    if callable(hook) and not isinstance(hook, type):
        return _Outgoing(hook)
    message = "redact takes Redactors and functions of messages and vault"
    raise ConfigurationError(message)


def wants_json(request: WireRequest) -> bool:
    """Whether a request asks for an answer in JSON."""
    if b'"json_object"' not in request.body:
        return False
    body: dict[str, Any] = msgspec.json.decode(request.body)
    wanted = body.get("response_format")
    return is_object(wanted) and wanted.get("type") == "json_object"


def _messages_of(body: dict[str, Any]) -> Messages:
    if "prompt" not in body:
        found: Messages = body["messages"]
        return found
    messages: Messages = [{"role": "prompt", "content": body["prompt"]}]
    if body.get("suffix") is not None:
        messages.append({"role": "suffix", "content": body["suffix"]})
    return messages


def _put_back(body: dict[str, Any], messages: object) -> None:
    if not is_array(messages) or not messages or not all(map(is_object, messages)):
        message = "a redactor must return the messages, or None"
        raise InvalidRequestError(message, param="messages")
    if "prompt" not in body:
        body["messages"] = messages
        return
    for message in messages:
        body[message["role"]] = message["content"]


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(body)
    except (TypeError, ValueError, msgspec.MsgspecError):
        message = "a redactor returned messages that cannot be encoded as JSON"
    raise InvalidRequestError(message, param="messages")
