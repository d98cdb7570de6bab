"""Parameters to wire requests: what is sent, what is refused before a byte leaves."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, get_type_hints

import pytest
from leaks import leaks
from recorded import body, document

from deepseek_async.accumulate import ChatAccumulator
from deepseek_async.codec import CHAT, CHAT_CHUNK
from deepseek_async.errors import DeepSeekWarning, InvalidRequestError
from deepseek_async.fields import ChatShape, FIMShape
from deepseek_async.params import CallOptions, ChatCompletionParams, CompletionParams
from deepseek_async.plain import plain_chat
from deepseek_async.request import (
    WireRequest,
    chat_request,
    fim_request,
    get_request,
)
from deepseek_async.retry import RetryPolicy
from deepseek_async.timeouts import Timeouts
from deepseek_async.types import (
    AssistantMessage,
    ChatCompletionRequest,
    CompletionRequest,
    FilePart,
    FunctionCall,
    FunctionDefinition,
    FunctionTool,
    ImagePart,
    ImageURL,
    LatestReminderMessage,
    ResponseFormat,
    SafetyCheck,
    ServerTool,
    StreamOptions,
    SystemMessage,
    TextPart,
    Thinking,
    TitleOptions,
    ToolCall,
    ToolMessage,
    UserMessage,
)

PROMPT = "my-very-private-prompt"
USER: dict[str, Any] = {"role": "user", "content": PROMPT}
GOOD: dict[str, Any] = {"model": "deepseek-flash", "messages": [USER]}
GOOD_FIM: dict[str, Any] = {"model": "deepseek-v4-pro", "prompt": PROMPT}
REQUESTS: dict[str, dict[str, Any]] = document("requests.json")


def sent(params: Mapping[str, Any]) -> dict[str, Any]:
    """The body that a chat request would send."""
    made = chat_request(params)
    assert isinstance(made, WireRequest), made
    wire: dict[str, Any] = json.loads(made.body)
    return wire


def refused(
    params: Mapping[str, Any],
    build: Callable[[Mapping[str, Any]], object] = chat_request,
) -> InvalidRequestError:
    """The error of a request, found to be typed and to hold nothing of the prompt."""
    made = build(params)
    assert type(made) is InvalidRequestError, made
    assert made.__traceback__ is None
    assert not leaks(made, PROMPT)
    return made


@pytest.mark.parametrize("name", REQUESTS)
def test_documented_requests_are_sent_as_they_are(name: str) -> None:
    """Each documented body goes over the wire unchanged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeepSeekWarning)
        assert sent(REQUESTS[name]) == REQUESTS[name]


@pytest.mark.parametrize("name", REQUESTS)
def test_beta_features_choose_the_beta_path(name: str) -> None:
    """A prefix message or a strict tool goes to beta, anything else does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeepSeekWarning)
        made = chat_request(REQUESTS[name])

    assert isinstance(made, WireRequest)
    assert made.method == "POST"
    assert made.path == "/chat/completions"
    assert made.beta is (name in {"prefix", "strict tool"})
    assert made.stream is (name == "thinking, streamed")
    assert made.model == REQUESTS[name]["model"]


def test_structs_say_the_same_as_dicts() -> None:
    """A request of structs is byte for byte the request of dicts."""
    structs: dict[str, Any] = {
        "model": "m",
        "messages": [
            SystemMessage(content="s", name="n"),
            LatestReminderMessage(content="d"),
            UserMessage(
                content=[
                    TextPart(text="t"),
                    ImagePart(image_url=ImageURL(url="u", detail="low")),
                    ImagePart(image_url={"url": "v"}),
                    FilePart(file_id="f"),
                    {"type": "text", "text": "w"},
                ]
            ),
            AssistantMessage(
                content=None,
                reasoning_content="r",
                tool_calls=[
                    ToolCall(id="a", function=FunctionCall(name="f", arguments="{}")),
                    {"id": "b", "type": "function", "function": {"name": "g"}},
                ],
            ),
            ToolMessage(content="x", tool_call_id="a"),
            AssistantMessage(content="so", prefix=True),
        ],
        "tools": [
            FunctionTool(function=FunctionDefinition(name="f", parameters={})),
            FunctionTool(function={"name": "g"}),
            ServerTool(type="deepseek_web_search"),
        ],
        "thinking": Thinking(type="disabled"),
        "response_format": ResponseFormat(type="json_object"),
        "title": TitleOptions(),
        "safety_check": SafetyCheck(level="high"),
        "stream": True,
        "stream_options": StreamOptions(),
    }
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    dicts: dict[str, Any] = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s", "name": "n"},
            {"role": "latest_reminder", "content": "d"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "v"}},
                    {"type": "file", "file_id": "f"},
                    {"type": "text", "text": "w"},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "r",
                "tool_calls": [
                    call,
                    {"id": "b", "type": "function", "function": {"name": "g"}},
                ],
            },
            {"role": "tool", "content": "x", "tool_call_id": "a"},
            {"role": "assistant", "content": "so", "prefix": True},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}}},
            {"type": "function", "function": {"name": "g"}},
            {"type": "deepseek_web_search"},
        ],
        "thinking": {"type": "disabled"},
        "response_format": {"type": "json_object"},
        "title": {"enabled": True},
        "safety_check": {"level": "high"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    assert sent(structs) == dicts == sent(dicts)


def test_legacy_functions_may_be_structs() -> None:
    """The old `functions` take definitions as structs too."""
    params = {**GOOD, "functions": [FunctionDefinition(name="f", description="d")]}

    assert sent(params)["functions"] == [{"name": "f", "description": "d"}]


def test_a_strict_struct_goes_to_beta() -> None:
    """A strict definition is seen in a struct and in a mapping in a struct."""
    for function in (FunctionDefinition(name="f", strict=True), {"strict": True}):
        made = chat_request({**GOOD, "tools": [FunctionTool(function=function)]})
        assert isinstance(made, WireRequest)
        assert made.beta


def test_messages_may_be_anything_that_encodes() -> None:
    """A dataclass with a role is a message, in the last place too."""
    note = Note("user", PROMPT)

    assert sent({**GOOD, "messages": [note, note]})["messages"] == [USER, USER]


def test_any_iterable_of_messages_is_taken() -> None:
    """Tuples, generators and read-only mappings are as good as lists and dicts."""
    for messages in (
        (USER,),
        (message for message in [USER]),
        [MappingProxyType(USER)],
    ):
        assert sent({**GOOD, "messages": messages})["messages"] == [USER]
    assert sent({**GOOD, "stop": ("a", "b")})["stop"] == ["a", "b"]
    tools = ({"type": "deepseek_read_url"} for _ in range(1))
    assert sent({**GOOD, "tools": tools})["tools"] == [{"type": "deepseek_read_url"}]


def test_a_list_of_another_kind_is_taken_for_what_it_shows() -> None:
    """What its iterator leaves out is neither sent nor billed."""

    class Latest(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(self[-1:])

    hidden = {"role": "user", "content": "hidden"}
    assert sent({**GOOD, "messages": Latest([hidden, USER])})["messages"] == [USER]


@pytest.mark.parametrize(
    "name", ["chat_thinking", "chat_tools", "chat_title", "chat_function_call"]
)
def test_an_answer_is_sent_back_as_it_came(name: str) -> None:
    """`messages.append(response.choices[0].message)` loses nothing."""
    came = document(f"{name}.json")["choices"][0]["message"]
    came["audio"] = {"unheard": ["of"]}
    for call in came.get("tool_calls", []):
        call["signature"] = "s"
    raw = json.dumps({"choices": [{"message": came}]}).encode()
    message = CHAT.decode(raw).choices[0].message

    back = sent({**GOOD, "messages": [USER, message, USER]})["messages"]

    came.pop("title", None)
    assert back == [USER, came, USER]


def test_a_streamed_answer_is_sent_back_whole() -> None:
    """Unknown fields of deltas go back to the server as well."""
    accumulator = ChatAccumulator()
    for delta in (b'{"content":"a","sig":"x"}', b'{"content":"b","sig":"y"}'):
        chunk = b'{"choices":[{"delta":' + delta + b"}]}"
        accumulator.feed([CHAT_CHUNK.decode(chunk)])
    message = accumulator.completion().choices[0].message

    assert sent({**GOOD, "messages": [USER, message]})["messages"][1] == {
        "role": "assistant",
        "content": "ab",
        "sig": "xy",
    }


def test_tool_calls_of_an_answer_fit_into_a_dict() -> None:
    """A message written by hand may hold the answer's own tool calls."""
    calls = CHAT.decode(body("chat_tools.json")).choices[0].message.tool_calls
    message = {"role": "assistant", "content": "", "tool_calls": calls}

    back = sent({**GOOD, "messages": [USER, message]})["messages"][1]

    expected = document("chat_tools.json")["choices"][0]["message"]["tool_calls"]
    assert back["tool_calls"] == expected
    assert message["tool_calls"] is calls


def test_what_the_caller_handed_in_is_not_changed() -> None:
    """Building a request leaves the caller's objects alone."""
    params: dict[str, Any] = {
        "model": "m",
        "messages": [dict(USER)],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "extra_body": {"top_k": 5},
        "extra_headers": {"X-A": "b"},
    }
    before = json.dumps(params)

    assert sent(params)["top_k"] == 5
    assert json.dumps(params) == before


def test_none_is_the_same_as_left_out() -> None:
    """An optional parameter of `None` is not sent."""
    nothing = dict.fromkeys(ChatShape.__struct_fields__[2:])

    assert sent({**nothing, **GOOD, "tag": None}) == GOOD


def test_extra_body_says_anything() -> None:
    """A field the library does not know, or thinks wrong, can be forced."""
    extra = {"top_k": 40, "seed": 3, "temperature": "hot", "max_tokens": 5}

    assert sent({**GOOD, "max_tokens": 1, "extra_body": extra}) == {**GOOD, **extra}


def test_extra_body_may_ask_for_a_stream() -> None:
    """What is sent decides how the answer is read."""
    made = chat_request({**GOOD, "extra_body": {"stream": True, "model": "other"}})

    assert isinstance(made, WireRequest)
    assert made.stream
    assert made.model == "other"


def test_options_of_the_call_stay_out_of_the_body() -> None:
    """Clocks, policy, headers and tag travel beside the body."""
    retry, clocks = RetryPolicy(attempts=1), Timeouts(silence=3)
    made = chat_request(
        {
            **GOOD,
            "timeouts": clocks,
            "retry": retry,
            "extra_headers": {"X-A": "b"},
            "tag": "mine",
        }
    )

    assert isinstance(made, WireRequest)
    assert json.loads(made.body) == GOOD
    assert made.timeouts is clocks
    assert made.retry is retry
    assert made.headers == {"X-A": "b"}
    assert made.tag == "mine"


def test_a_number_of_seconds_stands_for_the_clocks() -> None:
    """`timeout=` is taken as other packages take it; explicit clocks win."""
    made = chat_request({**GOOD, "timeout": 7})
    assert isinstance(made, WireRequest)
    assert made.timeouts == Timeouts.uniform(7)
    clocks = Timeouts(silence=3)
    made = chat_request({**GOOD, "timeout": 7, "timeouts": clocks})
    assert isinstance(made, WireRequest)
    assert made.timeouts is clocks


def test_a_request_does_not_show_its_body() -> None:
    """The `repr` of a request names its size and not its content."""
    made = chat_request(GOOD)

    assert PROMPT not in repr(made)
    assert "POST /chat/completions" in repr(made)


def test_a_plain_body_does_not_show_itself() -> None:
    """Neither whole nor message by message, whoever prints local variables."""
    chat = plain_chat(GOOD)

    assert chat is not None
    assert PROMPT not in repr(chat)
    assert PROMPT not in repr(chat.messages)


@pytest.mark.parametrize(
    ("name", "value", "warned"),
    [
        ("frequency_penalty", 0.5, "ignores frequency_penalty"),
        ("presence_penalty", -1, "ignores presence_penalty"),
        ("max_completion_tokens", 9, "sent as max_tokens"),
        ("user", "u1", "sent as user_id"),
        ("seed", 1, "knows no seed"),
        ("logit_bias", {}, "knows no logit_bias"),
        ("parallel_tool_calls", True, "knows no parallel_tool_calls"),
        ("enable_thinking", False, "knows no enable_thinking"),
        ("metadata", {}, "knows no metadata"),
        ("store", True, "knows no store"),
        ("service_tier", "x", "knows no service_tier"),
    ],
)
def test_silently_ignored_parameters_are_told(
    name: str, value: object, warned: str
) -> None:
    """What the API would swallow is renamed, or dropped with a warning."""
    with pytest.warns(DeepSeekWarning, match=warned):
        wire = sent({**GOOD, name: value})

    renamed = {"max_completion_tokens": "max_tokens", "user": "user_id"}
    if name in renamed:
        assert wire[renamed[name]] == value
        assert name not in wire
    else:
        assert (name in wire) is name.endswith("penalty")


def test_a_renamed_parameter_does_not_override_the_real_one() -> None:
    """Given both, the API's own name wins, in either order."""
    for order in (
        ("max_tokens", "max_completion_tokens"),
        ("max_completion_tokens", "max_tokens"),
    ):
        params = {**GOOD, **{name: len(name) for name in order}}
        with pytest.warns(DeepSeekWarning):
            assert sent(params)["max_tokens"] == len("max_tokens")


class Foreign:
    """An object no encoder knows, with a telling `repr`."""

    def __repr__(self) -> str:
        return PROMPT


@dataclasses.dataclass
class Note:
    """A message of somebody else's making."""

    role: str
    content: object


class Deep(dict[str, Any]):
    """A dict that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self["again"] = self


BAD: list[tuple[str, dict[str, Any], str | None]] = [
    ("unknown parameter", {**GOOD, "temprature": 1}, "temprature"),
    ("parameter without a name", {**GOOD, None: 1}, "None"),  # type: ignore[dict-item]
    ("no messages", {"model": "m"}, "messages"),
    ("no model", {"messages": [USER]}, "model"),
    ("model None", {**GOOD, "model": None}, "model"),
    ("model number", {**GOOD, "model": 5}, "model"),
    ("messages empty", {**GOOD, "messages": []}, "messages"),
    ("messages text", {**GOOD, "messages": PROMPT}, "messages"),
    ("messages bytes", {**GOOD, "messages": PROMPT.encode()}, "messages"),
    ("messages dict", {**GOOD, "messages": USER}, "messages"),
    ("messages number", {**GOOD, "messages": 5}, "messages"),
    ("messages of text", {**GOOD, "messages": [PROMPT]}, "messages[0]"),
    ("messages of None", {**GOOD, "messages": [USER, None]}, "messages[1]"),
    ("foreign message", {**GOOD, "messages": [Foreign()]}, "messages[0]"),
    ("foreign message with a role", {**GOOD, "messages": [Note("user", 1)]}, None),
    ("role missing", {**GOOD, "messages": [{"content": PROMPT}]}, "messages[0]"),
    ("role number", {**GOOD, "messages": [{"role": 1}]}, "messages[0].role"),
    (
        "content number",
        {**GOOD, "messages": [USER, {"role": "user", "content": 5}]},
        "messages[1].content",
    ),
    ("content bytes", {**GOOD, "messages": [{"role": "user", "content": b"x"}]}, None),
    ("name bytes", {**GOOD, "messages": [{**USER, "name": b"x"}]}, "messages[0].name"),
    ("thinking bytes", {**GOOD, "thinking": {"type": b"disabled"}}, "thinking.type"),
    ("thinking nan", {**GOOD, "thinking": {"budget": math.nan}}, "thinking.budget"),
    ("extra names", {**GOOD, "extra_body": {1: "x"}}, "extra_body"),
    ("timeout", {**GOOD, "timeout": -1}, "timeout"),
    ("huge timeout", {**GOOD, "timeout": 10**400}, "timeout"),
    (
        "content dict",
        {**GOOD, "messages": [{"role": "user", "content": {}}]},
        "messages[0].content",
    ),
    (
        "content part foreign",
        {**GOOD, "messages": [USER, {"role": "user", "content": [USER, Foreign()]}]},
        "messages[1].content[1]",
    ),
    (
        "lone surrogate",
        {**GOOD, "messages": [USER, {"role": "user", "content": "\ud83d"}]},
        "messages[1].content",
    ),
    (
        "lone surrogate in a struct",
        {**GOOD, "messages": [UserMessage(content=PROMPT + "\udfff")]},
        "messages[0].content",
    ),
    (
        "lone surrogate in a part",
        {**GOOD, "messages": [UserMessage(content=[TextPart(text="\ud800")])]},
        "messages[0].content[0].text",
    ),
    (
        "lone surrogate in a tool",
        {**GOOD, "tools": [{"type": "function", "function": {"name": "\ud800"}}]},
        "tools[0].function.name",
    ),
    ("lone surrogate in a name", {**GOOD, "extra_body": {"a\ud800": 1}}, None),
    ("endless", {**GOOD, "extra_body": {"a": Deep()}}, None),
    (
        "foreign in extra_body",
        {**GOOD, "extra_body": {"a": {"b": [Foreign()]}}},
        "a.b[0]",
    ),
    ("set in extra_body", {**GOOD, "extra_body": {"a": 1j}}, "a"),
    ("extra_body text", {**GOOD, "extra_body": "top_k"}, "extra_body"),
    ("temperature NaN", {**GOOD, "temperature": math.nan}, "temperature"),
    ("temperature infinite", {**GOOD, "temperature": math.inf}, "temperature"),
    ("temperature Decimal NaN", {**GOOD, "temperature": Decimal("nan")}, "temperature"),
    ("temperature text", {**GOOD, "temperature": "hot"}, "temperature"),
    ("temperature bool", {**GOOD, "temperature": True}, "temperature"),
    ("top_p NaN", {**GOOD, "top_p": -math.inf}, "top_p"),
    ("max_tokens fraction", {**GOOD, "max_tokens": 1.5}, "max_tokens"),
    ("max_tokens text", {**GOOD, "max_tokens": "10"}, "max_tokens"),
    ("thinking bool", {**GOOD, "thinking": True}, "thinking"),
    ("stop number", {**GOOD, "stop": 3}, "stop"),
    ("stop of numbers", {**GOOD, "stop": ["a", 3]}, "stop[1]"),
    ("stream text", {**GOOD, "stream": "yes"}, "stream"),
    ("tools text", {**GOOD, "tools": "search"}, "tools"),
    ("tools of text", {**GOOD, "tools": ["search"]}, "tools[0]"),
    ("tool without type", {**GOOD, "tools": [{"function": {}}]}, "tools[0]"),
    (
        "foreign tool with a type",
        {**GOOD, "tools": [type("T", (), {"type": "x"})()]},
        None,
    ),
    ("tool_choice number", {**GOOD, "tool_choice": 1}, "tool_choice"),
    ("response_format text", {**GOOD, "response_format": "json"}, "response_format"),
    (
        "stream_options without stream",
        {**GOOD, "stream_options": {"include_usage": True}},
        "stream_options",
    ),
    ("user_id number", {**GOOD, "user_id": 7}, "user_id"),
    ("timeout text", {**GOOD, "timeout": "5"}, "timeout"),
    ("timeout bool", {**GOOD, "timeout": True}, "timeout"),
    ("timeouts number", {**GOOD, "timeouts": 5}, "timeouts"),
    ("retry number", {**GOOD, "retry": 5}, "retry"),
    ("tag number", {**GOOD, "tag": 5}, "tag"),
    (
        "header split",
        {**GOOD, "extra_headers": {"X": f"{PROMPT}\r\nY: z"}},
        "extra_headers",
    ),
    ("headers list", {**GOOD, "extra_headers": [("a", PROMPT)]}, "extra_headers"),
]


@pytest.mark.parametrize(
    ("params", "param"), [pytest.param(p, f, id=name) for name, p, f in BAD]
)
def test_a_bad_parameter_is_refused_before_anything_is_sent(
    params: dict[str, Any], param: str | None
) -> None:
    """The error is ours, names the field, and quotes nothing of the prompt."""
    error = refused(params)

    assert error.param is not None
    if param is not None:
        assert error.param == param
    named = str(error).replace("extra header ", "extra_headers ")
    assert error.param.split("[")[0].split(".")[0] in named
    str(error).encode()


class Broken:
    """An object that cannot even be looked at."""

    @property
    def role(self) -> str:
        raise TypeError(PROMPT)


def test_an_object_that_resists_is_refused() -> None:
    """What cannot be read is refused, and its own words are not told."""
    error = refused({**GOOD, "messages": [Broken()]})

    assert error.param == "messages[0]"


def test_an_unknown_parameter_comes_with_advice() -> None:
    """A typing mistake is recognised, and the way out is named."""
    error = refused({**GOOD, "temprature": 1})

    assert "did you mean temperature?" in str(error)
    assert "extra_body" in str(error)
    assert "did you mean" not in str(refused({**GOOD, "zzzzqqq": 1}))


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"prompt": PROMPT}, "model"),
        ({"model": "m"}, "prompt"),
        ({**GOOD_FIM, "prompt": [PROMPT]}, "prompt"),
        ({**GOOD_FIM, "suffix": 5}, "suffix"),
        ({**GOOD_FIM, "logprobs": True}, "logprobs"),
        ({**GOOD_FIM, "temperature": math.nan}, "temperature"),
        ({**GOOD_FIM, "messages": []}, "messages"),
        ({**GOOD_FIM, "prompt": PROMPT + "\ud800"}, "prompt"),
        ({**GOOD_FIM, "stream_options": {}}, "stream_options"),
    ],
)
def test_bad_fim_parameters_are_refused(params: dict[str, Any], param: str) -> None:
    """Fill-in-the-middle requests are checked as strictly."""
    assert refused(params, fim_request).param == param


def test_a_fim_request_goes_to_beta() -> None:
    """FIM exists on the beta path only."""
    made = fim_request({**GOOD_FIM, "suffix": "end", "stream": True, "logprobs": 1})

    assert isinstance(made, WireRequest)
    assert made.beta
    assert made.stream
    assert made.path == "/completions"
    assert json.loads(made.body) == {
        **GOOD_FIM,
        "suffix": "end",
        "stream": True,
        "logprobs": 1,
    }


def test_a_get_request_takes_options_only() -> None:
    """A request without a body has options of the call and no parameters."""
    made = get_request("/models", {"tag": "t"})
    assert isinstance(made, WireRequest)
    assert (made.method, made.body, made.tag) == ("GET", b"", "t")
    error = refused({"limit": 5}, lambda params: get_request("/models", params))
    assert error.param == "limit"


NOT_SENT = {"resume", "cache_control"}  # what the client itself does with the answer


def test_the_places_that_list_the_fields_agree() -> None:
    """Struct, check and keyword arguments of a request have the same fields."""
    options = set(get_type_hints(CallOptions)) | {"extra_body", *NOT_SENT}
    chat = set(get_type_hints(ChatCompletionParams)) - options | {"stream"}
    fim = set(get_type_hints(CompletionParams)) - options | {"stream"}

    assert chat == set(ChatShape.__struct_fields__)
    assert chat == set(ChatCompletionRequest.__struct_fields__)
    assert fim == set(FIMShape.__struct_fields__)
    assert fim == set(CompletionRequest.__struct_fields__)


@pytest.mark.parametrize(
    ("build", "name", "told"),
    [
        (chat_request, "model", "model is required, such as deepseek-flash"),
        (
            chat_request,
            "messages",
            'messages is required, such as [{"role": "user", "content": "Hello"}]',
        ),
        (fim_request, "model", "model is required, such as deepseek-flash"),
        (fim_request, "prompt", "prompt is required: the text before the gap"),
    ],
)
def test_what_is_required_is_told_in_plain_words(
    build: Callable[[Mapping[str, Any]], object], name: str, told: str
) -> None:
    """A missing argument is named with what it looks like."""
    params = dict(GOOD_FIM if build is fim_request else GOOD)
    del params[name]

    error = refused(params, build)

    assert str(error) == told
    assert error.param == name


def models_request(options: Mapping[str, Any]) -> object:
    return get_request("/models", options)


@pytest.mark.parametrize("build", [chat_request, fim_request, models_request])
def test_retries_of_one_call_have_another_name(
    build: Callable[[Mapping[str, Any]], object],
) -> None:
    """`max_retries` is an option of the client; the message says where it goes."""
    params: dict[str, Any] = {"max_retries": 0}

    error = refused(params, build)

    assert "retry=RetryPolicy(...)" in str(error)
    assert "client.with_options(max_retries=...)" in str(error)
    assert "max_tokens" not in str(error)


def _braided() -> list[Any]:
    """A list that holds itself three times."""
    value: list[Any] = []
    value.extend([value, value, value])
    return value


class Raises(dict[str, Any]):
    """A mapping that cannot be looked into."""

    def __bool__(self) -> bool:
        return True

    def values(self) -> Any:
        raise LookupError("not mine")

    items = keys = values


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "params",
    [
        {**GOOD, "thinking": Deep(), "model": 3},
        {**GOOD, "stop": _nested(3_000), "max_tokens": "5"},
        {**GOOD, "tools": [{"x": _nested(3_000)}], "max_tokens": "5"},
        {**GOOD, "thinking": {"type": _braided()}},
        {**GOOD, "messages": [{"role": "user", "content": (b"bytes",)}]},
        {**GOOD, "response_format": Raises()},
        {**GOOD, "extra_body": {"x": Raises()}},
    ],
    ids=["circle", "deep", "deep tool", "braid", "tuple", "mapping", "in extra_body"],
)
def test_whatever_a_value_does_is_an_error_of_ours(params: dict[str, Any]) -> None:
    """And the error holds nothing of the request."""
    refused(params)


def _stopping() -> Iterator[dict[str, Any]]:
    yield {"role": "user", "content": "Hello"}
    raise LookupError("no more of them")


def test_what_the_callers_own_code_raises_is_the_cause() -> None:
    """It is seen where it was raised, and nothing of our frames with it."""
    made = refused({"model": "deepseek-flash", "messages": _stopping()})

    assert "LookupError" in str(made)
    cause = made.__cause__
    assert isinstance(cause, LookupError)
    assert cause.__traceback__ is not None
    assert cause.__traceback__.tb_frame.f_code.co_name == "_stopping"


@pytest.mark.parametrize("more", [{}, {"tag": "a"}], ids=["short way", "long way"])
@pytest.mark.parametrize("model", ["deepseek-chat", "deepseek-reasoner"])
def test_a_withdrawn_model_is_warned_about(model: str, more: dict[str, Any]) -> None:
    """Whichever way the request is checked; it is sent, and the server judges."""
    with pytest.warns(DeepSeekWarning, match="use deepseek-flash"):
        assert sent({**GOOD, **more, "model": model})["model"] == model


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("more", [{"seed": 1}, {"tag": "a", "seed": 1}])
def test_a_warning_that_is_to_be_an_error_is_one(more: dict[str, Any]) -> None:
    """And it is not taken for something that a value did."""
    with pytest.raises(DeepSeekWarning, match="knows no seed"):
        chat_request({**GOOD, **more})
