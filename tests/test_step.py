"""``step()`` of the layers: one streaming step, as forward would make it."""

from __future__ import annotations

import pytest
import torch
from oracle import DTYPES
from torch import nn

import fusedrnn
from fusedrnn import _C, _ops
from fusedrnn.tolerances import check

# torch's own, from inside jvp and torch.compile
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.torch.jit.script(_method)?. is deprecated:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

F32 = torch.float32
LAYERS = {
    "elman_tanh": fusedrnn.RNN,
    "elman_relu": lambda *sizes, **options: fusedrnn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": fusedrnn.LSTM,
    "gru": fusedrnn.GRU,
}


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
    monkeypatch.setattr(_C, "stream_step", lambda *_: None)  # or the op would not be called at all
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


class Stepping(torch.nn.Module):
    """A model whose forward is one step of a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, *state):
        y, state = self.layer.step(x, state if len(state) > 1 else state[0])
        return y, *(state if isinstance(state, tuple) else (state,))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace(_method)?. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("cell", LAYERS)
def test_a_traced_step(cell):
    """By torch.jit, whose tracer knows no result that may be absent, as one of the step's op may."""
    model = Stepping(LAYERS[cell](5, 7))
    x, *state = torch.randn(2, 5), *(torch.randn(1, 2, 7) for _ in range(1 + (cell == "lstm")))
    traced = torch.jit.trace(model, (x, *state))
    for a, b in zip(traced(x + 1, *state), model(x + 1, *state), strict=True):
        check(a, b.double(), F32, "traced")
