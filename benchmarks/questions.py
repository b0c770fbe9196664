"""What the grid does not ask: one step, one tiny call, lengths, resets, token ids, bfloat16, memory.

Each question is asked of one cell and compares ways to do the same work, mostly our own. A way that
cannot be had here is left out by name, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import book, memory
from benchmarks.busy import busy_process
from benchmarks.contenders import Call, Problem, Unsupported, fused, torch_nn
from benchmarks.grid import Case
from benchmarks.timing import Effort

OURS, TORCH = fused.NAME, torch_nn.NAME
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@dataclass
class Trial:
    """Callables to be timed against each other."""

    group: str
    case: Case
    calls: dict[str, Call] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)  # bytes kept for backward
    steps: dict[str, int] = field(default_factory=dict)  # steps of a call, where they differ
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    effort: Effort | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)  # seconds, measured already
    tokens: int = 0  # of a call, where there are such
    all_cores: bool = True  # whether rounds for which the machine lacks a core are repeated

    def add(self, name: str, make: Callable[..., Call], *arguments: Any, **options: Any) -> None:
        """Builds a contender; one that cannot be built is left out with its reason."""
        try:
            self.calls[name] = make(*arguments, **options)
        except Unsupported as error:
            self.left_out[name] = str(error)
        except Exception as error:  # any failure of a contender is a result, and is shown
            self.left_out[name] = f"failed: {type(error).__name__}: {error}".splitlines()[0]


def _train(module: nn.Module, x: Tensor, dy: Tensor) -> Call:
    """Forward and backward with the gradients of the parameters alone."""
    parameters = list(module.parameters())
    return lambda: list(torch.autograd.grad(module(x)[0], parameters, dy))


def _infer(module: nn.Module, x: Tensor, state: Any) -> Call:
    def call() -> Any:
        with torch.no_grad():
            return module(x, state)

    return call


def one_step(cell: str, threads: int) -> Iterator[Trial]:
    """A stream: one row, one step, no autograd, the state handed on."""
    problem = Problem(Case(cell, 1, 1, 128, 128, kind="forward"), threads)
    trial, module, x = Trial("step", problem.case), problem.module, problem.x
    x_t = x[0]  # taken once, for all: cutting it out costs as much as a fifth of a step

    def ours() -> Call:
        layer = fused.layer(module)
        _, state = layer.step(x_t, None)
        return lambda: layer.step(x_t, state)

    single = CELLS[cell](128, 128)
    trial.add(OURS, ours)
    trial.add(TORCH, _infer, module, x, module(x)[1])
    trial.add(f"{TORCH} cell", _infer, single, x_t, single(x_t))
    yield trial


def tiny_call(cell: str, threads: int) -> Iterator[Trial]:
    """Forward and backward of one step of one row: what a call costs before any work."""
    problem = Problem(Case(cell, 1, 1, 128, 128), threads)
    trial = Trial("tiny call", problem.case)
    trial.add(OURS, fused.build, problem)
    trial.add(TORCH, torch_nn.build, problem)
    yield trial


def token_ids(cell: str, threads: int) -> Iterator[Trial]:
    """Token ids against one-hot rows that are there already; no gradient of the input."""
    case = Case(cell, 35, 32, 28, 256)
    problem, trial = Problem(case, threads), Trial("token ids", case)
    ids = torch.randint(0, case.inputs, (case.steps, case.batch))
    rows = nn.functional.one_hot(ids, case.inputs).float()
    layer = fused.layer(problem.module)
    trial.add(f"{OURS} ids", _train, layer, ids, problem.dy)
    trial.add(f"{OURS} one-hot", _train, layer, rows, problem.dy)
    trial.add(f"{TORCH} one-hot", _train, problem.module, rows, problem.dy)
    yield trial


def lengths(cell: str, threads: int) -> Iterator[Trial]:
    """Rows of T/4..T steps, against computing the padding too."""
    case = Case(cell, 100, 64, 256, 256, ragged=True)
    problem, full = Problem(case, threads), Problem(replace(case, ragged=False), threads)
    trial = Trial("lengths", case)
    layer = fused.layer(problem.module)
    trial.add(f"{OURS} padded", fused.build, full)
    trial.add(f"{OURS} lengths", fused.build, problem)
    trial.add(f"{OURS} packed", torch_nn.packed, problem, layer)
    trial.add(f"{TORCH} padded", torch_nn.build, full)
    trial.add(f"{TORCH} packed", torch_nn.build, problem)
    trial.saved[f"{OURS} lengths"] = saved(layer, problem, lengths=problem.lengths)
    trial.saved[f"{OURS} packed"] = torch_nn.saved_packed(layer, problem)
    trial.saved[f"{TORCH} packed"] = torch_nn.saved_packed(problem.module, problem)
    yield trial


def resets(cell: str, threads: int) -> Iterator[Trial]:
    """One step in twenty starts a sequence anew."""
    problem = Problem(Case(cell, 100, 64, 256, 256), threads)
    trial, layer = Trial("resets", problem.case), fused.layer(problem.module)
    cut = torch.rand(problem.case.steps, problem.case.batch) < 0.05
    trial.add(OURS, torch_nn.plain, problem, layer)
    trial.add(f"{OURS} resets", torch_nn.plain, problem, layer, resets=cut)
    yield trial


def bfloat16(cell: str, threads: int) -> Iterator[Trial]:
    """bfloat16 against our own float32."""
    for shape in ((256, 16, 512, 512), (50, 128, 1024, 1024)):
        case = Case(cell, *shape)
        narrow = Problem(replace(case, dtype="bfloat16"), threads)
        trial = Trial("bfloat16", case)
        trial.add(f"{OURS} float32", fused.build, Problem(case, threads))
        trial.add(f"{OURS} bfloat16", fused.build, narrow)
        trial.add(f"{TORCH} bfloat16", torch_nn.build, narrow)
        yield trial


def recompute(cell: str, threads: int) -> Iterator[Trial]:
    """Gates computed again in backward in place of kept: time against memory."""
    problem = Problem(Case(cell, 100, 64, 256, 256), threads)
    trial = Trial("recompute", problem.case)
    for name, options in ((OURS, {}), (f"{OURS} recompute", {"recompute": True})):
        trial.add(name, _weighed, trial, name, problem, **options)
    yield trial


def long_sequences(cell: str, threads: int) -> Iterator[Trial]:
    """A thousand to a hundred thousand steps: time and memory a step."""
    case = Case(cell, 100_000, 1, 64, 64)
    trial = Trial("long sequences", case)
    for steps in (1_000, 10_000, 100_000):
        name = f"{OURS} T={steps}"
        trial.steps[name] = steps
        trial.add(name, _weighed, trial, name, Problem(replace(case, steps=steps), threads))
    yield trial


def _weighed(trial: Trial, name: str, problem: Problem, **options: bool) -> Call:
    """Our layer on the whole sequence, with the bytes it keeps noted in the trial."""
    layer = fused.layer(problem.module, **options)
    trial.saved[name] = saved(layer, problem)
    return torch_nn.plain(problem, layer)


def saved(layer: nn.Module, problem: Problem, **options: Tensor) -> int:
    """Bytes a layer keeps for backward on this problem."""
    x = problem.x.clone().requires_grad_()
    given = [x, *layer.parameters(), *options.values()]
    return memory.saved_bytes(lambda: layer(x, **options), given)


def busy_neighbour(cell: str, threads: int) -> Iterator[Trial]:
    """Beside a process that keeps one core busy all the time."""
    if not hasattr(os, "sched_setaffinity"):
        return
    with busy_process() as (go, stop):
        for shape in ((100, 1, 128, 128), (35, 32, 28, 256)):
            problem = Problem(Case(cell, *shape), threads)
            # Samples many slices of a scheduler long, which has to find a place for everybody first.
            effort = Effort(seconds=3, fewest=5, most=21, sample=0.4)
            trial = Trial("busy neighbour", problem.case, effort=effort, all_cores=False)
            for name, make in ((OURS, fused.build), (TORCH, torch_nn.build)):
                for suffix, hook in ((" alone", stop), (" beside it", go)):
                    trial.add(name + suffix, make, problem)
                    trial.before[name + suffix] = hook
            yield trial


def language_model(cell: str, threads: int) -> Iterator[Trial]:
    """Epochs of a whole training job, in turn with torch.nn in the same loop."""
    trial = Trial("language model", book.case(cell), tokens=book.TOKENS)
    trial.add(OURS, book.epochs, cell, ours=True)
    trial.add(TORCH, book.epochs, cell, ours=False)
    yield trial


def train_command(cell: str, threads: int) -> Iterator[Trial]:
    """The same job as the command ``fusedrnn train``, all its 500 epochs."""
    trial = Trial("train command", book.case(cell), tokens=book.TOKENS)
    trial.samples[OURS] = book.command(cell)
    yield trial


QUESTIONS: dict[str, Callable[[str, int], Iterator[Trial]]] = {
    "step": one_step,
    "tiny call": tiny_call,
    "token ids": token_ids,
    "lengths": lengths,
    "resets": resets,
    "bfloat16": bfloat16,
    "recompute": recompute,
    "long sequences": long_sequences,
    "busy neighbour": busy_neighbour,
    "language model": language_model,
    "train command": train_command,
}
SHORT = ("step", "tiny call", "token ids", "lengths", "resets", "language model")
