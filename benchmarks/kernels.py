"""The CPU kernels alone: the ops on plain tensors, without autograd, with one thread and with all.

    python -m benchmarks.kernels                         five shapes, a minute
    python -m benchmarks.kernels --cells gru --shapes "100,1,128,128" --seconds 5

Forward that saves, then backward with all gradients, as fractions of the peak of as many cores. The
thread counts take turns. Shown are the quickest fifth, which is what the kernels can do where
nothing disturbs them, and the median in brackets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.contenders import Problem
from benchmarks.grid import GATES, SHORT_SHAPES, Case, cases
from benchmarks.machine import facts_line, fma_peak
from fusedrnn import _ops

Forward = Callable[[], tuple[Tensor, ...]]
Backward = Callable[[tuple[Tensor, ...]], _ops.Backward]
CELLS = {"rnn": "elman_tanh", "gru": "gru", "lstm": "lstm"}


def _calls(case: Case) -> tuple[Forward, Backward]:
    """Forward, and backward of what it returned."""
    problem = Problem(case, torch.get_num_threads())
    cell, x, dy = CELLS[case.cell], problem.x.detach(), problem.dy
    weights = [each.detach() for each in problem.module.parameters()]

    def forward() -> tuple[Tensor, ...]:
        return _ops.layer_forward(x, None, None, weights, None, None, cell, 1, True, False)

    def backward(kept: tuple[Tensor, ...]) -> _ops.Backward:
        y, _, _, gates, cells, hidden = kept
        return _ops.layer_backward(
            dy, None, None, x, None, None, weights, None, None, y, gates, cells, hidden,
            cell, 1, True, True, False,
        )  # fmt: skip

    return forward, backward


def measure(case: Case, threads: list[int], seconds: float) -> dict[int, dict[str, list[float]]]:
    """Seconds of the calls of forward and backward, by number of threads."""
    forward, backward = _calls(case)
    taken: dict[int, dict[str, list[float]]] = {n: {"forward": [], "backward": []} for n in threads}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for count in threads:
            torch.set_num_threads(count)
            backward(forward())  # wakes the pool
            turn = time.perf_counter() + seconds / 50
            while time.perf_counter() < turn:
                begin = time.perf_counter()
                kept = forward()
                middle = time.perf_counter()
                backward(kept)
                taken[count]["forward"].append(middle - begin)
                taken[count]["backward"].append(time.perf_counter() - middle)
    return taken


def _line(case: Case, threads: list[int], peaks: dict[int, float], seconds: float) -> str:
    cells = []
    for count, taken in measure(case, threads, seconds).items():
        both = [f + b for f, b in zip(taken["forward"], taken["backward"], strict=True)]
        for times, share in ((taken["forward"], 1 / 3), (taken["backward"], 2 / 3), (both, 1.0)):
            best = sorted(times)[len(times) // 10]  # the middle of the quickest fifth
            full = case.flops * share / (peaks[count] * 1e9)
            cells.append(f"{100 * full / best:.0f} ({100 * full / statistics.median(times):.0f})")
        cells.append(f"{1e6 * sorted(both)[len(both) // 10]:,.0f}")
    return f"| {case.cell} {case.shape} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", default=",".join(GATES), metavar="A,B")
    parser.add_argument("--shapes", default=";".join(SHORT_SHAPES), metavar="T,B,I,H;..")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each case")
    args = parser.parse_args()
    most = torch.get_num_threads()
    threads = [1, most] if most > 1 else [1]
    chosen = cases(args.shapes.split(";"), args.cells.split(","), ["training"])
    for case in chosen:
        if case.ragged or case.layers * case.directions > 1:
            parser.error(f"expected one layer of one direction, got {case.shape}")
    peaks = {count: fma_peak(count).gflops for count in threads}
    print(f"per cent of the peak, {facts_line()}")
    print(", ".join(f"{n} threads: {peak:.0f} GFLOP/s" for n, peak in peaks.items()))
    columns = [f"{n}: {part}" for n in threads for part in ("forward", "backward", "both", "us")]
    print(f"\n| cell T,B,I,H | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for case in chosen:
        print(_line(case, threads, peaks, args.seconds), flush=True)


if __name__ == "__main__":
    main()
