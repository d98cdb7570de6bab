"""Token counts of one answer.

https://api-docs.deepseek.com/api/create-chat-completion
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from ..pricing import Price, cost


class PromptTokensDetails(Struct, kw_only=True, frozen=True, gc=False):
    """How the prompt was served.

    Attributes:
        cached_tokens: Tokens read from the context cache; the same number as
            `Usage.prompt_cache_hit_tokens`.
    """

    cached_tokens: int = 0


class CompletionTokensDetails(Struct, kw_only=True, frozen=True, gc=False):
    """What the output consists of.

    Attributes:
        reasoning_tokens: Output tokens spent on reasoning.
    """

    reasoning_tokens: int = 0


class Usage(Struct, kw_only=True, frozen=True, gc=False):
    """Token counts as billed; counts the server left out are 0.

    Attributes:
        prompt_tokens: Input tokens, cache hits and misses together.
        completion_tokens: Output tokens, reasoning included.
        total_tokens: Both together.
        prompt_cache_hit_tokens: Input tokens served from the context cache.
        prompt_cache_miss_tokens: Input tokens that were not.
        prompt_tokens_details: A breakdown, where the server sends one.
        completion_tokens_details: A breakdown, present when the model reasoned.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_cache_hit_tokens: int = 0
    prompt_cache_miss_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens spent on reasoning."""
        details = self.completion_tokens_details
        return details.reasoning_tokens if details else 0

    @property
    def cached_tokens(self) -> int:
        """Input tokens served from the context cache, wherever they were reported."""
        if self.prompt_cache_hit_tokens:
            return self.prompt_cache_hit_tokens
        details = self.prompt_tokens_details
        return details.cached_tokens if details else 0

    def cost(
        self,
        model: str,
        *,
        at: datetime | None = None,
        prices: Mapping[str, Price] | None = None,
    ) -> Decimal | None:
        """What these tokens cost in US dollars.

        https://api-docs.deepseek.com/quick_start/pricing

        Args:
            model: The model asked for.
            at: When it was asked, with a time zone: peak hours cost more. Now if
                not given.
            prices: A price table, `PRICES` if not given.

        Returns:
            The exact amount, or `None` for a model that is not in the table.

        Raises:
            ValueError: The time has no time zone.
        """
        return cost(self, model, at=at, prices=prices)

    def __add__(self, other: Usage) -> Usage:
        """Add the counts of two answers."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            # Wherever each was reported, or the sum would undercount the other.
            prompt_cache_hit_tokens=self.cached_tokens + other.cached_tokens,
            prompt_cache_miss_tokens=self.prompt_cache_miss_tokens
            + other.prompt_cache_miss_tokens,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=self.cached_tokens + other.cached_tokens
            ),
            completion_tokens_details=CompletionTokensDetails(
                reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens
            ),
        )
