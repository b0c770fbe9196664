"""The picture of a forecast: the series with what was forecast of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.tasks.forecast.forecaster import Forecast
from fusedrnn.tasks.forecast.forecasts import forecast, point
from fusedrnn.tasks.forecast.judge import shown_horizons
from fusedrnn.tasks.forecast.series import Floats
from fusedrnn.tasks.forecast.task import ForecastTask
from fusedrnn.tasks.forecast.windows import Windows
from fusedrnn.train.plot import new_figure

_COLOURS = ("#1f5fa8", "#c8541b", "#2a8a4a", "#8a3a9c", "#9a7b1d", "#b02a4b")
_MOST_SERIES = 4
_WHOLE = 1200  # steps that are drawn from the first on


def plot_forecasts(
    path: Path, task: ForecastTask, future: Sequence[Forecast], title: str, *, seed: int = 0
) -> None:
    """Writes a picture (PNG, or what the suffix of ``path`` says).

    For each of the first four series a row: left, the series and what was forecast of each step 1,
    4, 16, ... steps before; right, whole forecasts from single origins of the test part and from
    the end, with their intervals.

    Args:
        future: forecasts after the end, in the order of the task's series; may be empty.

    Raises:
        PlotUnavailableError: without matplotlib (``pip install 'fusedrnn[plot]'``).
    """
    rows = min(len(task.series), _MOST_SERIES)
    figure = new_figure(12, 0.6 + 3.4 * rows)
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(3, 2))
    for number in range(rows):
        drawn = _Drawn(task, number, seed)
        drawn.ahead(grid[number][0])
        drawn.paths(grid[number][1], future[number] if future else None)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=110)


class _Drawn:
    """One series with its forecasts from every origin that is drawn."""

    def __init__(self, task: ForecastTask, number: int, seed: int) -> None:
        settings = task.settings
        self.series, self.cut = task.series[number], task.cuts[number]
        self.horizon, self.levels = settings.horizon, settings.levels
        test = self.cut.end - self.cut.test
        self.begin = 0 if self.cut.end <= _WHOLE else max(0, self.cut.test - test // 2)
        windows = Windows(
            [task.scaled[number]], [(self.begin, self.cut.end)], settings.lags, self.horizon,
            task.device,
        )  # fmt: skip
        out = forecast(task.model, windows, settings.strategy, settings.levels, seed=seed)
        self.origins: NDArray[np.int64] = windows.origins
        self.values = task.scaling.target[self.series.name].undo(out.double().numpy())
        self.point = point(self.values)

    def when(self, steps: NDArray[np.int64]) -> Any:
        return steps if self.series.times is None else self.series.times[steps]

    def ahead(self, axes: Any) -> None:
        """The series, and each step as forecast k steps before."""
        steps = np.arange(self.begin, self.cut.end)
        axes.plot(
            self.when(steps), self.series.target[steps], color="0.7", linewidth=1, label="series"
        )
        if self.levels:
            at, low, high = self.when(self.origins), self.values[:, 0, 0], self.values[:, 0, -1]
            axes.fill_between(at, low, high, color=_COLOURS[0], alpha=0.2, linewidth=0)
        for colour, k in zip(_COLOURS, shown_horizons(self.horizon), strict=False):
            at = self.when(self.origins + k - 1)
            label = f"{k} step{'s' if k > 1 else ''} ahead"
            axes.plot(at, self.point[:, k - 1], color=colour, linewidth=1, label=label)
        if self.cut.test < self.cut.end:
            axes.axvline(self.when(np.array([self.cut.test]))[0], color="0.3", linestyle=":")
        axes.set_title(
            f"{self.series.name}: test part right of the dotted line", fontsize=9, parse_math=False
        )
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.25)

    def paths(self, axes: Any, future: Forecast | None) -> None:
        """Whole forecasts from a few origins of the test part, and from the end."""
        first = max(self.begin, self.cut.test - self.horizon)
        if self.horizon == 1:
            first = max(self.begin, self.cut.end - 60)
        steps = np.arange(first, self.cut.end)
        axes.plot(self.when(steps), self.series.target[steps], color="0.7", linewidth=1)
        tested = np.flatnonzero(self.origins >= max(self.cut.test, first))
        apart = max(1, -(-self.horizon // 2), len(tested) // 4)
        for place in tested[::apart] if self.horizon > 1 else []:
            at = self.when(self.origins[place] + np.arange(self.horizon))
            self._path(axes, at, self.point[place], self.values[place])
        if self.horizon == 1 and len(tested):
            at = self.when(self.origins[tested])
            self._path(axes, at, self.point[tested, 0], self.values[tested, 0])
        if future is not None:
            at = self.cut.end + np.arange(self.horizon) if future.times is None else future.times
            quantiles = None if future.quantiles is None else future.quantiles
            dots = "o" if self.horizon <= 12 else ""
            self._path(axes, at, future.point, quantiles, _COLOURS[1], dots, "after the end")
            axes.legend(frameon=False, fontsize=8)
        axes.set_title(
            "one step ahead, the last steps" if self.horizon == 1 else
            f"forecasts of {self.horizon} steps from single origins", fontsize=9,
        )  # fmt: skip
        axes.grid(alpha=0.25)
        for label in axes.get_xticklabels():
            label.set(rotation=30, horizontalalignment="right")

    def _path(
        self,
        axes: Any,
        at: Any,
        point: Floats,
        values: Floats | None,
        colour: str = _COLOURS[0],
        dots: str = "",
        label: str | None = None,
    ) -> None:
        if values is not None and self.levels:
            axes.fill_between(at, values[:, 0], values[:, -1], color=colour, alpha=0.2, linewidth=0)
        axes.plot(at, point, color=colour, marker=dots, markersize=3, linewidth=1.2, label=label)
