"""Forecasts of the future from a checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from fusedrnn.tasks.forecast.dates import short_time
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.forecasts import forecast, point
from fusedrnn.tasks.forecast.networks import Network, build
from fusedrnn.tasks.forecast.prepare import Scaling, ready
from fusedrnn.tasks.forecast.series import Floats, Series, Times, read_csv
from fusedrnn.tasks.forecast.settings import Settings
from fusedrnn.tasks.forecast.windows import Windows
from fusedrnn.train import checkpoint


@dataclass(frozen=True)
class Forecast:
    """What comes after the end of a series.

    Attributes:
        name: of the series.
        times: datetime64[s] ``[K]``, or None for a series without dates.
        point: ``[K]``, the mean or median.
        quantiles: ``[K, Q]`` at ``levels``; None without.
    """

    name: str
    times: Times | None
    point: Floats
    quantiles: Floats | None = None
    levels: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In JSON's own types."""
        result: dict[str, Any] = {"series": self.name, "forecast": self.point.tolist()}
        if self.times is not None:
            result["times"] = self.times.astype(str).tolist()
        if self.quantiles is not None:
            pairs = zip(self.levels, self.quantiles.T.tolist(), strict=True)
            result["quantiles"] = {f"{level:g}": values for level, values in pairs}
        return result


@dataclass(frozen=True)
class Forecaster:
    """A trained network with all that turns series into forecasts.

    Attributes:
        tails: the end of each series that it was trained on.
    """

    settings: Settings
    scaling: Scaling
    network: Network
    tails: Sequence[Series]

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Forecaster:
        """From a checkpoint, or the folder of a run: its best one, else its last one.

        Raises:
            CheckpointError: no such file, or none of a forecast.
        """
        path = Path(path)
        best = path / "best.safetensors"
        found = checkpoint.read(best if best.is_file() else path, "forecast")
        try:
            settings = Settings.from_dict(found.about["settings"])
            network = build(settings.network()).to(device)
            network.load_state_dict(found.model)
            scaling = Scaling.from_dict(found.about["scaling"])
            tails = [_series(tail) for tail in found.about["tails"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.CheckpointError(
                f"{path}: expected a whole checkpoint, got: {error}"
            ) from error
        return cls(settings, scaling, network, tails)

    def read(
        self, path: str | Path, *, delimiter: str = ",", time_format: str | None = None
    ) -> list[Series]:
        """The series of a file with the columns of the settings, see `read_csv`. The only series of
        a file is the one that was trained on, whatever the file is called."""
        columns = self.settings.columns
        series = read_csv(path, columns, delimiter=delimiter, time_format=time_format)
        if columns.series is None:
            return [replace(series[0], name=next(iter(self.scaling.target)))]
        return series

    def forecast(self, series: Sequence[Series] | None = None, *, seed: int = 0) -> list[Forecast]:
        """The ``horizon`` steps after the end of each series.

        Args:
            series: as read, with the columns of the settings; None for those trained on.
            seed: of the paths, where a rollout draws them.

        Raises:
            SeriesError: a series that was not trained on, too short a one, or covariates known
                ahead that end before the horizon.
        """
        settings = self.settings
        lags, horizon = settings.lags, settings.horizon
        raw = self.tails if series is None else series
        for each in raw:
            if len(each) < lags:
                raise SeriesError(
                    f"series {each.name!r}: expected at least {lags} values, the lags, to forecast "
                    f"from, got {len(each)}"
                )
        whole = [ready(each, settings.calendar, horizon) for each in raw]
        scaled = [self.scaling.apply(each) for each in whole]
        spans = [(len(each), len(each) + horizon) for each in raw]
        device = next(self.network.parameters()).device
        windows = Windows(scaled, spans, lags, horizon, device)
        out = forecast(self.network, windows, settings.strategy, settings.levels, seed=seed)
        return [
            self._one(each, values)
            for each, values in zip(whole, out.double().numpy(), strict=True)
        ]

    def _one(self, series: Series, out: Floats) -> Forecast:
        values = self.scaling.target[series.name].undo(out)
        times = None if series.times is None else series.times[len(series) :]
        quantiles = values if self.settings.levels else None
        return Forecast(series.name, times, point(values), quantiles, self.settings.levels)


def _series(tail: Mapping[str, Any]) -> Series:
    count = len(tail["target"])
    times = tail["times"]
    return Series(
        tail["name"],
        np.asarray(tail["target"], float),
        np.asarray(tail["past"], float).reshape(count, -1) if count else np.empty((0, 0)),
        np.asarray(tail["known"], float).reshape(len(tail["known"]), -1),
        None if times is None else np.asarray(times, dtype="datetime64[s]"),
    )


def write_csv(file: TextIO, forecasts: Sequence[Forecast]) -> None:
    """A row per forecast step: series, time (or step, from 1), forecast, and the quantiles."""
    levels = forecasts[0].levels if forecasts else ()
    dated = bool(forecasts) and forecasts[0].times is not None
    writer = csv.writer(file, lineterminator="\n")
    names = [f"quantile {level:g}" for level in levels]
    writer.writerow(["series", "time" if dated else "step", "forecast", *names])
    for each in forecasts:
        for k, value in enumerate(each.point):
            when = k + 1 if each.times is None else short_time(each.times[k])
            quantiles = [] if each.quantiles is None else each.quantiles[k]
            writer.writerow([each.name, when, *(f"{v:.6g}" for v in (value, *quantiles))])
