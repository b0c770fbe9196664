"""Statistics of a corpus: its n-grams by how often they occur, and their picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fusedrnn.text.errors import TextError
from fusedrnn.text.vocab import Vocab

MOST_TOKENS = 20_000_000


@dataclass(frozen=True)
class NGramCounts:
    """The distinct n-grams of a text.

    Attributes:
        n: tokens of one.
        counts: int64, how often each occurs, falling.
        top: the most frequent ones with their counts; equals in the order of the text.
    """

    n: int
    counts: NDArray[np.int64]
    top: list[tuple[tuple[str, ...], int]]


def ngram_statistics(
    ids: Tensor, vocab: Vocab, top: int = 10, longest: int = 3
) -> list[NGramCounts]:
    """Counts of the 1-grams to ``longest``-grams of a text; they go on across the ends of lines.

    Args:
        ids: integer ``[tokens]``; of more than `MOST_TOKENS` the first ones.

    Raises:
        TextError: no token.
    """
    text = ids[:MOST_TOKENS].numpy().astype(np.int64)
    if not len(text):
        raise TextError("expected a text to count, got no token")
    results = []
    numbers = np.zeros(len(text) + 1, np.int64)  # of the run of tokens that ends before each
    for n in range(1, min(longest, len(text)) + 1):
        runs = numbers[:-1] * len(vocab) + text[n - 1 :]
        _, first, numbers, counts = np.unique(
            runs, return_index=True, return_inverse=True, return_counts=True
        )
        order = np.lexsort((first, -counts))
        best = [
            (tuple(vocab.decode(text[first[i] : first[i] + n].tolist())), int(counts[i]))
            for i in order[:top]
        ]
        results.append(NGramCounts(n, counts[order], best))
    return results


def plot_zipf(path: Path, counts: Sequence[NGramCounts], title: str) -> None:
    """Writes the picture of frequency over rank, both logarithmic: close to straight lines in a
    natural text (Zipf's law), and flatter for longer n-grams.

    Raises:
        PlotUnavailableError: without matplotlib.
        OSError: the file cannot be written.
    """
    from fusedrnn.lm.plot import PlotUnavailableError

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotUnavailableError(
            "no plot: it needs matplotlib (pip install 'fusedrnn[plot]')"
        ) from error

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for each, colour in zip(counts, ("#1f5fa8", "#c8541b", "#3d8a5a"), strict=False):
        rank, count = _thinned(each.counts)
        label = f"{each.n}-grams ({len(each.counts):,} distinct)"
        axes.plot(rank, count, color=colour, label=label, marker=".", markersize=3, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("occurrences")
    # A "$" in a name would begin a formula.
    axes.set_title(title.replace("$", r"\$"), fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130, format="png")


def _thinned(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks and counts, at most some hundreds of each power of ten: as many as can be seen."""
    steps = np.geomspace(1, len(counts), 1000).astype(np.int64)
    rank = np.unique(np.concatenate([steps, [len(counts)]]))
    return rank, counts[rank - 1]
