"""What a forecast is to be: everything but the data and the parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.forecasts import STRATEGIES
from fusedrnn.tasks.forecast.series import Columns


@dataclass(frozen=True)
class Settings:
    """The settings of a forecast.

    Attributes:
        columns: of the file.
        calendar: cycles of `dates.CYCLES` that the network sees.
        lags: L, steps that the network reads.
        horizon: K, steps that it forecasts.
        season: length of the season that the seasonal floor repeats and that MASE is scaled by; 1
            for none.
        strategy: ``"rollout"`` or ``"direct"``, see `forecasts`.
        levels: quantiles to learn, rising, an odd number of them with 0.5 in the middle; none for
            the mean.
        scale: ``"standard"`` or ``"none"``.
        valid_fraction, test_fraction: see `split`.
        kind, cell, hidden, layers, dropout, residual: of the network, see `networks.build`.

    Raises:
        SeriesError: settings that do not go together.
    """

    columns: Columns = field(default_factory=lambda: Columns("value"))
    calendar: tuple[str, ...] = ()
    lags: int = 12
    horizon: int = 1
    season: int = 1
    strategy: str = "rollout"
    levels: tuple[float, ...] = ()
    scale: str = "standard"
    valid_fraction: float = 0.1
    test_fraction: float = 0.2
    kind: str = "rnn"
    cell: str = "gru"
    hidden: int = 32
    layers: int = 1
    dropout: float = 0.0
    residual: bool = False

    def __post_init__(self) -> None:
        for name in ("lags", "horizon", "season"):
            if getattr(self, name) < 1:
                raise SeriesError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.strategy not in STRATEGIES:
            raise SeriesError(
                f"strategy: expected one of {', '.join(STRATEGIES)}, got {self.strategy!r}"
            )
        middle = self.levels[len(self.levels) // 2] if self.levels else 0.5
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not rising or middle != 0.5 or not all(0.0 < level < 1.0 for level in self.levels):
            raise SeriesError(
                "quantiles: expected rising levels above 0 and below 1 with 0.5 in their middle, "
                f"got {', '.join(map(str, self.levels))}"
            )

    @property
    def steps(self) -> int:
        """Forecast steps of a training window: one where the network is rolled out by itself."""
        return 1 if self.strategy == "rollout" and self.kind != "seq2seq" else self.horizon

    def network(self) -> dict[str, Any]:
        """The configuration that `networks.build` takes."""
        return {
            "kind": self.kind,
            "cell": self.cell,
            "lags": self.lags,
            "past_columns": len(self.columns.past),
            "known_columns": len(self.columns.known) + 2 * len(self.calendar),
            "steps": self.steps,
            "outputs": len(self.levels) or 1,
            "hidden": self.hidden,
            "layers": self.layers,
            "dropout": self.dropout,
            "residual": self.residual,
        }

    def to_dict(self) -> dict[str, Any]:
        """In JSON's own types."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return values

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Settings:
        """What `to_dict` gave, also after a journey through JSON."""
        columns = dict(value["columns"])
        columns |= {name: tuple(columns[name]) for name in ("past", "known")}
        lists = {name: tuple(value[name]) for name in ("calendar", "levels")}
        return cls(**{**value, **lists, "columns": Columns(**columns)})
