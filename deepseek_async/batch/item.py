"""One request of a batch on its way from the source to its result."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from ..request import WireRequest
from ..retry import RetryPolicy
from ..types.discreet import Discreet
from ..types.meta import Attempt
from .budget import Amount


class Item(Discreet, Struct, eq=False):
    """A request under way.

    Attributes:
        index: Its place in the source.
        key: Its key.
        digest: The hash of its parameters.
        wire: What is sent.
        policy: How often to try.
        max_tokens: The most output it asks for.
        is_deterministic: Whether it asks for temperature 0.
        attempts: The attempts so far.
        counted: Attempts that count towards the policy's.
        refusals: 429 answers so far.
        started: The loop time of the first attempt.
        sent_at: The loop time of the latest attempt.
        deadline: The loop time by which it must be answered, or `None`.
        held: What is set aside for it.
        cost: Nano-dollars that its attempts have cost, `None` if unknown.
        task: The attempt under way.
        failed_at: When the latest attempt was sent that failed, if one did.
        failing_since: When the first of them was sent.
        streak: The streak of failures that it was last counted in.
        is_suspect: Whether it failed again though others, sent meanwhile, were
            answered: the fault may be its own.
        is_cancelled: Whether `Batch.cancel` named it.
        followers: Identical requests that wait for its answer.
        prefixes: Hashes of ever longer beginnings of its prompt.
        group: The hash of the beginning by which it was grouped.
    """

    index: int
    key: str
    digest: str
    wire: WireRequest
    policy: RetryPolicy
    max_tokens: int | None
    is_deterministic: bool = False
    attempts: tuple[Attempt, ...] = ()
    counted: int = 0
    refusals: int = 0
    started: float | None = None
    sent_at: float = 0.0
    deadline: float | None = None
    held: Amount | None = None
    cost: int | None = 0
    task: asyncio.Task[None] | None = None
    failed_at: float | None = None
    failing_since: float = 0.0
    streak: int = -1
    is_suspect: bool = False
    is_cancelled: bool = False
    followers: list[Item] | None = None
    prefixes: tuple[int, ...] = ()
    group: int | None = None

    def pay(self, cost: int | None) -> None:
        """Add what an attempt cost: nano-dollars, or `None` if unknown."""
        self.cost = None if cost is None or self.cost is None else self.cost + cost

    @property
    def fails_again(self) -> bool:
        """Whether more than one attempt has failed."""
        return self.failed_at is not None and self.failed_at > self.failing_since

    def failed(self, sent_at: float, served_until: float) -> None:
        """Note that an attempt failed.

        Args:
            sent_at: When it was sent.
            served_until: When the newest request was sent that has been answered.
        """
        if self.failed_at is None:
            self.failing_since = sent_at
        elif served_until > self.failed_at:
            self.is_suspect = True
        self.failed_at = sent_at

    def __repr__(self) -> str:
        return f"Item({self.index}, {len(self.attempts)} attempts)"
