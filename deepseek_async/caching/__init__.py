"""Identical requests answered once.

sharing                 from the cache, or by one call for all who ask meanwhile
replay                  a stream played from memory
terms                   which calls may be shared, and how long each waits
store                   where answers are kept
"""

from __future__ import annotations

from .sharing import CacheControl, SharedAnswers, check_control
from .store import FileCache, Kept, MemoryCache, ResponseCache
from .terms import Terms

__all__ = [
    "CacheControl",
    "FileCache",
    "Kept",
    "MemoryCache",
    "ResponseCache",
    "SharedAnswers",
    "Terms",
    "check_control",
]
