"""What a forecast has to beat: repeating the last value or the last season, and autoregression.

All give float64 ``[n, K]``: for each origin, forecasts of K steps from the values before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.series import Floats

Origins = NDArray[np.int64]


def persistence(values: Floats, origins: Origins, horizon: int) -> Floats:
    """The last value before each origin, repeated. ``values [N]``, ``origins [n]`` from 1."""
    return np.repeat(values[origins - 1][:, None], horizon, axis=1)


def seasonal(values: Floats, origins: Origins, horizon: int, season: int) -> Floats:
    """The last ``season`` values before each origin, repeated. Origins are at least ``season``."""
    steps = np.arange(horizon) % season - season
    return np.asarray(values[origins[:, None] + steps])


class Autoregression:
    """Linear autoregression AR(p) with a constant, by least squares on the series' training parts.

    ``y_t = constant + sum_i coefficients[i] y_{t-1-i}``; several steps ahead by rollout.
    Source: Box, Jenkins, Reinsel and Ljung, "Time series analysis", chapter 7 (conditional least
    squares).

    Args:
        training: values ``[N]`` of each series, on one scale.
        order: p, at least 1.

    Raises:
        SeriesError: fewer equations than coefficients.
    """

    def __init__(self, training: Sequence[Floats], order: int) -> None:
        lagged = [lag_matrix(values, order) for values in training if len(values) > order]
        equations = sum(len(rows) for rows in lagged)
        if equations < order + 1:
            raise SeriesError(
                f"AR({order}): expected at least {order + 1} steps to fit it on beyond the first "
                f"{order}, got {equations}"
            )
        answers = np.concatenate([values[order:] for values in training if len(values) > order])
        matrix = np.concatenate(lagged)
        matrix = np.concatenate([np.ones((len(matrix), 1)), matrix], axis=1)
        solution = np.linalg.lstsq(matrix, answers, rcond=None)[0]
        self.order = order
        self.constant = float(solution[0])
        self.coefficients: Floats = solution[1:]

    def forecast(self, values: Floats, origins: Origins, horizon: int) -> Floats:
        """From ``values [N]`` on the scale of the training; origins are at least p."""
        recent = values[origins[:, None] - 1 - np.arange(self.order)]
        steps = []
        for _ in range(horizon):
            steps.append(self.constant + recent @ self.coefficients)
            recent = np.concatenate([steps[-1][:, None], recent[:, :-1]], axis=1)
        return np.stack(steps, axis=1)


def lag_matrix(values: Floats, lags: int) -> Floats:
    """``[N - lags, lags]``: row t holds ``values[t + lags - 1], ..., values[t]``, latest first."""
    windows = np.lib.stride_tricks.sliding_window_view(values[:-1], lags)
    return np.asarray(windows[:, ::-1])
