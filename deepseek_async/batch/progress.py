"""How far a batch is, and showing it."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from time import monotonic
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..errors import DeepSeekWarning

INTERVAL: Final = 0.5
LINE_INTERVAL: Final = 10.0
_WINDOW: Final = 30.0


class Progress(Struct, kw_only=True, frozen=True):
    """A batch at one moment.

    Attributes:
        done: Finished requests of this run.
        skipped: Requests a previous run had finished.
        total: All requests; `None` until the source has been read to its end, unless
            it has a length or `total=` says it.
        ok: Answered ones.
        failed: Failed ones.
        in_flight: Requests on the wire.
        limit: The most on the wire.
        refused: 429 answers.
        per_second: Requests finished a second, of late.
        output_per_second: Output tokens a second, of late.
        cache_hit_ratio: Share of the input tokens that the cache served.
        cost: US dollars so far.
        projected_cost: US dollars in the end at this rate; `None` if unknown, or if
            the batch ends before its input does.
        eta: Seconds to go; `None` likewise.
        elapsed: Seconds since the start.
        state: `running`, `draining`, or what it waits for: `paused`, `outage`,
            `off-peak` or `full disk`.
        stop_reason: Why nothing more is sent, or `None`.
    """

    done: int
    skipped: int
    total: int | None
    ok: int
    failed: int
    in_flight: int
    limit: int
    refused: int
    per_second: float
    output_per_second: float
    cache_hit_ratio: float
    cost: Decimal
    projected_cost: Decimal | None
    eta: float | None
    elapsed: float
    state: str
    stop_reason: str | None = None

    def to_line(self) -> str:
        """One line of JSON."""
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        return " · ".join(self._parts())

    def _parts(self) -> list[str]:
        total = "?" if self.total is None else f"{self.total:,}"
        parts = [
            f"{self.done + self.skipped:,}/{total}",
            f"{self.ok:,} ok, {self.failed:,} failed",
            f"{self.per_second:.1f} req/s, {self.output_per_second:,.0f} tok/s",
            f"{self.in_flight}/{self.limit} in flight",
            f"{self.refused:,} refused",
            f"cache {self.cache_hit_ratio:.0%}",
            f"${self.cost:.4f}",
        ]
        if self.done + self.skipped != self.total:
            if self.projected_cost is not None:
                parts[-1] += f" of ${self.projected_cost:.4f}"
            if self.eta is not None:
                parts.append(f"{_duration(self.eta)} to go")
        if self.state != "draining":
            parts += [self.state] * (self.state != "running")
        elif self.in_flight:
            # Only signals interrupt, and the second one does not wait.
            is_asked = self.stop_reason == "interrupted"
            hint = "Ctrl-C again ends at once" if is_asked else self.stop_reason
            parts.append(f"draining ({hint})")
        return parts

    def fold(self, width: int) -> str:
        """The text in as many lines as it takes, each figure whole.

        Args:
            width: The most characters of a line.
        """
        lines: list[str] = []
        for part in self._parts():
            if lines and len(lines[-1]) + len(part) + 3 <= width:
                lines[-1] += f" · {part}"
            else:
                lines.append(part)
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Pulse:
    """Rates over the last half minute."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()

    def rates(self, now: float, done: int, output: int) -> tuple[float, float]:
        """Note the counts of now and tell both rates per second."""
        self._samples.append((now, done, output))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()
        then, done_then, output_then = self._samples[0]
        seconds = now - then
        if seconds <= 0:
            return 0.0, 0.0
        return (done - done_then) / seconds, (output - output_then) / seconds


class Display:
    """Shows progress on stderr: a live line on a terminal, else JSON lines.

    On a terminal the `cli` extra is used; without it, JSON lines come there too.
    """

    def __init__(self) -> None:
        self._live: Any = None  # rich is optional, and so are its types
        self._printed_at = monotonic()

    def __call__(self, progress: Progress) -> None:
        """Show a state."""
        if self._live is None and sys.stderr.isatty() and find_spec("rich"):
            self._live = _rich_display()
        if self._live is not None:
            self._live(progress)
        elif monotonic() - self._printed_at >= LINE_INTERVAL:
            self._printed_at = monotonic()
            sys.stderr.write(progress.to_line() + "\n")

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._live is not None:
            self._live(None)
            self._live = None


class Telling:
    """Tells somebody how far a batch is: twice a second, and at its end.

    Args:
        told: A function of the state, or `True` for a `Display`.
        state: The state.
    """

    def __init__(
        self,
        told: Callable[[Progress], None] | bool,  # noqa: FBT001 - as the option is
        state: Callable[[], Progress],
    ) -> None:
        self._tell: Callable[[Progress], None] | None = (
            told if callable(told) else Display()
        )
        self._state = state
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._tell is not None:
            self._tell_now()
            await asyncio.sleep(INTERVAL)

    def _tell_now(self) -> None:
        if self._tell is None:
            return
        try:
            self._tell(self._state())
        except Exception as error:  # noqa: BLE001 - what is paid for goes on
            self._tell = None
            message = f"progress= raised {type(error).__name__} and is not told again"
            warnings.warn(message, DeepSeekWarning, stacklevel=1)

    async def aclose(self) -> None:
        """Tell the end."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._tell_now()
        if isinstance(self._tell, Display):
            self._tell.close()


def _rich_display() -> Callable[[Progress | None], None]:
    shown = import_module("rich.progress")
    console = import_module("rich.console").Console(stderr=True)
    bar = shown.Progress(
        shown.SpinnerColumn(),
        shown.BarColumn(bar_width=None),
        shown.TaskProgressColumn(),
        console=console,
        transient=False,
        expand=True,
        refresh_per_second=4,
    )
    text = import_module("rich.text").Text
    group = import_module("rich.console").Group
    live = import_module("rich.live").Live(
        bar,
        console=console,
        refresh_per_second=4,
        # What the caller prints to a pipe must not land on the terminal.
        redirect_stdout=sys.stdout.isatty(),
    )
    task = bar.add_task("", total=None)
    live.start()

    def show(progress: Progress | None) -> None:
        if progress is None:
            live.stop()
            return
        done = progress.done + progress.skipped
        bar.update(task, completed=done, total=progress.total)
        live.update(group(bar, text(progress.fold(console.width))))

    return show
