"""Streams that survive: an answer that was cut off, continued.

policy                  whether and how it can be continued
stream                  the stream that joins the parts
"""

from __future__ import annotations

from .policy import Resume
from .stream import ResumingStream

__all__ = ["Resume", "ResumingStream"]
