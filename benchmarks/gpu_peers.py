"""fusedrnn on the GPU beside everybody who can be there: cuDNN, torch.compile, FlashRNN.

A few shapes alone: torch.compile and FlashRNN compile anew for each. Whoever cannot take part is
named, with the reason; whoever gives other results than torch.nn in float32 is not timed. Runs
in a process of its own, after the large benchmark, and FlashRNN last: a foreign kernel that fails
leaves the device unusable for the process. Ends with code 1 where fusedrnn itself failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import contenders
from benchmarks.contenders import fused
from benchmarks.grid import KINDS, Case

Timer = Callable[[Callable[[int], object]], float]
"""Milliseconds of a function of a counter."""
_NO_TIME = "no time was left"


def cases() -> list[Case]:
    shapes = [(256, 16, hidden, hidden) for hidden in (256, 768)]
    return [
        Case(cell, *shape, dtype=dtype)
        for shape in shapes
        for dtype in ("bfloat16", "float32")
        for cell in ("lstm", "gru")
    ]


def _empty(case: Case, name: str) -> dict[str, Any]:
    """A row without figures."""
    return {
        "cell": case.cell, "shape": case.shape, "T": case.steps, "dtype": case.dtype,
        "contender": contenders.load(name).NAME,
    }  # fmt: skip


def measure(case: Case, name: str, device: str, timer: Timer) -> dict[str, Any]:
    """One row: milliseconds forward and in training, or why there are none."""
    module = contenders.load(name)
    row = _empty(case, name)
    reason = module.missing()
    if reason is not None:
        return {**row, "reason": reason}
    try:
        for kind in KINDS:
            problem = contenders.Problem(replace(case, kind=kind), 0, device)
            call = module.build(problem)
            error = contenders.error(call(), problem.expected)
            allowed = contenders.TOLERANCE[case.dtype]
            if not error <= allowed:
                return {
                    **row,
                    "reason": f"other results: {error:.1e}, where {allowed:g} is allowed",
                }
            row[f"{kind}_ms"] = timer(_counted(call))
    except Exception as error:  # a peer may fail in any way; the others go on
        return {**row, "reason": f"{type(error).__name__}: {error}"[:500]}
    return row


def _counted(call: contenders.Call) -> Callable[[int], object]:
    return lambda _: call()


def measure_all(
    todo: Iterable[Case], names: Iterable[str], device: str, timer: Timer, budget: float, out: Path
) -> list[dict[str, Any]]:
    """All rows, contender by contender; nothing begins past the budget (seconds).

    peers.json and peers.md hold after each row what there is by then, and before it a row that says
    so for the case whose building or running never ends.
    """
    start = time.monotonic()
    rows: list[dict[str, Any]] = []
    for name, case in itertools.product(names, list(todo)):
        nothing = _empty(case, name)
        if time.monotonic() - start > budget:
            rows.append({**nothing, "reason": _NO_TIME})
        else:
            _write([*rows, {**nothing, "reason": "not done when time ran out"}], out)
            rows.append(measure(case, name, device, timer))
        _write(rows, out)
        print(line(rows[-1]), flush=True)
    return rows


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    (out / "peers.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "peers.md").write_text(markdown(rows))


def ours_failed(rows: list[dict[str, Any]]) -> bool:
    """Whether fusedrnn has a row without figures for another reason than time."""
    return any(
        row["contender"] == fused.NAME and row.get("reason", _NO_TIME) != _NO_TIME for row in rows
    )


def line(row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    head = f"| {row['cell']} {row['shape']} | {row['contender']} | "
    if "reason" in row:
        return head + f"- | - | {row['reason'].replace(chr(10), ' ').replace('|', '/')} |"
    per_step = [f"{1e3 * row[f'{kind}_ms'] / row['T']:.2f}" for kind in ("forward", "training")]
    return head + " | ".join(per_step) + " | |"


def markdown(rows: list[dict[str, Any]]) -> str:
    head = ["| case | who | forward, us a step | training, us a step | why not |",
            "|---|---|---|---|---|"]  # fmt: skip
    return "\n".join([*head, *map(line, rows)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for peers.json, peers.md")
    parser.add_argument("--seconds", type=float, default=0.1, help="of measuring per number")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds, then nothing begins")
    args = parser.parse_args()
    from benchmarks.gpu_bench import median_ms, set_tf32

    set_tf32(False)
    torch.cuda.init()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = measure_all(
        cases(), contenders.ON_GPU, "cuda", lambda run: median_ms(run, args.seconds),
        args.budget, args.out,
    )  # fmt: skip
    return 1 if ours_failed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
