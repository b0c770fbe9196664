"""Lag features: what a network sees when it forecasts, cut from one or many series.

A forecast has an origin, the first step it forecasts. The network reads ``L`` rows that end there;
the row of step ``s`` holds what is known when step ``s`` is forecast: the target and the covariates
of step ``s - 1``, and the covariates known ahead of step ``s`` itself.

    row s = (y[s-1], past[s-1], known[s])        s = origin - L + 1, ..., origin

Letters: ``L`` lags, ``K`` horizon, ``B`` windows in a batch, ``F = 1 + P + C`` features of a row, of
which ``P`` covariates of the past and ``C`` known ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.series import Floats, Series


@dataclass(frozen=True)
class Batch:
    """B windows, time first, float32.

    Attributes:
        past: ``[L, B, F]``, the rows up to the origin.
        known: ``[K, B, C]``, covariates known ahead of the forecast steps.
        target: ``[K, B]``, what the forecast steps turned out to be; zeros where unknown yet.
    """

    past: Tensor
    known: Tensor
    target: Tensor


class Windows:
    """All windows of the given series whose forecast steps lie within given spans.

    Args:
        series: scaled; ``known`` reaches as far as the forecast steps do.
        spans: for each series the steps ``[begin, end)`` that may be forecast. Lags may reach back
            before ``begin``; an end beyond the series' own asks for forecasts of the future.
        lags: L, at least 1.
        horizon: K, at least 1.
        device: where the windows are cut.

    Attributes:
        series_of: int64 ``[n]``, the series of each window.
        origins: int64 ``[n]``, the first forecast step of each window.

    Raises:
        SeriesError: lags or horizon below 1.
    """

    def __init__(
        self,
        series: Sequence[Series],
        spans: Sequence[tuple[int, int]],
        lags: int,
        horizon: int,
        device: str | torch.device = "cpu",
    ) -> None:
        if lags < 1 or horizon < 1:
            raise SeriesError(f"expected lags and horizon of at least 1, got {lags} and {horizon}")
        self.lags, self.horizon = lags, horizon
        rows, targets, starts, owners, origins = [], [], [], [], []
        offset = 0
        for number, (each, (begin, end)) in enumerate(zip(series, spans, strict=True)):
            first = np.arange(max(begin, lags), end - horizon + 1)
            starts.append(first + offset)
            origins.append(first)
            owners.append(np.full(len(first), number))
            count = max(len(each) + 1, len(each.known), end)
            rows.append(_rows(each, count))
            targets.append(_padded(each.target, count))
            offset += count
        self.series_of = np.concatenate(owners)
        self.origins = np.concatenate(origins)
        self._past_columns = series[0].past.shape[1]
        self._rows = torch.as_tensor(np.concatenate(rows), dtype=torch.float32, device=device)
        self._targets = torch.as_tensor(np.concatenate(targets), dtype=torch.float32, device=device)
        self._starts = torch.as_tensor(np.concatenate(starts), device=device)
        self._back = torch.arange(1 - lags, 1, device=device).unsqueeze(1)
        self._ahead = torch.arange(horizon, device=device).unsqueeze(1)

    def __len__(self) -> int:
        return len(self.origins)

    def batch(self, index: Tensor) -> Batch:
        """The windows of these numbers, int64 ``[B]`` in ``[0, len(self))``."""
        starts = self._starts[index.to(self._starts.device)]
        ahead = starts + self._ahead
        known = self._rows[ahead][..., 1 + self._past_columns :]
        return Batch(self._rows[starts + self._back], known, self._targets[ahead])


def _rows(series: Series, count: int) -> Floats:
    """``[count, F]``. Row 0 has nothing before it and no window begins there."""
    lagged = np.zeros((count, 1 + series.past.shape[1]))
    values = np.column_stack([series.target, series.past])[: count - 1]
    lagged[1 : 1 + len(values)] = values
    return np.concatenate([lagged, _padded(series.known, count)], axis=1)


def _padded(values: Floats, count: int) -> Floats:
    """Zeros after the last of ``values``, up to ``count`` rows."""
    return np.concatenate([values, np.zeros((count - len(values), *values.shape[1:]))])
