"""What the emulated model says: a function of the conversation and nothing else."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, cast

import msgspec

from .conversation import (
    last_user_text,
    messages_text,
    text_of,
    without_prefix,
)
from .prose import phrase, reply, report, thoughts
from .schema import ArgumentMaker, is_schema
from .wire import Body, encode, is_array, is_object, section

_TITLE_WORDS: Final = 6


class Call(msgspec.Struct, frozen=True):
    """A function call in an `Answer`.

    Attributes:
        name: Name of the function.
        arguments: Arguments as an object, or as raw text, which may be broken JSON.
        id: The call's id; made when empty.
    """

    name: str
    arguments: dict[str, Any] | str = ""
    id: str = ""

    @property
    def text(self) -> str:
        """The arguments as the wire carries them."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, ensure_ascii=False)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says to one request.

    Attributes:
        content: The answer's text.
        reasoning: Reasoning that precedes it; None lets the emulator make some when
            the request thinks.
        tool_calls: Calls the answer makes.
        finish_reason: Overrides the reason that follows from the answer.
        title: Conversation title, sent when the request asks for one.
        extra: Further fields of the message, sent as they are.
        cut_after: Tokens after which `finish_reason` ends the answer.
    """

    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[Call, ...] = ()
    finish_reason: str | None = None
    title: str | None = None
    extra: dict[str, Any] = {}
    cut_after: int | None = None


#: Makes the answer to a request body.
Answerer: TypeAlias = Callable[[Body], "Answer | str"]


def digest_of(text: str, seed: int = 0) -> int:
    """Return a number that depends on `text` and `seed` only."""
    salt = seed.to_bytes(8, "little", signed=True)
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, salt=salt).digest())


def default_answer(body: Body, seed: int = 0) -> Answer:
    """Return a plausible answer in words; tools are not this function's matter."""
    messages = without_prefix(body["messages"]) or body["messages"]
    rng = random.Random(digest_of(messages_text(messages), seed))  # noqa: S311
    question = last_user_text(messages)
    wants_json = section(body, "response_format").get("type") == "json_object"
    if wants_json:
        content = _json_answer(messages, question, rng)
    elif messages[-1]["role"] in {"tool", "function"}:
        content = report(_tool_outputs(messages), rng)
    else:
        content = reply(question, rng)
    return Answer(content=content, reasoning=thoughts(question, rng))


def as_answer(said: Answer | str) -> Answer:
    """Return `said` as an `Answer`.

    Raises:
        TypeError: It is neither text nor an `Answer`.
    """
    if isinstance(said, str):
        return Answer(content=said)
    if not isinstance(cast("object", said), Answer):
        message = f"an answer is text or an Answer, not {type(said).__name__}"
        raise TypeError(message)
    return said


def as_answerer(given: Answerer | Answer | str | None) -> Answerer | None:
    """Return what makes the answers; text or an `Answer` is the answer to all.

    Raises:
        TypeError: It is neither, and no function.
    """
    if isinstance(given, str | Answer):
        constant = as_answer(given)
        return lambda _: constant
    if given is not None and not callable(cast("object", given)):
        kind = type(given).__name__
        message = f"answer takes text, an Answer or a function of the body, not {kind}"
        raise TypeError(message)
    return given


def filled(answer: Answer, body: Body, seed: int) -> Answer:
    """Return `answer` with reasoning and title made where they are missing."""
    question = last_user_text(body.get("messages", []))
    changes: dict[str, Any] = {}
    if answer.reasoning is None:
        rng = random.Random(digest_of(question, seed))  # noqa: S311
        changes["reasoning"] = thoughts(question, rng)
    if answer.title is None:
        changes["title"] = title_of(question)
    return msgspec.structs.replace(answer, **changes) if changes else answer


def title_of(question: str) -> str:
    """Return a short title for a conversation that `question` opened."""
    words = re.findall(r"[\w'-]+", question)[:_TITLE_WORDS]
    title = " ".join(words) or "Conversation"
    return title[:1].upper() + title[1:]


def _tool_outputs(messages: list[Body]) -> list[str]:
    outputs: list[str] = []
    for message in reversed(messages):
        if message["role"] not in {"tool", "function"}:
            break
        outputs.append(text_of(message.get("content")))
    return outputs[::-1]


def _json_answer(messages: list[Body], question: str, rng: random.Random) -> str:
    found = list(_objects(messages))
    for schema in filter(is_schema, found):
        made = ArgumentMaker(question, rng).make(schema)
        return json.dumps(made, ensure_ascii=False)
    for example in found:
        return json.dumps(_like(example, question, rng), ensure_ascii=False, indent=2)
    sentence = reply(question, rng)
    return encode({"topic": title_of(question), "answer": sentence}).decode()


def _objects(messages: list[Body]) -> Iterator[Body]:
    """The JSON objects that stand in the prompt, as a schema or an example."""
    decoder = json.JSONDecoder()
    for message in messages:
        text = text_of(message.get("content"))
        end = 0
        while (start := text.find("{", end)) >= 0:
            try:
                found, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                break  # trying every brace of a long text would take too long
            yield found


def _like(example: Any, question: str, rng: random.Random) -> Any:  # noqa: ANN401
    """Return a JSON value of the same shape as `example`."""
    if is_object(example):
        return {key: _like(value, question, rng) for key, value in example.items()}
    if is_array(example):
        return [_like(item, question, rng) for item in example]
    if isinstance(example, str):
        return phrase(question, rng)
    if isinstance(example, bool) or example is None:
        return example
    return rng.randint(1, 99)
