"""Forecasting: a textbook's noisy sine, and monthly sunspots.

The textbook is Zhang, Lipton, Li, Smola, *Dive into Deep Learning*, section 9.1: a sine of 0.01 t
with normal noise of 0.2, 1,000 points, four lags, the first 600 points to train on, a perceptron with
10 hidden units, Adam 0.01, 5 epochs. The sunspots are the 2,820 months from 1749 to 1983, their last
fifth held back.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.reproduce.command import call

_SINE = (
    "forecast sine.csv --target value --lags 4 --horizon 64 --model mlp --hidden 10 --scale none "
    "--valid-fraction 0 --test-fraction 0.4 --batch 16 --epochs 5 --lr 0.01"
)
_SUNSPOTS = "forecast sunspots.csv --target sunspots --time month --valid-fraction 0 --residual"
_MONTH = f"{_SUNSPOTS} --lags 36 --epochs 15 --schedule cosine"
_TWO_YEARS = (
    f"{_SUNSPOTS} --lags 132 --horizon 24 --strategy direct --quantiles 0.1,0.5,0.9 --season 132 "
    "--epochs 12 --schedule cosine"
)


def run(example: str, flags: str) -> dict[str, Any]:
    """Runs ``fusedrnn`` on an example: its epochs, its errors, its forecasts and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        call(f"forecast --example {example}", folder)
        begin = time.perf_counter()
        call(f"{flags} --out run", folder)
        seconds = time.perf_counter() - begin
        out = Path(folder, "run")
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        with (out / "forecasts.csv").open(encoding="utf-8", newline="") as file:
            future = [float(row["forecast"]) for row in csv.DictReader(file)]
        errors = json.loads((out / "errors.json").read_text(encoding="utf-8"))
    return {
        "epochs": [json.loads(line) for line in lines],
        "errors": errors,
        "future": future,
        "seconds": round(seconds),
        "command": f"fusedrnn forecast --example {example}\nfusedrnn {flags}",
    }


def _row(found: dict[str, Any], **columns: str) -> dict[str, Any]:
    return {**columns, "seconds": found["seconds"], "command": found["command"]}


def _training_loss() -> dict[str, Any]:
    found = run("sine", _SINE)
    return _row(
        found,
        ours=f"training loss {found['epochs'][-1]['loss']:.3f}",
        floor="variance of the noise 0.04",
        asked="about 0.05",
        published="about 0.05",
    )


def _constant() -> dict[str, Any]:
    """How far a forecast of 64 steps still moves in its first 16 steps and in its last 16."""
    found = run("sine", _SINE)
    future = found["future"]
    first, last = abs(future[15] - future[0]), abs(future[63] - future[47])
    return _row(
        found,
        ours=f"moves by {first:.2f} in its first 16 steps, by {last:.2f} in its last 16",
        asked="64 steps ahead decay to a constant",
    )


def _next_month() -> dict[str, Any]:
    found = run("sunspots", _MONTH)
    errors = found["errors"]
    return _row(
        found,
        ours=f"RMSE {errors['network']['rmse'][0]:.2f}",
        floor=f"persistence {errors['persistence']['rmse'][0]:.1f}, "
        f"AR(36) {errors['AR(36)']['rmse'][0]:.2f}",
        asked="< 20.1",
    )


def _two_years() -> dict[str, Any]:
    found = run("sunspots", _TWO_YEARS)
    errors = found["errors"]
    floors = {name: each for name, each in errors.items() if isinstance(each, dict)}
    shown = [f"{n} {e['mae'][23]:.1f}" for n, e in floors.items() if "mae" in e and n != "network"]
    held = errors["coverage"]["0.8"][23]
    return _row(
        found,
        ours=f"MAE {errors['network']['mae'][23]:.1f}; {100 * held:.0f} % in the 80 % interval",
        floor=", ".join(shown),
    )


TABLE: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    ("noisy sine, perceptron 4-10-1", _training_loss),
    ("noisy sine, 64 steps by rollout", _constant),
    ("monthly sunspots, GRU 32, one month ahead", _next_month),
    ("monthly sunspots, GRU 32, 24 months ahead", _two_years),
]
