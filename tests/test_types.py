"""The structs themselves: defaults, round trips, what they show of themselves."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any, get_type_hints

import msgspec
import pytest
from recorded import body, document

from deepseek_async import types
from deepseek_async.codec import BALANCE, CHAT, FIM, MODELS
from deepseek_async.pricing import Bill
from deepseek_async.types import (
    AssistantMessage,
    Attempt,
    BalanceInfo,
    ChatCompletion,
    ChatCompletionMessage,
    ChatCompletionRequest,
    Choice,
    Completion,
    CompletionTokensDetails,
    FunctionCall,
    FunctionDefinition,
    FunctionTool,
    PromptTokensDetails,
    ResponseMeta,
    ToolCall,
    Usage,
    UserMessage,
)
from deepseek_async.types.chat import tool_call_to_dict

STRUCTS = [
    value
    for name in types.__all__
    if isinstance(value := getattr(types, name), type)
    and issubclass(value, msgspec.Struct)
]


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_every_field_of_every_struct_is_typed(cls: type[msgspec.Struct]) -> None:
    """Annotations resolve, so that editors and documentation can show them."""
    assert set(cls.__struct_fields__) <= set(get_type_hints(cls))
    assert cls.__doc__


@pytest.mark.parametrize(
    "name", ["chat_thinking", "chat_tools", "chat_title", "chat_function_call"]
)
def test_a_message_goes_back_as_it_came(name: str) -> None:
    """An assistant message round-trips, unknown fields included."""
    sent = document(f"{name}.json")["choices"][0]["message"]
    sent["annotations"] = [{"type": "unheard of", "n": None}]
    raw = json.dumps({"choices": [{"message": sent}]}).encode()

    back = CHAT.decode(raw).choices[0].message.to_dict()

    sent.pop("title", None)  # the conversation's, not the message's
    assert back == sent


def test_a_tool_call_goes_back_as_it_came() -> None:
    """A tool call keeps its index and what this version does not know."""
    call = ToolCall(id="a", function=FunctionCall(name="f", arguments="{}"), index=3)
    call.keep_extra({"signature": "s"})

    assert tool_call_to_dict(call) == {
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "index": 3,
        "signature": "s",
    }
    assert "index" not in tool_call_to_dict(ToolCall(id="b"))


def test_an_answer_in_parts_has_sensible_views() -> None:
    """Text, reason and usage of an answer without choices are simply empty."""
    empty = ChatCompletion()

    assert empty.text == ""
    assert empty.finish_reason is None
    assert not empty.is_finished
    assert not empty.is_reasoning_only
    assert empty.is_empty
    assert Completion().text == ""
    assert Completion().finish_reason is None
    assert ChatCompletion(choices=[Choice()]).text == ""


def test_meta_is_beside_the_answer() -> None:
    """How the call went is reachable and no part of the answer's data."""
    answer = CHAT.decode(body("chat_plain.json"))
    assert answer.meta == ResponseMeta()

    meta = ResponseMeta(
        request_id="t", attempts=(Attempt(number=1, elapsed=0.5, outcome="ok"),)
    )
    answer.set_meta(meta)

    assert answer.meta is meta
    assert answer.request_id == answer._request_id == "t"
    assert answer.attempts[0].outcome == "ok"
    assert answer == CHAT.decode(body("chat_plain.json"))
    assert "request_id" not in answer.to_dict()


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        (CHAT, "chat_tools.json"),
        (CHAT, "chat_title.json"),
        (CHAT, "chat_logprobs.json"),
        (FIM, "fim.json"),
        (MODELS, "models.json"),
        (BALANCE, "balance.json"),
    ],
)
def test_answers_pickle_and_copy(codec: Any, name: str) -> None:
    """An answer survives pickles and copies with meta and unknown fields."""
    answer = codec.decode(body(name))
    answer.set_meta(ResponseMeta(request_id="t", headers={"x": "y"}, tag="mine"))
    answer.keep_extra({"service_tier": "x"})

    for back in (
        pickle.loads(pickle.dumps(answer)),  # noqa: S301 - our own
        copy.deepcopy(answer),
        copy.copy(answer),
    ):
        assert back == answer
        assert back.meta == answer.meta
        assert back.extra == {"service_tier": "x"}


def test_a_message_pickles_with_its_unknown_fields() -> None:
    """A message stored between two rounds loses nothing."""
    message = CHAT.decode(body("chat_title.json")).choices[0].message

    back = pickle.loads(pickle.dumps(message))  # noqa: S301 - our own

    assert back.to_dict() == message.to_dict()
    assert back.extra["citations"]


def test_looking_at_extra_costs_no_dict() -> None:
    """The view of a struct without unknown fields is empty and read-only."""
    message = ChatCompletionMessage()

    assert message.extra == {}
    with pytest.raises(TypeError):
        message.extra["a"] = 1  # type: ignore[index]
    message.keep_extra({})
    assert vars(message) == {}


def test_extra_is_a_copy_of_its_own() -> None:
    """Changing the source afterwards changes nothing in the struct."""
    source = {"a": 1}
    message = ChatCompletionMessage()
    message.keep_extra(source)
    source["a"] = 2

    assert message.extra == {"a": 1}


def test_an_answer_becomes_plain_json() -> None:
    """`to_dict` and `to_json` hold what came over the wire."""
    answer = CHAT.decode(body("chat_thinking.json"))
    sent = document("chat_thinking.json")

    plain = answer.to_dict()

    assert plain["id"] == sent["id"]
    assert plain["choices"][0]["message"]["content"] == "Yes, 223 is prime."
    assert plain["usage"]["completion_tokens_details"] == {"reasoning_tokens": 19}
    assert json.loads(answer.to_json()) == plain
    answer.keep_extra({"service_tier": "x"})
    assert answer.to_dict()["service_tier"] == "x"


def test_what_is_no_json_in_extra_is_refused() -> None:
    """Foreign objects do not slip into JSON as text."""
    message = ChatCompletion()
    message.keep_extra({"x": object()})

    with pytest.raises(TypeError):
        message.to_json()


def test_usage_adds_up() -> None:
    """Adding usages adds every count, wherever the server reported it."""
    one = Usage(
        prompt_tokens=10,
        completion_tokens=4,
        total_tokens=14,
        prompt_cache_hit_tokens=6,
        prompt_cache_miss_tokens=4,
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=3),
    )
    two = Usage(
        prompt_tokens=5,
        completion_tokens=1,
        total_tokens=6,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=2),
    )

    total = one + two

    assert total.prompt_tokens == 15
    assert total.completion_tokens == 5
    assert total.total_tokens == 20
    assert total.prompt_cache_miss_tokens == 4
    assert total.cached_tokens >= 6
    assert total.prompt_tokens_details == PromptTokensDetails(cached_tokens=8)
    assert total.reasoning_tokens == 3
    assert Usage().cached_tokens == 0
    assert Usage().reasoning_tokens == 0


def test_adding_usages_loses_no_cached_tokens() -> None:
    """A count reported in the details only is still in the sum."""
    hit = Usage(prompt_cache_hit_tokens=6)
    details = Usage(prompt_tokens_details=PromptTokensDetails(cached_tokens=2))

    assert (hit + details).cached_tokens == 8
    assert (details + hit).cached_tokens == 8
    assert (details + details).cached_tokens == 4


@pytest.mark.parametrize(
    ("text", "number"),
    [("110.00", Decimal(110)), ("", Decimal(0)), ("lots", Decimal(0))],
)
def test_balances_are_numbers_on_demand(text: str, number: Decimal) -> None:
    """The wire's text stays; the number is exact, 0 where there is none."""
    assert BalanceInfo(total_balance=text).total == number


@pytest.mark.parametrize(
    "struct",
    [
        UserMessage(content="my secret plan"),
        AssistantMessage(content="my secret plan", prefix=True),
        FunctionTool(function=FunctionDefinition(name="my secret plan")),
        ChatCompletionRequest(
            model="m", messages=[{"role": "user", "content": "my secret plan"}]
        ),
    ],
    ids=lambda struct: type(struct).__name__,
)
def test_requests_do_not_show_their_content(struct: msgspec.Struct) -> None:
    """The `repr` of a part of a request names its type only."""
    assert repr(struct) == f"{type(struct).__name__}(...)"
    assert "secret" not in f"{struct} {struct!r} {[struct]}"


def test_an_answer_knows_its_cost() -> None:
    """The cost follows from usage, model and time, or from the bill if any."""
    answer = CHAT.decode(body("chat_thinking.json"))
    fim = FIM.decode(body("fim.json"))

    assert answer.cost is not None
    assert answer.cost > 0
    assert fim.cost is not None
    free = CHAT.decode(body("chat_thinking.json"))
    free.set_bill(Bill(model="deepseek-v4-pro", at=0, is_free=True))
    assert free.cost == 0
    assert [answer.is_cached, free.is_cached] == [False, True]
    assert CHAT.decode(body("chat_title.json")).cost is None
    assert answer.usage is not None
    assert answer.usage.cost("deepseek-v4-pro") is not None
    assert answer.usage.cost("unheard of") is None
