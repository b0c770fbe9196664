"""The oracle held against torch.nn, in float64 to 1e-10."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import CELLS, random_options, results, run_reference, states_of, weights_of
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fusedrnn import reference

F64 = torch.float64
# A cell that torch.nn does not have is held against its own paper elsewhere, not here.
MODULES = {
    "elman_tanh": lambda *a, **k: nn.RNN(*a, nonlinearity="tanh", **k),
    "elman_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
GRID = [
    (cell, directions, bias, proj)
    for cell, directions, bias, proj in itertools.product(MODULES, (1, 2), (True, False), (0, 3))
    if not proj or cell == "lstm"
]


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def with_torch(cell, x, h0, c0, weights, directions, bias, proj, lengths=None):
    """torch.nn's module on the same weights: its outputs, padded."""
    hidden = weights[0].shape[0] // reference.CELLS[cell].gates
    extra = {"proj_size": proj} if proj else {}
    module = MODULES[cell](
        x.shape[2], hidden, bias=bias, bidirectional=directions == 2, dtype=F64, **extra
    )
    names = [n for n, _ in module.named_parameters()]
    hx = h0 if c0 is None else (h0, c0)
    if lengths is not None:
        x = pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, state = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x, hx))
    if lengths is not None:
        y = pad_packed_sequence(y, total_length=int(lengths.max()))[0]
    return (y, state) if c0 is None else (y, *state)


@pytest.mark.parametrize(("cell", "directions", "bias", "proj"), GRID)
@pytest.mark.parametrize("lengths", [None, [3, 6, 1, 4]], ids=["full", "lengths"])
def test_outputs_and_gradients_are_torchs(cell, directions, bias, proj, lengths):
    torch.manual_seed(0)
    lengths = None if lengths is None else torch.tensor(lengths)
    x = torch.randn(6, 4, 5, dtype=F64, requires_grad=True)
    w = weights_of(cell, 5, 7, directions, bias, proj)
    h0, c0 = states_of(cell, 4, 7, directions, proj)
    seeds = [torch.randn(6, 4, directions * (proj or 7)), torch.randn_like(h0)]
    seeds += [] if c0 is None else [torch.randn_like(c0)]
    ours = results(run_reference, (x, h0, c0, w, lengths, None, cell, directions), seeds)
    theirs = results(
        lambda x, h0, c0, w: with_torch(cell, x, h0, c0, w, directions, bias, proj, lengths),
        (x, h0, c0, w),
        seeds,
    )
    same(ours, theirs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("directions", [1, 2])
def test_token_ids_are_one_hot_rows(cell, directions):
    torch.manual_seed(1)
    ids = torch.randint(0, 5, (4, 3))
    rows = nn.functional.one_hot(ids, 5).to(F64)
    w = weights_of(cell, 5, 6, directions)
    seeds = [torch.randn(4, 3, directions * 6), *[torch.randn(directions, 3, 6)] * 2]
    options = (*random_options(4, 3), cell, directions)
    same(
        results(run_reference, (ids, None, None, w, *options), seeds),
        results(run_reference, (rows, None, None, w, *options), seeds),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_absent_state_is_zero(cell):
    torch.manual_seed(2)
    x, w = torch.randn(3, 2, 4, dtype=F64), weights_of(cell, 4, 5)
    zero = torch.zeros(1, 2, 5, dtype=F64)
    c0 = zero if reference.CELLS[cell].has_c else None
    same(
        run_reference(x, None, None, w, None, None, cell, 1),
        run_reference(x, zero, c0, w, None, None, cell, 1),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_padding_may_hold_anything(cell):
    """NaN past a row's length reaches neither outputs nor gradients."""
    torch.manual_seed(3)
    lengths = torch.tensor([2, 0, 4])
    clean = torch.randn(4, 3, 5, dtype=F64)
    past = torch.arange(4)[:, None] >= lengths
    dirty = clean.masked_fill(past[:, :, None], float("nan"))
    w = weights_of(cell, 5, 6, 2)
    seeds = [torch.randn(4, 3, 12), *[torch.randn(2, 3, 6)] * 2]
    args = (None, None, w, lengths, None, cell, 2)
    same(
        results(run_reference, (clean, *args), seeds), results(run_reference, (dirty, *args), seeds)
    )


@pytest.mark.parametrize("cell", CELLS)
def test_half_is_computed_in_float32(cell):
    torch.manual_seed(4)
    x, w = torch.randn(5, 2, 4).bfloat16(), weights_of(cell, 4, 5, dtype=torch.bfloat16)
    half = run_reference(x, None, None, w, None, None, cell, 1)
    full = run_reference(x.float(), None, None, [t.float() for t in w], None, None, cell, 1)
    assert half[0].dtype == torch.bfloat16
    torch.testing.assert_close(half[0], full[0].bfloat16(), rtol=0, atol=0)
