"""torch.nn.RNN, GRU and LSTM, eager: what most people use."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from benchmarks.contenders import Call, Problem
from benchmarks.memory import saved_bytes

NAME = "torch.nn"


def missing() -> str | None:
    return None


def build(problem: Problem) -> Call:
    if problem.lengths is not None:
        return packed(problem, problem.module)
    return plain(problem, problem.module)


def plain(problem: Problem, module: nn.Module, **options: torch.Tensor) -> Call:
    """Calls a module with torch.nn's interface on the whole padded sequence."""
    x, dy = problem.x.clone().requires_grad_(problem.training), problem.dy
    inputs = [x, *module.parameters()]
    first = 1 + [n for n, _ in module.named_parameters()].index("weight_ih_l0")

    def forward() -> list[torch.Tensor]:
        with torch.no_grad():
            return [module(x, **options)[0]]

    def training() -> list[torch.Tensor]:
        y = module(x, **options)[0]
        gradients = torch.autograd.grad(y, inputs, dy)
        return [y, gradients[0], gradients[first]]

    return training if problem.training else forward


def _packed(problem: Problem) -> PackedSequence:
    sequence = pack_padded_sequence(problem.x, problem.lengths, enforce_sorted=False)
    return sequence._replace(data=sequence.data.clone().requires_grad_(problem.training))


def packed(problem: Problem, module: nn.Module) -> Call:
    """Calls it on a PackedSequence that was packed beforehand, as a data loader would.

    Its arrays are packed ones: ``unpacked`` of the call lays them out like everybody's.
    """
    sequence = _packed(problem)
    dy = pack_padded_sequence(problem.dy, problem.lengths, enforce_sorted=False).data
    inputs = [sequence.data, *module.parameters()]

    def pad(values: torch.Tensor) -> torch.Tensor:
        return pad_packed_sequence(sequence._replace(data=values))[0]

    def forward() -> list[torch.Tensor]:
        with torch.no_grad():
            return [module(sequence)[0].data]

    def training() -> list[torch.Tensor]:
        y = module(sequence)[0].data
        return [y, *torch.autograd.grad(y, inputs, dy)[:2]]

    call = training if problem.training else forward
    call.unpacked = lambda got: [pad(v.detach()) for v in got[:2]] + got[2:]  # type: ignore
    return call


def saved_packed(module: nn.Module, problem: Problem) -> int:
    """Bytes the module keeps for backward on the packed sequence."""
    sequence = _packed(problem)
    return saved_bytes(lambda: module(sequence), [sequence.data, *module.parameters()])
