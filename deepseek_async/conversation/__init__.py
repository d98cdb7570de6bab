"""Conversations: the history that the stateless API needs, kept right.

`transcript` is the history as a value, `context` the policies that keep it within the
model's context, `prefix` says why the context cache missed, `saved` is the file
format, `conversation` puts them together.

https://api-docs.deepseek.com/guides/multi_round_chat
"""

from __future__ import annotations

from .context import (
    ContextPolicy,
    DropOldest,
    Fit,
    KeepAll,
    Room,
    Summarize,
)
from .conversation import Conversation
from .prefix import PrefixDrift, find_prefix_drift
from .transcript import Exchange, Transcript

__all__ = [
    "ContextPolicy",
    "Conversation",
    "DropOldest",
    "Exchange",
    "Fit",
    "KeepAll",
    "PrefixDrift",
    "Room",
    "Summarize",
    "Transcript",
    "find_prefix_drift",
]
