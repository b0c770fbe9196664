"""What lies in padding, or in a state that a reset drops, has no influence whatever: not NaN, not infinity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from on_gpu import call
from oracle import CELLS
from torch import Tensor

from fusedrnn import functional

STEPS, BATCH = 7, 5


def run(args: tuple[Any, ...], seeds: list[Tensor]) -> list[Tensor]:
    """y, the final states and every gradient, for the given gradients of the outputs."""
    x, h0, c0, weights, *rest = args
    leaves = [t.detach().requires_grad_() for t in (x, h0, c0, *weights) if t is not None]
    states = 1 + (c0 is not None)
    outputs = functional.layer(
        leaves[0], leaves[1], leaves[2] if c0 is not None else None, leaves[1 + states :], *rest
    )
    outputs = [t for t in outputs if t.dim() > 1]
    return [*outputs, *torch.autograd.grad(outputs, leaves, seeds)]


def seeds_of(args: tuple[Any, ...]) -> list[Tensor]:
    with torch.no_grad():
        return [torch.randn_like(t) for t in functional.layer(*args) if t.dim() > 1]


def same(got: list[Tensor], wanted: list[Tensor]) -> None:
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert b.isfinite().all(), f"tensor {i} of the clean call is not finite"
        assert torch.equal(a, b), f"tensor {i} is not the same"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [16, 3], ids=["whole quads", "odd"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_padding_has_no_influence(family, cell, dtype, inputs, bad):
    args = call(
        cell, STEPS, BATCH, inputs, 64, dtype, directions=2, lengths=True, resets=inputs == 3
    )
    lengths = args[4]
    past = (torch.arange(STEPS, device=lengths.device)[:, None] >= lengths)[:, :, None]
    assert past.any()
    seeds = seeds_of(args)
    x = args[0].detach()
    wanted = run((x.masked_fill(past, 0), *args[1:]), [seeds[0].masked_fill(past, 0), *seeds[1:]])
    got = run((x.masked_fill(past, bad), *args[1:]), [seeds[0].masked_fill(past, bad), *seeds[1:]])
    same(got, wanted)
    dx = got[len(seeds)]
    assert not dx.masked_select(past).any()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dropped_initial_state_has_no_influence(family, cell, dtype):
    args = call(cell, STEPS, BATCH, 8, 64, dtype, resets=True)
    x, h0, c0, weights, _, resets, *rest = args
    resets = resets.clone()
    resets[0] = True
    runs = []
    seeds = seeds_of(args)
    for value in (0.0, float("nan")):
        states = [None if t is None else torch.full_like(t, value) for t in (h0, c0)]
        runs.append(run((x, *states, weights, None, resets, *rest), seeds))
    same(runs[1], runs[0])


@pytest.mark.parametrize("cell", ["elman_tanh", "lstm", "gru"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_passes_a_reset(family, cell, dtype):
    """A step whose state is NaN, and a reset after it: later steps and their gradients are as if it were not."""
    args = call(cell, STEPS, BATCH, 8, 64, dtype, resets=True)
    x, h0, c0, weights, _, resets, *rest = args
    resets = resets.clone()
    resets[4] = True
    seeds = seeds_of(args)
    runs = []
    for value in (0.0, float("nan")):
        spoiled = x.detach().clone()
        spoiled[3] = value
        runs.append(run((spoiled, h0, c0, weights, None, resets, *rest), seeds))
    assert runs[1][0][3].isnan().all()
    outputs = len(seeds)
    same(runs[1][1:outputs], runs[0][1:outputs])  # the final states
    for i in (0, outputs):  # y and dx
        same([runs[1][i][4:]], [runs[0][i][4:]])
