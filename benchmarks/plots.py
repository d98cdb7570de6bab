"""PNG plots, drawn only when asked for; needs matplotlib (extra `bench`)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, Sequence[tuple[float, ...]]]
FOLDER = Path(__file__).parent / "plots"

_offered: dict[str, Callable[[], "Figure"]] = {}


def offer(name: str, draw: Callable[[], "Figure"]) -> None:
    """Remember how to draw `name`, in case plots are wanted."""
    _offered[name] = draw


def write() -> None:
    """Draw what was offered.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    FOLDER.mkdir(exist_ok=True)
    for name, draw in _offered.items():
        draw().savefig(FOLDER / f"{name}.png", dpi=110)


def _figure(columns: int) -> tuple["Figure", list["Axes"]]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as exc:
        message = "plots need matplotlib: install the extra deepseek-async[bench]"
        raise RuntimeError(message) from exc
    figure = Figure(figsize=(5.5 * columns, 4.2), layout="constrained")
    return figure, [figure.add_subplot(1, columns, 1 + i) for i in range(columns)]


def concurrency(series: Series) -> "Figure":
    """Draw CPU share and added delay over the number of live streams.

    Args:
        series: Peer to (streams, CPU per cent, p50 ms, p99 ms).
    """
    figure, (share, delay) = _figure(2)
    for place, (peer, points) in enumerate(series.items()):
        streams, cpu, p50, p99 = zip(*points, strict=True)
        colour = f"C{place}"
        share.plot(streams, cpu, "o-", label=peer, color=colour)
        delay.plot(streams, p99, "o-", label=f"{peer} p99", color=colour)
        delay.plot(streams, p50, "--", color=colour, alpha=0.5)
    share.set(xlabel="live streams, 20 chunks/s each", ylabel="CPU % of one core")
    delay.set(xlabel="live streams, 20 chunks/s each", ylabel="delay ms (dashed: p50)")
    for axes in (share, delay):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(visible=True, alpha=0.3)
    share.legend(fontsize="small")
    return figure


def linearity(series: Series) -> "Figure":
    """Draw CPU over size, one line a growing thing, on logarithmic axes.

    Args:
        series: What grows to (size, CPU milliseconds).
    """
    figure, (axes,) = _figure(1)
    for label, points in series.items():
        size, cpu = zip(*points, strict=True)
        axes.plot(size, cpu, "o-", label=label)
    axes.set(xscale="log", yscale="log", xlabel="size", ylabel="CPU ms")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    return figure
