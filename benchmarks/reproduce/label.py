"""Classification, tagging and long memory.

Tags: the development part of Universal Dependencies English EWT, its last fifth held out; found in
the folder that $FUSEDRNN_DATA names, else in shared/data beside the repository. Digits:
scikit-learn's, as sequences of 64 pixels. Adding and copying: see `fusedrnn.tasks.label.memory`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.reproduce.language_model import run
from fusedrnn.tasks.label.memory import MemoryTask
from fusedrnn.train import Settings, Trainer

Row = dict[str, Any]

_EWT = "en_ewt-ud-dev.conllu"


def _scored(flags: str, asked: Callable[[float], str]) -> Callable[[], Row]:
    """A run of `fusedrnn classify` or `tag`, by its accuracy on the held-out part."""

    def make() -> Row:
        folder = Path(os.environ.get("FUSEDRNN_DATA") or ROOT.parent / "shared" / "data")
        _, epochs, printed = run(flags.replace(_EWT, str(folder / _EWT)))
        floor, value = re.search(r"floor: (.*) ([0-9.]+)$", printed, re.MULTILINE).groups()
        last = epochs[-1]
        return {
            "ours": f"accuracy {last['valid_accuracy']:.4f}, macro F1 {last['valid_macro_f1']:.4f}",
            "floor": f"{value} ({floor})",
            "asked": asked(float(value)),
            "seconds": round(sum(epoch["seconds"] for epoch in epochs)),
            "command": f"fusedrnn {flags}",
        }

    return make


def _memory(
    problem: str, steps: int, cell: str, epochs: int, until: float, asked: str = "", **options: Any
) -> Callable[[], Row]:
    """A run of 100 updates an epoch, which ends when the held-out loss is below ``until``."""

    def make() -> Row:
        task = MemoryTask(problem, steps, cell, **options)
        trainer = Trainer(task, Settings(epochs=epochs, lr=0.005))
        for record in trainer.epochs():
            if record["valid_loss"] < until:
                break
        history = trainer.result.history
        name = "MSE" if problem == "adding" else "nats per step"
        return {
            "ours": f"{name} {history[-1]['valid_loss']:.4f} after {100 * len(history):,} updates",
            "floor": f"{task.floor:.4f}",
            "asked": asked,
            "seconds": round(sum(record["seconds"] for record in history)),
            "command": f"python -m benchmarks.reproduce label --only '{problem} T={steps}'",
        }

    return make


_DIGITS = "classify train digits --no-bidirectional --dropout 0 --epochs 20"
_CHRONO = {"initialisation": "chrono"}

TABLE: list[tuple[str, Callable[[], Row]]] = [
    (
        "part-of-speech tags of EWT",
        _scored(f"tag train {_EWT} --schedule cosine", lambda floor: f">= {floor + 0.02:.4f}"),
    ),
    ("digits as 64 pixels, GRU", _scored(f"{_DIGITS} --cell gru", lambda _: ">= 0.95")),
    (
        "digits as 64 pixels, LSTM chrono",
        _scored(f"{_DIGITS} --cell lstm --init chrono --longest 64", lambda _: ""),
    ),
    ("adding T=200, GRU", _memory("adding", 200, "gru", 40, 0.01, "< 0.01")),
    ("adding T=200, LSTM", _memory("adding", 200, "lstm", 60, 0.01, "< 0.01")),
    (
        "adding T=200, LSTM chrono",
        _memory("adding", 200, "lstm", 40, 0.01, "< 0.01", **_CHRONO, longest=200),
    ),
    ("adding T=200, tanh Elman", _memory("adding", 200, "elman", 40, 0.01, "not solved")),
    ("copying T=100, GRU", _memory("copying", 100, "gru", 30, 0.1)),
    (
        "copying T=100, GRU chrono",
        _memory("copying", 100, "gru", 40, 0.1, "< 0.1733", **_CHRONO, longest=120),
    ),
]
