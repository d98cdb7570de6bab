"""Room in memory for what an event loop reads.

A loop makes room for 256 KiB before each read, and gives back what a chunk left over.
glibc has the system map blocks of that size, and take them back, every time: several
times the cost of the read. Once a mapped block was freed whole, it keeps room for such
blocks in its heap. A block that was cut down first does not count, so the reads
themselves never bring that about.
"""

from __future__ import annotations

from typing import Final

_READ_SIZE: Final = 262144


def keep_room_for_reads() -> None:
    """Have the C library keep room for reads; nothing happens where it does anyway."""
    bytearray(2 * _READ_SIZE)
