"""Dates: how they are read, what comes after the last one, and the calendar as covariates."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from fusedrnn.tasks.forecast.errors import SeriesError

Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]

_MONTH = re.compile(r"\d{4}(-\d{2})?")


def parse_time(value: str, form: str | None = None) -> np.datetime64:
    """A date in seconds; one with an offset from UTC becomes UTC.

    Args:
        value: ISO 8601, or a month ``2024-05``, or a year ``2024``; with ``form``, whatever
            ``strptime`` reads by it.

    Raises:
        ValueError: anything else.
    """
    if form is not None:
        time = datetime.strptime(value, form)
    elif _MONTH.fullmatch(value):
        time = datetime(int(value[:4]), int(value[5:] or 1), 1)
    else:
        time = datetime.fromisoformat(value)
    if time.tzinfo is not None:
        time = time.astimezone(timezone.utc).replace(tzinfo=None)
    return np.datetime64(time, "s")


def short_time(time: np.datetime64) -> str:
    """``2024-05-31``, with the time of day where it is not midnight."""
    day, _, clock = str(time).partition("T")
    return day if clock in ("", "00:00:00") else f"{day} {clock}"


def following(times: Times, count: int) -> Times:
    """The ``count`` dates after the last of ``times`` (datetime64[s], at least two).

    Dates on one day of the month go on by the commonest number of months between neighbours, all
    others by the commonest number of seconds.
    """
    months = times.astype("datetime64[M]")
    within = times - months.astype("datetime64[s]")
    if (within == within[0]).all():
        ahead = months[-1] + _commonest(np.diff(months)) * np.arange(1, count + 1)
        return np.asarray(ahead.astype("datetime64[s]") + within[-1])
    result: Times = times[-1] + _commonest(np.diff(times)) * np.arange(1, count + 1)
    return result


def _commonest(gaps: NDArray[np.timedelta64]) -> np.timedelta64:
    values, counts = np.unique(gaps, return_counts=True)
    commonest: np.timedelta64 = values[np.argmax(counts)]
    return commonest


def uneven(times: Times) -> int | None:
    """The position of the first date that does not follow the one before it by the usual gap (of
    months, if all dates are on one day of the month; else of seconds); None where all do."""
    if len(times) < 3:
        return None
    months = times.astype("datetime64[M]")
    within = times - months.astype("datetime64[s]")
    gaps = np.diff(months) if (within == within[0]).all() else np.diff(times)
    off = np.flatnonzero(gaps != _commonest(gaps))
    return int(off[0]) + 1 if len(off) else None


def _seconds(times: Times, unit: str) -> Floats:
    """Seconds since the day, month or year of ``times`` began."""
    return np.asarray((times - times.astype(f"datetime64[{unit}]")).astype(np.float64))


def _days(times: Times) -> Floats:
    return times.astype(np.float64) / 86400.0


# A position in a cycle, as a share of it, by the name of the cycle.
CYCLES: dict[str, Callable[[Times], Floats]] = {
    "hour": lambda times: _seconds(times, "D") / 86400.0,  # of the day
    "weekday": lambda times: (_days(times) + 3.0) / 7.0 % 1.0,  # 1970-01-01 was a Thursday
    "month": lambda times: times.astype("datetime64[M]").astype(np.float64) / 12.0 % 1.0,
    "yearday": lambda times: _seconds(times, "Y") / (365.25 * 86400.0),
}


def calendar(times: Times, names: Sequence[str]) -> Floats:
    """Calendar covariates: sine and cosine of each cycle, so that its end meets its beginning.

    Args:
        times: datetime64[s] ``[N]``.
        names: keys of `CYCLES`.

    Returns:
        float64 ``[N, 2 * len(names)]``.

    Raises:
        SeriesError: an unknown name.
    """
    parts = []
    for name in names:
        if name not in CYCLES:
            raise SeriesError(f"calendar: expected names among {', '.join(CYCLES)}, got {name!r}")
        angle = 2.0 * np.pi * CYCLES[name](times)
        parts += [np.sin(angle), np.cos(angle)]
    return np.stack(parts, axis=1) if parts else np.empty((len(times), 0))
