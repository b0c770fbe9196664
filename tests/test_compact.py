"""What a layer with lengths keeps for backward on the CPU ends with each row, and changes no bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import CELLS, DTYPES, random_options, results, states_of, weights_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import fusedrnn
from benchmarks.memory import saved_bytes
from fusedrnn import _ops, functional

cells = pytest.mark.parametrize("cell", CELLS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
T, B, I, H = 9, 5, 7, 19  # noqa: E741


def case(cell, dtype, directions=1, proj=0, resets=False, states=True):
    """The arguments of functional.layer but the last."""
    x = torch.randn(T, B, I, dtype=torch.float64).to(dtype).requires_grad_()
    lengths, cuts = random_options(T, B)
    state = states_of(cell, B, H, directions, proj, dtype) if states else (None, None)
    w = weights_of(cell, I, H, directions, proj=proj, dtype=dtype)
    return x, *state, w, lengths, cuts if resets else None, cell, directions


def options(cell):
    """directions, proj, resets, states: all that the cell can have."""
    projections = [0, 5] if _ops.CELLS[cell].has_c else [0]
    return itertools.product([1, 2], projections, [False, True], [False, True])


def raw(args, compact):
    """The outputs and the gradients of the op with its own layout or the padded one, and what it saved."""
    *data, cell, directions = args
    x, h0, c0, w, lengths, resets = [d.detach() if torch.is_tensor(d) else d for d in data]
    w = [t.detach() for t in w]
    out = _ops.layer_forward(x, h0, c0, w, lengths, resets, cell, directions, True, False, compact)
    y, h_n, c_n, *kept = out
    torch.manual_seed(1)
    seeds = [torch.randn_like(t) for t in (y, h_n)]
    seeds.append(torch.randn_like(c_n) if _ops.CELLS[cell].has_c else None)
    dx, dh0, dc0, dw = _ops.layer_backward(
        *seeds, x, h0, c0, w, lengths, resets, y, *kept, cell, directions, True, True, False
    )
    return (y, h_n, c_n, dx, dh0, dc0, *dw), kept


@cells
@dtypes
def test_the_same_bits_as_padded(cell, dtype):
    torch.manual_seed(0)
    for given in options(cell):
        args = case(cell, dtype, *given)
        (compact, kept), (padded, _) = raw(args, True), raw(args, False)
        assert all(torch.equal(a, b) for a, b in zip(compact, padded, strict=True)), given
        valid = int(args[4].sum())
        assert [t.shape[1] for t in kept if t.dim() > 1] == [valid for t in kept if t.dim() > 1]


def kept_of(run):
    """Tensors that autograd keeps of a call."""
    kept = []
    with saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = run()
    return kept, out


@pytest.mark.parametrize("cell", [c for c in CELLS if _ops.CELLS[c].slots or _ops.CELLS[c].has_c])
@pytest.mark.parametrize("way", ["direct", "op"])
def test_a_layer_keeps_no_more_than_is_valid(cell, way, monkeypatch):
    torch.manual_seed(0)
    if way == "op":
        monkeypatch.setattr(fusedrnn._direct, "READY", False)
    args = case(cell, torch.float32, 2)
    valid, info = int(args[4].sum()), _ops.CELLS[cell]
    kept, out = kept_of(lambda: functional.layer(*args))
    shapes = {tuple(t.shape) for t in kept}
    if info.slots:
        assert (2, valid, info.slots * H) in shapes
    if info.has_c:
        assert (2, valid, H) in shapes
    assert not [s for s in shapes if s[:3] == (2, T, B)]
    out[0].sum().backward()
    padded = raw(args, False)[0]
    assert torch.equal(out[0], padded[0])


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_no_more_than_torch_keeps_of_a_pack(name):
    torch.manual_seed(0)
    steps, batch, size = 100, 64, 64
    ours = getattr(fusedrnn, name)(size, size)
    theirs = getattr(nn, name)(size, size)
    x = torch.randn(steps, batch, size, requires_grad=True)
    lengths = torch.randint(steps // 4, steps + 1, (batch,))
    pack = pack_padded_sequence(x, lengths, enforce_sorted=False)
    kept = saved_bytes(lambda: ours(x, lengths=lengths), [x, lengths, *ours.parameters()])
    assert kept <= saved_bytes(lambda: theirs(pack), [pack.data, *theirs.parameters()])


@cells
@pytest.mark.parametrize("way", ["direct", "op"])
def test_no_valid_step_at_all(cell, way, monkeypatch):
    torch.manual_seed(0)
    if way == "op":
        monkeypatch.setattr(fusedrnn._direct, "READY", False)
    args = list(case(cell, torch.float64, 2))
    args[4] = torch.zeros(B, dtype=torch.int64)
    out = functional.layer(*args)
    assert torch.count_nonzero(out[0]) == 0
    assert torch.equal(out[1], args[1])
    (g,) = torch.autograd.grad(out[1].sum(), args[1])
    assert torch.equal(g, torch.ones_like(g))


@cells
@pytest.mark.parametrize("training", [False, True])
def test_mapped_gradients(cell, training):
    """torch.vmap over backward folds into the batch, which what is saved cannot follow."""
    torch.manual_seed(0)
    x, h0, c0, w, lengths, *rest = case(cell, torch.float64, 2)
    w = [t.requires_grad_(training) for t in w]
    y = functional.layer(x, h0, c0, w, lengths, *rest)[0]
    seeds = torch.randn(3, *y.shape, dtype=y.dtype)

    def grads(v, of):
        return torch.autograd.grad(y, of, v, retain_graph=True)

    of = [x, h0, *w] if training else [x, h0]
    mapped = torch.func.vmap(grads, (0, None))(seeds, of)
    for i, v in enumerate(seeds):
        for a, b in zip(mapped, grads(v, of), strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


@cells
@pytest.mark.parametrize("recompute", [False, True])
def test_checkpoint(cell, recompute):
    torch.manual_seed(0)
    args = case(cell, torch.float32, 2)
    leaves = [args[0], *args[3]]

    def loss(function):
        y, h_n, _ = function(*args, recompute)
        return (y * y).sum() + h_n.sum()

    plain = torch.autograd.grad(loss(functional.layer), leaves)
    again = torch.autograd.grad(
        loss(lambda *a: checkpoint(functional.layer, *a, use_reentrant=False)), leaves
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@cells
def test_checkpoint_by_two_ways(cell, monkeypatch):
    """The forward pass goes past the dispatcher, its repetition through it: both leave the same."""
    torch.manual_seed(0)
    args = case(cell, torch.float32, 2)
    leaves = [args[0], *args[3]]
    plain = torch.autograd.grad(functional.layer(*args)[0].sum(), leaves)
    y = checkpoint(functional.layer, *args, use_reentrant=False)[0]
    monkeypatch.setattr(fusedrnn._direct, "READY", False)
    again = torch.autograd.grad(y.sum(), leaves)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_threads_do_not_matter_in_between(cell):
    """Backward cuts the batch for its own threads, and finds what forward left for others."""
    torch.manual_seed(0)
    x = torch.randn(40, 64, 32, requires_grad=True)
    w = weights_of(cell, 32, 64, dtype=torch.float32)
    lengths, threads, found = torch.randint(0, 41, (64,)), torch.get_num_threads(), []
    try:
        for forward, backward in ((1, 1), (1, 2), (2, 1), (2, 2)):
            torch.set_num_threads(forward)
            y = functional.layer(x, None, None, w, lengths, None, cell, 1)[0]
            torch.set_num_threads(backward)
            found.append(torch.autograd.grad(y.sum(), [x, *w]))
    finally:
        torch.set_num_threads(threads)
    for grads in found[1:]:
        for a, b in zip(grads, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@cells
def test_ids(cell):
    """Token ids give the bits of the padded layout too."""
    torch.manual_seed(0)
    _, *state, w, lengths, resets, _, directions = case(cell, torch.float32, 2, resets=True)
    ids = torch.randint(0, I, (T, B))
    ours, theirs = (
        raw((ids, *state, w, lengths, resets, cell, directions), c)[0] for c in (True, False)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@cells
def test_a_tracer_knows_the_sizes(cell):
    """Under a fake mode lengths have no values: what is saved is padded."""
    with FakeTensorMode() as mode:
        x, h0, c0, w, lengths, *rest = case(cell, torch.float32)
        kept, (y, *_) = kept_of(lambda: functional.layer(x, h0, c0, w, lengths, *rest))
        assert y.shape == (T, B, H)
        assert y.fake_mode is mode
        assert not [t for t in kept if t.dim() == 3 and t.shape[0] == 1 and t.shape[1] != B]
        y.sum().backward()


def test_compiled_gives_the_same():
    torch.manual_seed(0)
    layer = fusedrnn.LSTM(I, H, bidirectional=True)
    x, lengths = torch.randn(T, B, I), random_options(T, B)[0]
    run = torch.compile(lambda x, n: layer(x, lengths=n)[0], backend="aot_eager", fullgraph=True)
    grads = []
    for f in (run, lambda x, n: layer(x, lengths=n)[0]):
        layer.zero_grad()
        (f(x, lengths) ** 2).sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_second_derivatives():
    torch.manual_seed(0)
    x, h0, c0, w, lengths, *rest = case("gru", torch.float64, 1)

    def f(x, h0):
        return functional.layer(x, h0, c0, w, lengths, *rest)[0]

    assert torch.autograd.gradgradcheck(f, (x, h0))


def test_refused():
    torch.manual_seed(0)
    x, h0, c0, w, lengths, *_ = case("lstm", torch.float32)
    call = (x, h0, c0, w, lengths, None, "lstm", 1, True, False, True)
    y, _, _, gates, c, hidden = _ops.layer_forward(*call)
    rest = ("lstm", 1, True, True, False)
    other = lengths.clone()
    other[1] += 1
    with pytest.raises(RuntimeError, match=r"gates of shape \[1, \d+, 76\]"):
        _ops.layer_backward(None, None, None, x, h0, c0, w, other, None, y, gates, c, hidden, *rest)
    with pytest.raises(RuntimeError, match=r"cells of shape \[1, \d+, 19\]"):
        _ops.layer_backward(
            None, None, None, x, h0, c0, w, lengths, None, y, gates, c[:, :-1], hidden, *rest
        )
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="compact"):
        _ops.layer_forward(*call)


@cells
def test_results_of_the_layers_are_those_of_the_rows(cell):
    """Each row alone gives what it gives in the batch: the rows are not mixed up."""
    torch.manual_seed(0)
    x, h0, c0, w, lengths, *_ = args = case(cell, torch.float64, 2)
    seeds = [torch.randn(T, B, 2 * H, dtype=torch.float64)]
    seeds += [torch.randn(2, B, H, dtype=torch.float64) for _ in range(2)]
    out, grads = results(functional.layer, args, seeds)
    for b, n in enumerate(lengths.tolist()):
        if n == 0:
            continue
        row = slice(b, b + 1)
        alone = x[:n, row].detach().requires_grad_()
        state = [s if s is None else s[:, row].detach().requires_grad_() for s in (h0, c0)]
        own, own_grads = results(
            functional.layer,
            (alone, *state, w, None, None, cell, 2),
            [seeds[0][:n, row], *(s[:, row] for s in seeds[1:])],
        )
        torch.testing.assert_close(out[0][:n, row], own[0])
        torch.testing.assert_close(grads[0][:n, row], own_grads[0])
