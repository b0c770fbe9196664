"""Gradients by the states, against autograd on the reference and against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch

import fusedrnn
from fusedrnn import reference
from fusedrnn._recurrent import _CELLS
from fusedrnn.tasks.gradients import truncation
from fusedrnn.tasks.gradients.errors import GradientError
from fusedrnn.tasks.gradients.spectrum import main_spectrum, spectra
from fusedrnn.tasks.gradients.states import state_gradients

T, B, I, H = 7, 3, 4, 5  # noqa: E741
LAYERS = {
    "elman": lambda **o: fusedrnn.RNN(I, H, **o),
    "elman-relu": lambda **o: fusedrnn.RNN(I, H, nonlinearity="relu", **o),
    "lstm": lambda **o: fusedrnn.LSTM(I, H, **o),
    "lstm-projected": lambda **o: fusedrnn.LSTM(I, H, proj_size=2, **o),
    "gru": lambda **o: fusedrnn.GRU(I, H, **o),
}


def _layer(name, layers=1, seed=0):
    torch.manual_seed(seed)
    return LAYERS[name](num_layers=layers).double()


def _inputs(rnn, seed=1):
    torch.manual_seed(seed)
    size = rnn.proj_size or rnn.hidden_size
    h, c = torch.randn(rnn.num_layers, B, size), torch.randn(rnn.num_layers, B, H)
    h, c = h.double(), c.double() if rnn.mode == "LSTM" else None
    return torch.randn(T, B, I).double(), (h, c), torch.randn(T, B, size).double()


def _by_reference(rnn, x, hx, weigh, factors):
    """Every state a leaf-like tensor of the reference's own steps, the layers on top of each other;
    gradients that cross a boundary multiplied in a hook."""
    cell = reference.CELLS[_CELLS[rnn.mode]]
    states = [[tuple(None if s is None else s[layer].clone().requires_grad_() for s in hx)]
              for layer in range(rnn.num_layers)]  # fmt: skip
    ys = []
    for t in range(len(x)):
        below = x[t]
        for layer in range(rnn.num_layers):
            w_ih, w_hh, b_ih, b_hh, *w_hr = (
                p for n, p in rnn.named_parameters() if n[-1] == str(layer)
            )
            entering = []
            for part in states[layer][-1][: 1 + cell.has_c]:
                crossing = (
                    part.clone()
                )  # a tensor of its own: its hook sees what comes back in time
                crossing.register_hook(lambda g, t=t: g * factors[t])
                entering.append(crossing)
            new = cell.step(below @ w_ih.t() + b_ih, tuple(entering), w_hh, b_hh)
            if w_hr:
                new = (new[0] @ w_hr[0].t(), *new[1:])
            new = tuple(part.clone() for part in new)  # h and c apart, though h came from c
            states[layer].append(new if cell.has_c else (*new, None))
            below = states[layer][-1][0]
        ys.append(below)
    loss = (torch.stack(ys) * weigh).sum().sin()
    hs, cs = ([s[i] for layer in states for s in layer] for i in (0, 1))
    wanted = hs + (cs if cell.has_c else [])
    found = torch.autograd.grad(loss, [*wanted, *rnn.parameters()], allow_unused=True)
    whole = [torch.zeros_like(w) if f is None else f
             for w, f in zip([*wanted, *rnn.parameters()], found, strict=True)]  # fmt: skip
    shape = (rnn.num_layers, T + 1)
    h = torch.stack(whole[: len(hs)]).unflatten(0, shape).transpose(0, 1)
    c = (
        torch.stack(whole[len(hs) : len(wanted)]).unflatten(0, shape).transpose(0, 1)
        if cell.has_c
        else None
    )
    return h, c, whole[len(wanted) :]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("factors", [None, [1, 0.5, 1, 0, 2, 1, 1, 1]])
def test_gradients_are_those_of_autograd_on_the_reference(name, layers, factors):
    rnn = _layer(name, layers)
    x, hx, weigh = _inputs(rnn)
    found = state_gradients(rnn, x, lambda y: (y * weigh).sum().sin(), hx, factors=factors)
    h, c, parameters = _by_reference(rnn, x, hx, weigh, factors or [1.0] * (T + 1))
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(found.h, h, **close)
    torch.testing.assert_close(found.c, c, **close) if c is not None else None
    assert (found.c is None) == (c is None)
    for ours, theirs in zip(found.parameters.values(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, **close)
    assert torch.equal(found.norms(), found.h.norm(dim=3))


@pytest.mark.parametrize("name", LAYERS)
def test_the_whole_sequence_in_one_call_has_the_same_loss_and_gradients(name):
    rnn = _layer(name, 2)
    x, hx, weigh = _inputs(rnn)
    found = state_gradients(rnn, x, lambda y: (y * weigh).sum(), hx)
    h0 = hx[0].clone().requires_grad_()
    y, _ = rnn(x, h0 if hx[1] is None else (h0, hx[1]))
    loss = (y * weigh).sum()
    grads = torch.autograd.grad(loss, [h0, *rnn.parameters()])
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(found.h[0], grads[0], rtol=1e-9, atol=1e-12)
    for name, expected in zip(dict(rnn.named_parameters()), grads[1:], strict=True):
        torch.testing.assert_close(found.parameters[name], expected, rtol=1e-9, atol=1e-12)


def test_token_ids_and_no_initial_state():
    rnn = _layer("gru")
    ids = torch.randint(I, (T, B))
    rows = torch.nn.functional.one_hot(ids, I).double()
    by_ids = state_gradients(rnn, ids, lambda y: y[-1].sum())
    by_rows = state_gradients(rnn, rows, lambda y: y[-1].sum())
    torch.testing.assert_close(by_ids.h, by_rows.h)
    assert (by_ids.h[-1] == 1).all()


def test_the_norm_of_a_linear_network_is_a_power_of_its_weight():
    """ReLU in its linear part: the gradient k steps back is exactly the matrix to the k."""
    rnn = _layer("elman-relu")
    rnn.weight_hh_l0.data.copy_(0.9 * torch.eye(H)[torch.randperm(H)])
    rnn.bias_hh_l0.data.fill_(100.0)
    x, _, _ = _inputs(rnn)
    norms = state_gradients(rnn, x, lambda y: y[-1, :, 0].sum()).norms()[:, 0]
    back = torch.arange(T, -1, -1)[:, None].double()
    torch.testing.assert_close(norms, (0.9**back).expand(-1, B))
    spectrum = main_spectrum(rnn, 0)
    assert (spectrum.eigenvalue, spectrum.singular) == pytest.approx((0.9, 0.9))


@pytest.mark.parametrize("name", LAYERS)
def test_elman_gradients_stay_below_the_powers_of_the_singular_value(name):
    rnn = _layer(name)
    spectrum = spectra(rnn)
    gates = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}[rnn.mode]
    assert [each.gate for each in spectrum].count("candidate") == (gates > 1)
    assert len(spectrum) == gates
    assert all(each.eigenvalue <= each.singular * (1 + 1e-9) for each in spectrum)
    if gates == 1:
        x, hx, _ = _inputs(rnn)
        norms = state_gradients(rnn, x, lambda y: y[-1].sum(), hx).norms()[:, 0]
        ratio = norms[:-1] / norms[1:]
        assert (ratio <= spectrum[0].singular * (1 + 1e-9)).all()


# --- truncation ----------------------------------------------------------------------------------


def test_where_cuts_are():
    assert truncation.fixed(6, 2) == [1, 1, 0, 1, 0, 1, 1]
    assert truncation.fixed(3, 5) == [1] * 4
    drawn = truncation.random(6, 2, 0.75, torch.Generator().manual_seed(0))
    assert {drawn[2], drawn[4]} <= {0.0, 4.0}
    assert drawn[::2][::3] == [1, 1]


def test_the_mean_over_all_random_cuts_is_the_full_gradient():
    """Every one of the 2^3 ways to cut, weighed with its probability."""
    rnn = _layer("lstm", 2)
    x, hx, weigh = _inputs(rnn)
    loss = lambda y: (y * weigh).sum()  # noqa: E731
    full = state_gradients(rnn, x, loss, hx)
    cut, mean, weights = 0.3, 0.0, 0.0
    for cuts in itertools.product([True, False], repeat=3):
        factors = [1.0] * (T + 1)
        for place, there in zip((2, 4, 6), cuts, strict=True):
            factors[place] = 0.0 if there else 1 / (1 - cut)
        chance = cut ** sum(cuts) * (1 - cut) ** (3 - sum(cuts))
        found = state_gradients(rnn, x, loss, hx, factors=factors)
        mean += chance * found.h
        weights += chance * found.parameters["weight_hh_l0"]
    torch.testing.assert_close(mean, full.h)
    torch.testing.assert_close(weights, full.parameters["weight_hh_l0"])


def test_fixed_truncation_sees_nothing_before_the_last_cut():
    rnn = _layer("gru")
    x, hx, _ = _inputs(rnn)
    full = state_gradients(rnn, x, lambda y: y[-1].sum(), hx)
    cut = state_gradients(rnn, x, lambda y: y[-1].sum(), hx, factors=truncation.fixed(T, 3))
    assert (cut.h[:7] == 0).sum() == cut.h[:7].numel()
    torch.testing.assert_close(cut.h[7:], full.h[7:])


# --- refusals ------------------------------------------------------------------------------------


def test_what_cannot_be_differentiated():
    rnn = _layer("gru")
    x, _, _ = _inputs(rnn)

    def refused(message, *args, **options):
        with pytest.raises(GradientError, match=message):
            state_gradients(*args, lambda y: y.sum(), **options)

    refused("expected a fusedrnn RNN, LSTM or GRU, got GRU", torch.nn.GRU(I, H), x)
    refused("one direction, got bidirectional=True", fusedrnn.GRU(I, H, bidirectional=True), x)
    refused(r"expected inputs \[T, B, 4\] .* got \[3, 4\]", rnn, x[0])
    refused(r"expected inputs of size 4, got 3", rnn, x[:, :, :3])
    refused("expected 8 factors, one for each state, got 3", rnn, x, factors=[1, 1, 1])
    with pytest.raises(GradientError, match="every: expected at least 1 step, got 0"):
        truncation.fixed(3, 0)
    with pytest.raises(GradientError, match=r"cut: expected a probability .*, got 1.0"):
        truncation.random(3, 1, 1.0, torch.Generator())
