"""Two processes of one thread against one: tokens per second of the training loop.

    python -m benchmarks.scaling

Each process of a run trains a character model on its own rows; DistributedDataParallel averages the
gradients over gloo. In the column "rows a process" two processes make a batch of twice the rows
(what one scales up for); in "rows in all" they share the batch of one. All runs live side by side and
train in short turns, so that a machine whose speed changes by the minute is the same for all of them;
who has no turn sleeps. Shown are the medians of the turns, and of the ratios within the rounds, with
their quartiles. Rounds for which the machine lacked a core, or its cores lay apart
(:mod:`benchmarks.steady`), are repeated; how many is said.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import machine
from benchmarks.machine import ROOT, facts_line
from benchmarks.steady import PATIENCE, watched
from fusedrnn.lm import LanguageModel, LanguageModelTask
from fusedrnn.train import Settings, distributed, train

CASES = (("lstm", 256, 32, 64), ("lstm", 512, 32, 64), ("gru", 512, 64, 64), ("elman", 256, 32, 35))
_VOCABULARY = 65
_LEAST = 2  # batches of an epoch


def work(cell: str, hidden: int, batch: int, steps: int, seconds: float) -> None:
    """One process of a run: trains two epochs of about ``seconds`` for each line of the standard input.

    The first process reads the lines and answers each with the tokens per second of all, in the second
    epoch: the first finds the caches as another run has left them.
    """
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # before the processes meet, for all threads of this one
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("RANK", "0")) % len(cores)]})
    with distributed.from_environment(torch.device("cpu")):
        torch.manual_seed(0)
        model = LanguageModel(_VOCABULARY, cell, hidden)

        def second_epoch(batches: int) -> dict[str, Any]:
            # one batch more than are wanted, since each epoch begins at an offset of its own
            ids = torch.randint(_VOCABULARY, (batch * steps * (batches + 1),), dtype=torch.uint8)
            task = LanguageModelTask(model, ids, batch=batch, steps=steps)
            return train(task, Settings(epochs=2)).history[1]

        first = distributed.rank() == 0
        batches = _LEAST
        while distributed.from_first(first and sys.stdin.readline()):
            record = second_epoch(batches)
            batches = distributed.from_first(
                max(_LEAST, round(batches * seconds / record["seconds"]))
            )
            if first:
                print(record["tokens_per_s"], flush=True)


class Run:
    """The processes of one run, which train only while `rate` waits for them."""

    def __init__(self, processes: int, *case: Any, seconds: float) -> None:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--no-python",
            sys.executable, "-m", "benchmarks.scaling", "--work", *map(str, case),
            "--seconds", str(seconds),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rate(self) -> float:
        """Tokens per second of all processes together, in one turn."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A run that has ended has closed its pipe, and gives no answer.
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args}: ended with {self._process.wait()}")
        return float(answer)

    def end(self) -> None:
        """Lets the processes end, and waits for them."""
        self._process.communicate()


def spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f}x ({low:.2f}-{high:.2f})"


def compare(
    cell: str,
    hidden: int,
    batch: int,
    steps: int,
    seconds: float,
    rounds: int,
    all_there: Callable[[], bool],
) -> str:
    """One line of the table."""
    with contextlib.ExitStack() as stack:
        runs = []
        for processes, rows in ((1, batch), (2, 2 * batch), (2, batch)):
            runs.append(Run(processes, cell, hidden, rows, steps, seconds=seconds))
            stack.callback(runs[-1].end)
        for run in runs:
            run.rate()  # of a short epoch: it begins with cold caches, and says how long the next is
        rates, left_out = in_rounds(runs, rounds, all_there)
    one, more, same = zip(*rates, strict=True)
    gains = [spread([a / b for a, b in zip(each, one, strict=True)]) for each in (more, same)]
    middles = [f"{statistics.median(each):,.0f}" for each in (one, more, same)]
    return (
        f"| {cell} {hidden}, {batch} rows of {steps} | {middles[0]} | {middles[1]} | {gains[0]} "
        f"| {middles[2]} | {gains[1]} | {left_out} |"
    )


def in_rounds(
    runs: Sequence[Run], wanted: int, all_there: Callable[[], bool]
) -> tuple[list[list[float]], str]:
    """Rates of all runs, round by round, and in words how many rounds were left out.

    Where three times as many do not bring the rounds that are wanted, all of them count.
    """
    turns = watched(lambda: [run.rate() for run in runs], all_there)
    good: list[list[float]] = []
    everything: list[list[float]] = []
    for rates, well in itertools.islice(turns, PATIENCE * wanted):
        everything.append(rates)
        good += [rates] * well
        if len(good) == wanted:
            return good, str(len(everything) - wanted)
    return everything, f"none, of {len(everything) - len(good)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.4, help="half of a turn")
    parser.add_argument("--rounds", type=int, default=25, help="at least 2")
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many only")
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error(f"--rounds: expected at least 2, got {args.rounds}")
    if args.work:
        cell, *sizes = args.work
        work(cell, *map(int, sizes), seconds=args.seconds)
        return
    print(f"tokens/s of training, one thread a process ({facts_line()})\n")
    print("| model | one process | two, rows a process | | two, rows in all | | rounds left out |")
    print("|---|---|---|---|---|---|---|")
    cores = machine.cores(2)
    all_there = cores.all_there if cores else lambda: True
    for case in CASES[: args.cases]:
        print(compare(*case, args.seconds, args.rounds, all_there), flush=True)


if __name__ == "__main__":
    main()
