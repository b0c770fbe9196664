"""Errors and floors against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fusedrnn.tasks.forecast import metrics
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.floors import Autoregression, lag_matrix, persistence, seasonal


def test_errors_by_hand():
    forecast = np.array([[1.0, 2.0], [3.0, 0.0]])
    actual = np.array([[2.0, 2.0], [0.0, 4.0]])
    assert metrics.mae(forecast, actual).tolist() == [2.0, 2.0]
    assert metrics.rmse(forecast, actual) == pytest.approx([5**0.5, 8**0.5])
    assert metrics.mase(forecast, actual, np.array([1.0, 2.0])).tolist() == [1.25, 1.0]
    assert metrics.coverage(actual - 1, actual, actual).tolist() == [1.0, 1.0]
    assert metrics.coverage(actual, actual + 1, actual + np.array([[0, 2], [2, 2]])).tolist() == [
        0.5,
        0.0,
    ]


def test_the_scale_of_mase():
    assert metrics.naive_error(np.array([1.0, 3.0, 0.0])) == 2.5
    assert metrics.naive_error(np.array([1.0, 3.0, 2.0, 7.0]), season=2) == 2.5
    assert np.isnan(metrics.naive_error(np.array([1.0]), season=1))
    assert np.isnan(metrics.naive_error(np.array([4.0, 4.0])))


def test_repeating_floors():
    values, origins = np.arange(10.0), np.array([3, 7])
    assert persistence(values, origins, 2).tolist() == [[2, 2], [6, 6]]
    assert seasonal(values, origins, 5, 3).tolist() == [[0, 1, 2, 0, 1], [4, 5, 6, 4, 5]]
    assert (seasonal(values, origins, 4, 1) == persistence(values, origins, 4)).all()


def test_lags_latest_first():
    assert lag_matrix(np.arange(5.0), 2).tolist() == [[1, 0], [2, 1], [3, 2]]


def test_autoregression_finds_the_coefficients_of_a_series_without_noise():
    values = [1.0, -0.5]
    for _ in range(40):
        values.append(0.3 + 0.9 * values[-1] - 0.4 * values[-2])
    values = np.array(values)
    model = Autoregression([values[:20], values[20:]], 2)
    assert model.constant == pytest.approx(0.3)
    assert model.coefficients == pytest.approx([0.9, -0.4])
    ahead = model.forecast(values, np.array([10, 15]), 4)
    assert ahead == pytest.approx(np.stack([values[10:14], values[15:19]]))


def test_autoregression_is_that_of_statsmodels():
    ar_model = pytest.importorskip("statsmodels.tsa.ar_model")
    values = np.random.default_rng(0).normal(size=300).cumsum()
    ours = Autoregression([values], 5)
    theirs = ar_model.AutoReg(values, 5).fit()
    assert [ours.constant, *ours.coefficients] == pytest.approx(theirs.params.tolist(), rel=1e-6)
    forecast = ours.forecast(values, np.array([300]), 8)[0]
    assert forecast == pytest.approx(theirs.forecast(8), rel=1e-6)


def test_autoregression_needs_equations():
    with pytest.raises(SeriesError, match=r"AR\(4\): expected at least 5 steps .*, got 3"):
        Autoregression([np.arange(7.0), np.arange(3.0)], 4)
