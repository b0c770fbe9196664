"""The picture of gradients on their way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusedrnn.tasks.gradients.study import Curve, Study
from fusedrnn.train.plot import new_figure

_BEFORE, _AFTER, _THIRD = "#c8541b", "#1f5fa8", "#2a8a4a"
_STRETCHES = 8  # between cuts, that are drawn
_FLOOR = 1e-12  # of the largest norm: what is drawn of a gradient that is gone


def plot_studies(path: Path, studies: Sequence[Study]) -> None:
    """Writes a picture (PNG, or what the suffix of ``path`` says), a column per run.

    Above: the norm of the gradient by the state k steps back, before and after training, beside the
    powers of the largest eigenvalue and singular value of the recurrent weights. Below: the full,
    the truncated and the randomly truncated one.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    figure = new_figure(1 + 4.4 * len(studies), 7.4)
    grid = figure.subplots(2, len(studies), squeeze=False, sharey="row")
    for column, study in enumerate(studies):
        _draw_training(grid[0][column], study)
        _draw_truncation(grid[1][column], study)
    for axes in grid[:, 0]:
        axes.set_ylabel("norm of the gradient by the state")
    low = min(min(positive(s.before.h) + positive(s.after.h)) for s in studies)
    high = max(max(s.before.h + s.after.h) for s in studies)
    # The powers would go on into nothing: the picture ends a little beyond what is measured.
    grid[0][0].set_ylim(max(low / 30, high * _FLOOR), high * 30)
    figure.savefig(path, dpi=110)


def positive(values: Sequence[float]) -> list[float]:
    """Those above 0, or 1 if there are none."""
    return [value for value in values if value > 0.0] or [1.0]


def _draw_training(axes: Any, study: Study) -> None:
    for curve, colour, when in (
        (study.before, _BEFORE, "before training"),
        (study.after, _AFTER, "after training"),
    ):
        axes.plot(curve.h, color=colour, label=when)
        if curve.c is not None:
            cells = _without_zeros(curve.c)  # the last cell state enters no loss but through h
            axes.plot(cells, color=colour, linestyle=":", label=f"by the cell, {when}")
        _draw_powers(axes, curve, colour)
    axes.set_yscale("log")
    axes.set_title(f"{study.cell} ({study.run})", fontsize=9, parse_math=False)
    _finish(axes)


def _draw_powers(axes: Any, curve: Curve, colour: str) -> None:
    """Thin lines: the first norm times the powers."""
    steps = range(len(curve.h))
    for value, style, what in (
        (curve.spectrum.eigenvalue, "--", "eigenvalue"),
        (curve.spectrum.singular, "-.", "singular value"),
    ):
        powers = [curve.h[0] * value**k for k in steps]
        axes.plot(
            powers, color=colour, linestyle=style, linewidth=0.8, alpha=0.7,
            label=f"powers of its {what} {value:.2f}",
        )  # fmt: skip


def _draw_truncation(axes: Any, study: Study) -> None:
    cut = study.truncated
    axes.plot(cut.full, color=_AFTER, linewidth=4, alpha=0.35, label="full")
    for values in cut.single:
        label = f"random cuts, single draws (error {cut.one_draw_error:.3f})"
        first = values is cut.single[0]
        axes.plot(
            _without_zeros(values), color="0.6", linewidth=0.8, label=label if first else None
        )
    for values, colour, style, label in (
        (cut.mean_of_draws, _THIRD, "--", f"mean of {cut.draws} (error {cut.mean_error:.3f})"),
        (cut.fixed, _BEFORE, "-", f"cut every {cut.every} steps (error {cut.fixed_error:.3f})"),
    ):
        axes.plot(_without_zeros(values), color=colour, linestyle=style, label=label)
    reach = min(len(cut.full) - 1, _STRETCHES * cut.every)
    axes.set_xlim(-0.02 * reach, reach)
    axes.set_ylim(min(positive(cut.full[: reach + 1])) / 10, max(cut.full) * 10)
    axes.set_yscale("log")
    axes.set_xlabel("steps back from the loss")
    axes.set_title("after training, with cuts; errors of the gradient by W_hh", fontsize=9)
    _finish(axes)


def _without_zeros(values: Sequence[float]) -> list[float]:
    """What a logarithmic axis can show: a line ends where the gradient is cut."""
    return [value if value > 0.0 else math.nan for value in values]


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7, loc="upper right")
