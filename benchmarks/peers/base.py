"""What a benchmark asks of every client."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self, TypedDict


class Message(TypedDict):
    """A user message, the only kind the benchmarks send."""

    role: str
    content: str


MODEL = "deepseek-flash"
KEY = "sk-benchmark"
PROMPT: Sequence[Message] = (
    {"role": "user", "content": "Is 221 a prime number? Answer with the factors."},
)


class LostDataError(Exception):
    """A peer saw less, or more, than the server sent."""


def expect(actual: int, expected: int) -> None:
    """Refuse a measurement of a peer that did not do the whole work.

    Raises:
        LostDataError: the two counts differ.
    """
    if actual != expected:
        message = f"received {actual} instead of {expected}"
        raise LostDataError(message)


class Peer(ABC):
    """One client over one base URL, opened before and closed after measuring."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def open(self) -> None:
        """Build the client; no byte needs to flow."""

    @abstractmethod
    async def close(self) -> None:
        """Close the client."""

    @abstractmethod
    async def ask(self, messages: Sequence[Message]) -> int:
        """Await one completion, typed, and return the length of its text."""

    @abstractmethod
    async def bulk(self, chunks: int) -> None:
        """Read one stream of `chunks` chunks and check that none is missing."""

    @abstractmethod
    async def live(
        self, opened: Callable[[], None], seen: Callable[[str], None]
    ) -> None:
        """Open one stream, tell it, and call `seen` with each chunk's text."""

    async def fold(self) -> int:
        """Read one stream into one completion; return its length in characters."""
        raise NotImplementedError
