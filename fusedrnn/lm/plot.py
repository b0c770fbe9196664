"""The picture of a language model's run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusedrnn.train.plot import PlotUnavailableError, plot_curves

__all__ = ["PlotUnavailableError", "plot_perplexity"]


def plot_perplexity(
    path: Path, epochs: Sequence[Mapping[str, Any]], floors: Mapping[str, float], title: str
) -> None:
    """Writes a picture (PNG, or what the suffix of ``path`` says) of perplexity over epochs.

    Args:
        epochs: the objects of a metrics file.
        floors: perplexities to draw as level lines, by their names.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    plot_curves(
        path,
        epochs,
        title,
        key="perplexity",
        label="perplexity per token",
        floors=floors,
        logarithmic=True,
    )
