"""How many requests batches may have on the wire, as its user sees it."""

from __future__ import annotations

import asyncio

from ..errors import ConfigurationError
from .adaptive import Adaptive
from .admission import MOST, Admission, LimitChange, whole


class Limit:
    """The most requests on the wire, for one batch or shared by several.

    Make one with `Limit.fixed` or `Limit.adaptive`. Batches of a client given the same
    object share its slots. Calls of the same client that are of no batch go first, and
    take from what the batches may use. If they leave nothing, one request at a time
    goes all the same, of each batch in turn.

    https://api-docs.deepseek.com/quick_start/rate_limit

    Args:
        admission: What decides about each request.

    Attributes:
        admission: What decides about each request.
    """

    __slots__ = ("admission",)

    def __init__(self, admission: Admission) -> None:
        self.admission = admission

    @classmethod
    def fixed(cls, count: int) -> Limit:
        """Always the same number.

        Args:
            count: The number.

        Raises:
            ConfigurationError: It is not a whole number of at least 1.
        """
        return cls(Admission(whole("a limit", count)))

    @classmethod
    def adaptive(cls, *, start: int = 32, most: int = MOST, least: int = 1) -> Limit:
        """As many as the account may have, found out and followed.

        Args:
            start: The number to begin with. Four go first; the rest follows after
                0.15 seconds or the first outcome. If some of the four are refused,
                the limit grows from what was admitted, twice as far each time.
            most: Never more than this.
            least: Never fewer than this.

        Raises:
            ConfigurationError: Not `1 <= least <= most`.
        """
        whole("least", least)
        if whole("most", most) < least:
            message = "a limit needs least <= most"
            raise ConfigurationError(message)
        begin = min(max(whole("start", start), least), most)
        return cls(Adaptive(begin, most, least))

    def __repr__(self) -> str:
        return f"Limit({self.in_flight} of {self.capacity})"

    @property
    def capacity(self) -> int:
        """The limit now."""
        return self.admission.capacity

    @property
    def in_flight(self) -> int:
        """Requests of batches on the wire now."""
        return self.admission.in_flight

    @property
    def refused(self) -> int:
        """429 answers so far."""
        return self.admission.refused

    @property
    def history(self) -> list[LimitChange]:
        """The latest changes, oldest first."""
        return list(self.admission.history)

    def set(self, count: int) -> None:
        """Change the limit; while batches run, from the thread of their loop.

        Args:
            count: The new limit; an adaptive one moves on from there.

        Raises:
            ConfigurationError: It is not a whole number of at least 1.
        """
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:  # no loop runs, and so no batch
            now = 0.0
        self.admission.set(count, now)
        self.admission.freed()
