"""Log probabilities, the same for the same token every time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from .wire import Body

_UNLIKELY: Final = -9999.0
_BASE: Final = -0.001
_STEPS: Final = 500
#: Alternatives after these are given the service's mark for "very unlikely".
_LIKELY: Final = 4


def token_entry(token: str, top: int) -> Body:
    """Return one entry of ``logprobs.content`` with `top` alternatives."""
    alternatives = [token, *(f"{token}{n}" for n in range(1, top))][:top]
    return {
        **_scored(token, 0),
        "top_logprobs": [_scored(t, rank) for rank, t in enumerate(alternatives)],
    }


@lru_cache(maxsize=4096)
def token_logprob(token: str) -> float:
    """Return the log probability of `token`."""
    return round(_BASE * (1 + crc32(token.encode()) % _STEPS), 6)


def _scored(token: str, rank: int) -> Body:
    logprob = token_logprob(token) if rank == 0 else _rank_logprob(token, rank)
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _rank_logprob(token: str, rank: int) -> float:
    return token_logprob(token) - 2.0 * rank if rank < _LIKELY else _UNLIKELY
