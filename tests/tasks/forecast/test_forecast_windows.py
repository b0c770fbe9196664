"""Dates, scaling, splits and windows: no step is seen before its time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusedrnn.tasks.forecast.dates import CYCLES, calendar, following, parse_time, uneven
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.prepare import Scaling, ready
from fusedrnn.tasks.forecast.scale import Scale
from fusedrnn.tasks.forecast.series import Series, from_values
from fusedrnn.tasks.forecast.split import Cut, split
from fusedrnn.tasks.forecast.windows import Windows


def _times(*values):
    return np.array(values, dtype="datetime64[s]")


def _dated(start, count, unit="D", step=1, name="series", offset=0.0):
    times = (np.datetime64(start, unit) + step * np.arange(count)).astype("datetime64[s]")
    nothing = np.empty((count, 0))
    return Series(name, offset + np.arange(float(count)), nothing, nothing, times)


# --- dates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form", "seconds"),
    [
        ("2024", None, "2024-01-01T00:00:00"),
        ("2024-05", None, "2024-05-01T00:00:00"),
        ("2024-05-31", None, "2024-05-31T00:00:00"),
        ("2024-05-31 14:05", None, "2024-05-31T14:05:00"),
        ("2024-05-31T14:05:07", None, "2024-05-31T14:05:07"),
        ("2024-05-31T14:05:07+02:00", None, "2024-05-31T12:05:07"),
        ("1969-12-31", None, "1969-12-31T00:00:00"),
        ("31/5/24", "%d/%m/%y", "2024-05-31T00:00:00"),
    ],
)
def test_dates(text, form, seconds):
    assert str(parse_time(text, form)) == seconds


def test_what_follows():
    months = _dated("2023-11", 3, "M").times
    assert following(months, 3).astype("datetime64[D]").astype(str).tolist() == [
        "2024-02-01", "2024-03-01", "2024-04-01",
    ]  # fmt: skip
    days = _times("2024-02-26", "2024-02-27", "2024-02-28")
    assert str(following(days, 2)[-1]) == "2024-03-01T00:00:00"
    gap = _times("2024-01-01", "2024-01-02", "2024-01-05", "2024-01-06")
    assert str(following(gap, 1)[0]) == "2024-01-07T00:00:00"
    assert (uneven(gap), uneven(days), uneven(months), uneven(days[:2])) == (2, None, None, None)


def test_the_calendar_says_where_in_a_cycle():
    at = {
        "hour": _times("2024-01-01T06:00:00"),  # a quarter of the day
        "weekday": _times("2024-01-01T00:00:00"),  # a Monday, where the week begins
        "month": _times("1960-07-01"),  # half of the year
        "yearday": _times("2023-01-01"),
    }
    shares = {name: CYCLES[name](times)[0] for name, times in at.items()}
    assert shares == pytest.approx({"hour": 0.25, "weekday": 0.0, "month": 0.5, "yearday": 0.0})
    both = calendar(at["month"], ["month", "hour"])
    assert both == pytest.approx(np.array([[0.0, -1.0, 0.0, 1.0]]), abs=1e-12)
    assert calendar(at["month"], []).shape == (1, 0)
    with pytest.raises(SeriesError, match=r"expected names among hour, .*, got 'moon'"):
        calendar(at["month"], ["moon"])


# --- scaling -------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(0, 2**31))
def test_scaling_is_undone(values, seed):
    scale = Scale.fit(np.array(values))
    other = np.random.default_rng(seed).normal(size=(3, 4))
    assert scale.undo(scale.apply(other)) == pytest.approx(other, rel=1e-6, abs=1e-6)
    again = Scale.from_dict(scale.to_dict())
    assert again.apply(other).tolist() == scale.apply(other).tolist()


def test_scaled_training_values_have_mean_0_and_spread_1():
    values = np.random.default_rng(0).normal(5, 3, size=(50, 2))
    scaled = Scale.fit(values).apply(values)
    assert scaled.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert scaled.std(axis=0) == pytest.approx([1, 1])
    still = Scale.fit(np.full(7, 0.1))
    assert still.apply(np.full(2, 0.1)) == pytest.approx([0, 0])
    assert Scale.fit(values, "none").apply(values).tolist() == values.tolist()
    with pytest.raises(SeriesError, match="expected one of standard, none, got 'log'"):
        Scale.fit(values, "log")


def test_scaling_knows_nothing_of_what_comes_after_the_training_part():
    values = np.arange(100.0)
    series = [from_values(values, "a"), from_values(-values, "b")]
    cuts = split(series, 0.1, 0.2)
    changed = [from_values(np.where(np.arange(100) < 70, v.target, 1e9), v.name) for v in series]
    assert Scaling.fit(series, cuts).to_dict() == Scaling.fit(changed, cuts).to_dict()
    assert Scaling.fit(series, cuts).target["b"].mean == -34.5
    with pytest.raises(
        SeriesError, match=r"expected a series that was trained on \(a, b\), got 'c'"
    ):
        Scaling.fit(series, cuts).apply(from_values(values, "c"))


# --- splits --------------------------------------------------------------------------------------


def test_one_series_is_cut_at_shares_of_its_steps():
    assert split([from_values(np.zeros(100))], 0.1, 0.2) == [Cut(70, 80, 100)]
    assert split([from_values(np.zeros(1000))], 0.0, 0.4) == [Cut(600, 600, 1000)]
    assert split([from_values(np.zeros(10))], 0.0, 0.0) == [Cut(10, 10, 10)]


def test_series_are_cut_at_the_same_dates():
    early, late = _dated("2024-01-01", 80), _dated("2024-01-21", 80)  # 100 dates in all
    assert split([early, late], 0.1, 0.2) == [Cut(70, 80, 80), Cut(50, 60, 80)]
    for each, cut in zip([early, late], split([early, late], 0.1, 0.2), strict=True):
        assert (each.times[: cut.valid] < np.datetime64("2024-03-11")).all()
        assert (each.times[cut.valid :] >= np.datetime64("2024-03-11")).all()


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.7, 0.6), (-0.1, 0.2)])
def test_fractions_that_leave_nothing(fractions):
    with pytest.raises(SeriesError, match="expected fractions from 0"):
        split([from_values(np.zeros(10))], *fractions)


# --- windows -------------------------------------------------------------------------------------


def test_a_window_holds_what_is_known_at_its_origin():
    """Every number names its column and step, so that the windows can be read."""
    steps = np.arange(10.0)
    series = Series("s", 100 + steps, 200 + steps[:, None], 300 + np.arange(12.0)[:, None])
    windows = Windows([series], [(0, 10)], lags=3, horizon=2)
    assert windows.origins.tolist() == [3, 4, 5, 6, 7, 8]
    batch = windows.batch(torch.tensor([0, 5]))
    assert batch.past[:, 0].tolist() == [[100, 200, 301], [101, 201, 302], [102, 202, 303]]
    assert batch.past[:, 1].tolist() == [[105, 205, 306], [106, 206, 307], [107, 207, 308]]
    assert batch.known[:, :, 0].t().tolist() == [[303, 304], [308, 309]]
    assert batch.target.t().tolist() == [[103, 104], [108, 109]]
    future = Windows([series], [(10, 12)], lags=3, horizon=2)
    assert future.origins.tolist() == [10]
    batch = future.batch(torch.tensor([0]))
    assert batch.past[-1, 0].tolist() == [109, 209, 310]
    assert batch.known[:, 0, 0].tolist() == [310, 311]


@given(
    st.lists(st.integers(6, 30), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
)
def test_windows_of_parts_share_no_forecast_step_and_see_no_future(sizes, lags, horizon, v, t):
    series, begin = [], 0
    for number, size in enumerate(sizes):
        series.append(from_values(begin + np.arange(float(size)), str(number)))
        begin += size
    cuts = split(series, v, t)
    spans = [
        [(0, cut.valid) for cut in cuts],
        [(cut.valid, cut.test) for cut in cuts],
        [(cut.test, cut.end) for cut in cuts],
    ]
    seen = []
    for part in spans:
        windows = Windows(series, part, lags, horizon)
        batch = windows.batch(torch.arange(len(windows)))
        forecast = set(batch.target.flatten().tolist())
        assert not forecast & set().union(*seen)
        seen.append(forecast)
        first = batch.target[:1]
        assert torch.equal(batch.past[:, :, 0], first - torch.arange(lags, 0, -1)[:, None])
        assert torch.equal(batch.target, first + torch.arange(horizon)[:, None])
        for owner, steps in zip(windows.series_of, batch.target.t().tolist(), strict=True):
            assert set(steps) <= set(series[owner].target)
        count = sum(max(0, end - max(begin, lags) - horizon + 1) for begin, end in part)
        assert len(windows) == count


def test_what_comes_after_the_end():
    series = _dated("2024-01", 5, "M")
    whole = ready(series, ["month"], 3)
    assert len(whole.times) == 8
    assert whole.known.shape == (8, 2)
    assert whole.known == pytest.approx(calendar(whole.times, ["month"]))
    assert ready(series, [], 3).known.shape == (8, 0)
    with pytest.raises(SeriesError, match="calendar: expected a column of dates"):
        ready(from_values([1.0, 2.0]), ["month"], 1)
    priced = Series("shop", np.zeros(4), np.empty((4, 0)), np.zeros((6, 1)))
    assert ready(priced, [], 2).known.shape == (6, 1)
    with pytest.raises(SeriesError, match=r"'shop': expected .* for 3 steps .*, got 2"):
        ready(priced, [], 3)


@pytest.mark.parametrize(("lags", "horizon"), [(0, 1), (1, 0)])
def test_windows_without_a_size(lags, horizon):
    with pytest.raises(SeriesError, match="expected lags and horizon of at least 1"):
        Windows([from_values([1.0, 2.0])], [(0, 2)], lags, horizon)
