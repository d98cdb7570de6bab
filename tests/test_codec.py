"""Bytes to structs, and whatever else the server sends to typed errors."""

from __future__ import annotations

import email.utils
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from multidict import CIMultiDict
from recorded import body, document

from deepseek_async import errors
from deepseek_async.codec import (
    BALANCE,
    CHAT,
    FIM,
    MAX_BODY_EXCERPT,
    MODELS,
    excerpt_of,
    find_error,
    request_id_of,
    retry_after_of,
    status_error,
    stream_error,
)

ERRORS: list[dict[str, Any]] = document("errors.json")
IDS = [f"{e['status']}: {e['message'][:60]}" for e in ERRORS]


def envelope(example: dict[str, Any]) -> dict[str, Any]:
    return {
        "error": {
            "message": example["message"],
            "type": example.get("type", "invalid_request_error"),
            "param": None,
            "code": example.get("code", "invalid_request_error"),
        }
    }


@pytest.mark.parametrize("example", ERRORS, ids=IDS)
def test_documented_bodies_map_to_their_errors(example: dict[str, Any]) -> None:
    """Each known error body has its class, reason and attributes."""
    raw = json.dumps(envelope(example)).encode()
    headers = CIMultiDict(
        {
            "Content-Type": "application/octet-stream",
            "X-DS-Trace-Id": "trace-4",
            "Retry-After": "7",
        }
    )

    error = status_error(example["status"], headers, raw)

    assert type(error) is getattr(errors, example["error"])
    assert error.reason == example["reason"]
    assert error.status == error.status_code == example["status"]
    assert error.message == example["message"]
    assert error.type == example.get("type", "invalid_request_error")
    assert error.code == example.get("code", "invalid_request_error")
    assert error.param is None
    assert error.body == raw.decode()
    assert error.request_id == "trace-4"
    assert error.retry_after == 7
    assert not error.in_stream


@pytest.mark.parametrize("example", ERRORS, ids=IDS)
def test_the_old_plain_text_bodies_are_told_apart_too(example: dict[str, Any]) -> None:
    """Bodies that are text rather than JSON have the same class and reason."""
    error = status_error(example["status"], {}, example["message"].encode())

    assert type(error) is getattr(errors, example["error"])
    assert error.reason == example["reason"]
    assert error.message == example["message"]
    assert error.code is None


def test_the_stated_concurrency_limit_is_parsed() -> None:
    """A 429 tells the limit the account has at the moment."""
    example = next(e for e in ERRORS if e["reason"] == "concurrency")
    error = status_error(429, {}, json.dumps(envelope(example)).encode())

    assert isinstance(error, errors.RateLimitError)
    assert error.concurrency_limit == 40
    assert error.current_concurrency == 41


def test_a_limit_that_is_not_stated_is_none() -> None:
    """A 429 without numbers has none, and absurd ones are not taken."""
    for text in ("slow down", "your concurrency limit of 99999999999999999999"):
        error = status_error(429, {}, text.encode())
        assert isinstance(error, errors.RateLimitError)
        assert error.concurrency_limit in {None, 999_999_999}
        assert error.current_concurrency is None


def test_a_special_400_needs_the_status_400() -> None:
    """The text gives the reason under any status, the class only under 400."""
    error = status_error(500, {}, b'{"error":{"message":"Content Exists Risk"}}')

    assert type(error) is errors.InternalServerError
    assert error.reason == "content_risk"


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        ({"content-type": "text/html"}, b"<html><body>504</body></html>"),
        ({}, b"\n <!DOCTYPE html><p>bad gateway"),
        ({"content-type": "text/html; charset=utf-8"}, b"oops"),
    ],
)
def test_a_gateway_page_is_called_one(headers: dict[str, str], raw: bytes) -> None:
    """HTML does not become the message, but stays in the excerpt."""
    error = status_error(504, headers, raw)

    assert "HTML page" in error.message
    assert error.body == raw.decode()


@pytest.mark.parametrize("raw", [b"", b"  \n", b"{}", b'{"error":{}}', b"[]", b"null"])
def test_a_body_that_says_nothing_still_makes_an_error(raw: bytes) -> None:
    """An error status never depends on its body."""
    error = status_error(503, {}, raw)

    assert type(error) is errors.ServiceUnavailableError
    assert error.message


def test_odd_fields_of_an_error_object_do_no_harm() -> None:
    """Numbers, lists and oceans of text in the envelope are bounded text."""
    raw = json.dumps(
        {"error": {"message": ["no"], "type": {"a": 1}, "code": 4001, "param": ""}}
    ).encode()
    error = status_error(400, {}, raw)

    assert error.code == "4001"
    assert error.type is None
    assert error.param is None

    long = json.dumps({"error": {"message": "x" * 10_000, "code": "y" * 999}}).encode()
    error = status_error(400, {}, long)

    assert len(error.message) == MAX_BODY_EXCERPT
    assert len(error.body) == MAX_BODY_EXCERPT
    assert error.code == "y" * 200


def test_an_excerpt_is_bounded_and_never_fails() -> None:
    """An excerpt is text of bounded length whatever the bytes."""
    assert excerpt_of(b"\xff\xfe" + b"a" * 9_999)[:3] == "��a"
    assert len(excerpt_of("ü🌄".encode() * 5_000)) == MAX_BODY_EXCERPT


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"error":{"message":"m","code":"c"}}', {"message": "m", "code": "c"}),
        (b'{"error":"plain"}', {"message": "plain"}),
        (b'{"message":"bare","code":5}', {"message": "bare", "code": 5}),
        (b'\n\n {"error":{}}', {}),
        (b'{"error":""}', None),
        (b'{"error":null}', None),
        (b'{"error":7}', None),
        (b'{"message":"m","choices":[]}', None),
        (b"[1]", None),
        (b"nonsense", None),
        (b"", None),
    ],
)
def test_an_error_object_is_found_in_its_shapes(
    raw: bytes, expected: dict[str, Any] | None
) -> None:
    """An envelope, a bare text and a bare object are errors; answers are not."""
    assert find_error(raw) == expected


@pytest.mark.parametrize(
    ("found", "cls", "status"),
    [
        (
            {"message": "Internal failure", "type": "server_error"},
            "InternalServerError",
            500,
        ),
        ({"message": "m", "type": "invalid_request_error"}, "BadRequestError", 400),
        ({"message": "m", "type": "authentication_error"}, "AuthenticationError", 401),
        ({"message": "m", "type": "permission_error"}, "PermissionDeniedError", 403),
        ({"message": "m", "type": "not_found_error"}, "NotFoundError", 404),
        ({"message": "m", "type": "rate_limit_error"}, "RateLimitError", 429),
        ({"message": "m", "type": "overloaded_error"}, "ServiceUnavailableError", 503),
        ({"message": "m", "code": 402}, "InsufficientBalanceError", 402),
        ({"message": "m", "code": "422"}, "UnprocessableEntityError", 422),
        ({"message": "m", "status": 503, "code": 400}, "ServiceUnavailableError", 503),
        ({"message": "m", "code": "4290", "type": "x"}, "InternalServerError", 500),
        ({"message": "m", "code": 200}, "InternalServerError", 500),
        ({"message": "m", "code": 2**80}, "InternalServerError", 500),
        ({}, "InternalServerError", 500),
        ({"message": "Content Exists Risk", "code": 400}, "ContentRiskError", 400),
    ],
)
def test_an_error_in_a_stream_is_typed_like_one_of_http(
    found: dict[str, Any], cls: str, status: int
) -> None:
    """Status, code and type of the object choose the class, else it is a 500."""
    error = stream_error(found, b"payload")

    assert type(error).__name__ == cls
    assert error.status == status
    assert error.in_stream
    assert error.body == "payload"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3.0),
        ("2.5", 2.5),
        ("0", 0.0),
        (" 4 ", 4.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("", None),
        ("soon", None),
        ("Wed, 31 Foo 2026 00:00:00 GMT", None),
        ("1 Jan 99999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("86400000000", 86400000000.0),
    ],
)
def test_retry_after_is_read_with_distrust(value: str, expected: float | None) -> None:
    """Seconds count if finite and not negative; a past date asks for nothing."""
    assert retry_after_of({"retry-after": value}) == expected


def test_retry_after_may_be_a_date() -> None:
    """A date becomes the seconds until then."""
    then = datetime.now(UTC) + timedelta(seconds=90)
    asked = retry_after_of(
        {"retry-after": email.utils.format_datetime(then, usegmt=True)}
    )

    assert asked is not None
    assert 85 < asked <= 90
    no_zone = time.strftime("%d %b %Y %H:%M:%S -0000", time.gmtime(time.time() + 90))
    assert retry_after_of({"retry-after": no_zone}) == pytest.approx(90, abs=5)
    assert retry_after_of({}) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-ds-trace-id": "a", "x-request-id": "b"}, "a"),
        ({"x-request-id": "b", "x-deepseek-request-id": "c"}, "b"),
        ({"x-deepseek-request-id": "c"}, "c"),
        ({}, None),
    ],
)
def test_the_trace_id_comes_first(
    headers: dict[str, str], expected: str | None
) -> None:
    """The service's own trace id wins over the usual names."""
    assert request_id_of(headers) == expected


def test_documented_answers_decode() -> None:
    """Each documented answer gives its fields."""
    thinking = CHAT.decode(body("chat_thinking.json"))
    tools = CHAT.decode(body("chat_tools.json"))
    logprobs = CHAT.decode(body("chat_logprobs.json")).choices[0].logprobs
    old = CHAT.decode(body("chat_old.json"))
    fim = FIM.decode(body("fim.json"))
    models = MODELS.decode(body("models.json"))
    balance = BALANCE.decode(body("balance.json"))

    assert thinking.choices[0].message.reasoning_content == "No divisor up to 14."
    assert thinking.usage is not None
    assert thinking.usage.reasoning_tokens == 19
    assert thinking.usage.cached_tokens == 8
    calls = tools.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.index, call.function.name) for call in calls] == [
        ("call_00_Kf7", 0, "tide_table"),
        ("call_01_Lm2", 1, "tide_table"),
    ]
    assert logprobs is not None
    assert logprobs.content is not None
    assert logprobs.content[0].top_logprobs is not None
    assert logprobs.content[0].top_logprobs[1].logprob == -9999.0
    assert old.text == "Good day! What can I do for you?"
    assert fim.text == "total = x * y"
    assert fim.finish_reason == "stop"
    assert [model.id for model in models] == ["deepseek-flash", "deepseek-v4-pro"]
    assert len(models) == 2
    assert models.data[0].effort is not None
    assert models.data[0].effort.default_level == "high"
    assert str(balance.balance_infos[0].total) == "64.50"
    assert balance.is_available


def test_the_legacy_function_call_decodes() -> None:
    """An answer with `function_call`, as the oldest documents show it, is taken."""
    answer = CHAT.decode(body("chat_function_call.json"))

    call = answer.choices[0].message.function_call
    assert call is not None
    assert json.loads(call.arguments) == {"location": "Boston", "unit": "celsius"}
    assert answer.is_finished
    assert not answer.is_empty
    assert answer.usage is None


@pytest.mark.parametrize("blank", [b"\n", b"\n\n\r\n \t", b"\xef\xbb\xbf"])
def test_blank_lines_before_the_answer_do_not_matter(blank: bytes) -> None:
    """Keep-alive blank lines, and a byte-order mark, may precede the JSON."""
    assert CHAT.decode(blank + body("chat_plain.json")).text == "The Ucayali."


@pytest.mark.parametrize(
    "raw",
    [b"", b"  ", b"[]", b"null", b'"x"', b"3", b"{", b"<html>", b"\xff{}", b"{}{}"],
)
def test_what_is_no_object_is_a_value_error(raw: bytes) -> None:
    """Anything but one JSON object is refused with one kind of error."""
    with pytest.raises(ValueError, match=r"JSON|json") as caught:
        CHAT.decode(raw)

    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("status", "headers", "match"),
    [
        (
            302,
            {"location": "https://login.example/a?b=s3cret"},
            "https://login.example",
        ),
        (301, {"location": "/elsewhere"}, "a path"),
        (307, {}, "a redirect"),
        (503, {}, "no message"),
    ],
)
def test_a_status_without_words_is_explained(
    status: int, headers: dict[str, str], match: str
) -> None:
    """A redirect names its host only, and an empty body is called one."""
    error = status_error(status, headers, b"")

    assert match in error.message
    assert "s3cret" not in str(error)
