"""Two series to try things on, with nothing downloaded."""

from __future__ import annotations

import csv
import re
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.series import Floats

EXAMPLES = ("sine", "sunspots")

_SUNSPOT_MONTHS = 2820  # January 1749 to December 1983: the Zurich series that is quoted most


def sine(steps: int = 1000, noise: float = 0.2, seed: int = 0) -> Floats:
    """``sin(0.01 t) + noise``, t from 1, with normal noise of that standard deviation.

    Source: Zhang et al., *Dive into Deep Learning*, section 9.1.3.
    """
    time = torch.arange(1, steps + 1, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(steps, generator=generator)
    return np.asarray((torch.sin(0.01 * time) + noise * drawn).double().numpy())


def sunspots(months: int = _SUNSPOT_MONTHS) -> Floats:
    """Monthly mean sunspot numbers from January 1749, of the file that statsmodels ships.

    Raises:
        SeriesError: without statsmodels (``pip install 'fusedrnn[forecast]'``).
    """
    try:
        file = resources.files("statsmodels.datasets.sunspots") / "src" / "sunspots_monthly.dat"
        text = file.read_text(encoding="utf-8")
    except (ImportError, OSError) as error:
        raise SeriesError(
            "sunspots: they come with statsmodels, which is not installed "
            "(pip install 'fusedrnn[forecast]')"
        ) from error
    years = re.findall(r"^\d{4}((?: +\d+\.\d)+) *$", text, re.MULTILINE)
    values = np.array([float(value) for year in years for value in year.split()])
    return np.asarray(values[:months])


def write_example(name: str, path: Path) -> None:
    """Writes an example as a file for `read_csv`: ``sine`` with the columns step and value,
    ``sunspots`` with month and sunspots.

    Raises:
        SeriesError: an unknown name, or what `sunspots` raises.
    """
    if name == "sine":
        header, values = ("step", "value"), sine()
        times = [str(step) for step in range(1, len(values) + 1)]
    elif name == "sunspots":
        header, values = ("month", "sunspots"), sunspots()
        times = [str(np.datetime64("1749-01") + month) for month in range(len(values))]
    else:
        raise SeriesError(f"example: expected one of {', '.join(EXAMPLES)}, got {name!r}")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(times, (f"{value:.6g}" for value in values), strict=True))
