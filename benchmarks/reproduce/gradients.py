"""What gradients do on their way back, in small character models of each cell.

Pascanu, Mikolov, Bengio, arXiv:1211.5063: in an Elman network they fade or grow with the powers of
the recurrent weights; Hochreiter and Schmidhuber (1997): in an LSTM they last. The text is the help
that Python itself ships.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.reproduce.command import call

_BACK = 32


def _row(cell: str) -> Callable[[], dict[str, Any]]:
    train = f"train --cell {cell} --hidden 64 --epochs 3 --max-tokens 100000 --out runs/{cell}"
    show = f"gradients runs/{cell}"

    def make() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            call(train, folder)
            call(show, folder)
            seconds = time.perf_counter() - begin
            text = Path(folder, "runs", cell, "gradients.json").read_text(encoding="utf-8")
        (found,) = json.loads(text)
        parts = [f"{_kept(found[when]):.0e} {when}" for when in ("before", "after")]
        cut = found["truncated"]
        return {
            "ours": f"norm {_BACK} steps back, of that at the loss: {' and '.join(parts)} training; "
            f"off by {100 * cut['fixed_error']:.1f} % when cut every {cut['every']} steps, by "
            f"{100 * cut['mean_error']:.1f} % in the mean of {cut['draws']} random cuts",
            "floor": f"singular value ** {_BACK}: {_power(found['before']):.0e} before and "
            f"{_power(found['after']):.0e} after training",
            "seconds": round(seconds),
            "command": f"fusedrnn {train}\nfusedrnn {show}",
        }

    return make


def _kept(curve: dict[str, Any]) -> float:
    return float(curve["h"][_BACK] / curve["h"][0])


def _power(curve: dict[str, Any]) -> float:
    return float(curve["spectrum"]["singular"] ** _BACK)


TABLE: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    (f"{cell} 64", _row(cell)) for cell in ("elman", "lstm", "gru")
]
