"""Which curves the report of a run shows, out of whatever its metrics hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MOST_POINTS = 1500  # of a curve: more than a screen has
_TITLES = {
    "lr": "learning rate",
    "grad_norm": "gradient norm, before clipping",
    "seconds": "seconds",
}
_FIRST = ("perplexity", "loss")
_LAST = ("grad_norm", "lr")

Lines = Sequence[Mapping[str, Any]]


def charts_of(epochs: Lines, steps: Lines, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Charts for the page: ``title``, ``x`` (name of the axis), ``log``, ``series`` (``name`` and
    ``points``, pairs of numbers) and ``levels`` (``name`` and ``value``).

    Args:
        epochs, steps: the objects of ``metrics.jsonl`` and of ``steps.jsonl``.
        about: `fusedrnn.train.about.about` of the run.
    """
    charts = [_over_epochs(key, epochs, about) for key in _keys(epochs, about)]
    for key in ("loss", "grad_norm", "lr"):
        series = [_series("each update", "update", key, steps)]
        charts.append(_chart(f"{_TITLES.get(key, key)}, update by update", "update", series))
    return [chart for chart in charts if chart["series"]]


def _keys(epochs: Lines, about: Mapping[str, Any]) -> list[str]:
    """What is worth a chart, the figure of merit first; ``valid_<key>`` goes with its ``<key>``."""
    unit = str(about.get("unit", ""))
    found: dict[str, None] = {}
    for line in epochs:
        for key, value in line.items():
            base = key.removeprefix("valid_").removeprefix("largest_")
            if (
                key not in ("epoch", "seconds", unit)
                and f"{key}_per_s" not in line
                and _finite(value)
            ):
                found[base] = None
    first = [key for key in _FIRST if key in found]
    last = [key for key in _LAST if key in found]
    speed = [key for key in found if key.endswith("_per_s")]
    rest = [key for key in found if key not in (*first, *last, *speed)]
    return [*first, *rest, *last, *speed]


def _over_epochs(key: str, epochs: Lines, about: Mapping[str, Any]) -> dict[str, Any]:
    title = _TITLES.get(key, key.replace("_per_s", "/s").replace("_", " "))
    plain = key in ("lr",) or key.endswith("_per_s")
    names = {
        key: "mean" if key == "grad_norm" else title if plain else "training",
        f"valid_{key}": "held out",
        f"largest_{key}": "largest",
    }
    series = [_series(name, "epoch", field, epochs) for field, name in names.items()]
    merit = "perplexity" if about.get("perplexity", "perplexity" in epochs[-1]) else "loss"
    floors = about.get("floors", {}) if key == merit else {}
    return _chart(title, "epoch", series, floors, log=key in ("perplexity", "grad_norm"))


def _chart(
    title: str,
    x: str,
    series: Iterable[dict[str, Any]],
    floors: Mapping[str, float] | None = None,
    log: bool = False,
) -> dict[str, Any]:
    levels = [{"name": name, "value": value} for name, value in (floors or {}).items()]
    kept = [each for each in series if each["points"]]
    return {"title": title, "x": x, "log": log, "series": kept, "levels": levels}


def _series(name: str, x: str, y: str, lines: Lines) -> dict[str, Any]:
    points = [[line[x], line[y]] for line in lines if _finite(line.get(x)) and _finite(line.get(y))]
    # Evenly spaced ones, the last among them.
    apart = math.ceil(len(points) / _MOST_POINTS) or 1
    return {"name": name, "points": points[::-1][::apart][::-1]}


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
