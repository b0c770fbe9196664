"""A loop over time in plain torch under torch.compile: what people write when torch.nn does not fit.

The input projection is one product before the loop. Up to ten steps are unrolled into one compiled
graph, which runs again and again: a graph of a whole sequence takes minutes to compile.
"""

from __future__ import annotations

import shutil

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.contenders import Call, Problem, Unsupported

NAME = "torch.compile"
UNROLL = 10

State = tuple[Tensor, ...]


def missing() -> str | None:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "torch.compile needs a C++ compiler"
    return None


def rnn(projected: Tensor, state: State, w: Tensor, b: Tensor) -> State:
    return (torch.tanh(projected + linear(state[0], w, b)),)


def lstm(projected: Tensor, state: State, w: Tensor, b: Tensor) -> State:
    i, f, g, o = (projected + linear(state[0], w, b)).chunk(4, 1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(projected: Tensor, state: State, w: Tensor, b: Tensor) -> State:
    xr, xz, xn = projected.chunk(3, 1)
    hr, hz, hn = linear(state[0], w, b).chunk(3, 1)
    z, n = torch.sigmoid(xz + hz), torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
    return (n + z * (state[0] - n),)


STEPS = {"rnn": rnn, "gru": gru, "lstm": lstm}


def build(problem: Problem) -> Call:
    case = problem.case
    if case.ragged or case.layers > 1 or case.directions > 1:
        raise Unsupported("only one layer, one direction, no lengths")
    step = STEPS[case.cell]
    unroll = max(n for n in range(1, UNROLL + 1) if case.steps % n == 0)
    torch.compiler.reset()  # graphs of earlier cases count towards a limit

    @torch.compile(fullgraph=True, dynamic=False)
    def chunk(projected: Tensor, state: State, w: Tensor, b: Tensor) -> tuple[Tensor, State]:
        out = []
        for t in range(unroll):
            state = step(projected[t], state, w, b)
            out.append(state[0])
        return torch.stack(out), state

    x = problem.x.clone().requires_grad_(problem.training)
    w_ih, w_hh, b_ih, b_hh = problem.module.parameters()
    # A first state that wants its gradient, like all later ones, so that one graph serves them all.
    zeros = tuple(
        problem.x.new_zeros(case.batch, case.hidden).requires_grad_(problem.training)
        for _ in range(2 if case.cell == "lstm" else 1)
    )

    def layer() -> Tensor:
        state = zeros
        out = []
        for projected in linear(x, w_ih, b_ih).split(unroll):
            y, state = chunk(projected, state, w_hh, b_hh)
            out.append(y)
        return torch.cat(out)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [layer()]

    def training() -> list[Tensor]:
        y = layer()
        return [y, *torch.autograd.grad(y, [x, w_ih, w_hh, b_ih, b_hh], problem.dy)[:2]]

    return training if problem.training else forward
