"""Typed answers against the emulator: both modes, repairs, errors, partial values."""

from __future__ import annotations

import dataclasses
import datetime
import sys
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest

from deepseek_async import (
    AsyncDeepSeek,
    BadRequestError,
    ContentFilterFinishError,
    EmptyAnswerError,
    InsufficientSystemResourceError,
    InvalidAnswerError,
    InvalidRequestError,
    LengthFinishError,
    MissingExtraError,
    RefusedAnswerError,
    ResponseCache,
    Resume,
    SchemaError,
    ServerTool,
    StreamClosedError,
    StrictSchemaError,
)
from deepseek_async.testing import Answer, Call, Cut, DeepSeekEmulator, Finish

Body = dict[str, Any]
MODEL = "deepseek-flash"
QUICK = {"type": "disabled"}
MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Tell me about Lima."},
]


class City(msgspec.Struct):
    """A city."""

    name: str
    population: int


@dataclasses.dataclass
class Town:
    name: str
    population: int


class Village(TypedDict):
    name: str
    population: int


class Place(pydantic.BaseModel):
    name: str
    population: int = pydantic.Field(ge=0)


class Sea(msgspec.Struct, tag=True):
    depth: int


class Hill(msgspec.Struct, tag=True):
    height: int


LIMA = '{"name": "Lima", "population": 10}'


def saying(*answers: Answer | str) -> Callable[[Body], Answer | str]:
    said: Iterator[Answer | str] = iter(answers)
    return lambda _: next(said)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (City, City(name="Lima", population=10)),
        (Town, Town(name="Lima", population=10)),
        (Village, {"name": "Lima", "population": 10}),
        (Place, Place(name="Lima", population=10)),
    ],
)
@pytest.mark.parametrize("thinking", [None, QUICK])
async def test_objects_in_both_modes(
    client: AsyncDeepSeek,
    emulator: DeepSeekEmulator,
    kind: Any,
    expected: object,
    thinking: Any,
) -> None:
    """Thinking answers in JSON mode, not thinking by a strict tool on beta."""
    mode = "tool" if thinking else "json"
    by_tool = Answer(tool_calls=(Call("give_answer", LIMA),))
    emulator.answer = saying(by_tool if thinking else LIMA)

    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=kind, thinking=thinking
    )

    assert answer.parsed == expected
    assert answer.mode == mode
    assert answer.repairs == 0
    request = emulator.requests[-1]
    assert request.path.startswith("/beta/") == (mode == "tool")
    if mode == "tool":
        assert request.body["messages"] == MESSAGES
        assert request.body["tools"][0]["function"]["strict"] is True
    else:
        roles = [message["role"] for message in request.body["messages"]]
        assert roles == ["system", "system", "user"]
        assert request.body["response_format"] == {"type": "json_object"}
        assert '"population"' in request.body["messages"][1]["content"]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (list[int], '{"answer": [1, 2]}', [1, 2]),
        (Sea | Hill, '{"answer": {"type": "Hill", "height": 9}}', Hill(height=9)),
        (Literal["yes", "no"], '{"answer": "yes"}', "yes"),
        (int | None, '{"answer": null}', None),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (
            list[Place],
            '{"answer": [' + LIMA + "]}",
            [Place(name="Lima", population=10)],
        ),
    ],
    ids=["list", "union", "literal", "none", "dict", "models"],
)
@pytest.mark.parametrize("mode", ["json", "auto"])
async def test_any_type_travels_in_an_object(
    client: AsyncDeepSeek,
    emulator: DeepSeekEmulator,
    kind: Any,
    text: str,
    expected: object,
    mode: Literal["json", "auto"],
) -> None:
    """Lists, unions and scalars are asked for in an object and taken out of it."""
    by_tool = Answer(tool_calls=(Call("give_answer", text),))
    emulator.answer = lambda body: by_tool if body.get("tools") else text

    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=kind, thinking=QUICK, mode=mode
    )

    assert answer.parsed == expected
    # Strict mode knows no free keys and no lower bound of a length.
    assert (answer.mode == "tool") == (mode == "auto" and kind != dict[str, int])


async def test_the_emulators_own_strict_answers_fit(client: AsyncDeepSeek) -> None:
    """A service that follows the sent schema gives an answer that decodes."""
    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=City, thinking=QUICK
    )

    assert answer.mode == "tool"
    assert isinstance(answer.parsed, City)


class Comment(msgspec.Struct):
    author: Place
    rating: Literal[1, 2, 3]
    replies: list[Comment] = []


async def test_nested_and_recursive_types_in_strict_mode(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """References, nested models and recursion pass the server's strict check."""
    text = f'{{"author": {LIMA}, "rating": 2, "replies": [%s]}}'
    inner = text.replace("%s", "")
    emulator.answer = lambda _: Answer(
        tool_calls=(Call("give_answer", text.replace("%s", inner)),)
    )
    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=Comment, thinking=QUICK
    )

    assert answer.mode == "tool"
    assert answer.repairs == 0
    assert isinstance(answer.parsed.author, Place)
    assert isinstance(answer.parsed.replies[0], Comment)


class Tree(msgspec.Struct):
    name: str
    left: Tree | None
    branches: list[Tree]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    weight: float


class Pets(pydantic.BaseModel):
    pets: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]
    price: Decimal
    walk: datetime.timedelta


@pytest.mark.parametrize(
    "kind",
    [
        City,
        Town,
        Village,
        Place,
        Comment,
        Tree,
        Pets,
        Sea | Hill,
        list[Place],
        list[list[City]],
        dict[str, int],
        dict[str, City | None],
        dict,
        tuple[int, str],
        set[int],
        int | None,
        int | str,
        Literal["yes", "no"],
        Literal[3, 4],
        bool,
        float,
        str,
        bytes,
        datetime.date,
        datetime.timedelta,
        Decimal,
        uuid.UUID,
        Annotated[int, msgspec.Meta(gt=3, lt=5)],
        Annotated[float, msgspec.Meta(lt=-3)],
        Annotated[int, msgspec.Meta(multiple_of=7)],
        Annotated[str, msgspec.Meta(min_length=30, max_length=40)],
        Annotated[list[int], msgspec.Meta(min_length=3)],
        Annotated[dict[str, int], msgspec.Meta(min_length=2)],
    ],
    ids=str,
)
@pytest.mark.parametrize("thinking", [None, QUICK], ids=["thinking", "quick"])
async def test_the_emulator_answers_with_any_type(
    client: AsyncDeepSeek, kind: Any, thinking: Any
) -> None:
    """Nothing but the type: the emulator fills the schema that stands in the prompt."""
    answer = await client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell me of Lima and 12 trees."}],
        response_type=kind,
        thinking=thinking,
        max_repairs=0,
    )

    assert answer.repairs == 0
    read = msgspec.convert(answer.parsed, kind, dec_hook=lambda _, value: value)
    assert read == answer.parsed


async def test_the_emulator_streams_a_type_without_an_example(
    client: AsyncDeepSeek,
) -> None:
    """The same for a stream, and a schema beats an object that stands before it."""
    async with client.chat.completions.stream_parse(
        model=MODEL,
        messages=[
            {"role": "system", "content": 'The reader is {"reader": "Ada"}.'},
            {"role": "user", "content": "Where is it?"},
        ],
        response_type=City,
    ) as stream:
        values = [value async for value in stream]
        answer = await stream.result()

    assert isinstance(answer.parsed, City)
    assert values[-1] == msgspec.to_builtins(answer.parsed)


async def test_an_example_is_put_into_the_prompt(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """An example is imitated by a service that has nothing else to go by."""
    example = City(name="Oslo", population=1)

    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=City, example=example
    )

    assert isinstance(answer.parsed, City)
    assert (
        '{"name":"Oslo","population":1}'
        in emulator.requests[-1].body["messages"][1]["content"]
    )


async def test_the_instruction_is_a_stable_prefix(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Two questions share system messages and instruction, so the cache hits."""
    emulator.answer = lambda _: LIMA
    for question in ("One?", "Two?"):
        await client.chat.completions.parse(
            model=MODEL,
            messages=[MESSAGES[0], {"role": "user", "content": question}],
            response_type=City,
        )

    first, second = (one.body["messages"] for one in emulator.requests)
    assert first[:2] == second[:2]
    assert first[2] != second[2]


async def test_a_wrong_answer_is_shown_and_repaired(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """The model sees its own answer and what is wrong with it, then gets it right."""
    emulator.answer = saying('{"name": "Lima"}', "Sorry!", f"```json\n{LIMA}\n```")

    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=City
    )

    assert answer.parsed == City(name="Lima", population=10)
    assert answer.repairs == 2
    final = emulator.requests[-1].body["messages"]
    assert [m["role"] for m in final[3:]] == ["assistant", "user"] * 2
    assert "missing required field `population`" in final[4]["content"]
    assert "not valid JSON" in final[6]["content"]
    assert answer.usage.total_tokens > (
        answer.completion.usage.total_tokens if answer.completion.usage else 0
    )
    assert "Lima" not in repr(answer)


async def test_a_wrong_tool_call_is_repaired(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """In tool mode the error goes back as the tool's message."""
    emulator.answer = saying(
        Answer(tool_calls=(Call("give_answer", '{"name": "Li'),)),
        "Words instead of a call.",
        Answer(tool_calls=(Call("give_answer", LIMA),)),
    )

    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=City, thinking=QUICK
    )

    assert answer.parsed.name == "Lima"
    roles = [m["role"] for m in emulator.requests[-1].body["messages"][2:]]
    assert roles == ["assistant", "tool", "assistant", "user"]


async def test_repairs_are_bounded(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """An answer that never fits is a typed error that tells where it does not."""
    emulator.answer = lambda _: '{"name": "Lima", "population": "many"}'

    with pytest.raises(InvalidAnswerError) as caught:
        await client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_type=City, max_repairs=1
        )

    assert caught.value.problem == "Expected `int`, got `str` - at `$.population`"
    assert caught.value.repairs == 1
    assert caught.value.completion is not None
    assert len(emulator.requests) == 2


async def test_an_empty_answer_is_asked_for_again(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Empty content, a known fault of JSON mode, is asked for again as it was."""
    emulator.answer = saying("", "  \n ", LIMA)

    answer = await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=City
    )

    assert answer.repairs == 2
    bodies = [request.body for request in emulator.requests]
    assert bodies[0] == bodies[2]


async def test_only_empty_answers(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Nothing but empty answers is a typed error that tells of reasoning."""
    emulator.answer = lambda _: ""

    with pytest.raises(EmptyAnswerError, match="with reasoning only"):
        await client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_type=City
        )

    assert len(emulator.requests) == 3


async def test_a_cut_answer_is_not_repaired(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """An answer cut by `max_tokens` is a typed error with what there is of it."""
    emulator.answer = lambda _: LIMA * 20

    with pytest.raises(LengthFinishError) as caught:
        await client.chat.completions.parse(
            model=MODEL,
            messages=MESSAGES,
            response_type=City,
            thinking=QUICK,
            mode="json",
            max_tokens=5,
        )

    assert caught.value.completion is not None
    assert caught.value.completion.text.startswith('{"name"')
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(content="", finish_reason="content_filter"), ContentFilterFinishError),
        (
            Answer(content="{", finish_reason="insufficient_system_resource"),
            InsufficientSystemResourceError,
        ),
        (Answer(content="No.", finish_reason="refusal"), RefusedAnswerError),
        (Answer(content="", extra={"refusal": "I may not."}), RefusedAnswerError),
    ],
    ids=["filter", "resource", "finish", "field"],
)
async def test_refusals_and_cuts_are_typed(
    client: AsyncDeepSeek,
    emulator: DeepSeekEmulator,
    answer: Answer,
    error: type[Exception],
) -> None:
    """A filtered, aborted or refused answer is an error of its own, asked once."""
    emulator.answer = lambda _: answer

    with pytest.raises(error):
        await client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_type=City
        )

    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"response_format": {"type": "text"}},
        {"tool_choice": "auto"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"mode": "tool"},
        {"mode": "tool", "thinking": QUICK, "safety_check": {"level": "high"}},
        {"mode": "xml"},
        {"max_repairs": -1},
    ],
    ids=lambda wrong: "-".join(map(str, [*wrong, *wrong.values()]))[:40],
)
async def test_arguments_that_cannot_work(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, wrong: Any
) -> None:
    """What the server would refuse, or what parse owns itself, sends nothing."""
    with pytest.raises(InvalidRequestError):
        await client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_type=City, **wrong
        )

    assert not emulator.requests


async def test_the_server_would_have_refused(client: AsyncDeepSeek) -> None:
    """A forced tool while thinking, and `json_schema`, are 400s of the server."""
    for wrong in (
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "required",
        },
        {"response_format": {"type": "json_schema"}},
    ):
        params: Any = wrong
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, **params
            )


async def test_server_tools_go_with_json_mode(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A typed answer may use the server's own tools, in JSON mode."""
    emulator.answer = lambda _: LIMA
    answer = await client.chat.completions.parse(
        model=MODEL,
        messages=MESSAGES,
        response_type=City,
        thinking=QUICK,
        tools=[ServerTool(type="deepseek_web_search")],
    )

    assert answer.mode == "json"


async def test_types_without_a_schema(client: AsyncDeepSeek) -> None:
    """A type that JSON or strict mode cannot express is refused by name."""
    with pytest.raises(SchemaError, match="object"):
        await client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_type=object
        )
    with pytest.raises(StrictSchemaError):
        await client.chat.completions.parse(
            model=MODEL,
            messages=MESSAGES,
            response_type=dict[str, int],
            mode="tool",
            thinking=QUICK,
        )


class Book(msgspec.Struct):
    title: str
    chapters: list[str]


BOOK = Book(title="On Rivers", chapters=["The Spring", "The Delta", "The Sea"])


@pytest.mark.parametrize("thinking", [None, QUICK])
async def test_partial_values_grow(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, thinking: Any
) -> None:
    """Every partial value is a beginning of the final one, and the last is whole."""
    text = msgspec.json.encode(BOOK).decode()
    by_tool = Answer(tool_calls=(Call("give_answer", text),))
    emulator.answer = lambda _: by_tool if thinking else text
    partials: list[Any] = []

    async with client.chat.completions.stream_parse(
        model=MODEL, messages=MESSAGES, response_type=Book, thinking=thinking
    ) as stream:
        partials += [partial async for partial in stream]
        answer = await stream.result()

    assert answer.parsed == BOOK
    assert len(partials) > 10
    assert partials[-1] == msgspec.to_builtins(BOOK)
    for partial in partials:
        assert BOOK.title.startswith(partial.get("title", ""))
        for whole, part in zip(
            BOOK.chapters, partial.get("chapters", []), strict=False
        ):
            assert whole.startswith(part)
    assert answer.completion.request_id
    assert "complete" in repr(stream)


async def test_partial_values_come_out_of_their_wrapper(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A list grows as a list, although it travels in an object."""
    emulator.answer = lambda _: '```json\n{"answer": ["a", "b", "c"]}\n```'
    async with client.chat.completions.stream_parse(
        model=MODEL, messages=MESSAGES, response_type=list[str]
    ) as stream:
        partials = [partial async for partial in stream]
        answer = await stream.result()

    assert answer.parsed == ["a", "b", "c"] == partials[-1]
    assert all(isinstance(partial, list) for partial in partials)


@pytest.mark.parametrize("number", [717_710, -3.25, 6.5e30])
async def test_unfinished_numbers_are_left_out(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator, number: float
) -> None:
    """A number appears when it is whole, never as its first digits."""
    text = msgspec.json.encode({"answer": [number, number]}).decode()
    emulator.answer = lambda _: text
    async with client.chat.completions.stream_parse(
        model=MODEL, messages=MESSAGES, response_type=list[float]
    ) as stream:
        partials = [partial async for partial in stream]

    assert all(set(partial) <= {number} for partial in partials)
    assert partials[-1] == [number, number]


class Cached(ResponseCache):
    """A cache that keeps everything, empty answers too."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self.kept[key] = value

    async def clear(self) -> None:
        self.kept.clear()


async def test_repairs_are_not_answered_by_the_clients_cache(
    emulator: DeepSeekEmulator,
) -> None:
    """An empty answer asked for again comes from the server, not from memory."""
    emulator.answer = saying("", "", LIMA)
    async with AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, cache=Cached()
    ) as client:
        answer = await client.chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_type=City
        )

    assert answer.repairs == 2
    assert len(emulator.requests) == 3


async def test_a_resumed_stream_begins_its_values_anew(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """When a cut answer is resumed, values go on growing and the result is whole."""
    text = msgspec.json.encode(BOOK).decode()
    emulator.answer = lambda _: Answer(tool_calls=(Call("give_answer", text),))
    emulator.script(Cut(events=12))
    async with client.chat.completions.stream_parse(
        model=MODEL,
        messages=MESSAGES,
        response_type=Book,
        thinking=QUICK,
        resume=Resume(),
    ) as stream:
        partials = [partial async for partial in stream]
        answer = await stream.result()

    assert answer.parsed == BOOK
    assert partials[-1] == msgspec.to_builtins(BOOK)
    assert len(emulator.requests) == 2


async def test_a_streamed_answer_is_checked_at_its_end(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """A streamed answer that does not fit, or is cut, raises after its last part."""
    emulator.answer = lambda _: '{"title": "x"}'
    with pytest.raises(InvalidAnswerError):
        async with client.chat.completions.stream_parse(
            model=MODEL, messages=MESSAGES, response_type=Book
        ) as stream:
            assert [partial async for partial in stream]
    emulator.script(Finish(reason="length"))
    with pytest.raises(LengthFinishError):
        async with client.chat.completions.stream_parse(
            model=MODEL, messages=MESSAGES, response_type=Book
        ) as stream:
            await stream.result()


async def test_leaving_partial_values_closes_the_stream(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """Leaving early is seen by the server, and there is no result."""
    emulator.answer = lambda _: msgspec.json.encode(BOOK).decode()
    emulator.pace = msgspec.structs.replace(emulator.pace, tokens_per_second=20.0)
    async with client.chat.completions.stream_parse(
        model=MODEL, messages=MESSAGES, response_type=Book, thinking=QUICK, mode="json"
    ) as stream:
        async for _ in stream:
            break

    with pytest.raises(StreamClosedError):
        await stream.result()
    await emulator.idle()


async def test_partial_values_name_their_extra(
    client: AsyncDeepSeek, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "jiter", None)

    with pytest.raises(MissingExtraError, match=r"deepseek-async\[partial-json\]"):
        client.chat.completions.stream_parse(
            model=MODEL, messages=MESSAGES, response_type=Book
        )


async def test_the_schema_in_the_prompt_is_valid(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """What the model reads as the schema is JSON Schema that its answer fits."""
    emulator.answer = lambda _: LIMA
    await client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_type=City
    )
    told = emulator.requests[-1].body["messages"][1]["content"]
    schema = msgspec.json.decode(told.split("JSON Schema: ")[1])

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(msgspec.json.decode(LIMA), schema)


async def test_an_answer_is_streamed_by_its_method(
    client: AsyncDeepSeek, emulator: DeepSeekEmulator
) -> None:
    """`stream=` has no effect here, so it is refused."""
    asked: Any = {"model": MODEL, "messages": MESSAGES, "stream": True}

    with pytest.raises(InvalidRequestError, match="call stream_parse"):
        await client.chat.completions.parse(response_type=City, **asked)
    with pytest.raises(InvalidRequestError, match="call stream_parse"):
        client.chat.completions.stream_parse(response_type=City, **asked)
    assert not emulator.requests
