"""functional.elman, lstm, gru: every option against the float64 reference, in every dtype."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import (
    CELLS,
    DTYPES,
    assert_like_reference,
    random_options,
    results,
    states_of,
    strided,
    weights_of,
)

from fusedrnn import _C, _direct, _ops, functional, reference
from fusedrnn.tolerances import check

F64 = torch.float64
EXAMPLES = int(os.environ.get("FUSEDRNN_TEST_EXAMPLES", "150"))  # fewer where this file runs again


@st.composite
def layers(draw):
    """The arguments of one call, every option drawn against every other."""
    cell = draw(st.sampled_from(CELLS))
    steps, batch = draw(st.integers(1, 9)), draw(st.integers(0, 20))
    inputs, hidden = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    directions, bias = draw(st.integers(1, 2)), draw(st.booleans())
    proj = draw(st.integers(0, hidden - 1)) if cell == "lstm" and draw(st.booleans()) else 0
    dtype = draw(st.sampled_from(DTYPES))
    torch.manual_seed(draw(st.integers(0, 1000)))
    w = weights_of(cell, inputs, hidden, directions, bias, proj, dtype)
    if draw(st.booleans()):
        x = torch.randint(0, inputs, (steps, batch))
    else:
        x = torch.randn(steps, batch, inputs).to(dtype).requires_grad_(draw(st.booleans()))
    h0, c0 = states_of(cell, batch, hidden, directions, proj, dtype)
    h0 = h0 if draw(st.booleans()) else None
    c0 = c0 if draw(st.booleans()) else None
    lengths, resets = random_options(steps, batch)
    lengths = lengths if draw(st.booleans()) else None
    resets = resets if draw(st.booleans()) else None
    if draw(st.booleans()):
        x, h0, c0 = (t if t is None else strided(t) for t in (x, h0, c0))
        w = [strided(t) for t in w]
        resets = None if resets is None else resets.t().contiguous().t()
    return x, h0, c0, w, lengths, resets, cell, directions


@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(layers())
def test_every_option_against_every_other(args):
    assert_like_reference(args)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_sizes_around_the_edges_of_tiles(cell, dtype):
    """Hidden sizes and batches one below, at, and one above what vector registers hold."""
    torch.manual_seed(0)
    for hidden, batch in itertools.product((1, 15, 16, 33, 65), (1, 6, 17)):
        w = weights_of(cell, 11, hidden, 1, dtype=dtype)
        x = torch.randn(3, batch, 11).to(dtype).requires_grad_()
        h0, c0 = states_of(cell, batch, hidden, 1, dtype=dtype)
        assert_like_reference((x, h0, c0, w, None, None, cell, 1), f"H {hidden} B {batch}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("hidden", "batch"), [(200, 20), (259, 3), (300, 1)])
def test_sizes_beyond_one_block(cell, hidden, batch):
    torch.manual_seed(0)
    w = weights_of(cell, 130, hidden, 2, dtype=torch.float32)
    x = torch.randn(5, batch, 130).requires_grad_()
    h0, c0 = states_of(cell, batch, hidden, 2, dtype=torch.float32)
    assert_like_reference((x, h0, c0, w, *random_options(5, batch), cell, 2))


@pytest.mark.parametrize("cell", CELLS)
def test_long_sequence(cell):
    """70,000 steps, the gradient through all of them; sizes that a 16-bit index would not hold."""
    torch.manual_seed(0)
    steps = 70_000
    w = weights_of(cell, 1, 2, dtype=F64)
    x = torch.randn(steps, 1, 1, dtype=F64, requires_grad=True)
    y, h_n, _ = functional.layer(x, None, None, w, None, None, cell, 1)
    y.square().mean().backward()
    whole = x.grad.clone()
    # the same in ten pieces, the gradient handed from piece to piece by autograd
    x.grad = None
    h = c = None
    pieces = []
    for piece in x.chunk(10):
        y_piece, h, c = functional.layer(piece, h, c, w, None, None, cell, 1)
        c = c if reference.CELLS[cell].has_c else None
        pieces.append(y_piece)
    torch.cat(pieces).square().mean().backward()
    check(y, torch.cat(pieces), F64, "y")
    check(h_n, h, F64, "h_n")
    check(whole, x.grad, F64, "dx", gradient=True)


@pytest.mark.parametrize("cell", CELLS)
def test_expanded_gradients(cell):
    """y.sum() hands back a gradient of stride 0."""
    torch.manual_seed(0)
    x, w = torch.randn(4, 3, 5, dtype=F64, requires_grad=True), weights_of(cell, 5, 6, 2)
    y = functional.layer(x, None, None, w, None, None, cell, 2)[0]
    expanded = torch.autograd.grad(y, [x, *w], torch.ones(()).double().expand(y.shape))
    y = functional.layer(x, None, None, w, None, None, cell, 2)[0]
    dense = torch.autograd.grad(y, [x, *w], torch.ones_like(y))
    torch.testing.assert_close(expanded, dense, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("cell", "used"), [*itertools.product(CELLS, (0, 1)), ("lstm", 2)], ids=str
)
def test_gradients_of_one_output_alone(cell, used):
    """y, h_n or c_n: the others' gradients are absent, not zeros."""
    torch.manual_seed(0)
    x, w = torch.randn(4, 3, 5, dtype=F64, requires_grad=True), weights_of(cell, 5, 6)
    options = (*random_options(4, 3), cell, 1)
    ours = functional.layer(x, None, None, w, *options)[used]
    theirs = reference.layer(x, None, None, w, *options)[used]
    seed = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, [x, *w], seed),
        torch.autograd.grad(theirs, [x, *w], seed),
        strict=True,
    ):
        check(a, b, F64, "gradient", gradient=True)


@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_may_be_walked_twice(cell):
    torch.manual_seed(0)
    x, w = torch.randn(4, 3, 5, requires_grad=True), weights_of(cell, 5, 6, dtype=torch.float32)
    y = functional.layer(x, None, None, w, None, None, cell, 1)[0]
    first = torch.autograd.grad(y.sum(), [x, *w], retain_graph=True)
    assert all(
        torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(y.sum(), [x, *w]), strict=True)
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_the_same_inputs_give_the_same_bits(cell, dtype):
    torch.manual_seed(0)
    x = torch.randn(9, 17, 33).to(dtype).requires_grad_()
    w = weights_of(cell, 33, 40, 2, dtype=dtype)
    seeds = [torch.randn(9, 17, 80), *[torch.randn(2, 17, 40)] * 2]
    args = (x, None, None, w, *random_options(9, 17), cell, 2)
    runs = [results(functional.layer, args, seeds) for _ in range(3)]
    for outputs, gradients in runs[1:]:
        for a, b in zip([*outputs, *gradients], [*runs[0][0], *runs[0][1]], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_given_is_written_to(cell):
    torch.manual_seed(0)
    x, w = torch.randn(4, 3, 5, requires_grad=True), weights_of(cell, 5, 6, 2, dtype=torch.float32)
    h0, c0 = states_of(cell, 3, 6, 2, dtype=torch.float32)
    lengths, resets = random_options(4, 3)
    given = [t for t in (x, h0, c0, *w, lengths, resets) if t is not None]
    before = [t.detach().clone() for t in given]
    y, h_n, _ = functional.layer(x, h0, c0, w, lengths, resets, cell, 2)
    (y.sum() + h_n.sum()).backward()
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_changing_a_saved_tensor_is_caught(cell):
    """As everywhere in torch: an output changed in place before backward is an error."""
    x, w = torch.randn(4, 3, 5, requires_grad=True), weights_of(cell, 5, 6, dtype=torch.float32)
    y = functional.layer(x, None, None, w, None, None, cell, 1)[0]
    loss = y.square().sum()
    with torch.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_saved_without_need(cell, monkeypatch):
    """Only a call that will be differentiated keeps what backward needs."""
    saves = []

    def layer_forward(*args):
        saves.append(args[8])
        return native(*args)

    native = _ops.layer_forward
    monkeypatch.setattr(_ops, "layer_forward", layer_forward)
    monkeypatch.setattr(_direct, "READY", False)  # the ops, not the direct way past them
    x, w = torch.randn(4, 3, 5), weights_of(cell, 5, 6, dtype=torch.float32)
    frozen = [t.detach() for t in w]
    with torch.no_grad():
        assert functional.layer(x, None, None, w, None, None, cell, 1)[0].grad_fn is None
    assert functional.layer(x, None, None, frozen, None, None, cell, 1)[0].grad_fn is None
    assert functional.layer(x, None, None, w, None, None, cell, 1)[0].grad_fn is not None
    assert saves == [False, False, True]


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_computed_without_need(cell, monkeypatch):
    """Absent gradients stay absent; dx and dW are computed only where they are wanted."""
    asked = []

    def layer_backward(*args):
        asked.append(([g is not None for g in args[:3]], *args[15:17]))
        return native(*args)

    native = _ops.layer_backward
    monkeypatch.setattr(_ops, "layer_backward", layer_backward)
    monkeypatch.setattr(_direct, "READY", False)  # the ops, not the direct way past them
    w = weights_of(cell, 5, 6, dtype=torch.float32)
    for wanted in (False, True):
        x = torch.randn(4, 3, 5, requires_grad=wanted)
        functional.layer(x, None, None, w, None, None, cell, 1)[0].sum().backward()
        assert (x.grad is not None) == wanted
    frozen = [t.detach() for t in w]
    functional.layer(x, None, None, frozen, None, None, cell, 1)[0].sum().backward()
    dy = [True, False, False]
    assert asked == [(dy, False, True), (dy, True, True), (dy, True, False)]


def test_the_forced_instruction_set_is_the_one_in_use():
    """Without $FUSEDRNN_ISA, the best one that this machine runs."""
    assert _C.isa() == os.environ.get("FUSEDRNN_ISA", _C.available_isas()[-1])


def test_the_three_functions():
    """The public functions are the layer with the names of their cells."""
    torch.manual_seed(0)
    x, lengths, resets = torch.randn(4, 3, 5), *random_options(4, 3)
    for cell in ("elman_tanh", "elman_relu", "lstm", "gru"):
        w = weights_of(cell, 5, 6, 2, dtype=torch.float32)
        h0, c0 = states_of(cell, 3, 6, 2, dtype=torch.float32)
        options = {"directions": 2, "lengths": lengths, "resets": resets}
        wanted = functional.layer(x, h0, c0, w, lengths, resets, cell, 2)
        if cell == "lstm":
            got = functional.lstm(x, w, h0, c0, **options)
        elif cell == "gru":
            got = functional.gru(x, w, h0, **options)
        else:
            kind = cell.removeprefix("elman_")
            got = functional.elman(x, w, h0, nonlinearity=kind, **options)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=False))
        assert len(got) == (3 if cell == "lstm" else 2)


def test_one_step_by_hand():
    """x = [1, 2], h = [0, 1], W_xh = I, W_hh = [[1, -1], [2, 0]], b = [-1, 1], ReLU: h' = [2, 3].

    W_hh in the row-vector convention h W_hh, hence transposed here.
    """
    x, h = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]])
    w_hh, b = torch.tensor([[1.0, -1.0], [2.0, 0.0]]), torch.tensor([-1.0, 1.0])
    weights = [torch.eye(2), w_hh.t(), b, torch.zeros(2)]
    y, h_n = functional.elman(x, weights, h, nonlinearity="relu")
    assert y.tolist() == [[[2.0, 3.0]]]
    assert torch.equal(y[0], h_n[0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_integer_types_of_token_ids(dtype):
    torch.manual_seed(0)
    w, ids = weights_of("gru", 5, 6), torch.randint(0, 5, (4, 3))
    assert torch.equal(functional.gru(ids.to(dtype), w)[0], functional.gru(ids, w)[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_autocast_is_one_rule_for_all_cells(cell, given):
    """Under autocast everything floating is cast; outputs come in its dtype, gradients in their own."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5).to(given).requires_grad_()
    w = weights_of(cell, 5, 6, dtype=torch.float32)
    h0, c0 = states_of(cell, 3, 6, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, h_n, c_n = functional.layer(x, h0, c0, w, None, None, cell, 1)
        ids = functional.layer(torch.zeros(2, 3).long(), None, None, w, None, None, cell, 1)[0]
    assert y.dtype == h_n.dtype == ids.dtype == torch.bfloat16
    assert c_n.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype == given
    assert all(t.grad.dtype == torch.float32 for t in (*w, h0))
    low = [None if t is None else t.detach().bfloat16() for t in (x, h0, c0)]
    plain = functional.layer(*low, [t.detach().bfloat16() for t in w], None, None, cell, 1)
    assert torch.equal(plain[0], y)


def test_autocast_leaves_float64_alone():
    x, w = torch.randn(4, 3, 5, dtype=F64), weights_of("lstm", 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert functional.lstm(x, w)[0].dtype == F64


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("ids", [False, True], ids=["dense", "ids"])
def test_bfloat16_with_projection(directions, ids):
    """Even sizes, whose products are made of pairs of bfloat16, and odd ones, which have none."""
    torch.manual_seed(0)
    for inputs, hidden, proj in ((6, 34, 18), (12, 20, 4), (6, 33, 18), (6, 34, 17), (7, 34, 18)):
        for batch in (1, 9):
            for lengths, resets in ((None, None), random_options(5, batch)):
                x = torch.randn(5, batch, inputs).bfloat16().requires_grad_()
                x = torch.randint(0, inputs, (5, batch)) if ids else x
                state = states_of("lstm", batch, hidden, directions, proj, torch.bfloat16)
                w = weights_of("lstm", inputs, hidden, directions, proj=proj, dtype=torch.bfloat16)
                assert_like_reference((x, *state, w, lengths, resets, "lstm", directions))
