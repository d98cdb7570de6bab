"""Sensitive text kept from the server, and put back into the answer.

stream                  a stream into which it is put back
patterns                the ready redactor
redaction               redactors, and the vault of what they hid
"""

from __future__ import annotations

from .patterns import PATTERNS, PatternRedactor
from .redaction import Hook, Redaction, Redactor, Vault
from .stream import RedactedStream

__all__ = [
    "PATTERNS",
    "Hook",
    "PatternRedactor",
    "RedactedStream",
    "Redaction",
    "Redactor",
    "Vault",
]
