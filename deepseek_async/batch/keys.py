"""Remembers keys in little memory, to find the one given twice."""

from __future__ import annotations

import hashlib
from typing import Final

_BUCKETS: Final = 4096
_HASH: Final = 8
_PLACE: Final = 6


class Keys:
    """Fourteen bytes a key: an eight-byte hash and where the key was first seen.

    Two different keys pass for one with a probability of 1 in 40 million among a
    million keys.
    """

    __slots__ = ("_hashes", "_places")

    def __init__(self) -> None:
        self._hashes = [bytearray() for _ in range(_BUCKETS)]
        self._places = [bytearray() for _ in range(_BUCKETS)]

    def add(self, key: str, index: int) -> int | None:
        """Remember a key.

        Args:
            key: The key.
            index: Where it is.

        Returns:
            Where it had been seen before, or `None`.
        """
        data = key.encode("utf-8", "surrogatepass")
        found = hashlib.blake2b(data, digest_size=_HASH).digest()
        bucket = int.from_bytes(found[:2]) % _BUCKETS
        hashes, places = self._hashes[bucket], self._places[bucket]
        at = hashes.find(found)
        while at >= 0 and at % _HASH:
            at = hashes.find(found, at + 1)
        if at >= 0:
            first = at // _HASH * _PLACE
            return int.from_bytes(places[first : first + _PLACE])
        hashes += found
        places += index.to_bytes(_PLACE)
        return None
