"""Streams: chunks as they come, and async generators over them.

stream                  what every stream can do: `ChatStream`, `CompletionStream`
live | derived          chunks out of a response | out of another stream
"""

from __future__ import annotations

from .derived import DerivedStream, begins_anew, mark_shown, take_chunks
from .live import LiveChatStream, LiveCompletionStream
from .stream import ChatStream, CompletionStream

__all__ = [
    "ChatStream",
    "CompletionStream",
    "DerivedStream",
    "LiveChatStream",
    "LiveCompletionStream",
    "begins_anew",
    "mark_shown",
    "take_chunks",
]
