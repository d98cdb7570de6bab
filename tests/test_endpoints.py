"""The endpoints: method, path, headers and body of each call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aioresponses import aioresponses
from recorded import body
from yarl import URL

from deepseek_async import (
    AsyncDeepSeek,
    ChatStream,
    CompletionStream,
    DeepSeekWarning,
    EmptyResponseError,
    InternalServerError,
    InvalidRequestError,
    UnexpectedContentTypeError,
)

KEY = "sk-endpoints-0123456789"
BASE = "https://api.deepseek.com"
QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
SSE = "text/event-stream"


@pytest.fixture
async def client() -> AsyncIterator[AsyncDeepSeek]:
    async with AsyncDeepSeek(api_key=KEY, max_retries=0) as client:
        yield client


def request(api: aioresponses, method: str, url: str) -> dict[str, Any]:
    """The keywords of the one request that was made there."""
    calls: list[Any] = api.requests[method, URL(url)]
    assert len(calls) == 1
    found: dict[str, Any] = calls[0].kwargs
    return found


async def test_a_chat_request_is_what_the_api_wants(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """Path, method, key, types and body of an awaited answer are right."""
    api.post(f"{BASE}/chat/completions", body=body("chat_plain.json"))

    answer = await client.chat.completions.create(
        model="deepseek-flash", messages=QUESTION, extra_headers={"X-Team": "red"}
    )

    assert answer.text == "The Ucayali."
    made = request(api, "POST", f"{BASE}/chat/completions")
    assert made["headers"]["Authorization"] == f"Bearer {KEY}"
    assert made["headers"]["Accept"] == "application/json"
    assert made["headers"]["Content-Type"] == "application/json"
    assert made["headers"]["User-Agent"].startswith("deepseek-async/")
    assert made["headers"]["X-Team"] == "red"
    assert made["allow_redirects"] is False
    assert json.loads(made["data"].decode()) == {
        "model": "deepseek-flash",
        "messages": QUESTION,
    }


async def test_a_stream_is_asked_for_as_one(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """`stream=True` accepts an event stream and folds to the same answer."""
    api.post(
        f"{BASE}/chat/completions", body=body("chat_thinking.sse"), content_type=SSE
    )

    stream = await client.chat.completions.create(
        model="deepseek-flash", messages=QUESTION, stream=True
    )
    answer = await stream.completion()

    assert isinstance(stream, ChatStream)
    assert answer.text == "Grüß Gott \U0001f304"
    assert answer.usage is not None
    made = request(api, "POST", f"{BASE}/chat/completions")
    assert made["headers"]["Accept"] == SSE
    assert json.loads(made["data"].decode())["stream"] is True


@pytest.mark.parametrize(
    "extra",
    [
        {
            "messages": [
                *QUESTION,
                {"role": "assistant", "content": "H", "prefix": True},
            ]
        },
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
    ],
    ids=["prefix", "strict"],
)
async def test_beta_features_take_the_beta_path(
    api: aioresponses, client: AsyncDeepSeek, extra: dict[str, Any]
) -> None:
    """The same client sends a beta request to the beta path by itself."""
    api.post(f"{BASE}/beta/chat/completions", body=body("chat_plain.json"))
    params: dict[str, Any] = {"model": "deepseek-flash", "messages": QUESTION, **extra}

    answer = await client.chat.completions.create(stream=False, **params)

    assert answer.text


async def test_fim_takes_the_beta_path(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """Fill in the middle, awaited and streamed, goes to beta."""
    url = f"{BASE}/beta/completions"
    api.post(url, body=body("fim.json"))
    api.post(url, body=body("fim.sse"), content_type=SSE)

    answer = await client.completions.create(
        model="deepseek-v4-pro",
        prompt="def area(x, y):\n    ",
        suffix="\n    return total",
    )
    stream = await client.completions.create(
        model="deepseek-v4-pro", prompt="def", stream=True
    )
    texts = [text async for text in stream.text()]

    assert answer.text == "total = x * y"
    assert isinstance(stream, CompletionStream)
    assert texts == ["total =", " x * y"]
    assert stream.partial.text == "total = x * y"
    assert stream.usage is not None


async def test_models_and_balance(api: aioresponses, client: AsyncDeepSeek) -> None:
    """The two look-ups decode and send no body."""
    api.get(f"{BASE}/models", body=body("models.json"))
    api.get(f"{BASE}/user/balance", body=body("balance.json"))

    models = await client.models.list(tag="look")
    balance = await client.balance()

    assert [model.id for model in models] == ["deepseek-flash", "deepseek-v4-pro"]
    assert models.meta.tag == "look"
    assert str(balance.balance_infos[0].total) == "64.50"
    made = request(api, "GET", f"{BASE}/models")
    assert made["data"] is None
    assert "Content-Type" not in made["headers"]


async def test_one_model(api: aioresponses, client: AsyncDeepSeek) -> None:
    """A model is looked up by id, and fields it grew are kept."""
    api.get(
        f"{BASE}/models/deepseek-flash", body=b'{"id":"deepseek-flash","colour":"blue"}'
    )

    model = await client.models.retrieve("deepseek-flash")

    assert model.id == "deepseek-flash"
    assert model.extra == {"colour": "blue"}


@pytest.mark.parametrize("name", ["../user/balance", "a/b", "a?b=c", "a#b", "ü", "%2e"])
async def test_a_model_id_cannot_leave_its_path(
    api: aioresponses, client: AsyncDeepSeek, name: str
) -> None:
    """An id is one path segment, whatever it contains."""
    with pytest.raises(Exception, match="no connection"):
        await client.models.retrieve(name)

    ((_, url),) = api.requests
    assert url.raw_path.startswith("/models/")
    assert url.raw_path.count("/") == 2
    assert not url.query_string
    assert not url.fragment


@pytest.mark.parametrize("name", ["", ".", "..", 5, None])
async def test_a_model_id_must_be_one(
    api: aioresponses, client: AsyncDeepSeek, name: Any
) -> None:
    """What is no id is refused before anything is sent."""
    with pytest.raises(InvalidRequestError, match="model") as caught:
        await client.models.retrieve(name)

    assert caught.value.param == "model"
    assert not api.requests


@pytest.mark.parametrize(
    ("raw", "kind", "expected"),
    [
        (b"", "application/json", EmptyResponseError),
        (b"\n\n  \n", "application/json", EmptyResponseError),
        (b'{"id":"x","choices":[]}', "application/json", EmptyResponseError),
        (b"{}", "application/json", EmptyResponseError),
        (b"<html></html>", "text/html", UnexpectedContentTypeError),
        (b"Service unavailable", "text/plain", UnexpectedContentTypeError),
        (
            b'{"error":{"message":"m","type":"server_error"}}',
            "application/json",
            InternalServerError,
        ),
    ],
)
async def test_a_200_without_an_answer_is_an_error(
    api: aioresponses,
    client: AsyncDeepSeek,
    raw: bytes,
    kind: str,
    expected: type[Exception],
) -> None:
    """A success status alone does not make an answer."""
    api.post(f"{BASE}/chat/completions", body=raw, content_type=kind)

    with pytest.raises(expected) as caught:
        await client.chat.completions.create(model="m", messages=QUESTION)

    assert type(caught.value) is expected


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", ""])
async def test_json_is_taken_under_any_content_type(
    api: aioresponses, client: AsyncDeepSeek, kind: str
) -> None:
    """The body decides, with the blank lines of a queued call before it."""
    url = f"{BASE}/chat/completions"
    api.post(url, body=b"\n\n\n" + body("chat_plain.json"), content_type=kind)

    answer = await client.chat.completions.create(model="m", messages=QUESTION)

    assert answer.text == "The Ucayali."


async def test_a_warning_points_at_the_callers_line(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """A parameter without effect is told where it was written."""
    api.post(f"{BASE}/chat/completions", body=body("chat_plain.json"))
    params: dict[str, Any] = {"seed": 5}

    with pytest.warns(DeepSeekWarning, match="seed") as seen:
        await client.chat.completions.create(model="m", messages=QUESTION, **params)

    assert seen[0].filename == __file__
