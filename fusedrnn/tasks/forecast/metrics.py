"""Errors of forecasts. All take float64 arrays whose last dimension is the horizon, and give one
number per horizon."""

from __future__ import annotations

import numpy as np

from fusedrnn.tasks.forecast.series import Floats


def mae(forecast: Floats, actual: Floats) -> Floats:
    """Mean absolute error of ``[n, K]``, per horizon ``[K]``."""
    return np.asarray(np.abs(forecast - actual).mean(axis=0))


def rmse(forecast: Floats, actual: Floats) -> Floats:
    """Root of the mean squared error of ``[n, K]``, per horizon ``[K]``."""
    return np.asarray(np.sqrt(((forecast - actual) ** 2).mean(axis=0)))


def mase(forecast: Floats, actual: Floats, scale: Floats) -> Floats:
    """Mean absolute scaled error of ``[n, K]``, per horizon ``[K]``.

    ``scale [n]`` is `naive_error` of the training part of the series that each row belongs to.
    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", International
    Journal of Forecasting 22 (2006), 679-688.
    """
    return np.asarray((np.abs(forecast - actual) / scale[:, None]).mean(axis=0))


def naive_error(training: Floats, season: int = 1) -> float:
    """Mean absolute error of repeating, in ``training [N]``, the value ``season`` steps before; not
    a number where the series is too short for it, or repeats itself exactly."""
    if len(training) <= season:
        return float("nan")
    error = float(np.abs(training[season:] - training[:-season]).mean())
    return error if error > 0.0 else float("nan")


def coverage(low: Floats, high: Floats, actual: Floats) -> Floats:
    """Share of ``actual [n, K]`` within ``[low, high]``, per horizon ``[K]``."""
    return np.asarray(((low <= actual) & (actual <= high)).mean(axis=0))
