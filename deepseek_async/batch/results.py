"""What becomes of each request of a batch."""

from __future__ import annotations

from typing import Final, Literal, NoReturn, TypeAlias

from msgspec import Struct

from ..errors import DeepSeekError
from ..types.chat import ChatCompletion
from ..types.meta import Attempt
from ..types.usage import Usage


class BatchOk(Struct, kw_only=True, frozen=True, gc=False):
    """A request that was answered.

    Attributes:
        index: Its place in the source, from 0.
        key: The key given with it, else the index as text.
        completion: The answer.
        latency: Seconds from its start to its answer, retries included.
    """

    index: int
    key: str
    completion: ChatCompletion
    latency: float
    ok: Literal[True] = True

    @property
    def usage(self) -> Usage:
        """Token counts, 0 where the server sent none."""
        return self.completion.usage or Usage()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt made, the successful one last."""
        return self.completion.attempts

    def unwrap(self) -> ChatCompletion:
        """The answer."""
        return self.completion


class BatchFailed(Struct, kw_only=True, frozen=True):
    """A request that was not answered.

    Attributes:
        index: Its place in the source, from 0.
        key: The key given with it, else the index as text.
        error: Why.
        latency: Seconds from its start to its failure, retries included.
    """

    index: int
    key: str
    error: DeepSeekError
    latency: float
    ok: Literal[False] = False

    @property
    def usage(self) -> Usage:
        """Nothing that is known of was used."""
        return Usage()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt made; none if the request was refused before it was sent."""
        found: tuple[Attempt, ...] = getattr(self.error, "attempts", ())
        return found

    def unwrap(self) -> NoReturn:
        """Raise the error."""
        raise self.error


BatchResult: TypeAlias = BatchOk | BatchFailed


Tokens: TypeAlias = tuple[int, int, int, int, int]
"""Counts of tokens: prompt, cache hits, cache misses, output, reasoning."""

NO_TOKENS: Final[Tokens] = (0, 0, 0, 0, 0)


class Finished(Struct, gc=False):
    """A result with what the journal needs to know about it.

    Attributes:
        result: What became of the request.
        digest: The hash of the request.
        cost: Nano-dollars that it cost, `None` if unknown.
        used: Tokens that it used; none, if it has the answer of another.
        was_sent: Whether it ever reached the wire.
        is_durable: Whether the journal is to keep it: not if the account, and not the
            request, was at fault.
    """

    result: BatchResult
    digest: str
    cost: int | None = 0
    used: Tokens = NO_TOKENS
    was_sent: bool = True
    is_durable: bool = True


def tokens_of(usage: Usage) -> Tokens:
    """The tokens of an answer.

    Counts that cannot be are set right, as money depends on them: none is negative,
    none is absurd, and a prompt has no more hits than tokens.
    """
    prompt, output = usage.prompt_tokens, usage.completion_tokens
    hit = usage.prompt_cache_hit_tokens
    if not hit and usage.prompt_tokens_details is not None:
        hit = usage.cached_tokens
    has_reasoning = usage.completion_tokens_details is not None
    reasoning = usage.reasoning_tokens if has_reasoning else 0
    if not (
        0 <= hit <= prompt <= _MOST_TOKENS
        and 0 <= output <= _MOST_TOKENS
        and 0 <= reasoning <= _MOST_TOKENS
    ):
        prompt, output, reasoning = _count(prompt), _count(output), _count(reasoning)
        hit = min(_count(hit), prompt)
    return prompt, hit, prompt - hit, output, reasoning


def _count(value: int) -> int:
    return min(max(value, 0), _MOST_TOKENS)


_MOST_TOKENS: Final = 10**12
