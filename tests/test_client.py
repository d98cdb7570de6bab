"""The client: configuration, life, and what its errors show."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from leaks import leaks
from recorded import body, document
from yarl import URL

from deepseek_async import (
    AsyncDeepSeek,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DeepSeekError,
    DeepSeekWarning,
    InvalidRequestError,
    RateLimitError,
    RetryPolicy,
    Timeouts,
    errors,
)
from deepseek_async.session import SessionManager
from deepseek_async.settings import APIKey

KEY = "sk-0123456789abcdefghij"
PROMPT = "my-very-private-prompt"
URL_CHAT = "https://api.deepseek.com/chat/completions"
GOOD: dict[str, Any] = {
    "model": "deepseek-flash",
    "messages": [{"role": "user", "content": PROMPT}],
}
FAST = RetryPolicy(attempts=3, base=0)
ERRORS: list[dict[str, Any]] = document("errors.json")


@pytest.fixture
async def client() -> AsyncIterator[AsyncDeepSeek]:
    async with AsyncDeepSeek(api_key=KEY, retry=FAST) as client:
        yield client


def posts(api: aioresponses) -> int:
    return sum(len(calls) for calls in api.requests.values())


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"api_key": None}, "DEEPSEEK_API_KEY"),
        ({"api_key": ""}, "empty"),
        ({"api_key": f"{KEY} "}, "API key"),
        ({"api_key": f"{KEY}\n"}, "API key"),
        ({"api_key": f"{KEY}\r\nX-Evil: 1"}, "API key"),
        ({"api_key": f"{KEY}é"}, "API key"),
        ({"api_key": KEY.encode()}, "API key"),
        ({"base_url": "http://api.deepseek.com"}, "https"),
        ({"base_url": "https://me:word@api.deepseek.com"}, "credentials"),
        ({"base_url": "nonsense"}, "https://"),
        ({"timeouts": 5}, "timeout="),
        ({"timeout": "5"}, "timeouts="),
        ({"timeout": True}, "timeouts="),
        ({"timeout": 0}, "positive"),
        ({"timeout": math.nan}, "positive"),
        ({"retry": 5}, "max_retries="),
        ({"max_retries": "2"}, "max_retries"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": 2.5}, "max_connections"),
        ({"max_body_size": 0}, "max_body_size"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    kwargs: dict[str, Any], match: str
) -> None:
    """Nonsense is found when the client is made, and the key shows nowhere."""
    merged: dict[str, Any] = {"api_key": KEY, **kwargs}
    with pytest.raises(ConfigurationError, match=match) as caught:
        AsyncDeepSeek(**merged)

    assert not leaks(caught.value, KEY)


def test_an_unknown_argument_is_pythons_own_error() -> None:
    """The client takes the arguments it documents."""
    unknown: dict[str, Any] = {"organization": "x"}
    with pytest.raises(TypeError, match="organization") as caught:
        AsyncDeepSeek(api_key=KEY, **unknown)

    assert not leaks(caught.value, KEY)


async def test_the_environment_configures_a_client(
    monkeypatch: pytest.MonkeyPatch, api: aioresponses
) -> None:
    """Key and base URL come from the environment unless given."""
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    monkeypatch.setenv("DEEPSEEK_BASE_URL", "http://127.0.0.1:9/v1")
    api.post("http://127.0.0.1:9/v1/chat/completions", body=body("chat_plain.json"))

    async with AsyncDeepSeek() as client:
        await client.chat.completions.create(**GOOD)

    assert client.base_url == "http://127.0.0.1:9/v1"
    ((call,),) = api.requests.values()
    assert call.kwargs["headers"]["Authorization"] == f"Bearer {KEY}"


def test_an_inherited_key_for_a_strange_host_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The warning points at the line that makes the client."""
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    with pytest.warns(DeepSeekWarning, match="gate.example") as seen:
        AsyncDeepSeek(base_url="https://gate.example")

    assert seen[0].filename == __file__
    assert KEY not in str(seen[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AsyncDeepSeek(api_key=KEY, base_url="https://gate.example")


def test_a_client_shows_no_key() -> None:
    """The `repr` of client, manager and key is fit for a log."""
    client = AsyncDeepSeek(api_key=KEY)

    assert repr(client) == "AsyncDeepSeek('https://api.deepseek.com', open)"
    assert not [v for v in vars(client).values() if KEY in repr(v)]
    found = next(v for v in vars(client).values() if isinstance(v, SessionManager))
    assert not [v for v in vars(found).values() if KEY in repr(v)]
    assert any(isinstance(v, APIKey) for v in vars(found).values())


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"messages": []}, "messages"),
        ({"messages": PROMPT}, "messages"),
        ({"model": 5}, "model"),
        ({"temperature": math.nan}, "temperature"),
        ({"max_tokens": "5"}, "max_tokens"),
        (
            {"messages": [{"role": "user", "content": PROMPT + "\ud800"}]},
            "messages[0].content",
        ),
        (
            {"messages": [*GOOD["messages"], {"role": "user", "content": object()}]},
            "messages[1].content",
        ),
        ({"extra_body": {"x": object()}}, "x"),
        ({"extra_headers": {"X": f"{PROMPT}\r\n"}}, "extra_headers"),
        ({"stream_options": {}}, "stream_options"),
    ],
    ids=lambda value: ascii(value)[:40],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_bad_parameters_are_refused_before_anything_is_sent(
    api: aioresponses,
    client: AsyncDeepSeek,
    changes: dict[str, Any],
    param: str,
    stream: bool,  # noqa: FBT001
) -> None:
    """No byte leaves, the field is named, and no frame shows key or prompt."""
    if stream and param == "stream_options":
        pytest.skip("right with a stream")
    params: dict[str, Any] = {**GOOD, **changes, "stream": stream}
    with pytest.raises(InvalidRequestError) as caught:
        await client.chat.completions.create(**params)

    assert caught.value.param == param
    assert not api.requests
    assert not leaks(caught.value, KEY, PROMPT)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "example", ERRORS, ids=[f"{e['status']}: {e['message'][:60]}" for e in ERRORS]
)
async def test_error_responses_are_typed_and_clean(
    api: aioresponses,
    client: AsyncDeepSeek,
    example: dict[str, Any],
    stream: bool,  # noqa: FBT001
) -> None:
    """Each documented body raises its error, its attempts listed, nothing leaked."""
    error_body = json.dumps({"error": {"message": example["message"]}}).encode()
    api.post(
        URL_CHAT,
        status=example["status"],
        body=error_body,
        content_type="application/octet-stream",
        headers={"x-ds-trace-id": "trace-7"},
        repeat=True,
    )

    params: dict[str, Any] = {**GOOD, "stream": stream}
    with pytest.raises(errors.APIStatusError) as caught:
        await client.chat.completions.create(**params)

    error = caught.value
    again = example["status"] in {408, 429, 500, 502, 503, 504}
    assert type(error) is getattr(errors, example["error"])
    assert error.reason == example["reason"]
    assert error.request_id == "trace-7"
    assert len(error.attempts) == posts(api) == (3 if again else 1)
    assert {a.outcome for a in error.attempts} == {example["error"]}
    assert {a.status for a in error.attempts} == {example["status"]}
    assert not leaks(error, KEY, PROMPT)


async def test_connection_errors_show_nothing_either(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """Aiohttp's own frames and objects, which hold the request, are not reachable."""
    api.post(URL_CHAT, exception=aiohttp.ClientOSError(KEY[:0] + "gone"), repeat=True)

    with pytest.raises(ConnectError) as caught:
        await client.chat.completions.create(**GOOD)

    assert caught.value.cause == "ClientOSError: gone"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not leaks(caught.value, KEY, PROMPT)


async def test_a_retried_call_tells_its_attempts(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """An answer that took several attempts says why, and what it is."""
    api.post(URL_CHAT, status=503, headers={"x-ds-trace-id": "one"})
    api.post(URL_CHAT, body=b" \n ")
    api.post(URL_CHAT, body=body("chat_plain.json"), headers={"x-ds-trace-id": "three"})

    params: dict[str, Any] = {**GOOD, "tag": "mine"}
    answer = await client.chat.completions.create(stream=False, **params)

    assert [a.outcome for a in answer.attempts] == [
        "ServiceUnavailableError",
        "EmptyResponseError",
        "ok",
    ]
    assert [a.number for a in answer.attempts] == [1, 2, 3]
    assert [a.request_id for a in answer.attempts] == ["one", None, "three"]
    assert answer.request_id == "three"
    assert answer.meta.tag == "mine"
    assert answer.meta.status == 200
    assert answer.meta.headers["X-DS-Trace-ID"] == "three"


async def test_a_stream_is_retried_before_its_first_payload(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """An empty stream and one that opened with an error are tried again."""
    api.post(URL_CHAT, status=500)
    api.post(URL_CHAT, body=b": keep-alive\n\n", content_type="text/event-stream")
    api.post(URL_CHAT, body=body("chat_old.sse"), content_type="text/event-stream")

    stream = await client.chat.completions.create(**GOOD, stream=True)
    answer = await stream.completion()

    assert answer.text == "Good day"
    assert posts(api) == 3
    assert answer.attempts[-1].outcome == "ok"
    assert len(answer.attempts) == 3


async def test_a_stream_is_not_retried_after_its_first_payload(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """What has been shown is not said twice; the partial answer is in the error."""
    for _ in range(2):
        api.post(
            URL_CHAT, body=body("stream_error.sse"), content_type="text/event-stream"
        )
    stream = await client.chat.completions.create(**GOOD, stream=True)

    with pytest.raises(errors.InternalServerError) as caught:
        await stream.completion()

    assert posts(api) == 1
    assert caught.value.in_stream
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Half a"
    assert stream.partial.text == "Half a"
    assert not leaks(caught.value, KEY, PROMPT)


async def test_a_long_retry_after_is_not_waited_for(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """A server that asks for an hour is reported at once, its wish with it."""
    api.post(URL_CHAT, status=429, headers={"Retry-After": "3600"}, repeat=True)

    with pytest.raises(RateLimitError) as caught:
        await client.chat.completions.create(**GOOD)

    assert caught.value.retry_after == 3600
    assert posts(api) == 1


async def test_a_call_brings_its_own_policy(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """`retry=` of a call and `with_options` of a view override the client's."""
    api.post(URL_CHAT, status=503, repeat=True)
    with pytest.raises(DeepSeekError):
        await client.chat.completions.create(**GOOD, retry=RetryPolicy(attempts=1))
    assert posts(api) == 1
    with pytest.raises(DeepSeekError):
        await client.with_options(max_retries=0).chat.completions.create(**GOOD)
    assert posts(api) == 2
    with pytest.raises(DeepSeekError):
        await client.chat.completions.create(**GOOD)
    assert posts(api) == 5


async def test_a_view_shares_the_life_of_its_client(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """Closing a view closes the client, and a closed client says so."""
    view = client.with_options(timeouts=Timeouts(silence=5))
    assert view.base_url == client.base_url

    await view.aclose()

    assert client.is_closed
    assert view.is_closed
    assert "closed" in repr(client)
    with pytest.raises(ClientClosedError) as caught:
        await client.chat.completions.create(**GOOD)
    assert not leaks(caught.value, KEY, PROMPT)
    assert not api.requests
    await client.aclose()
    await client.close()


async def test_a_wrong_key_is_not_tried_again(
    api: aioresponses, client: AsyncDeepSeek
) -> None:
    """A refused key is told at once."""
    api.post(URL_CHAT, status=401, body=b'{"error":{"message":"no"}}', repeat=True)

    with pytest.raises(AuthenticationError):
        await client.chat.completions.create(**GOOD)

    assert list(api.requests) == [("POST", URL(URL_CHAT))]
    assert posts(api) == 1


@pytest.mark.parametrize("concurrency", [0, -1, 501, 2.5, "8", True])
async def test_a_batch_wider_than_the_client_is_refused(
    client: AsyncDeepSeek, concurrency: Any
) -> None:
    """The most requests at once is between 1 and the client's connections."""
    with pytest.raises(ConfigurationError, match="concurrency"):
        client.batch([], concurrency=concurrency)


async def test_a_batch_has_two_orders(client: AsyncDeepSeek) -> None:
    """Results come as completed or in the order of input."""
    order: Any = "random"
    with pytest.raises(ConfigurationError, match="order"):
        client.batch([], order=order)
