"""lengths= and resets=: what they mean, from their contract, through the public layers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fusedrnn

F64 = torch.float64
NAMES = ("RNN", "LSTM", "GRU")
GRID = list(itertools.product(NAMES, (False, True), (1, 2), (False, True)))


def pair(name, **options):
    """torch.nn's layer and ours with the same parameters."""
    theirs = getattr(nn, name)(5, 6, dtype=F64, **options)
    ours = getattr(fusedrnn, name)(5, 6, dtype=F64, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def gradients(module, x, y, state):
    """Of a loss that weighs every element differently."""
    terms = [
        (t * torch.arange(1, t.numel() + 1, dtype=F64).view(t.shape).cos()).sum()
        for t in (y, *parts(state))
    ]
    return torch.autograd.grad(sum(terms), [x, *module.parameters()])


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "bidirectional", "layers", "batch_first"), GRID)
@pytest.mark.parametrize("given_state", [False, True], ids=["zeros", "hx"])
def test_lengths_are_a_packed_sequence(name, bidirectional, layers, batch_first, given_state):
    torch.manual_seed(0)
    options = {"bidirectional": bidirectional, "num_layers": layers, "batch_first": batch_first}
    ours, theirs = pair(name, **options)
    lengths = torch.tensor([3, 7, 1, 5])
    x = torch.randn(*((4, 7) if batch_first else (7, 4)), 5, dtype=F64, requires_grad=True)
    h = torch.randn(layers * (1 + bidirectional), 4, 6, dtype=F64)
    hx = None if not given_state else (h, h.cos()) if name == "LSTM" else h
    packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
    y_packed, want_state = theirs(packed, hx)
    want = pad_packed_sequence(y_packed, batch_first)[0]
    y, state = ours(x, hx, lengths=lengths)
    close((y, state), (want, want_state))
    close(gradients(ours, x, y, state), gradients(theirs, x, want, want_state))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_row_of_length_zero_keeps_its_state(name, bidirectional):
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=bidirectional)
    x = torch.randn(4, 2, 5, dtype=F64)
    h = torch.randn(1 + bidirectional, 2, 6, dtype=F64)
    hx = (h, h.cos()) if name == "LSTM" else h
    y, state = ours(x, hx, lengths=torch.tensor([0, 4]))
    assert not y[:, 0].any()
    for after, before in zip(parts(state), parts(hx), strict=True):
        assert torch.equal(after[:, 0], before[:, 0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("first", [False, True], ids=["", "reset-at-0"])
def test_resets_are_separate_sequences(name, bidirectional, layers, first):
    """One row, cut at 2, 3 and 6 of 8: the same as four runs.

    With one layer, a state too: it enters the first run of direction 0 (unless there is a reset at
    0) and the last of direction 1.
    """
    torch.manual_seed(0)
    d = 1 + bidirectional
    ours, theirs = pair(name, bidirectional=bidirectional, num_layers=layers)
    x = torch.randn(8, 1, 5, dtype=F64, requires_grad=True)
    h = torch.randn(layers * d, 1, 6, dtype=F64)
    resets = torch.zeros(8, 1, dtype=torch.bool)
    cuts = [2, 3, 6]
    resets[cuts] = True
    resets[0] = first
    edges = [0, *cuts, 8]
    reverse = torch.arange(layers * d) % d == 1
    ys, states = [], []
    for begin, end in itertools.pairwise(edges):
        enters = torch.zeros_like(h)
        if layers == 1:
            if begin == 0 and not first:
                enters[~reverse] = h[~reverse]
            if end == 8:
                enters[reverse] = h[reverse]
        hx = (enters, enters.cos() * (enters != 0)) if name == "LSTM" else enters
        y_piece, state_piece = theirs(x[begin:end], hx)
        ys.append(y_piece)
        states.append(state_piece)
    want = torch.cat(ys)
    wants = []
    for last, start in zip(parts(states[-1]), parts(states[0]), strict=True):
        wants.append(torch.where(reverse[:, None, None], start, last))
    h = h if layers == 1 else torch.zeros_like(h)
    hx = (h, h.cos() * (h != 0)) if name == "LSTM" else h
    y, state = ours(x, hx, resets=resets)
    close(y, want)
    close(parts(state), tuple(wants))
    want_state = tuple(wants) if name == "LSTM" else wants[0]
    close(gradients(ours, x, y, state), gradients(theirs, x, want, want_state))


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_crosses_a_reset(name):
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=True)
    x = torch.randn(6, 2, 5, dtype=F64, requires_grad=True)
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[3, 0] = True
    y, _ = ours(x, resets=resets)
    (after,) = torch.autograd.grad(y[3:, 0].sum(), x, retain_graph=True)
    (before,) = torch.autograd.grad(y[:3, 0].sum(), x, retain_graph=True)
    (other,) = torch.autograd.grad(y[3:, 1].sum(), x)
    assert not after[:3].any()
    assert not before[3:].any()
    assert other[:3, 1].abs().min() > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_and_resets_together_are_rows_alone(name, bidirectional, batch_first):
    """Each row by itself, cut to its length, unbatched."""
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=bidirectional, batch_first=batch_first, num_layers=2)
    lengths = torch.tensor([5, 1, 7, 4])
    resets = torch.rand(7, 4) < 0.4
    x = torch.randn(7, 4, 5, dtype=F64)
    y, state = ours(
        x.transpose(0, 1) if batch_first else x,
        lengths=lengths,
        resets=resets.t() if batch_first else resets,
    )
    y = y.transpose(0, 1) if batch_first else y
    for b, n in enumerate(lengths.tolist()):
        alone, alone_state = ours(x[:n, b], resets=resets[:n, b])
        close(y[:n, b], alone)
        assert not y[n:, b].any()
        close(tuple(s[:, b] for s in parts(state)), parts(alone_state))


@pytest.mark.parametrize("name", NAMES)
def test_unbatched_length(name):
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=True)
    x = torch.randn(6, 5, dtype=F64)
    y, state = ours(x, lengths=torch.tensor(4))
    want, want_state = ours(x[:4])
    close(y[:4], want)
    assert not y[4:].any()
    close(state, want_state)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_integer_types_of_lengths(dtype):
    ours, _ = pair("GRU")
    x, lengths = torch.randn(4, 3, 5, dtype=F64), torch.tensor([4, 0, 2])
    close(ours(x, lengths=lengths.to(dtype)), ours(x, lengths=lengths))


@pytest.mark.parametrize("name", NAMES)
def test_padding_reaches_nothing(name):
    """NaN in the padding changes no output, no state and no gradient of a parameter."""
    torch.manual_seed(0)
    ours, _ = pair(name, bidirectional=True, num_layers=2)
    lengths = torch.tensor([3, 0, 5])
    clean = torch.randn(5, 3, 5, dtype=F64)
    past = torch.arange(5)[:, None] >= lengths
    dirty = clean.masked_fill(past[:, :, None], float("nan"))
    runs = []
    for x in (clean, dirty):
        x.requires_grad_()
        y, state = ours(x, lengths=lengths)
        runs.append((y, state, gradients(ours, x, y, state)))
    close(runs[1], runs[0])
