"""Shows an answer while it is being written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Any, Self, TextIO

from rich.console import Console
from rich.status import Status

from ..client import AsyncDeepSeek
from ..streaming import ChatStream
from ..types.chat import ChatCompletion
from ..types.events import ChatEvent, Heartbeat, ReasoningDelta, TextDelta
from ..types.request import Message
from .console import err, note, out
from .tally import usage_line
from .terminal import Sanitizer

_DIM = "\x1b[2m"
_RESET = "\x1b[0m"


class AnswerWriter:
    """Writes reasoning, dimmed, and text to a stream as they come.

    The text bypasses rich, which would expand tabs and could read markup in it.

    Args:
        stream: Where to write.
        raw: Leave control codes in.
        dim: Whether reasoning can be dimmed there.
    """

    def __init__(self, stream: TextIO, *, raw: bool, dim: bool) -> None:
        self._stream = stream
        self._raw = raw
        self._dim = dim and not raw
        self._sanitizers = {"reasoning": Sanitizer(), "text": Sanitizer()}
        self._channel = ""
        self._last = "\n"

    def reasoning(self, text: str) -> None:
        """Write a piece of reasoning."""
        self._write("reasoning", text)

    def text(self, text: str) -> None:
        """Write a piece of the answer."""
        self._write("text", text)

    def end(self) -> None:
        """End the last line."""
        if self._last != "\n":
            self._put("\n")

    def _write(self, channel: str, text: str) -> None:
        shown = text if self._raw else self._sanitizers[channel].feed(text)
        if not shown:
            return
        if self._channel == "reasoning" and channel == "text":
            self.end()
            self._put("\n")
        self._channel = channel
        self._put(shown, dim=self._dim and channel == "reasoning")

    def _put(self, text: str, *, dim: bool = False) -> None:
        self._last = text[-1]
        self._stream.write(f"{_DIM}{text}{_RESET}" if dim else text)
        self._stream.flush()


def can_dim(console: Console) -> bool:
    """Whether a console shows dimmed text."""
    plain = console.color_system is None or console.legacy_windows
    return console.is_terminal and not plain


class AnswerView:
    """One answer on its way to the screen: a spinner, then reasoning and text.

    Args:
        raw: Leave control codes in.
        reasoning: Whether to show reasoning; by default on a terminal only.
    """

    def __init__(self, *, raw: bool = False, reasoning: bool | None = None) -> None:
        screen = out()
        self._reasoning = screen.is_terminal if reasoning is None else reasoning
        self._writer = AnswerWriter(sys.stdout, raw=raw, dim=can_dim(screen))
        self._status: Status | None = None
        progress = err()
        if progress.is_terminal and screen.is_terminal:
            self._status = progress.status("waiting for the model")

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_waiting()
        self._writer.end()

    def show(self, event: ChatEvent) -> None:
        """Show what one event of a stream brings."""
        if isinstance(event, Heartbeat):
            if self._status:
                self._status.update(f"queued for {event.waited:.0f} s")
        elif isinstance(event, TextDelta):
            self._stop_waiting()
            self._writer.text(event.text)
        elif isinstance(event, ReasoningDelta) and self._reasoning:
            self._stop_waiting()
            self._writer.reasoning(event.text)

    def _stop_waiting(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None


async def show_answer(
    client: AsyncDeepSeek,
    messages: Sequence[Message],
    params: Mapping[str, Any],
    *,
    view: AnswerView,
    usage: bool = True,
) -> ChatCompletion:
    """Ask, show the answer while it comes, and tell what it took.

    Args:
        client: Whom to ask.
        messages: The conversation.
        params: Further parameters of `create`, `model` among them.
        view: Where to show it.
        usage: Whether to write the line with tokens and cost to stderr.

    Raises:
        DeepSeekError: As `create`, and as reading its stream.
    """
    started = monotonic()
    with view:
        stream: ChatStream = await client.chat.completions.create(
            messages=messages, stream=True, **params
        )
        async with stream, aclosing(stream.events()) as events:
            async for event in events:
                view.show(event)
    completion = stream.partial
    if usage and completion.usage:
        model = completion.model or params["model"]
        note(usage_line(completion.usage, model, monotonic() - started))
    return completion
