"""Which fault strikes which request."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from .faults import Fault
from .recorded import Recorded

#: Decides a request's fault, or None.
FaultChooser: TypeAlias = Callable[[Recorded], Fault | None]


class FaultPlan:
    """The faults to come: first the script, then the chooser's, then the mix's.

    Attributes:
        chooser: Callable asked when no scripted fault matches.
        mix: Faults with the probability that each strikes a request.
    """

    __slots__ = ("_queue", "_rng", "chooser", "mix")

    def __init__(self, seed: int) -> None:
        self._queue: deque[tuple[Fault, int]] = deque()
        self._rng = random.Random(seed)  # noqa: S311
        self.chooser: FaultChooser | None = None
        self.mix: Mapping[Fault, float] = {}

    @property
    def left(self) -> int:
        """Scripted strikes that have not happened yet."""
        return sum(times for _, times in self._queue)

    def add(self, faults: tuple[Fault, ...]) -> None:
        """Append `faults` to the script."""
        for fault in faults:
            _check(fault)
        self._queue.extend((fault, fault.times) for fault in faults)

    def choose_with(self, chooser: FaultChooser | None) -> None:
        """Ask `chooser` when no scripted fault matches."""
        if chooser is not None and not callable(cast("object", chooser)):
            message = "fault takes a function of the request; one fault is a script()"
            raise TypeError(message)
        self.chooser = chooser

    def draw_from(self, mix: Mapping[Fault, float]) -> None:
        """Draw faults from `mix`."""
        for fault in mix:
            _check(fault)
        self.mix = dict(mix)

    def clear(self) -> None:
        """Forget the script, the chooser and the mix."""
        self._queue.clear()
        self.chooser = None
        self.mix = {}

    def next(self, request: Recorded) -> Fault | None:
        """Return the fault for `request`, if any, and count it as used."""
        return self._scripted(request) or self._chosen(request) or self._drawn(request)

    def _scripted(self, request: Recorded) -> Fault | None:
        for place, (fault, times) in enumerate(self._queue):
            if fault.matches(request):
                if times > 1:
                    self._queue[place] = (fault, times - 1)
                else:
                    del self._queue[place]
                return fault
        return None

    def _chosen(self, request: Recorded) -> Fault | None:
        return self.chooser(request) if self.chooser else None

    def _drawn(self, request: Recorded) -> Fault | None:
        if not self.mix:
            return None
        drawn = self._rng.random()
        for fault, probability in self.mix.items():
            drawn -= probability
            if drawn < 0:
                return fault if fault.matches(request) else None
        return None


def _check(fault: object) -> None:
    if not isinstance(fault, Fault):
        kind = type(fault).__name__
        message = (
            f"faults only, such as Status(status=503), not {kind}; words go in `answer`"
        )
        raise TypeError(message)
