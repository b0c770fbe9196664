"""How good the forecasts of the test part are, beside the floors, per horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusedrnn.tasks.forecast import metrics
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.floors import Autoregression, persistence, seasonal
from fusedrnn.tasks.forecast.forecasts import forecast, point
from fusedrnn.tasks.forecast.series import Floats
from fusedrnn.tasks.forecast.task import ForecastTask
from fusedrnn.tasks.forecast.windows import Windows


@dataclass(frozen=True)
class Judged:
    """Forecasts of the test part, all methods from the same origins, on the series' own scale.

    Attributes:
        series_of, origins: int64 ``[n]``, as in `Windows`.
        actual: ``[n, K]``.
        methods: forecasts ``[n, K]`` by name; the floors, then ``"network"``.
        quantiles: ``[n, K, Q]`` of the network, and their levels; None and () without.
        scale: ``[n]``, what MASE divides by.
    """

    series_of: Any
    origins: Any
    actual: Floats
    methods: dict[str, Floats]
    scale: Floats
    quantiles: Floats | None = None
    levels: tuple[float, ...] = field(default=())

    def errors(self) -> dict[str, dict[str, list[float]]]:
        """By method, then by metric (MAE, RMSE, MASE), per horizon."""
        return {
            name: {
                "mae": metrics.mae(values, self.actual).tolist(),
                "rmse": metrics.rmse(values, self.actual).tolist(),
                "mase": metrics.mase(values, self.actual, self.scale).tolist(),
            }
            for name, values in self.methods.items()
        }

    def coverage(self) -> dict[str, list[float]]:
        """Share of values within each central interval, by the share it is meant to hold."""
        if self.quantiles is None:
            return {}
        count = len(self.levels)
        return {
            f"{self.levels[-1 - i] - self.levels[i]:g}": metrics.coverage(
                self.quantiles[:, :, i], self.quantiles[:, :, count - 1 - i], self.actual
            ).tolist()
            for i in range(count // 2)
        }


def judge(task: ForecastTask, order: int | None = None, *, seed: int = 0) -> Judged:
    """Forecasts the test part from every origin in it.

    Args:
        order: p of the AR floor; None for as many as the network has lags.
        seed: of the paths, where a rollout draws them.

    Raises:
        SeriesError: no test part, or one too short for the horizon, too early for the season or the
            lags of the floor.
    """
    settings = task.settings
    windows, floor = check(task, order)
    out = forecast(task.model, windows, settings.strategy, settings.levels, seed=seed)
    owners, origins = windows.series_of, windows.origins
    forecasts = np.stack(
        [
            task.scaling.target[task.series[owner].name].undo(each)
            for owner, each in zip(owners, out.double().numpy(), strict=True)
        ]
    )
    methods = _floors(task, owners, origins, floor)
    methods["network"] = point(forecasts)
    actual = _gather(task, owners, origins)
    scale = np.array(
        [
            metrics.naive_error(each.target[: cut.valid], settings.season)
            for each, cut in zip(task.series, task.cuts, strict=True)
        ]
    )[owners]
    quantiles = forecasts if settings.levels else None
    return Judged(owners, origins, actual, methods, scale, quantiles, settings.levels)


def check(task: ForecastTask, order: int | None = None) -> tuple[Windows, Autoregression]:
    """The windows of the test part and the AR floor, on the scale of the network.

    Cheap, and refuses all that `judge` refuses, so that it is known before the training.
    """
    settings = task.settings
    order = settings.lags if order is None else order
    windows = task.windows("test", settings.horizon)
    back, least = max(settings.season, order), int(windows.origins.min())
    if least < back:
        raise SeriesError(
            f"expected {back} steps before the test part for the season and the AR floor, "
            f"got {least}"
        )
    both = zip(task.scaled, task.cuts, strict=True)
    return windows, Autoregression([each.target[: cut.valid] for each, cut in both], order)


def _gather(task: ForecastTask, owners: Any, origins: Any) -> Floats:
    steps = np.arange(task.settings.horizon)
    return np.stack(
        [task.series[i].target[t + steps] for i, t in zip(owners, origins, strict=True)]
    )


def _floors(
    task: ForecastTask, owners: Any, origins: Any, model: Autoregression
) -> dict[str, Floats]:
    """The floors from the same origins."""
    settings = task.settings
    names = ["persistence", f"AR({model.order})"]
    if settings.season > 1:
        names.insert(1, f"season of {settings.season}")
    parts: dict[str, list[Floats]] = {name: [] for name in names}
    for number, (raw, scaled) in enumerate(zip(task.series, task.scaled, strict=True)):
        at, horizon = origins[owners == number], settings.horizon
        parts["persistence"].append(persistence(raw.target, at, horizon))
        if settings.season > 1:
            parts[names[1]].append(seasonal(raw.target, at, horizon, settings.season))
        ahead = model.forecast(scaled.target, at, horizon)
        parts[names[-1]].append(task.scaling.target[raw.name].undo(ahead))
    return {name: np.concatenate(each) for name, each in parts.items()}  # owners are in order


def table(judged: Judged, horizons: Sequence[int]) -> str:
    """The errors at these horizons (counted from 1), a line per method and metric."""
    errors = judged.errors()
    width = max(len(name) for name in errors)
    head = "".join(f"{f'{k} ahead':>12}" for k in horizons)
    lines = []
    for metric in ("mae", "rmse", "mase"):
        lines.append(f"{metric.upper():<{width}}{head}")
        for name, values in errors.items():
            cells = "".join(f"{values[metric][k - 1]:>12.4g}" for k in horizons)
            lines.append(f"{name:<{width}}{cells}")
    for share, held in judged.coverage().items():
        cells = "".join(f"{100 * held[k - 1]:>11.1f}%" for k in horizons)
        lines.append(f"{f'in the {100 * float(share):g} % interval':<{width}}{cells}")
    return "\n".join(lines)


def shown_horizons(horizon: int) -> list[int]:
    """The horizons worth a column: 1, 4, 16, 64 and so on, and the last."""
    powers = [4**i for i in range(20) if 4**i < horizon]
    return [*powers, horizon]
