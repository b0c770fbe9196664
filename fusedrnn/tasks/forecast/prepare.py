"""From series as read to series as a network sees them: calendar added, every column scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusedrnn.tasks.forecast.dates import calendar, following
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.scale import Scale
from fusedrnn.tasks.forecast.series import Series
from fusedrnn.tasks.forecast.split import Cut


def ready(series: Series, names: Sequence[str], ahead: int) -> Series:
    """The series with dates and all covariates known ahead (its own, then the calendar's) for
    exactly ``ahead`` steps after its end.

    Args:
        names: of the calendar's cycles, see `dates.CYCLES`.

    Raises:
        SeriesError: a calendar without dates, or own covariates that end too early.
    """
    count = len(series) + ahead
    own = series.known.shape[1]
    if own and len(series.known) < count:
        raise SeriesError(
            f"series {series.name!r}: expected covariates known ahead for {ahead} steps after its "
            f"last value, got {len(series.known) - len(series)}"
        )
    known = series.known[:count] if own else np.empty((count, 0))
    times = series.times
    if times is not None:
        missing = max(0, count - len(times))
        if missing and len(times) < 2:
            raise SeriesError(f"series {series.name!r}: expected at least two dates, got one")
        times = np.concatenate([times, following(times, missing)])[:count] if missing else times
        times = times[:count]
    if names:
        if times is None:
            raise SeriesError("calendar: expected a column of dates to take it from, got none")
        known = np.concatenate([known, calendar(times, names)], axis=1)
    return replace(series, known=known, times=times)


@dataclass(frozen=True)
class Scaling:
    """The scales of all columns: of the target for each series, of covariates for all together."""

    target: Mapping[str, Scale]
    past: Scale
    known: Scale

    @classmethod
    def fit(cls, series: Sequence[Series], cuts: Sequence[Cut], how: str = "standard") -> Scaling:
        """Fitted on the training parts alone; see `Scale.fit`.

        Raises:
            SeriesError: a series without a training part.
        """
        for each, cut in zip(series, cuts, strict=True):
            if cut.valid == 0:
                raise SeriesError(
                    f"series {each.name!r}: expected steps in the training part, got none (it "
                    "begins after it)"
                )
        both = list(zip(series, cuts, strict=True))
        return cls(
            {each.name: Scale.fit(each.target[: cut.valid], how) for each, cut in both},
            Scale.fit(np.concatenate([each.past[: cut.valid] for each, cut in both]), how),
            Scale.fit(np.concatenate([each.known[: cut.valid] for each, cut in both]), how),
        )

    def apply(self, series: Series) -> Series:
        """The series scaled. Raises SeriesError for one that the scaling was not fitted on."""
        if series.name not in self.target:
            shown = ", ".join(list(self.target)[:10])
            raise SeriesError(
                f"expected a series that was trained on ({shown}), got {series.name!r}"
            )
        return replace(
            series,
            target=self.target[series.name].apply(series.target),
            past=self.past.apply(series.past),
            known=self.known.apply(series.known),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": {name: scale.to_dict() for name, scale in self.target.items()},
            "past": self.past.to_dict(),
            "known": self.known.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Scaling:
        return cls(
            {name: Scale.from_dict(scale) for name, scale in value["target"].items()},
            Scale.from_dict(value["past"]),
            Scale.from_dict(value["known"]),
        )
