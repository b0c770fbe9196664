"""The picture of a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusedrnn.tasks.label.metrics import Scores
from fusedrnn.train.plot import new_figure

_NUMBERED = 24  # classes up to which the counts are written into the cells


def plot_confusion(path: str | Path, scores: Scores, title: str) -> None:
    """Draws ``scores.matrix``: rows the truth, shaded by the share of each row, counts written in.

    Args:
        path: PNG, or what the suffix says.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    classes = len(scores.labels)
    side = min(12.0, 2.4 + 0.36 * classes)
    figure = new_figure(side + 1.0, side)
    axes = figure.subplots()
    shares = (scores.matrix / scores.matrix.sum(1, keepdim=True).clamp(min=1)).numpy()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    names = [label if len(label) <= 12 else label[:11] + "…" for label in scores.labels]
    # A label is text, never a formula, whatever signs it has.
    quoted: dict[str, Any] = {"fontsize": 7, "parse_math": False}
    axes.set_xticks(range(classes), names, rotation=90, **quoted)
    axes.set_yticks(range(classes), names, **quoted)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=9, loc="left")
    if classes <= _NUMBERED:
        for row, counts in enumerate(scores.matrix.tolist()):
            for column, count in enumerate(counts):
                if count:
                    colour = "white" if shares[row, column] > 0.5 else "0.2"
                    axes.text(
                        column, row, str(count), ha="center", va="center", fontsize=6, color=colour
                    )
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, label="share of the row")
    figure.savefig(path, dpi=110)
