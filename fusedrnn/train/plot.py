"""The picture of a run: its loss or perplexity over epochs, against floors that need no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusedrnn.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PlotUnavailableError(UserError, RuntimeError):
    """matplotlib is not installed."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which needs no window.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotUnavailableError(
            "no plot: it needs matplotlib (pip install 'fusedrnn[plot]')"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_curves(
    path: Path,
    epochs: Sequence[Mapping[str, Any]],
    title: str,
    *,
    key: str = "loss",
    label: str = "loss",
    floors: Mapping[str, float] | None = None,
    logarithmic: bool = False,
) -> None:
    """Writes a picture (PNG, or what the suffix of ``path`` says) of ``key`` and ``valid_<key>``.

    Args:
        epochs: the objects of a metrics file.
        label: of the vertical axis.
        floors: values to draw as level lines, by their names.
        logarithmic: whether the vertical axis is.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    figure = new_figure(7, 4.2)
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axes = figure.subplots()
    dots = "o" if len(epochs) <= 60 else ""
    for name, what, colour in (
        (key, "training", "#1f5fa8"),
        (f"valid_{key}", "held out", "#c8541b"),
    ):
        points = [(epoch["epoch"], epoch[name]) for epoch in epochs if name in epoch]
        if points:
            x, y = zip(*points, strict=True)
            last = f"{what} (last {y[-1]:.4g})"
            axes.plot(x, y, color=colour, marker=dots, markersize=3.5, label=last)
    shades = ("0.75", "0.6", "0.45", "0.2")
    for shade, (name, value) in zip(shades, (floors or {}).items(), strict=False):
        axes.axhline(value, color=shade, linestyle="--", linewidth=1, label=f"{name} ({value:.4g})")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 4, 5, 7), numticks=40))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
