"""Scaling of a series, fitted on its training part alone and undone in the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.series import Floats

SCALES = ("standard", "none")


@dataclass(frozen=True)
class Scale:
    """``(value - mean) / std``; of one column (float64 scalars) or of several (``[C]``)."""

    mean: Floats
    std: Floats

    @classmethod
    def fit(cls, values: Floats, how: str = "standard") -> Scale:
        """The scale of float64 ``values [N]`` or ``[N, C]``.

        A constant column is shifted and not stretched. ``how="none"`` leaves values as they are.

        Raises:
            SeriesError: no values, or an unknown ``how``.
        """
        if how not in SCALES:
            raise SeriesError(f"scale: expected one of {', '.join(SCALES)}, got {how!r}")
        if len(values) == 0:
            raise SeriesError("scale: expected at least one value in the training part, got none")
        shape = values.shape[1:]
        if how == "none":
            return cls(np.zeros(shape), np.ones(shape))
        mean, std = values.mean(axis=0), values.std(axis=0)
        # Rounding leaves a constant column a spread of some 1e-16 of its size: it counts as none.
        still = std <= 1e-12 * np.abs(mean)
        return cls(np.asarray(mean), np.where(still, 1.0, std))

    def apply(self, values: Floats) -> Floats:
        scaled: Floats = (values - self.mean) / self.std
        return scaled

    def undo(self, values: Floats) -> Floats:
        original: Floats = values * self.std + self.mean
        return original

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scale:
        return cls(np.asarray(value["mean"], float), np.asarray(value["std"], float))
