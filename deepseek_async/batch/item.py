"""One request of a batch on its way from the source to its result."""

from __future__ import annotations

import asyncio

from ..request import WireRequest
from ..retry import RetryPolicy
from ..types.meta import Attempt
from .budget import Amount


class Item:
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
        is_cancelled: Whether `Batch.cancel` named it.
        followers: Identical requests that wait for its answer.
        prefixes: Hashes of ever longer beginnings of its prompt.
        group: The hash of the beginning by which it was grouped.
    """

    __slots__ = (
        "attempts",
        "cost",
        "counted",
        "deadline",
        "digest",
        "followers",
        "group",
        "held",
        "index",
        "is_cancelled",
        "is_deterministic",
        "key",
        "max_tokens",
        "policy",
        "prefixes",
        "refusals",
        "sent_at",
        "started",
        "task",
        "wire",
    )

    def __init__(
        self,
        *,
        index: int,
        key: str,
        digest: str,
        wire: WireRequest,
        policy: RetryPolicy,
        max_tokens: int | None,
        is_deterministic: bool = False,
    ) -> None:
        self.index = index
        self.key = key
        self.digest = digest
        self.wire = wire
        self.policy = policy
        self.max_tokens = max_tokens
        self.is_deterministic = is_deterministic
        self.attempts: tuple[Attempt, ...] = ()
        self.counted = 0
        self.refusals = 0
        self.started: float | None = None
        self.sent_at = 0.0
        self.deadline: float | None = None
        self.held: Amount | None = None
        self.cost: int | None = 0
        self.task: asyncio.Task[None] | None = None
        self.is_cancelled = False
        self.followers: list[Item] | None = None
        self.prefixes: tuple[int, ...] = ()
        self.group: int | None = None

    def pay(self, cost: int | None) -> None:
        """Add what an attempt cost: nano-dollars, or `None` if unknown."""
        self.cost = None if cost is None or self.cost is None else self.cost + cost

    def __repr__(self) -> str:
        return f"Item({self.index}, {len(self.attempts)} attempts)"
