"""`deepseek-async chat`: one question, or a conversation."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from ..client import AsyncDeepSeek
from ..errors import DeepSeekError, UnfinishedAnswerError, raise_for_finish_reason
from ..types.chat import ChatCompletion
from ..types.request import Message
from .answer import AnswerView, show_answer
from .connection import connect
from .console import complain, note
from .exits import CommandError, ExitCode
from .options import DEFAULT_MODEL, BaseURL, Emulate, Model, Raw, System

MAX_STDIN: Final = 16 * 1024 * 1024
"""The most bytes read from standard input; far more than a context window holds."""

_COMMAND: Final = re.compile(r"(/[A-Za-z?-]+)(?:\s|$)")
_COMMANDS: Final = "/clear forgets the conversation, /exit or Ctrl-D leaves"


class Settings:
    """What holds for every answer of a chat.

    Args:
        params: Parameters of `create` beside `messages`.
        view: Makes the view of one answer.
        usage: Whether to tell tokens and cost after each answer.
    """

    def __init__(
        self, params: dict[str, Any], view: Callable[[], AnswerView], *, usage: bool
    ) -> None:
        self.params = params
        self.view = view
        self.usage = usage


def chat(  # noqa: PLR0913 - each is an option of the command line
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="The question; - stands for standard input. Without it a pipe is "
            "read, and a terminal is asked.",
            show_default=False,
        ),
    ] = None,
    *,
    model: Model = DEFAULT_MODEL,
    system: System = None,
    thinking: Annotated[
        bool, typer.Option(help="Whether the model reasons before it answers.")
    ] = True,
    effort: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="Reasoning effort: low, high or max."),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="The most output tokens, reasoning included."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, max=2, metavar="X", help="Has no effect while thinking."),
    ] = None,
    reasoning: Annotated[
        bool | None,
        typer.Option(
            "--show-reasoning/--hide-reasoning",
            help="Shown on a terminal only, unless said otherwise.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No line with tokens and cost.")
    ] = False,
    raw: Raw = False,
    base_url: BaseURL = None,
    emulate: Emulate = False,
) -> int:
    """Ask the model and watch the answer come.

    The answer goes to stdout, tokens and cost go to stderr.
    """
    params = {
        "model": model,
        "thinking": None if thinking else {"type": "disabled"},
        "reasoning_effort": effort,
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    settings = Settings(
        params, lambda: AnswerView(raw=raw, reasoning=reasoning), usage=not quiet
    )
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    if not prompt and sys.stdin.isatty():
        return _converse(opening, settings, emulate=emulate, base_url=base_url)
    question = _question(prompt or ["-"])
    opening.append({"role": "user", "content": question})
    return asyncio.run(_once(opening, settings, emulate=emulate, base_url=base_url))


def _question(words: list[str]) -> str:
    """The words of the command line as one prompt, with stdin in place of `-`."""
    question = " ".join(word for word in words if word != "-")
    if "-" in words:
        question = "\n\n".join(filter(None, (question, _stdin().strip("\r\n"))))
    if not question.strip():
        message = "the prompt is empty"
        raise CommandError(message)
    return question


def _stdin() -> str:
    data = sys.stdin.buffer.read(MAX_STDIN + 1)
    if len(data) > MAX_STDIN:
        message = f"standard input is larger than {MAX_STDIN // 2**20} MiB"
        raise CommandError(message)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"standard input is not UTF-8 (byte {error.start})"
        raise CommandError(message) from None


async def _once(
    messages: list[Message], settings: Settings, *, emulate: bool, base_url: str | None
) -> int:
    async with connect(emulate=emulate, base_url=base_url) as client:
        await _answer(client, messages, settings)
    return ExitCode.OK


async def _answer(
    client: AsyncDeepSeek, messages: list[Message], settings: Settings
) -> ChatCompletion:
    completion = await show_answer(
        client, messages, settings.params, view=settings.view(), usage=settings.usage
    )
    return raise_for_finish_reason(completion)


def _converse(
    messages: list[Message], settings: Settings, *, emulate: bool, base_url: str | None
) -> int:
    """Ask and answer until the user leaves; Ctrl-C ends an answer, then the chat."""
    with suppress(ImportError):
        import_module("readline")  # line editing, where the platform has it
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            client = runner.run(
                stack.enter_async_context(connect(emulate=emulate, base_url=base_url))
            )
            note(_COMMANDS)
            return _Conversation(runner, client, messages, settings).run()
        finally:
            runner.run(stack.aclose())


class _Conversation:
    """The turns of an interactive chat."""

    def __init__(
        self,
        runner: asyncio.Runner,
        client: AsyncDeepSeek,
        opening: list[Message],
        settings: Settings,
    ) -> None:
        self._runner = runner
        self._client = client
        self._opening = opening
        self._messages = list(opening)
        self._settings = settings

    def run(self) -> int:
        while True:
            try:
                given = input("> ")
            except EOFError:
                sys.stdout.write("\n")
                return ExitCode.OK
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                raise
            except UnicodeDecodeError:
                complain("the line is not valid text")
                continue
            if given.strip() in {"/exit", "/quit"}:
                return ExitCode.OK
            self._take(given)

    def _take(self, given: str) -> None:
        """Do what one line says: a command, or a question."""
        line = given.strip()
        if line == "/clear":
            self._messages = list(self._opening)
        elif found := _COMMAND.match(given):
            # The model would be paid for it; a path such as /etc/hosts goes through.
            note(f"there is no {found[1]}: {_COMMANDS}")
            note("with a blank before the / it is a question")
        elif line:
            self._turn(line)

    def _turn(self, line: str) -> None:
        """Answer one line; a turn that fails leaves no trace in the conversation."""
        question = {"role": "user", "content": line}
        asked = [*self._messages, question]
        try:
            completion = self._runner.run(_answer(self._client, asked, self._settings))
        except KeyboardInterrupt:
            note("(interrupted)")
        except UnfinishedAnswerError as error:
            complain(str(error))
            if error.completion is not None and error.completion.text:
                self._messages = [*asked, error.completion.choices[0].message]
        except DeepSeekError as error:
            complain(str(error))
        else:
            self._messages = [*asked, completion.choices[0].message]
