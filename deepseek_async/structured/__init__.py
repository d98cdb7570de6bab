"""Answers as values of a Python type.

`answer_format` knows the type, `asking` how to ask for it in the mode at hand,
`parsing` asks, checks and asks again, `partial` reads an answer while it grows.

https://api-docs.deepseek.com/guides/json_mode
"""

from __future__ import annotations

from .answer_format import AnswerFormat
from .asking import ParseMode, typed_request
from .parsing import ParsedCompletion, parse
from .partial import ParseStream

__all__ = [
    "AnswerFormat",
    "ParseMode",
    "ParseStream",
    "ParsedCompletion",
    "parse",
    "typed_request",
]
