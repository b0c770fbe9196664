"""What simple methods reach, beside what the run has reached, as a table of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_RUN = "this run, best held out"


def floor_rows(
    epochs: Sequence[Mapping[str, Any]], about: Mapping[str, Any], show: Callable[[float], str]
) -> dict[str, str]:
    """The floors of a run, and the run itself, by their names.

    Args:
        epochs: the objects of ``metrics.jsonl``.
        about: as `fusedrnn.train.about.about` gave it.
        show: makes text of a number.
    """
    floors = dict(about.get("floors", {}))
    if not floors:
        return {}
    reached = [each["valid_perplexity"] for each in epochs if each.get("valid_perplexity")]
    if about.get("perplexity") and reached:
        floors[_RUN] = min(reached)
    sizes = about.get("held_out") or {}
    return {name: show(value) + _per_text(value, sizes, show) for name, value in floors.items()}


def _per_text(value: float, sizes: Mapping[str, int], show: Callable[[float], str]) -> str:
    """The perplexity per token, ``value``, in the units of the text that its tokens were read from."""
    if not sizes:
        return ""
    bits = math.log2(value) * sizes.get("tokens", 0)
    units = [(sizes.get(f"{unit}s", 0), unit) for unit in ("character", "word")]
    shown = [f"{show(bits / count)} bits per {unit}" for count, unit in units if count]
    return "".join(f", {each}" for each in shown)
