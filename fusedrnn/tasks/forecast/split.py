"""Training, validation and test part of series: always in this order in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.series import Series


@dataclass(frozen=True)
class Cut:
    """Where the parts of one series begin: training ``[0, valid)``, validation ``[valid, test)``,
    test ``[test, end)``."""

    valid: int
    test: int
    end: int


def split(
    series: Sequence[Series], valid_fraction: float = 0.0, test_fraction: float = 0.2
) -> list[Cut]:
    """A cut for each series, all at the same two moments.

    The moments are shares of the distinct dates of all series together (of the steps of the longest
    one, without dates), so that no series is trained on what another is tested on before.

    Args:
        valid_fraction, test_fraction: shares of the end, each from 0, together below 1.

    Raises:
        SeriesError: fractions that leave nothing to train on.
    """
    rest = 1.0 - valid_fraction - test_fraction
    if valid_fraction < 0.0 or test_fraction < 0.0 or rest <= 0.0:
        raise SeriesError(
            "expected fractions from 0 for validation and test, together below 1, "
            f"got {valid_fraction} and {test_fraction}"
        )
    clocks = [
        np.arange(len(each)) if each.times is None else each.times[: len(each)] for each in series
    ]
    moments = np.unique(np.concatenate(clocks))
    # Rounded first, so that 0.8 of 100 is 80 whatever 1 - 0.2 is in binary.
    valid = round(rest * len(moments), 6)
    test = round((1.0 - test_fraction) * len(moments), 6)
    cuts = []
    for clock in clocks:
        at = [
            int(np.searchsorted(clock, moments[int(place)]))
            if int(place) < len(moments)
            else len(clock)
            for place in (valid, test)
        ]
        cuts.append(Cut(at[0], at[1], len(clock)))
    if all(cut.valid == 0 for cut in cuts):
        raise SeriesError(f"expected steps to train on, got none of {len(moments)}")
    return cuts
