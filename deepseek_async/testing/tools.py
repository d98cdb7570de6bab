"""Whether the emulated model calls a tool, which one, and with what."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .answers import Call, digest_of
from .conversation import last_user_text
from .schema import ArgumentMaker, names_in

if TYPE_CHECKING:
    from .wire import Body

_MAX_PARALLEL: Final = 4
_MIN_WORD: Final = 4
_VERBS: Final = frozenset({"fetch", "find", "make", "create", "call", "tool", "with"})


class ToolRule(msgspec.Struct, frozen=True, kw_only=True):
    """Makes the emulator call a tool when the question contains a text.

    Attributes:
        name: Name of the tool; it must be among the request's tools.
        when: Text that the newest user message must contain.
        arguments: Arguments of each call; empty lets the emulator make one call's
            arguments from the tool's schema.
    """

    name: str
    when: str = ""
    arguments: tuple[dict[str, Any], ...] = ()


def declared_functions(body: Body) -> dict[str, Body]:
    """Return the request's functions by name, current and legacy form alike."""
    tools: list[Body] = body.get("tools") or []
    functions = [tool["function"] for tool in tools if "function" in tool]
    functions.extend(body.get("functions") or [])
    return {function["name"]: function for function in functions}


def choose_calls(body: Body, rules: list[ToolRule], seed: int) -> tuple[Call, ...]:
    """Return the calls that the model makes, none when it answers in words."""
    functions = declared_functions(body)
    forced = forced_choice(body)
    if not functions or forced == "none" or _answers_a_tool(body, forced):
        return ()
    question = last_user_text(body["messages"])
    by_rule = _calls_by_rule(functions, rules, question, seed)
    if by_rule and forced in {"auto", "required"}:
        return by_rule
    return tuple(
        call
        for function in _called(functions, forced, question)
        for call in _calls_of(function, question, seed)
    )


def forced_choice(body: Body) -> str:
    """Return ``none``, ``auto``, ``required`` or the name of the forced function."""
    choice = body.get("tool_choice") or body.get("function_call") or "auto"
    if isinstance(choice, str):
        return choice
    return str(choice.get("function", choice).get("name", "required"))


def _answers_a_tool(body: Body, forced: str) -> bool:
    return forced == "auto" and body["messages"][-1]["role"] in {"tool", "function"}


def _called(functions: dict[str, Body], forced: str, question: str) -> list[Body]:
    if forced in functions:
        return [functions[forced]]
    mentioned = [f for f in functions.values() if _mentions(question, f["name"])]
    if forced == "required" and not mentioned:
        return [next(iter(functions.values()))]
    return mentioned[:_MAX_PARALLEL]


def _mentions(question: str, name: str) -> bool:
    lowered = question.lower()
    if name.lower() in lowered:
        return True
    words = [w for w in re.split(r"[_\-\s]+", name.lower()) if len(w) >= _MIN_WORD]
    telling = [word for word in words if word not in _VERBS]
    return any(re.search(rf"\b{re.escape(word)}", lowered) for word in telling)


def _calls_of(function: Body, question: str, seed: int) -> list[Call]:
    schema: Body = function.get("parameters") or {}
    rng = random.Random(digest_of(question + function["name"], seed))  # noqa: S311
    names = names_in(question) if schema.get("properties") else []
    return [
        Call(function["name"], ArgumentMaker(question, rng, name).make(schema))
        for name in (names[:_MAX_PARALLEL] or [""])
    ]


def _calls_by_rule(
    functions: dict[str, Body], rules: list[ToolRule], question: str, seed: int
) -> tuple[Call, ...]:
    calls: list[Call] = []
    for rule in rules:
        if rule.name not in functions or rule.when not in question:
            continue
        if rule.arguments:
            calls.extend(Call(rule.name, arguments) for arguments in rule.arguments)
        else:
            calls.extend(_calls_of(functions[rule.name], question, seed))
    return tuple(calls)
