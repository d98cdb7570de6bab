"""Context caching: which part of a prompt the service has seen before."""

from __future__ import annotations

from typing import Any, Final

from .tokens import block_ends, chain

#: Tokens of one unit: hits in real traffic are multiples of 128.
UNIT: Final = 128
_MAX_UNITS: Final = 200_000
_MAX_TAILS: Final = 64


class PrefixCache:
    """Remembers prompt prefixes, apart for each ``user_id``.

    A prefix becomes a cached unit at the end of a request's input and output, and
    where two requests are found to have a common beginning, so that the third one
    hits it (https://api-docs.deepseek.com/guides/kv_cache).
    """

    __slots__ = ("_seen", "_units")

    def __init__(self) -> None:
        # A unit is known by the digest of its whole blocks, and by length and hash
        # of the text after them: it matches only when all of it is there again.
        self._seen: dict[bytes, None] = {}
        self._units: dict[bytes, set[tuple[int, int]]] = {}

    def lookup(self, prompt: str, user_id: str = "") -> int:
        """Return the cached tokens of `prompt`."""
        return self._hit(prompt, _blocks(prompt, user_id)) * UNIT

    def remember(self, prompt: str, answer: str, user_id: str = "") -> None:
        """Learn from a request that has been answered to its end."""
        blocks = _blocks(prompt + answer, user_id)
        if not blocks:
            return
        prefixes = [block for block in blocks if block[1] <= len(prompt)]
        if prefixes:
            self._remember_common([digest for digest, _ in prefixes])
            self._add(*prefixes[-1], prompt)
        self._add(*blocks[-1], prompt + answer)

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()
        self._units.clear()

    def _hit(self, prompt: str, prefixes: list[tuple[bytes, int]]) -> int:
        """Return how many blocks of `prompt` the longest matching unit covers."""
        for count in range(len(prefixes), 0, -1):
            digest, end = prefixes[count - 1]
            tails = self._units.get(digest, ())
            if any(hash(prompt[end : end + n]) == tail for n, tail in tails):
                return count
        return 0

    def _remember_common(self, digests: list[bytes]) -> None:
        for digest in reversed(digests):
            if digest in self._seen:
                self._units.setdefault(digest, set()).add((0, hash("")))
                break
        self._seen.update(dict.fromkeys(digests))
        _trim(self._seen)

    def _add(self, digest: bytes, end: int, text: str) -> None:
        tails = self._units.setdefault(digest, set())
        if len(tails) < _MAX_TAILS:
            tails.add((len(text) - end, hash(text[end:])))
        _trim(self._units)


def _blocks(text: str, user_id: str) -> list[tuple[bytes, int]]:
    """Return the whole blocks of `text`: the digest of all up to each, and its end."""
    ends = block_ends(text, UNIT)
    digests = chain(text, ends, user_id.encode("utf-8", "surrogatepass"))
    return list(zip(digests, ends, strict=True))


def _trim(known: dict[bytes, Any]) -> None:
    while len(known) > _MAX_UNITS:
        del known[next(iter(known))]
