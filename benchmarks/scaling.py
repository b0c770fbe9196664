"""Two processes of one thread against one: tokens per second of the training loop.

    python -m benchmarks.scaling

Each process of a run trains a character model on its own rows; DistributedDataParallel averages the
gradients over gloo. In the column "rows a process" two processes make a batch of twice the rows
(what one scales up for); in "rows in all" they share the batch of one. Runs of one and of two
processes take turns. Shown are the medians of the runs, each the median of its epochs, and the median
of the ratios within the rounds with the least and the largest of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

import torch

from benchmarks.machine import ROOT, facts_line
from fusedrnn.lm import LanguageModel, LanguageModelTask
from fusedrnn.train import Settings, distributed, train

CASES = (("lstm", 256, 32, 64), ("lstm", 512, 32, 64), ("gru", 512, 64, 64), ("elman", 256, 32, 35))
_VOCABULARY = 65
_TOKENS = 200_000


def work(cell: str, hidden: int, batch: int, steps: int, seconds: float) -> None:
    """Trains for about ``seconds`` in this process of a run; the first prints tokens per second."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # before the processes meet, for all threads of this one
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("RANK", "0")) % len(cores)]})
    with distributed.from_environment(torch.device("cpu")):
        torch.manual_seed(0)
        ids = torch.randint(_VOCABULARY, (_TOKENS,), dtype=torch.uint8)
        task = LanguageModelTask(
            LanguageModel(_VOCABULARY, cell, hidden),
            ids[: batch * steps * 12 + 1],
            batch=batch,
            steps=steps,
        )
        first = train(task, Settings(epochs=1)).history[0]
        (longest,) = distributed.from_first([first["seconds"]])
        epochs = max(2, int(seconds / longest))
        history = train(task, Settings(epochs=epochs)).history
        if distributed.rank() == 0:
            print(json.dumps(statistics.median(record["tokens_per_s"] for record in history)))


def measure(processes: int, *case: Any, seconds: float) -> float:
    """Tokens per second of all processes together."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--no-python",
        sys.executable, "-m", "benchmarks.scaling", "--work", *map(str, case), "--seconds", str(seconds),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-1000:]}")
    rate: float = json.loads(done.stdout.splitlines()[-1])
    return rate


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def compare(cell: str, hidden: int, batch: int, steps: int, seconds: float, rounds: int) -> str:
    """One line of the table."""
    one, more, same = [], [], []
    for _ in range(rounds):
        one.append(measure(1, cell, hidden, batch, steps, seconds=seconds))
        more.append(measure(2, cell, hidden, 2 * batch, steps, seconds=seconds))
        same.append(measure(2, cell, hidden, batch, steps, seconds=seconds))
    gains = [spread([a / b for a, b in zip(rates, one, strict=True)]) for rates in (more, same)]
    rates = [f"{statistics.median(r):,.0f}" for r in (one, more, same)]
    return (
        f"| {cell} {hidden}, {batch} rows of {steps} | {rates[0]} | {rates[1]} | {gains[0]} "
        f"| {rates[2]} | {gains[1]} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many only")
    args = parser.parse_args()
    if args.work:
        cell, *sizes = args.work
        work(cell, *map(int, sizes), seconds=args.seconds)
        return
    print(f"tokens/s of training, one thread a process ({facts_line()})\n")
    print("| model | one process | two, rows a process | | two, rows in all | |")
    print("|---|---|---|---|---|---|")
    for case in CASES[: args.cases]:
        print(compare(*case, seconds=args.seconds, rounds=args.rounds), flush=True)


if __name__ == "__main__":
    main()
