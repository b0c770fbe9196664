"""RNN, LSTM and GRU against torch.nn: every option drawn against every other.

torch.nn runs in float64 from the same (rounded) parameters and inputs and is the reference for all
dtypes: outputs, final states and every gradient, within the table of tolerances.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import DTYPES, strided
from torch import nn

import fusedrnn
from fusedrnn.tolerances import check

F64 = torch.float64
NAMES = ("RNN", "LSTM", "GRU")


def modules(name, inputs, hidden, dtype, **options):
    """Ours in ``dtype``, torch.nn's in float64, of the same values."""
    ours = getattr(fusedrnn, name)(inputs, hidden, dtype=dtype, **options)
    theirs = getattr(nn, name)(inputs, hidden, dtype=F64, **options)
    theirs.load_state_dict({k: v.double() for k, v in ours.state_dict().items()})
    return ours, theirs


def states(module, batch, dtype):
    """Random hx for a module; ``batch`` None for unbatched."""
    count = module.num_layers * (1 + module.bidirectional)
    sizes = [module.proj_size or module.hidden_size]
    sizes += [module.hidden_size] if module.mode == "LSTM" else []
    shapes = [(count, n) if batch is None else (count, batch, n) for n in sizes]
    return [torch.randn(s, dtype=F64).to(dtype).requires_grad_() for s in shapes]


@st.composite
def calls(draw):
    """A module, an input and a state."""
    name = draw(st.sampled_from(NAMES))
    inputs, hidden = draw(st.integers(1, 12)), draw(st.integers(2, 24))
    dtype = draw(st.sampled_from(DTYPES))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if name == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if name == "LSTM" and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, hidden - 1))
    torch.manual_seed(draw(st.integers(0, 1000)))
    ours, theirs = modules(name, inputs, hidden, dtype, **options)
    steps, batch = draw(st.integers(1, 8)), draw(st.sampled_from([None, 0, 1, 3, 7, 17]))
    shape = (steps, inputs) if batch is None else (steps, batch, inputs)
    if options["batch_first"] and batch is not None:
        shape = (batch, steps, inputs)
    x = torch.randn(shape, dtype=F64).to(dtype).requires_grad_()
    hx = states(ours, batch, dtype) if draw(st.booleans()) else None
    if draw(st.booleans()):
        x, hx = strided(x), None if hx is None else [strided(s) for s in hx]
    if draw(st.booleans()):
        ours.eval()
        theirs.eval()
    return ours, theirs, x, hx, draw(st.booleans())


def run(module, x, hx, as_list, seeds):
    """Outputs [y, h_n, c_n?] and gradients of the input, the states and the parameters."""
    state = None if hx is None else hx[0] if len(hx) == 1 else hx if as_list else tuple(hx)
    y, last = module(x, state)
    outputs = [y, *(last if isinstance(last, tuple) else (last,))]
    inputs = [x, *(hx or []), *module.parameters()]
    if seeds is None:
        seeds = [torch.randn(t.shape, dtype=F64).to(t.dtype) for t in outputs]
    gradients = torch.autograd.grad(outputs, inputs, [s.to(y.dtype) for s in seeds])
    return outputs, gradients, seeds


@settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(calls())
def test_every_option_against_every_other(call):
    ours, theirs, x, hx, as_list = call
    dtype = x.dtype
    outputs, gradients, seeds = run(ours, x, hx, as_list, None)
    exact_hx = None if hx is None else [s.detach().double().requires_grad_() for s in hx]
    exact_x = x.detach().double().requires_grad_()
    wanted, wanted_gradients, _ = run(theirs, exact_x, exact_hx, as_list, seeds)
    for i, (a, b) in enumerate(zip(outputs, wanted, strict=True)):
        assert a.dtype == dtype
        check(a, b, dtype, f"output {i}")
    if ours.mode == "RNN_RELU" and dtype != F64:
        return  # rounding may take a unit across the kink of ReLU: its gradient is then another one
    for i, (a, b) in enumerate(zip(gradients, wanted_gradients, strict=True)):
        check(a, b, dtype, f"gradient {i}", gradient=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_a_training_size(name, dtype):
    """What a language model has: a few layers, a few hundred units, tens of rows and steps."""
    torch.manual_seed(0)
    ours, theirs = modules(name, 28, 160, dtype, num_layers=2)
    x = torch.randn(20, 24, 28, dtype=F64).to(dtype)
    exact = x.double().requires_grad_()
    outputs, gradients, seeds = run(ours, x.requires_grad_(), None, False, None)
    wanted, wanted_gradients, _ = run(theirs, exact, None, False, seeds)
    for a, b in zip(outputs, wanted, strict=True):
        check(a, b, dtype, "output")
    for a, b in zip(gradients, wanted_gradients, strict=True):
        check(a, b, dtype, "gradient", gradient=True)


@pytest.mark.parametrize("name", NAMES)
def test_seventy_thousand_steps(name):
    """Against torch.nn in float64, forward and backward."""
    torch.manual_seed(0)
    ours, theirs = modules(name, 1, 2, F64)
    x = torch.randn(70_000, 1, 1, dtype=F64)
    y, state = ours(x)
    with torch.no_grad():
        want, want_state = theirs(x)
    check(y, want, F64, "y")
    torch.testing.assert_close(state, want_state, rtol=1e-10, atol=1e-10)
    y.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in ours.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_token_ids_are_one_hot_rows(name, batch_first):
    torch.manual_seed(0)
    ours = getattr(fusedrnn, name)(5, 6, 2, batch_first=batch_first, bidirectional=True, dtype=F64)
    for shape in ((4, 3), (4,), (0, 4) if batch_first else (4, 0)):
        ids = torch.randint(0, 5, shape)
        rows = nn.functional.one_hot(ids, 5).to(F64)
        results = []
        for x in (ids, rows):
            y, state = ours(x)
            total = y.sin().sum() + sum(s.sum() for s in (state if name == "LSTM" else (state,)))
            results.append((y, state, torch.autograd.grad(total, list(ours.parameters()))))
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_torchs(name):
    """One seed gives one mask; between layers only, in training only, and it may be set later."""
    torch.manual_seed(0)
    ours, theirs = modules(name, 3, 4, F64, num_layers=3, dropout=0.5)
    x = torch.randn(5, 2, 3, dtype=F64)

    def both():
        results = []
        for module in (ours, theirs):
            torch.manual_seed(7)
            results.append(module(x))
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
        return results[0][0]

    dropped = both()
    ours.dropout = theirs.dropout = 1.0
    assert not torch.equal(both(), dropped)
    ours.dropout = theirs.dropout = 0.0
    plain = both()
    ours.dropout = theirs.dropout = 0.5
    ours.eval()
    theirs.eval()
    assert torch.equal(both(), plain)


@pytest.mark.parametrize("name", NAMES)
def test_streaming_steps_are_the_sequence(name):
    torch.manual_seed(0)
    ours = getattr(fusedrnn, name)(3, 4, 2, dropout=0.5, batch_first=True, dtype=F64)
    for x in (
        torch.randn(2, 6, 3, dtype=F64),
        torch.randn(6, 3, dtype=F64),
        torch.randint(0, 3, (2, 6)),
    ):
        want, want_state = ours.eval()(x)
        ours.train()  # a step never drops anything
        batched = want.dim() == 3
        state, ys = None, []
        for x_t in x.unbind(1) if batched else x:
            y_t, state = ours.step(x_t, state)
            assert not y_t.requires_grad
            ys.append(y_t)
        torch.testing.assert_close(torch.stack(ys, 1 if batched else 0), want)
        torch.testing.assert_close(state, want_state)


def test_one_token_id_at_a_time():
    ours = fusedrnn.GRU(3, 4)
    y, state = ours.step(torch.tensor(1))
    want, want_state = ours(torch.tensor([1]))
    torch.testing.assert_close((y, state), (want[0], want_state))


def test_a_step_needs_one_direction():
    with pytest.raises(RuntimeError, match="one direction"):
        fusedrnn.GRU(3, 4, bidirectional=True).step(torch.randn(2, 3))
