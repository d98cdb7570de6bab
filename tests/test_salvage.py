"""Structs out of JSON that does not fit: every field missing, null, wrong, new."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
from recorded import document

from deepseek_async.codec import BALANCE, CHAT, CHAT_CHUNK, FIM, MODELS, Codec
from deepseek_async.salvage import parse, salvage
from deepseek_async.types import (
    ChatCompletion,
    ChatCompletionMessage,
    Choice,
    TokenLogprob,
    ToolCall,
    Usage,
)

Path = tuple[str | int, ...]

CHUNK: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 3,
    "model": "m",
    "system_fingerprint": "f",
    "choices": [
        {
            "index": 0,
            "delta": {
                "role": "assistant",
                "content": "a",
                "reasoning_content": "b",
                "title": "t",
                "function_call": {"name": "f", "arguments": "{"},
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "x",
                        "type": "function",
                        "function": {"name": "g", "arguments": "}"},
                    }
                ],
            },
            "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97]}]},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
SAMPLES: dict[str, tuple[Codec[Any], Any]] = {
    "thinking": (CHAT, document("chat_thinking.json")),
    "tools": (CHAT, document("chat_tools.json")),
    "logprobs": (CHAT, document("chat_logprobs.json")),
    "title": (CHAT, document("chat_title.json")),
    "function": (CHAT, document("chat_function_call.json")),
    "chunk": (CHAT_CHUNK, CHUNK),
    "fim": (FIM, document("fim.json")),
    "models": (MODELS, document("models.json")),
    "balance": (BALANCE, document("balance.json")),
}
WRONG: tuple[Any, ...] = (
    None,
    "text",
    "",
    5,
    -1,
    0.5,
    True,
    [],
    [None],
    [7],
    {},
    {"a": 1},
    2**70,
)


def keys_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value))
    if isinstance(value, list):
        return list(range(len(cast("list[object]", value))))
    return []


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    for key in keys_of(value):
        yield from paths(value[key], (*path, key))


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def leaves(value: Any) -> Iterator[tuple[Path, Any]]:
    for path in paths(value):
        found = at(value, path)
        if not isinstance(found, dict | list):
            yield path, found


def untouched(path: Path, changed: Path) -> bool:
    """Whether a leaf lies outside of the changed value, and of its list if any."""
    border = changed[:-1] if isinstance(changed[-1], int) else changed
    return path[: len(border)] != border


CASES = [
    pytest.param(name, path, id=f"{name}:{'.'.join(map(str, path))}")
    for name, (_, sample) in SAMPLES.items()
    for path in paths(sample)
]


def check(name: str, spoilt: Any, changed: Path) -> None:
    """The spoilt document decodes, and everything beside the change is as before."""
    codec, sample = SAMPLES[name]
    before = msgspec.to_builtins(codec.decode(json.dumps(sample).encode()))
    after = msgspec.to_builtins(codec.decode(json.dumps(spoilt).encode()))

    for path, value in leaves(before):
        if untouched(path, changed):
            assert at(after, path) == value, path


@pytest.mark.parametrize(("name", "path"), CASES)
def test_any_value_may_be_wrong(name: str, path: Path) -> None:
    """A value of a wrong type, or null, costs that value and nothing else."""
    for wrong in WRONG:
        spoilt = copy.deepcopy(SAMPLES[name][1])
        at(spoilt, path[:-1])[path[-1]] = wrong
        check(name, spoilt, path)


@pytest.mark.parametrize(("name", "path"), CASES)
def test_any_value_may_be_missing(name: str, path: Path) -> None:
    """A field that is not there costs that field and nothing else."""
    spoilt = copy.deepcopy(SAMPLES[name][1])
    del at(spoilt, path[:-1])[path[-1]]

    check(name, spoilt, path)


@pytest.mark.parametrize(("name", "path"), CASES)
def test_any_object_may_have_grown(name: str, path: Path) -> None:
    """A field this version does not know disturbs no other field."""
    spoilt = copy.deepcopy(SAMPLES[name][1])
    parent = at(spoilt, path[:-1])
    if not isinstance(parent, dict):
        parent.append({"unheard_of": 1})
    elif "total" in parent:
        parent["unheard_of"] = -0.5  # no object, but a map of tokens
    else:
        parent["unheard_of"] = {"of": [1, None]}

    check(name, spoilt, (*path[:-1], "unheard_of"))


def test_unknown_fields_of_a_message_are_kept() -> None:
    """What an assistant message has in excess is in `extra`, as it was sent."""
    made = salvage(
        ChatCompletionMessage, {"content": "a", "audio": {"id": 1}, "x": None}
    )

    assert made.content == "a"
    assert made.extra == {"audio": {"id": 1}, "x": None}


def test_unknown_fields_of_a_tool_call_are_kept_in_a_deep_answer() -> None:
    """The same at any depth, beside a value that had to be given up."""
    raw = document("chat_tools.json")
    raw["created"] = "yesterday"
    raw["choices"][0]["message"]["tool_calls"][1]["signature"] = "s"
    answer = CHAT.decode(json.dumps(raw).encode())

    calls = answer.choices[0].message.tool_calls
    assert answer.created == 0
    assert calls is not None
    assert calls[0].extra == {}
    assert calls[1].extra == {"signature": "s"}


def test_list_entries_that_do_not_fit_are_left_out() -> None:
    """A list keeps the entries that make sense."""
    raw = {"choices": [7, {"message": {"content": "a"}}, None]}

    assert [c.message.content for c in salvage(ChatCompletion, raw).choices] == ["a"]


def test_numbers_in_strings_are_numbers() -> None:
    """A count sent as text is still a count; a truth value is not one."""
    usage = salvage(Usage, {"prompt_tokens": "12", "completion_tokens": 3.0})

    assert usage.prompt_tokens == 12
    assert usage.completion_tokens == 3
    assert salvage(TokenLogprob, {"token": "a", "logprob": True}).logprob == -9999.0


def test_defaults_are_not_shared() -> None:
    """Two salvaged structs never hold the same mutable default."""
    one, two = (salvage(ChatCompletion, {"choices": 5}) for _ in range(2))
    one.choices.append(Choice())

    assert two.choices == []
    first, second = (salvage(ToolCall, {"function": 5}) for _ in range(2))
    assert first.function is not second.function


class NoDefault(msgspec.Struct):
    """A struct this library would not decode to: its field has no default."""

    name: str | None


def test_a_field_without_a_default_becomes_none() -> None:
    """The last resort for a value that does not fit is `None`."""
    assert salvage(NoDefault, {"name": [1]}).name is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b'"\\ud83d"', "\ufffd"),
        (b'["\\ud83c\\udf04", "\\udf04x"]', ["\U0001f304", "\ufffdx"]),
        (b'{"\\ud800": {"b": "\\udfff"}}', {"\ufffd": {"b": "\ufffd"}}),
        (b'"a\xffb"', "a\ufffdb"),
        (b"NaN", None),
    ],
)
def test_json_is_read_generously(raw: bytes, expected: Any) -> None:
    """Broken text is repaired with U+FFFD instead of losing the answer."""
    found = parse(raw)

    if expected is None:
        assert found != found  # noqa: PLR0124 - not a number
    else:
        assert found == expected
        json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nope",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'["\\ud800",' + b"[" * 200_000,
        b"\x00",
        b"1 2",
    ],
)
def test_what_is_not_json_says_so_briefly(raw: bytes) -> None:
    """The error quotes nothing and holds nothing of the document."""
    with pytest.raises(
        ValueError, match=r"^(not JSON|JSON nested too deeply)$"
    ) as caught:
        parse(raw)

    assert type(caught.value) is ValueError
    assert caught.value.__context__ is None
