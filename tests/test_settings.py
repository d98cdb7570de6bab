"""Key, base URL and headers: each checked once, none shown."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
from leaks import leaks

from deepseek_async import settings
from deepseek_async.errors import (
    ConfigurationError,
    DeepSeekWarning,
    InvalidRequestError,
)
from deepseek_async.settings import (
    DEFAULT_BASE_URL,
    APIKey,
    BaseURL,
    check_headers,
    warn_about_origin,
)

KEY = "sk-0123456789abcdef"


def test_a_key_does_not_show_itself() -> None:
    """Neither text, `repr`, attributes, pickles nor copies of a key give it away."""
    key = APIKey(KEY)

    assert key.bearer() == f"Bearer {KEY}"
    assert KEY not in f"{key} {key!r} {[key]}"
    assert not hasattr(key, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(key)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        f"{KEY} ",
        f" {KEY}",
        f"{KEY}\n",
        f"{KEY}\r\nX: y",
        f"a {KEY}",
        f"{KEY}\x00",
        f"{KEY}ü",
        f"{KEY}\u2011",
        f"{KEY}\ud800",
        f"{KEY}\x7f",
        b"sk-bytes",
        5,
    ],
    ids=ascii,
)
def test_a_malformed_key_is_refused_unseen(value: str) -> None:
    """The error says what is wrong and shows nothing of the key."""
    with pytest.raises(ConfigurationError, match="API key") as caught:
        APIKey.find(value)

    assert not leaks(caught.value, "0123456789abcdef", "sk-bytes")


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`DEEPSEEK_API_KEY` is used unless a key is given; neither is an error."""
    with pytest.raises(ConfigurationError, match="DEEPSEEK_API_KEY"):
        APIKey.find(None)
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    assert APIKey.find(None).bearer().endswith(KEY)
    assert APIKey.find("sk-other").bearer().endswith("sk-other")
    monkeypatch.setenv("DEEPSEEK_API_KEY", f"{KEY}\n")
    with pytest.raises(ConfigurationError, match="line breaks") as caught:
        APIKey.find(None)
    assert not leaks(caught.value, KEY)


@pytest.mark.parametrize(
    ("url", "plain", "beta"),
    [
        (
            "https://api.deepseek.com",
            "https://api.deepseek.com",
            "https://api.deepseek.com/beta",
        ),
        (
            "https://api.deepseek.com/",
            "https://api.deepseek.com",
            "https://api.deepseek.com/beta",
        ),
        (
            "https://api.deepseek.com/v1",
            "https://api.deepseek.com/v1",
            "https://api.deepseek.com/beta",
        ),
        (
            "https://api.deepseek.com/beta/",
            "https://api.deepseek.com/beta",
            "https://api.deepseek.com/beta",
        ),
        (
            "https://gate.example:8443/ds/v1",
            "https://gate.example:8443/ds/v1",
            "https://gate.example:8443/ds/beta",
        ),
        ("https://API.Example", "https://api.example", "https://api.example/beta"),
        (
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8000/beta",
        ),
        ("http://127.8.9.1", "http://127.8.9.1", "http://127.8.9.1/beta"),
        ("http://localhost:1/v1", "http://localhost:1/v1", "http://localhost:1/beta"),
        ("http://[::1]:9", "http://[::1]:9", "http://[::1]:9/beta"),
    ],
)
def test_beta_lies_beside_the_plain_path(url: str, plain: str, beta: str) -> None:
    """Whatever base the user writes, both prefixes follow from it."""
    base = BaseURL(url)

    assert base.join("/models") == f"{plain}/models"
    assert base.join("/completions", beta=True) == f"{beta}/completions"
    assert repr(base) == f"BaseURL({plain!r})"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://api.deepseek.com", "must be https"),
        ("http://127.0.0.1.evil.example", "must be https"),
        ("http://localhost.evil.example", "must be https"),
        ("http://10.0.0.1", "must be https"),
        ("http://0.0.0.0", "must be https"),
        ("https://me:pa55word@api.deepseek.com", "credentials"),
        ("https://pa55word@api.deepseek.com", "credentials"),
        ("http://127.0.0.1@evil.example", "credentials"),
        ("https://api.deepseek.com\\@evil.example", "credentials"),
        ("https://api.deepseek.com?key=pa55word", "query"),
        ("https://api.deepseek.com/#pa55word", "query"),
        ("https://", "no valid host"),
        ("https:///v1", "no valid host"),
        ("https://a b", "no valid host"),
        ("https://api.deepseek.com\n", "no valid host"),
        ("https://b\u00fccher.example", "no valid host"),
        ("https://host:99999", "no valid host"),
        ("https://host:port", "no valid host"),
        ("https://[::1", "no valid host"),
        ("ftp://api.deepseek.com", "begin with https"),
        ("api.deepseek.com", "begin with https"),
        ("", "begin with https"),
        ("file:///etc/passwd", "begin with https"),
        (5, "begin with https"),
        (b"https://api.deepseek.com", "begin with https"),
    ],
    ids=ascii,
)
def test_a_base_url_that_is_unsafe_is_refused(url: str, problem: str) -> None:
    """A key is sent over https or to this machine, and to nowhere ambiguous."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        BaseURL(url)

    assert "pa55word" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_base_url_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`DEEPSEEK_BASE_URL` is used unless one is given, and the public API last."""
    assert BaseURL.find(None).plain == DEFAULT_BASE_URL
    monkeypatch.setenv("DEEPSEEK_BASE_URL", "https://gate.example/v1")
    assert BaseURL.find(None).plain == "https://gate.example/v1"
    assert BaseURL.find("https://other.example").plain == "https://other.example"
    monkeypatch.setenv("DEEPSEEK_BASE_URL", "")
    assert BaseURL.find(None).plain == DEFAULT_BASE_URL


@pytest.mark.parametrize(
    ("key", "url", "warns"),
    [
        (None, "https://gate.example", True),
        (KEY, "https://gate.example", False),
        (None, DEFAULT_BASE_URL, False),
        (None, "https://api.deepseek.com/beta", False),
        (None, "http://127.0.0.1:80", False),
    ],
)
def test_a_key_of_the_environment_does_not_leave_quietly(
    key: str | None,
    url: str,
    warns: bool,  # noqa: FBT001
) -> None:
    """A key that was not given by hand, to a host that is not the API's, is told."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_about_origin(key, BaseURL(url))

    assert [w.category for w in seen] == [DeepSeekWarning] * warns
    assert all("gate.example" in str(w.message) for w in seen)


def test_headers_are_copied() -> None:
    """Good headers come back in a dict of their own."""
    given = {"X-Team": "red", "x-empty": ""}

    assert check_headers(given) == given
    assert check_headers(given) is not given
    assert check_headers(None) == {}


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("Authorization", "Bearer s3cret", "set by the client"),
        ("content-LENGTH", "s3cret", "set by the client"),
        ("Host", "s3cret", "set by the client"),
        ("Transfer-Encoding", "s3cret", "set by the client"),
        ("X Y", "s3cret", "not a header name"),
        ("X:", "s3cret", "not a header name"),
        ("", "s3cret", "not a header name"),
        ("X\n", "s3cret", "not a header name"),
        ("Ü", "s3cret", "not a header name"),
        (5, "s3cret", "not a header name"),
        ("X-Ok", "s3cret\r\nY: z", "printable ASCII"),
        ("X-Ok", "s3cret\n", "printable ASCII"),
        ("X-Ok", "s3crét", "printable ASCII"),
        ("X-Ok", b"s3cret", "printable ASCII"),
        ("X-Ok", None, "printable ASCII"),
    ],
)
def test_a_header_that_could_do_harm_is_refused(
    name: str, value: str, problem: str
) -> None:
    """Names and values that split a request, or belong to the client, are refused."""
    with pytest.raises(InvalidRequestError, match=problem) as caught:
        check_headers({name: value})

    assert caught.value.param == "extra_headers"
    assert "s3cr" not in str(caught.value)


def test_the_user_agent_names_the_version() -> None:
    """The server can tell which client it talks to."""
    assert settings.USER_AGENT.startswith("deepseek-async/")
