"""The types users see: overloads, and the checked code that holds them in place."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, Literal, get_overloads, get_type_hints

import pytest

import deepseek_async
from deepseek_async import (
    AsyncDeepSeek,
    ChatCompletion,
    ChatStream,
    Completion,
    CompletionStream,
)
from deepseek_async.endpoints import ChatCompletions, FIMCompletions

API = Path(__file__).parent / "typing" / "api.py"


@pytest.mark.parametrize(
    ("create", "whole", "stream"),
    [
        (ChatCompletions.create, ChatCompletion, ChatStream),
        (FIMCompletions.create, Completion, CompletionStream),
    ],
    ids=["chat", "fim"],
)
def test_stream_decides_the_type(create: Any, whole: type, stream: type) -> None:
    """`stream=True`, `stream=False` and a variable each have an overload."""
    hints = [get_type_hints(one) for one in get_overloads(create)]

    assert [(h["stream"], h["return"]) for h in hints] == [
        (Literal[True], stream),
        (Literal[False] | None, whole),
        (bool, whole | stream),
    ]


def test_the_checked_code_imports_what_exists() -> None:
    """The type-checked file is real code over the public names."""
    tree = ast.parse(API.read_text("utf-8"))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "deepseek_async"
        for alias in node.names
    ]

    assert len(names) > 30
    assert set(names) <= set(deepseek_async.__all__)
    compile(tree, str(API), "exec")


def test_every_argument_of_the_client_is_typed_and_by_name() -> None:
    """The constructor takes keywords only, each with an annotation."""
    signature = inspect.signature(AsyncDeepSeek.__init__)
    parameters = list(signature.parameters.values())[1:]

    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    assert all(p.annotation is not p.empty for p in parameters)
    documented = inspect.getdoc(AsyncDeepSeek) or ""
    assert [p.name for p in parameters if f"{p.name}:" not in documented] == []
