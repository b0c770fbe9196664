"""The picture of attention: where the model looked in the source while it wrote each token."""

from __future__ import annotations

from pathlib import Path

from fusedrnn.tasks.translate.predict import Attended
from fusedrnn.train.plot import new_figure


def plot_attention(path: Path, attended: Attended) -> None:
    """Writes a heat map (PNG, or what the suffix of ``path`` says): a row for each token written,
    a column for each token read, dark where the weight is near 1.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
        OSError: the file cannot be written.
    """
    rows, columns = attended.weights.shape
    figure = new_figure(2.2 + 0.55 * columns, 1.2 + 0.42 * rows)
    axes = figure.subplots()
    image = axes.imshow(attended.weights.numpy(), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    # A token is text, never a formula, whatever signs it has.
    quoted = {"parse_math": False}
    axes.set_xticks(range(columns), attended.source, rotation=45, ha="left", **quoted)
    axes.set_yticks(range(rows), attended.target, **quoted)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for y, row in enumerate(attended.weights.tolist()):
        for x, weight in enumerate(row):
            if weight >= 0.05:
                colour = "white" if weight > 0.55 else "#234"
                axes.text(x, y, f"{weight:.2f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, label="weight", shrink=0.8)
    figure.savefig(path, dpi=110)
