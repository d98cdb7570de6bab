"""The ready redactor: e-mail addresses, phone numbers and keys, by patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ..errors import ConfigurationError
from ..salvage import is_array, is_object
from .redaction import KIND, Messages, Redactor, Vault

_KEYS: Final = (
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\s\S]{1,8000}?"
    r"-----END [A-Z ]{0,20}PRIVATE KEY-----",
    r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,256}",  # DeepSeek, OpenAI, Stripe
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS
    r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b",  # GitHub
    r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b",
    r"\bglpat-[A-Za-z0-9_-]{20,64}",  # GitLab
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,255}",  # Slack
    r"\bAIza[A-Za-z0-9_-]{35}",  # Google
    r"\bhf_[A-Za-z0-9]{30,64}\b",  # Hugging Face
    r"\beyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,1024}",  # JWT
)
_PHONES: Final = (
    r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}[0-9]){6,14}(?![0-9])",  # +49 171 1234567
    # 030 123456, 0171/2345678, 0049 30 123456
    r"(?<![\w.,+-])00?[1-9][0-9]{0,3}[ /-](?:[ -]?[0-9]){5,10}(?![\w.]?[0-9])",
    r"(?<!\w)\([0-9]{2,5}\)[ -]?(?:[ -]?[0-9]){5,10}(?![0-9])",  # (030) 123456
    r"(?<![\w.,+-])[2-9][0-9]{2}[-. ][0-9]{3}[-. ][0-9]{4}(?![\w-])",  # 212-555-0123
    r"(?<![\w.,+-])1[3-9][0-9]{9}(?![\w-])",  # a mobile phone in China
)
_EMAILS: Final = (
    r"(?<![\w.%+'-])[\w\u00c0-\u024f.%+'-]{1,320}"
    r"@(?:[\w\u00c0-\u024f-]{1,63}\.){1,8}[A-Za-z\u00c0-\u024f]{2,24}(?!\w)",
)


def _any_of(patterns: Iterable[str]) -> str:
    # ASCII, for a Chinese character beside an address is no part of it.
    return f"(?a:{'|'.join(patterns)})"


PATTERNS: Final[Mapping[str, str]] = {
    "KEY": _any_of(_KEYS),
    "EMAIL": _any_of(_EMAILS),
    "PHONE": _any_of(_PHONES),
}
"""What `PatternRedactor` finds, by kind, in this order.

`KEY`: private keys in PEM form, JSON web tokens, and tokens that begin as those of
DeepSeek, OpenAI, Stripe, AWS, GitHub, GitLab, Slack, Google or Hugging Face do.
`EMAIL`: addresses. `PHONE`: numbers with a country code, with an area code in
parentheses or with a leading 0 and a separator, North American ones in groups of
3-3-4, and Chinese mobile numbers; plain numbers, dates and sums are left alone.

Patterns are a net, not a wall: they find what is written as usual.
"""


class PatternRedactor(Redactor):
    """Hides what matches patterns, and puts it back into the answer.

        client = AsyncDeepSeek(redact=[PatternRedactor()])

    It looks at the text of messages, at reasoning, and at the arguments of tool
    calls; not at images, files, tool definitions or names.

    Args:
        patterns: Kind to pattern, applied in this order; `PATTERNS` if not given.
            Compiled patterns or text; the kind, in capitals, is what the model sees.

    Raises:
        ConfigurationError: A kind is not a word in capitals, or a pattern is none.
    """

    def __init__(
        self, patterns: Mapping[str, re.Pattern[str] | str] | None = None
    ) -> None:
        given = PATTERNS if patterns is None else patterns
        try:
            self._patterns = {
                kind: re.compile(pattern) for kind, pattern in given.items()
            }
        except (re.error, TypeError) as error:
            message = f"a pattern cannot be compiled: {error}"
            raise ConfigurationError(message) from None
        for kind in self._patterns:
            if not KIND.fullmatch(kind):
                message = "the kind of a pattern must be a word in capitals"
                raise ConfigurationError(message)

    def outgoing(self, messages: Messages, vault: Vault) -> None:
        """Hide every match."""
        for message in messages:
            self._hide_in(message, ("content", "reasoning_content"), vault)
            content = message.get("content")
            if is_array(content):
                for part in filter(is_object, content):
                    self._hide_in(part, ("text",), vault)
            calls = message.get("tool_calls")
            calls = filter(is_object, calls) if is_array(calls) else ()
            functions = [call.get("function") for call in calls]
            for function in (*functions, message.get("function_call")):
                if is_object(function):
                    self._hide_in(function, ("arguments",), vault)

    def _hide_in(
        self, holder: dict[str, Any], fields: tuple[str, ...], vault: Vault
    ) -> None:
        for field in fields:
            text = holder.get(field)
            if isinstance(text, str):
                holder[field] = self._hidden(text, vault)

    def _hidden(self, text: str, vault: Vault) -> str:
        for kind, pattern in self._patterns.items():
            text = pattern.sub(_hider(vault, kind), text)
        return text


def _hider(vault: Vault, kind: str) -> Callable[[re.Match[str]], str]:
    def hide(match: re.Match[str]) -> str:
        if vault.cuts(match.string, *match.span()):
            return match[0]  # a piece of a placeholder tells nothing
        return vault.hide(kind, match[0])

    return hide
