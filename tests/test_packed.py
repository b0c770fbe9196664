"""PackedSequence in and out, as torch.nn has it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import fusedrnn

F64 = torch.float64
NAMES = ("RNN", "LSTM", "GRU")


def pair(name, **options):
    theirs = getattr(nn, name)(3, 4, dtype=F64, **options)
    ours = getattr(fusedrnn, name)(3, 4, dtype=F64, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_same(ours, theirs, packed_x, padded, hx):
    """Outputs, indices, states and all gradients."""
    results = []
    for module in (ours, theirs):
        y, state = module(packed_x, hx)
        states = state if isinstance(state, tuple) else (state,)
        total = (y.data * torch.arange(y.data.numel()).view_as(y.data).cos()).sum()
        total = total + sum(s.sin().sum() for s in states)
        results.append(
            (
                y.data,
                state,
                torch.autograd.grad(total, [padded, *module.parameters()], retain_graph=True),
            )
        )
        assert torch.equal(y.batch_sizes, packed_x.batch_sizes)
        assert y.sorted_indices is packed_x.sorted_indices
        assert y.unsorted_indices is packed_x.unsorted_indices
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


GRID = list(itertools.product(NAMES, (False, True), (1, 2), ("sorted", "unsorted"), (False, True)))


@pytest.mark.parametrize(("name", "bidirectional", "layers", "order", "given"), GRID)
def test_packed_in_and_out(name, bidirectional, layers, order, given):
    torch.manual_seed(0)
    options = {"proj_size": 2} if name == "LSTM" and layers == 2 else {}
    ours, theirs = pair(name, bidirectional=bidirectional, num_layers=layers, **options)
    lengths = [6, 4, 4, 1] if order == "sorted" else [4, 1, 6, 4]
    padded = torch.randn(6, 4, 3, dtype=F64, requires_grad=True)
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=order == "sorted")
    count = layers * (1 + bidirectional)
    h = torch.randn(count, 4, options.get("proj_size", 4), dtype=F64)
    c = torch.randn(count, 4, 4, dtype=F64)
    hx = None if not given else (h, c) if name == "LSTM" else h
    assert_same(ours, theirs, packed, padded, hx)


@pytest.mark.parametrize("name", NAMES)
def test_batch_first_does_not_concern_packed_data(name):
    torch.manual_seed(0)
    ours, theirs = pair(name, batch_first=True)
    padded = torch.randn(3, 5, 3, dtype=F64, requires_grad=True)
    packed = pack_padded_sequence(padded, [5, 2, 3], batch_first=True, enforce_sorted=False)
    assert_same(ours, theirs, packed, padded, None)


@pytest.mark.parametrize("name", NAMES)
def test_one_row_and_one_step(name):
    torch.manual_seed(0)
    ours, theirs = pair(name)
    for steps, lengths in ((5, [5]), (1, [1, 1, 1])):
        padded = torch.randn(steps, len(lengths), 3, dtype=F64, requires_grad=True)
        assert_same(ours, theirs, pack_padded_sequence(padded, lengths), padded, None)


@pytest.mark.parametrize("name", NAMES)
def test_packed_token_ids(name):
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=True)
    rows = [torch.randint(0, 3, (n,)) for n in (2, 5, 3)]
    y_ids, state_ids = ours(pack_sequence(rows, enforce_sorted=False))
    one_hot = [nn.functional.one_hot(r, 3).to(F64) for r in rows]
    y, state = ours(pack_sequence(one_hot, enforce_sorted=False))
    torch.testing.assert_close((y_ids.data, state_ids), (y.data, state), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_packed_is_lengths(name):
    """The same numbers as a padded tensor with lengths=, bit for bit."""
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=True, num_layers=2)
    padded, lengths = torch.randn(6, 4, 3, dtype=F64), torch.tensor([6, 4, 3, 1])
    y_packed, state_packed = ours(pack_padded_sequence(padded, lengths))
    y, state = ours(padded, lengths=lengths)
    assert torch.equal(y_packed.data, pack_padded_sequence(y, lengths).data)
    torch.testing.assert_close(state_packed, state, rtol=0, atol=0)


def test_options_that_packed_data_has_already():
    ours, _ = pair("GRU")
    packed = pack_padded_sequence(torch.randn(4, 2, 3, dtype=F64), [4, 2])
    with pytest.raises(ValueError, match="neither lengths nor resets"):
        ours(packed, lengths=torch.tensor([4, 2]))
    with pytest.raises(ValueError, match="neither lengths nor resets"):
        ours(packed, resets=torch.zeros(4, 2, dtype=torch.bool))


@pytest.mark.parametrize("name", NAMES)
def test_rows_keep_to_themselves(name):
    """A NaN in one row is in no output, state or input gradient of another, whatever fills the padding."""
    ours, _ = pair(name, bidirectional=True)
    rows = [torch.randn(n, 3, dtype=F64) for n in (5, 4, 1)]
    rows[0][0] = torch.nan
    rows = [row.requires_grad_() for row in rows]
    y, state = ours(pack_sequence(rows))
    outputs = nn.utils.rnn.unpack_sequence(y)
    gradients = torch.autograd.grad(sum(t.sum() for t in outputs), rows)
    states = state if isinstance(state, tuple) else (state,)
    for i in (1, 2):
        assert outputs[i].isfinite().all()
        assert gradients[i].isfinite().all()
        assert all(s[:, i].isfinite().all() for s in states)
    assert outputs[0].isnan().any()
