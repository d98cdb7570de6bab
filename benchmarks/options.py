"""What the command line asks of every benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a benchmark is to run.

    Attributes:
        rounds: Turns of every peer, or None for the benchmark's own default.
        loops: `asyncio`, `uvloop` or both.
        tls: Whether TLS is measured besides plain TCP.
    """

    rounds: int | None = None
    loops: tuple[str, ...] = ("asyncio", "uvloop")
    tls: bool = False

    def turns(self, default: int) -> int:
        """Return the number of rounds."""
        return self.rounds or default

    def settings(self) -> Iterator[tuple[str, bool, str]]:
        """Yield loop, TLS or not, and how to call the pair in a title."""
        for loop in self.loops:
            yield loop, False, f"{loop}, plain TCP"
        if self.tls:
            yield self.loops[0], True, f"{self.loops[0]}, TLS"
