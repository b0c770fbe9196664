"""The op ``layer_step``: one streaming step of a stack of layers."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import CELLS, DTYPES, as_double, states_of, strided, weights_of
from torch import library, nn

from fusedrnn import _ops, reference
from fusedrnn.reference import CELLS as INFO
from fusedrnn.tolerances import check

STEP = torch.ops.fusedrnn.layer_step.default
F32 = torch.float32
# I and H, around the width of a register
SIZES = ((1, 1), (3, 7), (16, 16), (13, 10), (100, 12), (33, 65))


def data_of(cell, batch, inputs, dtype, ids=False):
    if ids:
        return torch.randint(0, inputs, (batch,))
    return torch.randn(batch, inputs, dtype=torch.float64).to(dtype)


def op(cell, x, h, c, weights, layers=1):
    with torch.no_grad():
        return _ops.layer_step(x, h, c, weights, cell, layers)


def stacked_weights(cell, inputs, hidden, layers, bias=True, proj=0, dtype=F32):
    """Layer after layer, and the same as one flat list, detached."""
    sizes = [inputs, *[proj or hidden] * (layers - 1)]
    own = [weights_of(cell, n, hidden, 1, bias, proj, dtype) for n in sizes]
    return [[w.detach() for w in ws] for ws in own], [w.detach() for ws in own for w in ws]


def expected(cell, x, h, c, weights):
    """The stack in float64 by the reference: y, h_n, c_n of all layers."""
    x, hs, cs = as_double(x)[None], [], []
    for i, own in enumerate(weights):
        h0, c0 = (None if s is None else as_double(s)[i : i + 1] for s in (h, c))
        args = (x, h0, c0, [as_double(w) for w in own], None, None, cell, 1)
        x, h_n, c_n = reference.layer(*args)
        hs.append(h_n)
        cs.append(c_n)
    return x[0], torch.cat(hs), torch.cat(cs) if INFO[cell].has_c else None


def assert_right(cell, x, h, c, own, flat):
    dtype = flat[0].dtype
    got = op(cell, x, h, c, flat, len(own))
    for name, a, b in zip(("y", "h", "c"), got, expected(cell, x, h, c, own), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == dtype
            check(a, b, dtype, f"{cell} {name}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("batch", [*range(6), 24, 25, 32, 33])
def test_op_against_the_reference(cell, dtype, batch):
    """Up to 32 rows take the way without packing, others the general one."""
    torch.manual_seed(0)
    sizes = [(size, True, False, True) for size in SIZES]
    options = itertools.product([(3, 7)], *[(True, False)] * 3)
    for (inputs, hidden), bias, ids, given in (*sizes, *options):
        own, flat = stacked_weights(cell, inputs, hidden, 1, bias, dtype=dtype)
        h, c = states_of(cell, batch, hidden, dtype=dtype) if given else (None, None)
        h, c = (s if s is None else s.detach() for s in (h, c))
        assert_right(cell, data_of(cell, batch, inputs, dtype, ids), h, c, own, flat)


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_op_with_projection(batch, bias, layers):
    torch.manual_seed(0)
    own, flat = stacked_weights("lstm", 5, 9, layers, bias, proj=4)
    h, c = torch.randn(layers, batch, 4), torch.randn(layers, batch, 9)
    assert_right("lstm", torch.randn(batch, 5), h, c, own, flat)
    assert_right("lstm", torch.randn(batch, 5), None, c, own, flat)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("batch", [0, 1, 2, 5])
def test_op_on_a_stack(cell, dtype, batch):
    torch.manual_seed(0)
    own, flat = stacked_weights(cell, 6, 19, 3, dtype=dtype)
    h, c = (s if s is None else s.detach() for s in states_of(cell, batch, 19, 3, dtype=dtype))
    assert_right(cell, data_of(cell, batch, 6, dtype), h, c, own, flat)
    assert_right(cell, data_of(cell, batch, 6, dtype, ids=True), None, c, own, flat)


@pytest.mark.parametrize(
    ("cell", "peer"),
    [("elman_tanh", nn.RNNCell), ("elman_relu", nn.RNNCell), ("lstm", nn.LSTMCell),
     ("gru", nn.GRUCell)],
)  # fmt: skip
def test_op_against_the_cells_of_torch(cell, peer):
    torch.manual_seed(0)
    options = {"nonlinearity": "relu"} if cell == "elman_relu" else {}
    theirs, x, h, c = peer(33, 65, **options), torch.randn(3, 33), *torch.randn(2, 3, 65)
    weights = [theirs.weight_ih, theirs.weight_hh, theirs.bias_ih, theirs.bias_hh]
    has_c = INFO[cell].has_c
    want = theirs(x, (h, c)) if has_c else (theirs(x, h),)
    y, *got = op(cell, x, h[None], c[None] if has_c else None, weights)
    for a, b in zip(got, want, strict=False):
        torch.testing.assert_close(a, b[None], rtol=1e-5, atol=1e-6)
    assert torch.equal(y, got[0][0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [2, 5])
def test_op_on_any_strides(cell, batch):
    torch.manual_seed(0)
    flat = stacked_weights(cell, 6, 9, 2)[1]
    h, c = (s if s is None else s.detach() for s in states_of(cell, batch, 9, 2, dtype=F32))
    x = torch.randn(batch, 6)
    plain = op(cell, x, h, c, flat, 2)
    mixed = [s if s is None else strided(s) for s in (x, h, c)]
    for a, b in zip(op(cell, *mixed, [strided(w) for w in flat], 2), plain, strict=True):
        assert a is b or torch.equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [1, 5])
def test_outputs_are_tensors_of_their_own(cell, batch):
    """Nothing given is written to, and changing y leaves the state alone."""
    torch.manual_seed(0)
    _, flat = stacked_weights(cell, 6, 9, 2)
    h, c = (s if s is None else s.detach() for s in states_of(cell, batch, 9, 2, dtype=F32))
    given = [t for t in (torch.randn(batch, 6), h, c, *flat) if t is not None]
    before = [t.clone() for t in given]
    y, h_n, _ = op(cell, given[0], h, c, flat, 2)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    last = h_n[-1].clone()
    y.zero_()
    assert torch.equal(h_n[-1], last)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("proj", [0, 2])
def test_opcheck(cell, proj):
    if proj and not INFO[cell].has_c:
        proj = 0
    number = _ops.CELLS[cell].number
    for layers, batch in ((1, 1), (2, 5), (2, 0)):
        _, flat = stacked_weights(cell, 4, 5, layers, proj=proj)
        h, c = states_of(cell, batch, 5, layers, proj, F32)
        h, c = h.detach(), None if c is None else c.detach()
        library.opcheck(STEP, (torch.randn(batch, 4), h, c, flat, number, layers))
        ids = torch.randint(0, 4, (batch,))
        library.opcheck(STEP, (ids, None, None, flat, number, layers))


WRONG = {
    "no weights": ({"weights": []}, "got 0 for 1"),
    "an odd list": ({"layers": 3}, "got 8 for 3"),
    "no layers": ({"layers": 0}, "got 8 for 0"),
    "negative layers": ({"layers": -1}, "got 8 for -1"),
    "x of three dimensions": ({"x": torch.zeros(1, 2, 4)}, r"x of shape \[B, I\].*got \[1, 2, 4\]"),
    "x of another width": ({"x": torch.zeros(2, 5)}, r"x of shape \[2, 4\], got \[2, 5\]"),
    "x of another dtype": ({"x": torch.zeros(2, 4).double()}, "x of dtype float32, got float64"),
    "ids of int32": ({"x": torch.zeros(2).int()}, "got"),
    "ids too large": ({"x": torch.tensor([0, 4])}, r"token ids in \[0, 4\), got 4"),
    "negative ids": ({"x": torch.tensor([-1, 0])}, r"token ids in \[0, 4\), got -1"),
    "h of another batch": ({"h": torch.zeros(2, 3, 5)}, r"h of shape \[2, 2, 5\], got \[2, 3, 5\]"),
    "h of one layer": ({"h": torch.zeros(1, 2, 5)}, r"h of shape \[2, 2, 5\], got \[1, 2, 5\]"),
    "h without layers": ({"h": torch.zeros(2, 5)}, r"h of shape \[2, 2, 5\], got \[2, 5\]"),
    "h of another dtype": ({"h": torch.zeros(2, 2, 5).half()}, "h of dtype float32, got float16"),
    "c where none is": ({"c": torch.zeros(2, 2, 5)}, "no c for a cell without a cell state"),
    "no such cell": ({"cell": 99}, "a cell index"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_op_refuses(what):
    changes, message = WRONG[what]
    weights = stacked_weights("gru", 4, 5, 2)[1]
    arguments = {
        "x": torch.zeros(2, 4), "h": None, "c": None, "weights": weights,
        "cell": _ops.CELLS["gru"].number, "layers": 2,
    } | changes  # fmt: skip
    if what == "no weights":
        arguments["layers"] = 1
    with pytest.raises(RuntimeError, match=message):
        STEP(*arguments.values())


def test_op_refuses_a_wrong_upper_layer():
    flat = stacked_weights("gru", 4, 5, 2)[1]
    flat[5] = torch.zeros(15, 6)
    with pytest.raises(RuntimeError, match=r"w_hh of shape \[15, 5\], got \[15, 6\]"):
        op("gru", torch.zeros(2, 4), None, None, flat, 2)
