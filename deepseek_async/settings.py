"""What a client is configured with: key, base URL, headers; each checked once."""

from __future__ import annotations

import ipaddress
import os
import re
import warnings
from collections.abc import Mapping
from typing import Final, NoReturn
from urllib.parse import urlsplit

from ._version import __version__
from .errors import ConfigurationError, DeepSeekWarning, InvalidRequestError

DEFAULT_BASE_URL: Final = "https://api.deepseek.com"
USER_AGENT: Final = f"deepseek-async/{__version__}"

_KEY: Final = re.compile(r"[\x21-\x7e]+")
_TELLING: Final = 5
"""How many first characters of a key tell nothing yet: `sk-` and little more."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_OWN_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)


class APIKey:
    """An API key that does not show itself: not in `repr`, text, or a pickle.

    Args:
        value: The key; surrounding blanks are not tolerated.

    Raises:
        ConfigurationError: It is empty, or has blanks, line breaks or characters
            beyond printable ASCII. The key is not quoted.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        problem = _problem_with_key(value)
        if problem:
            del value  # a traceback that shows locals must not show it
            raise ConfigurationError(problem)
        self.__value = value

    @classmethod
    def find(cls, value: str | None) -> APIKey:
        """The key given, or else the one in `DEEPSEEK_API_KEY`.

        Raises:
            ConfigurationError: There is none, or it is malformed.
        """
        try:
            if value is None:
                value = os.environ.get("DEEPSEEK_API_KEY")
            if value is None:
                message = "no API key: pass api_key=... or set DEEPSEEK_API_KEY"
                raise ConfigurationError(message)
            return cls(value)
        finally:
            del value

    def bearer(self) -> str:
        """The value of the `Authorization` header."""
        return f"Bearer {self.__value}"

    def scrub(self, text: str) -> str:
        """Take the key out of a text that is to be kept or shown.

        The text may have been cut in the midst of the key: a beginning of it at the
        end goes too.
        """
        key = self.__value
        text = text.replace(key, "***")
        for size in range(min(len(key), len(text)), _TELLING, -1):
            if text.endswith(key[:size]):
                return text[:-size] + "***"
        return text

    def __repr__(self) -> str:
        return "APIKey(...)"

    def __str__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        message = "an API key is not pickled or copied"
        raise TypeError(message)


def _problem_with_key(value: object) -> str:
    if value == "":
        return "the API key is empty"
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        return "the API key must be printable ASCII without blanks or line breaks"
    return ""


class BaseURL:
    """Where requests go.

    Beta features live beside the ordinary paths, so both prefixes are kept and the
    request chooses. See https://api-docs.deepseek.com/

    Args:
        url: `https://...`, or `http://...` for a loopback address.

    Raises:
        ConfigurationError: Another scheme, credentials, a query or a fragment.
    """

    __slots__ = ("beta", "is_loopback", "origin", "plain")

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except (ValueError, TypeError, AttributeError):
            host, port, parts = None, None, urlsplit("")
        problem = _problem_with(url, host)
        if problem or host is None:
            message = f"the base URL {problem}"
            raise ConfigurationError(message)
        self.is_loopback = _is_loopback(host)
        if parts.scheme == "http" and not self.is_loopback:
            message = "the base URL must be https (http only for a loopback address)"
            raise ConfigurationError(message)
        bracketed = f"[{host}]" if ":" in host else host
        self.origin = f"{parts.scheme}://{bracketed}" + (f":{port}" if port else "")
        path = parts.path.rstrip("/")
        self.plain = self.origin + path
        self.beta = (
            self.origin + path.removesuffix("/v1").removesuffix("/beta") + "/beta"
        )

    @classmethod
    def find(cls, url: str | None) -> BaseURL:
        """The URL given, or `DEEPSEEK_BASE_URL`, or the public API."""
        if url is None:
            url = os.environ.get("DEEPSEEK_BASE_URL") or DEFAULT_BASE_URL
        return cls(url)

    def __repr__(self) -> str:
        return f"BaseURL({self.plain!r})"

    def join(self, path: str, *, beta: bool = False) -> str:
        """The full URL of an endpoint.

        Args:
            path: Begins with a slash.
            beta: Whether the request uses a beta feature.
        """
        return (self.beta if beta else self.plain) + path


def _problem_with(url: object, host: str | None) -> str:
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return "must begin with https://, or with http:// if it is of this machine"
    if not host or any(ord(char) < 33 or ord(char) > 126 for char in url):  # noqa: PLR2004
        return "has no valid host"
    rest = url.split("//", 1)[1]
    if "@" in rest.split("/", 1)[0]:
        return "must not contain credentials"
    if "?" in rest or "#" in rest:
        return "must not have a query or fragment"
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_about_origin(key: str | None, base_url: BaseURL) -> None:
    """Say so when a key from the environment goes to somewhere unusual.

    Args:
        key: The key passed by argument, `None` if it came from the environment.
        base_url: Where it will be sent.
    """
    usual = base_url.origin == DEFAULT_BASE_URL or base_url.is_loopback
    if key is None and not usual:
        message = f"DEEPSEEK_API_KEY will be sent to {base_url.origin}"
        warnings.warn(message, DeepSeekWarning, stacklevel=3)


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Copy extra headers after checking them.

    Args:
        headers: Names and values to send with a request.

    Returns:
        A copy.

    Raises:
        InvalidRequestError: A name or value is not plain ASCII, holds a line break,
            or belongs to the transport. Values are not quoted.
    """
    checked: dict[str, str] = {}
    if headers is not None and not hasattr(headers, "items"):
        message = f"extra_headers must be a dict, not {type(headers).__name__}"
        raise InvalidRequestError(message, param="extra_headers")
    for name, value in (headers or {}).items():
        problem = _problem_with_header(name, value)
        if problem:
            message = f"extra header {name!r:.80} {problem}"
            del value
            raise InvalidRequestError(message, param="extra_headers")
        checked[name] = value
    return checked


def _problem_with_header(name: object, value: object) -> str:
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        return "is not a header name"
    if name.lower() in _OWN_HEADERS:
        return "is set by the client"
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        return "has a value that is no text of printable ASCII"
    return ""
