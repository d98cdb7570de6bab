"""What must hold for any input: encoding, decoding, folding, retrying, recovering."""

from __future__ import annotations

import email.utils
import json
import math
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from fuzz.seeds import seeds_of
from fuzz.targets import CODECS, NAMES, TARGETS, errors as check_error
from hypothesis import HealthCheck, example, given, settings, strategies as st

from deepseek_async.accumulate import ChatAccumulator, FIMAccumulator
from deepseek_async.batch import BatchFailed, BatchOk
from deepseek_async.batch.journal import Journal, scan, segments
from deepseek_async.batch.record import decode_record, to_line, to_result
from deepseek_async.batch.results import Finished, tokens_of
from deepseek_async.codec import (
    CHAT,
    CHAT_CHUNK,
    FIM,
    FIM_CHUNK,
    retry_after_of,
    status_error,
)
from deepseek_async.errors import APIStatusError, BadRequestError, DeepSeekError
from deepseek_async.request import WireRequest, chat_request, fim_request
from deepseek_async.retry import RETRIED_STATUS, RetryBudget, RetryPolicy
from deepseek_async.salvage import is_object, parse, salvage
from deepseek_async.types.chat import ChatCompletion, ChatCompletionChunk

Document: TypeAlias = dict[str, Any]

quickly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts
)
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), texts), inner, max_size=4),
    ),
    max_leaves=12,
)
objects = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), texts), documents, max_size=6
)


# -- the targets of the fuzzer ---------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """Every seed of the fuzzer passes its target."""
    seeds = seeds_of(name)

    assert len(seeds) > 10
    for seed in seeds:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    """Arbitrary bytes, and seeds with pieces changed, pass every target."""
    seeds = st.sampled_from(seeds_of(name))

    @quickly
    @given(st.one_of(st.binary(max_size=200), st.builds(_spoilt, seeds, _spoils)))
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


_spoils = st.lists(
    st.tuples(st.integers(0, 3_000), st.integers(0, 4), st.binary(max_size=4)),
    max_size=6,
)


def _spoilt(seed: bytes, spoils: list[tuple[int, int, bytes]]) -> bytes:
    """The seed with bytes replaced, removed and put in."""
    for at, size, more in spoils:
        place = at % (len(seed) + 1)
        seed = seed[:place] + more + seed[place + size :]
    return seed


# -- what fuzzing and these tests have found -------------------------------------------


@pytest.mark.parametrize("location", ["//[", "http://[::1", "http://[x]/", "//a]b"])
def test_redirect_to_no_valid_url(location: str) -> None:
    """A redirect to something that is no URL is an error like any other redirect."""
    error = status_error(302, {"location": location}, b"")

    assert type(error) is APIStatusError
    assert "no valid URL" in error.message


@pytest.mark.parametrize("name", ["code", "type", "param", "status", "message"])
def test_error_fields_of_any_depth(name: str) -> None:
    """A field that should be a word and is as deep as can be parsed costs nothing."""
    for depth in (1, 2, *range(900, 1_020)):
        for left, core, right in ((b"[", b"", b"]"), (b'{"a":', b"1", b"}")):
            deep = left * depth + core + right * depth
            body = b'{"error":{"message":"m","%b":%b}}' % (name.encode(), deep)
            check_error(b"\0\0\n" + body)
            assert type(status_error(400, {}, body)) is BadRequestError


# -- salvage ---------------------------------------------------------------------------


@quickly
@given(objects)
@example({"choices": [[], {"index": {}, "delta": {"tool_calls": {}}}], "usage": []})
@example({"created": math.inf, "usage": {"total_tokens": -math.inf}})
def test_salvage_of_any_object(data: Document) -> None:
    """Every JSON object becomes the struct, known names that fit kept, none lost."""
    for codec in CODECS:
        made = salvage(codec.cls, data)

        assert type(made) is codec.cls
        assert repr(made)
        if isinstance(made, ChatCompletion):
            unknown = data.keys() - set(ChatCompletion.__struct_fields__)
            assert made.extra.keys() == unknown


@quickly
@given(documents)
def test_any_json_text(value: object) -> None:
    """A JSON text of any kind is parsed, and decodes or is refused by ValueError."""
    text = json.dumps(value).encode()
    assert parse(text) == value

    for codec in CODECS:
        if is_object(value):
            assert type(codec.decode(text)) is codec.cls
        else:
            with pytest.raises(ValueError, match="JSON"):
                codec.decode(text)


# -- folding ---------------------------------------------------------------------------


def cut(text: str, sizes: list[int]) -> list[str]:
    """The text in pieces of these sizes, the last one taking the rest."""
    edges = [0, *accumulate(sizes), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


calls = st.lists(
    st.fixed_dictionaries({"name": texts.filter(bool), "arguments": texts}), max_size=3
)
answers = st.lists(
    st.fixed_dictionaries(
        {
            "content": texts,
            "reasoning_content": texts,
            "calls": calls,
            "finish_reason": st.sampled_from(["stop", "length", "tool_calls"]),
        }
    ),
    min_size=1,
    max_size=3,
)
sizes = st.lists(st.integers(0, 4), max_size=4)


def whole(choices: list[Document]) -> Document:
    """The awaited answer."""

    def message(choice: Document) -> Document:
        found = [
            {"index": at, "id": f"t{at}", "type": "function", "function": call}
            for at, call in enumerate(choice["calls"])
        ]
        return {
            "role": "assistant",
            "content": choice["content"],
            "reasoning_content": choice["reasoning_content"],
            "tool_calls": found or None,
        }

    return {
        "id": "c",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": at,
                "message": message(choice),
                "finish_reason": choice["finish_reason"],
            }
            for at, choice in enumerate(choices)
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }


def deltas(choice: Document, sizes: list[int]) -> list[Document]:
    """What a stream says of one choice, piece by piece."""
    made: list[Document] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "content"):
        made += [{name: piece} for piece in cut(choice[name], sizes)]
    for at, call in enumerate(choice["calls"]):
        first = {"index": at, "id": f"t{at}", "type": "function"}
        made.append({"tool_calls": [{**first, "function": {"name": call["name"]}}]})
        made += [
            {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}
            for piece in cut(call["arguments"], sizes)
        ]
    return made


@quickly
@given(answers, sizes, st.randoms(use_true_random=False), st.integers(1, 9))
def test_any_split_of_any_completion_folds_back(
    choices: list[Document], sizes: list[int], rng: Any, group: int
) -> None:
    """Cut into deltas anywhere, choices interleaved at will: the same completion."""
    waiting = [
        (at, [{"delta": delta} for delta in deltas(choice, sizes)])
        for at, choice in enumerate(choices)
    ]
    for at, left in waiting:
        left.append({"delta": {}, "finish_reason": choices[at]["finish_reason"]})
    document = whole(choices)
    payloads: list[Document] = []
    while waiting:
        at, left = entry = rng.choice(waiting)
        payloads.append({"choices": [{"index": at, **left.pop(0)}]})
        if not left:
            waiting.remove(entry)
    payloads.append({"choices": [], "usage": document["usage"]})
    head = {"id": "c", "created": 7, "model": "m"}
    chunks = [CHAT_CHUNK.decode(json.dumps({**head, **p}).encode()) for p in payloads]

    accumulator = ChatAccumulator()
    for start in range(0, len(chunks), group):
        accumulator.feed(chunks[start : start + group])
        accumulator.completion()

    expected = CHAT.decode(json.dumps(document).encode())
    assert msgspec.to_builtins(accumulator.completion()) == msgspec.to_builtins(
        expected
    )


@quickly
@given(texts, sizes)
def test_any_split_of_a_fim_completion_folds_back(text: str, sizes: list[int]) -> None:
    """The pieces of a FIM stream make the text that an awaited call returns."""
    head = {"id": "f", "created": 7, "model": "m"}
    pieces = [{"text": piece, "index": 0} for piece in cut(text, sizes)]
    pieces[-1]["finish_reason"] = "stop"
    accumulator = FIMAccumulator()
    for piece in pieces:
        payload = json.dumps({**head, "choices": [piece]}).encode()
        accumulator.feed([FIM_CHUNK.decode(payload)])

    choice = {"text": text, "index": 0, "finish_reason": "stop"}
    expected = FIM.decode(json.dumps({**head, "choices": [choice]}).encode())
    assert accumulator.completion() == expected


@quickly
@given(st.lists(objects, max_size=6))
def test_any_chunks_fold(found: list[Document]) -> None:
    """Whatever chunks a server makes up, folding them raises nothing."""
    chunks = [salvage(ChatCompletionChunk, one) for one in found]
    accumulator = ChatAccumulator()
    accumulator.feed(chunks)

    assert accumulator.completion().to_json()


# -- requests --------------------------------------------------------------------------

parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts})
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": st.one_of(texts, st.lists(parts, min_size=1, max_size=2)),
    },
    optional={"name": texts, "reasoning_content": texts, "tool_call_id": texts},
)
schemas = st.dictionaries(texts, st.one_of(texts, st.booleans()), max_size=2)
functions = st.fixed_dictionaries({"name": texts, "parameters": schemas})
requests = st.fixed_dictionaries(
    {"model": texts, "messages": st.lists(messages, min_size=1, max_size=3)},
    optional={
        "max_tokens": st.integers(1, 2**40),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop": st.one_of(texts, st.lists(texts, max_size=3)),
        "stream": st.booleans(),
        "logprobs": st.booleans(),
        "user_id": texts,
        "response_format": st.just({"type": "json_object"}),
        "tools": st.lists(
            st.fixed_dictionaries({"type": st.just("function"), "function": functions}),
            max_size=2,
        ),
        "extra_body": st.dictionaries(
            texts.map(lambda name: f"x_{name}"),
            st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**64 - 1)),
            max_size=3,
        ),
    },
)


@quickly
@given(requests)
def test_what_is_sent_is_what_was_given(params: Document) -> None:
    """The body decodes to the parameters, and they are not changed on the way."""
    before = json.dumps(params)
    made = chat_request(params)

    assert isinstance(made, WireRequest)
    extra = params.get("extra_body", {})
    assert json.loads(made.body) == {
        **{name: value for name, value in params.items() if name != "extra_body"},
        **extra,
    }
    assert json.dumps(params) == before
    assert (made.model, made.stream) == (params["model"], params.get("stream", False))


class Named(StrEnum):
    """Text of another kind, as callers have it for models and roles."""

    USER = "user"


class Count(int):
    """A number of another kind."""


class Masked(dict[str, Any]):
    """A dict that shows other values than it holds."""

    def __iter__(self) -> Iterator[str]:
        return iter(["role", "content"])

    def __getitem__(self, name: str) -> str:
        return "shown"


ODD: list[Any] = [
    None,
    True,
    0,
    0.5,
    math.nan,
    -math.inf,
    2**63 + 1,
    10**400,
    Decimal("0.5"),
    Count(5),
    Named.USER,
    "\ud800",
    b"x",
    (),
    [],
    {},
    [{"role": Named.USER, "content": "a"}],
    [{"role": "user", "content": "a"}, OrderedDict(role="user", content="b")],
    [Masked(role="user", content="hidden")],
    [{"role": "user", "content": "\ud800"}],
    [{"role": "user", "content": None}],
    [{"role": "user"}],
    [{"content": "a"}],
    ({"role": "user", "content": "in a tuple"},),
]
PLAIN: Document = {
    "model": "m",
    "messages": [{"role": "user", "content": "q"}],
    "max_tokens": 1,
    "temperature": 0,
    "top_p": 1.0,
    "user_id": "u",
    "stream": False,
}


def same_both_ways(params: Document) -> None:
    """See that a plain request, and what is nearly one, is made as any other."""
    short = chat_request(params)
    long = chat_request({**params, "tag": "which plain requests do not have"})

    if isinstance(long, WireRequest):
        assert isinstance(short, WireRequest)
        assert json.loads(short.body) == json.loads(long.body)
        found = (short.method, short.path, short.beta, short.stream, short.model)
        assert found == (long.method, long.path, long.beta, long.stream, long.model)
    else:
        assert isinstance(short, DeepSeekError)
        assert short.message == long.message


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_the_short_way_takes_nothing_odd(name: str, value: object) -> None:
    """Whatever stands in a field of a plain request."""
    same_both_ways({**PLAIN, name: value})
    same_both_ways({"model": "m", "messages": PLAIN["messages"], name: value})


@quickly
@given(requests)
def test_the_short_way_says_what_the_long_one_does(params: Document) -> None:
    """Whatever a request consists of."""
    same_both_ways({name: value for name, value in params.items() if name in PLAIN})


@quickly
@given(st.dictionaries(st.sampled_from([*NAMES, "messages", "prompt"]), documents))
def test_nonsense_is_sent_as_it_is_or_refused(params: Document) -> None:
    """Any parameters make a request or an error of the library, never anything else."""
    for build in (chat_request, fim_request):
        made = build(params)

        if isinstance(made, WireRequest):
            sent = json.loads(made.body)
            given = {name: value for name, value in params.items() if value is not None}
            assert sent == given
        else:
            assert isinstance(made, DeepSeekError)
            assert made.__traceback__ is None
            assert made.__context__ is None


# -- retries ---------------------------------------------------------------------------

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 2_000),
    base=st.floats(0, 1e6),
    cap=st.floats(0, 1e6),
    retry_after_cap=st.floats(0, 1e6),
    timeouts=st.booleans(),
)


@quickly
@given(
    policies,
    st.integers(1, 3_000),
    st.sampled_from(sorted({*RETRIED_STATUS, 400, 401, 402, 422})),
    st.one_of(st.none(), st.floats(0, 1e9)),
    st.floats(0, 1),
)
def test_waits_are_bounded(
    policy: RetryPolicy,
    number: int,
    status: int,
    asked: float | None,
    jitter: float,
) -> None:
    """A wait is finite, within the cap or what the server asked, and never too many."""
    error = status_error(status, {}, b"")
    error.retry_after = asked
    wait = policy.wait(number, error, lambda low, high: low + (high - low) * jitter)

    refuses = (asked or 0.0) > policy.retry_after_cap
    gives_up = number >= policy.attempts or status not in RETRIED_STATUS or refuses
    assert (wait is None) == gives_up
    if wait is not None:
        longest = min(policy.cap, policy.base * 2.0 ** min(number - 1, 60))
        assert (asked or 0.0) <= wait <= max(longest, asked or 0.0)


@quickly
@given(
    st.one_of(
        st.text(max_size=30),
        st.integers().map(str),
        st.floats().map(str),
        st.integers(-(10**11), 10**11).map(
            lambda offset: email.utils.formatdate(1.8e9 + offset % 10**9, usegmt=True)
        ),
    )
)
@example("-1")
@example("1e999")
@example("9" * 5_000)
@example("Wed, 99 Oct 0000 99:99:99 +9999")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("\x00")
def test_any_retry_after(value: str) -> None:
    """A header of any words is a finite number of seconds from now, or nothing."""
    found = retry_after_of({"retry-after": value})

    assert found is None or 0 <= found < math.inf


@quickly
@given(st.integers(60, 10**6))
def test_retry_after_as_a_date(seconds: int) -> None:
    """A date is as many seconds from now as it is away; a past one is nothing."""
    before = time.time()
    later = math.floor(before) + seconds
    found = retry_after_of({"retry-after": email.utils.formatdate(later, usegmt=True)})
    after = time.time()

    assert found is not None
    assert later - after <= found <= later - before
    earlier = email.utils.formatdate(before - seconds, usegmt=True)
    assert retry_after_of({"retry-after": earlier}) is None


@quickly
@given(
    st.lists(st.tuples(st.booleans(), st.floats(-10, 1e4)), max_size=120),
    st.floats(0, 1),
    st.floats(0, 20),
    st.floats(0, 1),
)
def test_a_budget_never_spends_what_was_not_earned(
    steps: list[tuple[bool, float]], ratio: float, reserve: float, per_second: float
) -> None:
    """Retries paid for never exceed reserve, calls' share and time's share."""
    budget = RetryBudget(ratio=ratio, reserve=reserve, per_second=per_second)
    now = earned = 0.0
    spent = called = 0
    for is_call, after in steps:
        earned += max(0.0, after) * per_second
        now += after
        if is_call:
            budget.earn()
            called += 1
        elif budget.spend(now):
            spent += 1

    assert spent <= reserve + ratio * called + earned + 1e-6
    assert -1e-9 <= budget.balance <= max(budget.ceiling + ratio, reserve)


# -- the journal -----------------------------------------------------------------------

results = st.lists(st.tuples(st.booleans(), texts, texts), max_size=6)


def line_of(index: int, ok: bool, key: str, text: str) -> bytes:  # noqa: FBT001
    """A record of a made-up result."""
    document = whole(
        [{"content": text, "reasoning_content": "", "calls": [], "finish_reason": "x"}]
    )
    result = (
        BatchOk(
            index=index,
            key=key,
            completion=CHAT.decode(json.dumps(document).encode()),
            latency=0.5,
        )
        if ok
        else BatchFailed(
            index=index, key=key, error=status_error(400, {}, text.encode()), latency=1
        )
    )
    tokens = tokens_of(result.usage)
    finished = Finished(result, f"{index:016x}", 1_000, tokens)
    return to_line(finished, 1.5)


@settings(quickly, max_examples=40)
@given(results, st.floats(0, 1))
def test_any_prefix_of_a_journal_recovers(
    found: list[tuple[bool, str, str]], share: float
) -> None:
    """Cut at any byte, a journal opens with a prefix of its records, and takes more."""
    lines = [line_of(index, *one) for index, one in enumerate(found)]
    data = b"".join(lines)
    kept = data[: round(share * len(data))]
    count = sum(end <= len(kept) for end in accumulate(map(len, lines)))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        Journal(directory, {}).close()
        segments(directory)[0].write_bytes(kept)

        journal = Journal(directory, {})
        index = journal.index
        assert (journal.cut is None) == (kept == b"".join(lines[:count]))
        assert [bool(index.status(at)) for at in range(len(lines))] == [
            at < count for at in range(len(lines))
        ]
        assert index.ok + index.failed == count
        journal.commit(b"".join(lines[count:]))
        journal.close()

        assert segments(directory)[0].read_bytes() == data
        records = [line for _, line in scan(segments(directory)[0], [])]
        assert records == lines
        _check_results(found, [to_result(decode_record(line)) for line in records])


def _check_results(
    found: list[tuple[bool, str, str]], read: list[BatchOk | BatchFailed]
) -> None:
    """What is read back is what was written."""
    for (ok, key, text), result in zip(found, read, strict=True):
        assert (result.ok, result.key) == (ok, key)
        if isinstance(result, BatchOk):
            assert result.completion.choices[0].message.content == text
        else:
            assert type(result.error) is BadRequestError
