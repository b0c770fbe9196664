"""The picture of a run: perplexity over epochs, against the floors that need no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class PlotUnavailableError(RuntimeError):
    """matplotlib is not installed."""


def plot_perplexity(
    path: Path, epochs: Sequence[Mapping[str, Any]], floors: Mapping[str, float], title: str
) -> None:
    """Writes a picture (PNG, or what the suffix of ``path`` says).

    Args:
        epochs: the objects of a metrics file.
        floors: perplexities to draw as level lines, by their names.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
    except ImportError as error:
        raise PlotUnavailableError(
            "no plot: it needs matplotlib (pip install 'fusedrnn[plot]')"
        ) from error

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    dots = "o" if len(epochs) <= 60 else ""
    for key, label, colour in (
        ("perplexity", "training", "#1f5fa8"),
        ("valid_perplexity", "held out", "#c8541b"),
    ):
        points = [(epoch["epoch"], epoch[key]) for epoch in epochs if key in epoch]
        if points:
            x, y = zip(*points, strict=True)
            last = f"{label} (last {y[-1]:.2f})"
            axes.plot(x, y, color=colour, marker=dots, markersize=3.5, label=last)
    for shade, (name, value) in zip(("0.35", "0.6"), floors.items(), strict=False):
        axes.axhline(value, color=shade, linestyle="--", linewidth=1, label=f"{name} ({value:.2f})")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 4, 5, 7), numticks=40))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity per token")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
