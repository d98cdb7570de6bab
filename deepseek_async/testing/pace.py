"""How fast the emulated model is."""

from __future__ import annotations

from typing import Final

import msgspec

#: Writes per second that all streams together may cause: above it tokens that are
#: due are sent in groups, so that hundreds of streams leave the processor free.
_WRITES_PER_SECOND: Final = 2000.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Timing of every answer, in seconds unless said otherwise.

    Attributes:
        latency: Time from the start of inference to the first token.
        tokens_per_second: Speed of one answer; 0 means all tokens at once.
        queue: Time a request waits before inference starts. Meanwhile the service
            sends blank lines (awaited answer) or ``: keep-alive`` comments (stream).
        keep_alive: Interval of those keep-alives.
        review: Pause before the last chunk when ``safety_check`` is ``high``.
    """

    latency: float = 0.15
    tokens_per_second: float = 80.0
    queue: float = 0.0
    keep_alive: float = 1.0
    review: float = 0.0

    @classmethod
    def instant(cls) -> Pace:
        """Return a pace that never sleeps and writes a stream in large pieces."""
        return cls(latency=0.0, tokens_per_second=0.0)

    def generation(self, tokens: int) -> float:
        """Return how long `tokens` take from the start of inference."""
        if self.tokens_per_second <= 0:
            return self.latency
        return self.latency + tokens / self.tokens_per_second

    def tick(self, streams: int) -> float:
        """Return the shortest pause between two writes of one of `streams`."""
        if self.tokens_per_second <= 0:
            return 0.0
        return max(1.0 / self.tokens_per_second, streams / _WRITES_PER_SECOND)
