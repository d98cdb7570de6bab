"""Chunks to the completion that the call would have returned without streaming."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from recorded import body, document

from deepseek_async.accumulate import (
    ChatAccumulator,
    FIMAccumulator,
    ToolCallAssembler,
    merge_extra,
)
from deepseek_async.chunks import PayloadReader
from deepseek_async.codec import CHAT, CHAT_CHUNK, FIM, FIM_CHUNK
from deepseek_async.types import ChatCompletion, Completion, ToolCallDelta

Document = dict[str, Any]

WHOLE: Document = {
    "id": "w1",
    "object": "chat.completion",
    "created": 1795000020,
    "model": "deepseek-flash",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Olá, mundo \U0001f30d!",
                "reasoning_content": "Greet in Portuguese.",
                "title": "A greeting",
                "citations": [{"n": 1}, {"n": 2}],
                "tool_calls": [
                    {
                        "index": i,
                        "id": f"call_0{i}_x",
                        "type": "function",
                        "function": {"name": f"f{i}", "arguments": f'{{"n": {i}}}'},
                    }
                    for i in range(3)
                ],
            },
            "logprobs": {
                "content": [
                    {"token": t, "logprob": -0.5, "bytes": None} for t in ("O", "lá")
                ],
                "reasoning_content": [{"token": "G", "logprob": -0.1}],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
}


def pieces(text: str, cuts: list[int]) -> list[str]:
    """The text cut at the given places, empty pieces included."""
    at = sorted(cut % (len(text) + 1) for cut in cuts)
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def deltas(whole: Document, cuts: list[int]) -> list[Document]:
    """The choices of a stream that says the same as the whole answer."""
    choice = whole["choices"][0]
    message = choice["message"]
    logprobs: dict[str, list[Any]] = choice.get("logprobs") or {}
    made: list[Document] = [{"delta": {"role": "assistant", "content": ""}}]
    for field in ("reasoning_content", "content"):
        parts = pieces(message.get(field) or "", cuts)
        made += [{"delta": {field: part}} for part in parts if field in message]
        made += [
            {"delta": {}, "logprobs": {field: [one]}} for one in logprobs.get(field, [])
        ]
    for call in message.get("tool_calls", []):
        function = call["function"]
        first = {**call, "function": {"name": function["name"], "arguments": ""}}
        rest = [
            {"index": call["index"], "function": {"arguments": part}}
            for part in pieces(function["arguments"], cuts)
        ]
        made += [{"delta": {"tool_calls": [one]}} for one in [first, *rest]]
    made += [{"delta": {"citations": [one]}} for one in message.get("citations", ())]
    last: Document = {
        "delta": {"content": ""},
        "finish_reason": choice["finish_reason"],
    }
    if "title" in message:
        last["delta"]["title"] = message["title"]
    return [*made, last]


def chunks(whole: Document, cuts: list[int]) -> list[bytes]:
    """The payloads of that stream."""
    head = {k: v for k, v in whole.items() if k not in {"choices", "usage", "object"}}
    made = [{**head, "choices": [choice]} for choice in deltas(whole, cuts)]
    made[-1]["usage"] = whole["usage"]
    return [json.dumps(one).encode() for one in made]


def plain(answer: ChatCompletion | Completion) -> Any:
    extra = [
        dict(choice.message.extra)
        for choice in (answer.choices if isinstance(answer, ChatCompletion) else ())
        if hasattr(choice, "message")
    ]
    return msgspec.to_builtins(answer), extra


def fold(payloads: list[bytes]) -> ChatCompletion:
    accumulator = ChatAccumulator()
    for payload in payloads:
        accumulator.feed([CHAT_CHUNK.decode(payload)])
    return accumulator.completion()


@given(st.lists(st.integers(0, 40), max_size=6))
def test_any_split_folds_to_the_whole_answer(cuts: list[int]) -> None:
    """However the answer is cut into deltas, the fold equals the awaited answer."""
    whole = CHAT.decode(json.dumps(WHOLE).encode())

    assert plain(fold(chunks(WHOLE, cuts))) == plain(whole)


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(1, 7))
def test_it_does_not_matter_how_chunks_are_handed_over(
    cuts: list[int], size: int
) -> None:
    """One by one, in groups, with looks at the partial between: the same answer."""
    payloads = [CHAT_CHUNK.decode(one) for one in chunks(WHOLE, cuts)]
    accumulator = ChatAccumulator()
    for at in range(0, len(payloads), size):
        accumulator.feed(payloads[at : at + size])
        accumulator.completion()

    whole = CHAT.decode(json.dumps(WHOLE).encode())
    assert plain(accumulator.completion()) == plain(whole)
    assert accumulator.usage == whole.usage


def test_a_long_stream_is_folded_on_the_way() -> None:
    """Thousands of chunks make one text, whatever the size of the batches."""
    accumulator = ChatAccumulator()
    for i in range(3_000):
        payload = b'{"choices":[{"delta":{"content":"%d "}}]}' % i
        accumulator.feed([CHAT_CHUNK.decode(payload)])

    assert accumulator.completion().text.split() == [str(i) for i in range(3_000)]


@pytest.mark.parametrize(
    ("name", "content", "reasoning", "finish"),
    [
        ("chat_thinking.sse", "Grüß Gott \U0001f304", "A greeting.", "stop"),
        ("chat_tools.sse", "", None, "tool_calls"),
        ("chat_old.sse", "Good day", None, "stop"),
    ],
)
def test_recorded_streams_fold(
    name: str, content: str, reasoning: str | None, finish: str
) -> None:
    """The documented streams give the documented answers."""
    reader = PayloadReader(CHAT_CHUNK, max_event_size=100_000)
    accumulator = ChatAccumulator()
    accumulator.feed(reader.feed(body(name)))

    answer = accumulator.completion()

    assert answer.choices[0].message.content == content
    assert answer.choices[0].message.reasoning_content == reasoning
    assert answer.finish_reason == finish
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    calls = answer.choices[0].message.tool_calls
    if name == "chat_tools.sse":
        assert calls is not None
        assert calls[0].function.arguments == '{"port": "Brest"}'
        assert calls[0].id == "call_00_T1"
    else:
        assert calls is None


def one(delta: Document, **choice: Any) -> bytes:
    return json.dumps({"choices": [{"delta": delta, **choice}]}).encode()


def test_fields_the_server_never_sent_stay_none() -> None:
    """An answer without text, reasoning or calls has none of them."""
    answer = fold([one({"role": None}), one({}), b'{"choices":[{}]}'])

    message = answer.choices[0].message
    assert message.role == "assistant"
    assert message.content is None
    assert message.reasoning_content is None
    assert message.tool_calls is None
    assert answer.choices[0].logprobs is None
    assert answer.finish_reason is None


def test_text_beside_the_finish_reason_counts() -> None:
    """A last chunk with both text and a reason loses neither."""
    answer = fold(
        [one({"content": "a"}), one({"content": "b"}, finish_reason="length")]
    )

    assert answer.text == "ab"
    assert answer.finish_reason == "length"


def test_the_last_usage_wins() -> None:
    """Null and missing usages do not erase one that was sent; a later one does."""
    usage = b'{"choices":[],"usage":{"total_tokens":%d}}'
    answer = fold([usage % 5, one({"content": "a"}, usage=None), usage % 7, one({})])

    assert answer.usage is not None
    assert answer.usage.total_tokens == 7


def test_the_legacy_function_call_folds() -> None:
    """Pieces of `function_call` become one call."""
    answer = fold(
        [
            one({"role": "assistant", "content": None, "function_call": {"name": "f"}}),
            one({"function_call": {"arguments": '{"a"'}}),
            one({"function_call": {"name": None, "arguments": ":1}"}}),
            one({}, finish_reason="function_call"),
        ]
    )

    call = answer.choices[0].message.function_call
    assert call is not None
    assert (call.name, call.arguments) == ("f", '{"a":1}')
    assert answer.is_finished


def test_a_function_call_without_a_name_is_not_lost() -> None:
    """Arguments of an unnamed call are kept."""
    call = fold([one({"function_call": {"arguments": "{}"}})])
    found = call.choices[0].message.function_call

    assert found is not None
    assert (found.name, found.arguments) == ("", "{}")


def test_choices_are_told_apart_by_index() -> None:
    """Should there be several choices, they are not mixed up."""
    payload = json.dumps(
        {"choices": [{"index": i, "delta": {"content": str(i)}} for i in (1, 0)]}
    ).encode()
    answer = fold([payload, payload])

    assert [c.message.content for c in answer.choices] == ["00", "11"]
    assert [c.index for c in answer.choices] == [0, 1]


def test_unknown_fields_of_deltas_grow() -> None:
    """Text and lists are joined, the rest is replaced, a null erases nothing."""
    answer = fold(
        [
            one(
                {
                    "sig": "a",
                    "list": [1],
                    "map": {"x": 1},
                    "n": 1,
                    "gone": 5,
                    "new": None,
                }
            ),
            one({"sig": "b", "list": [2], "map": {"y": 2}, "n": 2, "gone": None}),
        ]
    )

    assert answer.choices[0].message.extra == {
        "sig": "ab",
        "list": [1, 2],
        "map": {"x": 1, "y": 2},
        "n": 2,
        "gone": 5,
        "new": None,
    }


def test_merging_leaves_its_sources_alone() -> None:
    """The merged mapping is a new one."""
    old, new = {"a": [1]}, {"a": [2]}

    assert merge_extra(old, new) == {"a": [1, 2]}
    assert (old, new) == ({"a": [1]}, {"a": [2]})


def test_a_partial_is_a_snapshot() -> None:
    """A partial answer taken early does not grow with the stream."""
    accumulator = ChatAccumulator()
    accumulator.feed([CHAT_CHUNK.decode(one({"content": "a"}))])
    early = accumulator.completion()
    accumulator.feed([CHAT_CHUNK.decode(one({"content": "b"}))])

    assert early.text == "a"
    assert accumulator.completion().text == "ab"


def test_a_partial_with_tool_calls_is_a_snapshot_too() -> None:
    """Arguments that come later do not appear in an earlier partial."""
    accumulator = ChatAccumulator()
    call: Document = {
        "index": 0,
        "id": "a",
        "function": {"name": "f", "arguments": "{"},
    }
    accumulator.feed([CHAT_CHUNK.decode(one({"tool_calls": [call]}))])
    early = accumulator.completion()
    more = {"index": 0, "function": {"arguments": "}"}}
    accumulator.feed([CHAT_CHUNK.decode(one({"tool_calls": [more]}))])
    late = accumulator.completion()

    found = early.choices[0].message.tool_calls
    assert found is not None
    assert found[0].function.arguments == "{"
    found = late.choices[0].message.tool_calls
    assert found is not None
    assert found[0].function.arguments == "{}"


def test_nothing_folds_to_nothing() -> None:
    """A stream that brought no chunk has an empty answer."""
    assert ChatAccumulator().completion() == ChatCompletion()
    assert FIMAccumulator().completion() == Completion()


def fragment(
    index: int | None,
    call_id: str | None,
    name: str | None,
    arguments: str | None,
) -> ToolCallDelta:
    raw = {
        "index": index,
        "id": call_id,
        "function": {"name": name, "arguments": arguments},
    }
    return msgspec.convert(
        {k: v for k, v in raw.items() if v is not None}, ToolCallDelta
    )


Fragment = tuple[int | None, str | None, str | None, str | None]
FRAGMENTS: dict[str, tuple[list[Fragment], list[tuple[str, str, str]]]] = {
    "as documented": (
        [
            (0, "a", "f", ""),
            (0, None, None, "1"),
            (1, "b", "g", ""),
            (1, None, None, "2"),
        ],
        [("a", "f", "1"), ("b", "g", "2")],
    ),
    "interleaved": (
        [
            (0, "a", "f", "1"),
            (1, "b", "g", "2"),
            (0, None, None, "3"),
            (1, None, None, "4"),
        ],
        [("a", "f", "13"), ("b", "g", "24")],
    ),
    "id and name repeated": (
        [(0, "a", "f", "1"), (0, "a", "f", "2"), (0, "a", "f", "3")],
        [("a", "f", "123")],
    ),
    "empty ids after the first": (
        [(0, "a", "f", "1"), (0, "", "", "2")],
        [("a", "f", "12")],
    ),
    "id comes late": (
        [(0, None, "f", "1"), (0, "a", None, "2")],
        [("a", "f", "12")],
    ),
    "no id at all": (
        [(0, None, "f", "1"), (1, None, "g", "2"), (0, None, None, "3")],
        [("", "f", "13"), ("", "g", "2")],
    ),
    "gapped indexes": (
        [(1, "a", "f", "1"), (5, "b", "g", "2"), (1, None, None, "3")],
        [("a", "f", "13"), ("b", "g", "2")],
    ),
    "index reused by another call": (
        [
            (0, "a", "f", "1"),
            (0, None, None, "2"),
            (0, "b", "g", "3"),
            (0, None, None, "4"),
        ],
        [("a", "f", "12"), ("b", "g", "34")],
    ),
    "no index, ids": (
        [(None, "a", "f", "1"), (None, "b", "g", "2"), (None, "a", None, "3")],
        [("a", "f", "13"), ("b", "g", "2")],
    ),
    "no index, id first only": (
        [
            (None, "a", "f", "1"),
            (None, None, None, "2"),
            (None, "b", "g", "3"),
            (None, None, None, "4"),
        ],
        [("a", "f", "12"), ("b", "g", "34")],
    ),
    "neither index nor id": (
        [(None, None, "f", "1"), (None, None, None, "2")],
        [("", "f", "12")],
    ),
    "whole calls at once": (
        [(0, "a", "f", "{}"), (1, "b", "g", "{}")],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    "no arguments": ([(0, "a", "f", None)], [("a", "f", "")]),
}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_tool_calls_are_put_together(name: str) -> None:
    """Fragments find their call by index, id or order, as far as they are given."""
    given_fragments, expected = FRAGMENTS[name]
    assembler = ToolCallAssembler()
    places = [assembler.add(fragment(*one)) for one in given_fragments]

    calls = assembler.all_finished()

    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == expected
    assert max(places) == len(expected) - 1
    assert assembler.all_finished() == calls


def test_a_fragment_without_function_is_taken() -> None:
    """A fragment may bring an id, a type or something unknown only."""
    assembler = ToolCallAssembler()
    for raw in (
        b'{"index":0,"type":"function","sig":"x"}',
        b'{"index":0,"id":"a","sig":"y"}',
    ):
        payload = b'{"choices":[{"delta":{"tool_calls":[' + raw + b"]}}]}"
        calls = CHAT_CHUNK.decode(payload).choices[0].delta.tool_calls
        assert calls is not None
        assembler.add(calls[0])

    call = assembler.finished(0)
    assert (call.id, call.type, call.index) == ("a", "function", 0)
    assert call.extra == {"sig": "xy"}


def fim_chunks(whole: Document, cuts: list[int]) -> list[bytes]:
    choice = whole["choices"][0]
    head = {k: v for k, v in whole.items() if k not in {"choices", "usage"}}
    made = [{"text": part} for part in pieces(choice["text"], cuts)]
    made[0]["logprobs"] = choice["logprobs"]
    made[-1]["finish_reason"] = choice["finish_reason"]
    payloads: list[Document] = [{**head, "choices": [one]} for one in made]
    payloads.append({**head, "choices": [], "usage": whole["usage"]})
    return [json.dumps(one).encode() for one in payloads]


@given(st.lists(st.integers(0, 20), max_size=5))
def test_any_split_of_a_fim_answer_folds_to_it(cuts: list[int]) -> None:
    """Text, log probabilities, reason and usage come together again."""
    whole = document("fim.json")
    accumulator = FIMAccumulator()
    for payload in fim_chunks(whole, cuts):
        accumulator.feed([FIM_CHUNK.decode(payload)])

    expected = FIM.decode(json.dumps(whole).encode())
    assert plain(accumulator.completion()) == plain(expected)
    assert accumulator.usage == expected.usage


def test_fim_logprobs_are_joined() -> None:
    """Log probabilities of many chunks become one list each; missing ones are empty."""
    accumulator = FIMAccumulator()
    for part in (b'{"tokens":["a"],"token_logprobs":[null]}', b'{"tokens":["b"]}'):
        payload = b'{"choices":[{"text":"x","logprobs":' + part + b"}]}"
        accumulator.feed([FIM_CHUNK.decode(payload)])

    logprobs = accumulator.completion().choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["a", "b"]
    assert logprobs.token_logprobs == [None]
