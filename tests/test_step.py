"""One streaming step: the op ``layer_step``, and ``step()`` of the layers, which calls it."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import CELLS, DTYPES, as_double, states_of, strided, weights_of
from torch import library, nn

import fusedrnn
from fusedrnn import _direct, _ops, reference
from fusedrnn.reference import CELLS as INFO
from fusedrnn.tolerances import check

# torch's own, from inside jvp and torch.compile
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.torch.jit.script(_method)?. is deprecated:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

STEP = torch.ops.fusedrnn.layer_step.default
F32 = torch.float32
LAYERS = {
    "elman_tanh": fusedrnn.RNN,
    "elman_relu": lambda *sizes, **options: fusedrnn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": fusedrnn.LSTM,
    "gru": fusedrnn.GRU,
}
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


def walk(layer, x, state=None):
    """Outputs and the last state of step() along the first dimension of x."""
    ys = []
    for x_t in x:
        y, state = layer.step(x_t, state)
        ys.append(y)
    return torch.stack(ys), state


def assert_close(a, b, dtype, what=""):
    pair = ((a, b),) if isinstance(a, torch.Tensor) else tuple(zip(a, b, strict=True))
    for got, want in pair:
        assert got.shape == want.shape
        check(got, want, dtype, what)


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_step_by_step_is_forward(cell, dtype):
    torch.manual_seed(0)
    for batch, layers, bias in (
        (0, 1, True),
        (1, 1, False),
        (1, 3, True),
        (3, 2, False),
        (6, 3, True),
    ):
        layer = LAYERS[cell](5, 17, num_layers=layers, bias=bias).to(dtype).eval()
        exact = LAYERS[cell](5, 17, num_layers=layers, bias=bias).double().eval()
        exact.load_state_dict({k: v.double() for k, v in layer.state_dict().items()})
        x = torch.randn(4, batch, 5).to(dtype)
        y, state = walk(layer, x)
        want, want_state = exact(x.double())
        assert_close(y, want, dtype, "y")
        assert_close(state, want_state, dtype, "state")


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("ids", [torch.int64, torch.uint8, None])
def test_step_unbatched(cell, ids):
    """A sequence without a batch, as features and as token ids of any integer dtype."""
    torch.manual_seed(0)
    layer = LAYERS[cell](5, 17, num_layers=2)
    x = torch.randn(4, 5) if ids is None else torch.randint(0, 5, (4,)).to(ids)
    y, state = walk(layer, x)
    with torch.no_grad():
        want, want_state = layer(x)
    assert_close(y, want, F32)
    assert_close(state, want_state, F32)
    batched, _ = walk(layer, x[:, None])
    assert_close(batched[:, 0], want, F32)


def test_step_with_projection():
    torch.manual_seed(0)
    layer, x = fusedrnn.LSTM(5, 17, 2, proj_size=3), torch.randn(4, 2, 5)
    y, state = walk(layer, x)
    with torch.no_grad():
        want, want_state = layer(x)
    assert_close(y, want, F32)
    assert_close(state, want_state, F32)


@pytest.mark.parametrize("cell", LAYERS)
def test_step_leaves_no_history_and_the_grad_mode_as_it_was(cell):
    layer = LAYERS[cell](5, 17)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            y, _ = layer.step(torch.randn(2, 5, requires_grad=True))
            assert not y.requires_grad
            with pytest.raises(RuntimeError, match="input_size"):
                layer.step(torch.randn(2, 6))
            assert torch.is_grad_enabled() == mode


def test_step_ignores_dropout():
    torch.manual_seed(0)
    layer, x = fusedrnn.GRU(5, 17, 2, dropout=0.9).train(), torch.randn(4, 2, 5)
    y, _ = walk(layer, x)
    with torch.no_grad():
        assert_close(y, layer.eval()(x)[0], F32)


REFUSED = {
    "features": (torch.zeros(2, 6), None, RuntimeError, "Expected 5, got 6"),
    "dimensions": (torch.zeros(1, 1, 2, 5), None, ValueError, "Expected input"),
    "dtype": (torch.zeros(2, 5).double(), None, ValueError, "float32, got torch.float64"),
    "ids": (torch.tensor([5]), None, IndexError, r"\[0, 5\)"),
    "state's size": (torch.zeros(2, 5), torch.zeros(1, 2, 8), RuntimeError, "Expected hidden"),
    "state's batch": (torch.zeros(2, 5), torch.zeros(1, 3, 7), RuntimeError, "Expected hidden"),
    "state's dimensions": (torch.zeros(2, 5), torch.zeros(2, 7), RuntimeError, "should be 3-D"),
    "state's dtype": (torch.zeros(2, 5), torch.zeros(1, 2, 7).half(), RuntimeError, "float16"),
    "state's type": (torch.zeros(2, 5), [torch.zeros(1, 2, 7)], TypeError, "tensor, got list"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_step_refuses_with_the_errors_of_forward(what):
    x, state, error, message = REFUSED[what]
    layer = fusedrnn.GRU(5, 7)
    with pytest.raises(error, match=message):
        layer.step(x, state)
    with pytest.raises(error, match=message):
        layer(x[None] if x.dim() < 3 else x, state)


def test_step_refuses_other_devices():
    layer, state = fusedrnn.GRU(5, 7), torch.zeros(1, 2, 7)
    with pytest.raises(RuntimeError, match="expected h_0 on cpu, got it on meta"):
        layer.step(torch.zeros(2, 5), state.to("meta"))
    layer.to("meta")
    with pytest.raises(RuntimeError, match="expected input on the weights' meta, got cpu"):
        layer.step(torch.zeros(2, 5))
    assert layer.step(torch.zeros(2, 5, device="meta"), state.to("meta"))[0].shape == (2, 7)


def test_step_of_a_bidirectional_layer():
    with pytest.raises(RuntimeError, match="one direction"):
        fusedrnn.GRU(5, 7, bidirectional=True).step(torch.zeros(2, 5))


@pytest.mark.parametrize("cell", LAYERS)
def test_step_is_one_native_call(cell, monkeypatch):
    """The general way is for what the op does not do, not for every day."""
    calls = []

    def layer_step(*args):
        calls.append(args)
        return native(*args)

    native = _ops.layer_step
    monkeypatch.setattr(_direct, "READY", False)  # or the op would not be called at all
    monkeypatch.setattr(_ops, "layer_step", layer_step)
    monkeypatch.setattr(fusedrnn.functional, "layer", None)
    walk(LAYERS[cell](5, 7, num_layers=2), torch.randn(3, 2, 5))
    assert len(calls) == 3


@pytest.mark.parametrize("cell", LAYERS)
def test_step_under_autocast_is_forward_under_autocast(cell):
    torch.manual_seed(0)
    layer, x = LAYERS[cell](5, 7), torch.randn(1, 2, 5)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y, _ = layer.step(x[0])
        want, _ = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, want[0])


@pytest.mark.parametrize("cell", LAYERS)
def test_step_under_vmap_and_jvp(cell):
    torch.manual_seed(0)
    layer, x = LAYERS[cell](5, 7), torch.randn(3, 2, 5)
    many = torch.func.vmap(lambda x: layer.step(x)[0])(x)
    assert_close(many, torch.stack([layer.step(each)[0] for each in x]), F32)
    _, tangent = torch.func.jvp(lambda x: layer.step(x)[0], (x[0],), (torch.ones(2, 5),))
    _, want = torch.func.jvp(lambda x: layer(x[None])[0][0], (x[0],), (torch.ones(2, 5),))
    assert_close(tangent, want, F32)


@pytest.mark.parametrize("cell", LAYERS)
def test_step_compiles_whole(cell):
    torch.manual_seed(0)
    layer = LAYERS[cell](5, 7, num_layers=2)
    compiled = torch.compile(layer.step, fullgraph=True, backend="aot_eager")
    state = walk(layer, torch.randn(2, 3, 5))[1]
    x = torch.randn(3, 5)
    for a, b in zip(compiled(x, state), layer.step(x, state), strict=True):
        assert_close(a, b, F32)


def test_step_uses_weights_that_stand_in_for_parameters():
    torch.manual_seed(0)
    layer, x = fusedrnn.GRU(5, 7), torch.randn(2, 5)
    doubled = {name: p.detach() * 2 for name, p in layer.named_parameters()}

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer.step(x)[0]

    stood_in = torch.func.functional_call(
        Step(), {f"layer.{name}": p for name, p in doubled.items()}, (x,)
    )
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(doubled[name])
    assert torch.equal(layer.step(x)[0], stood_in)
