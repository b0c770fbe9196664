"""Initialisations: what each writes, for every cell, layer, direction, dtype and owner."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import fusedrnn
from fusedrnn import init

OWNERS = {"ours": fusedrnn, "torch.nn": nn}
KINDS = ["RNN", "LSTM", "GRU"]
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
H = 6


def _layer(owner, kind, **options):
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": True, **options}
    return getattr(OWNERS[owner], kind)(5, H, **options)


def _ends(rnn):
    return [f"l{i}{end}" for i in range(rnn.num_layers) for end in ("", "_reverse")]


def _bias(rnn, end):
    """The sum of both biases, gate by gate: ``[G, H]``."""
    both = getattr(rnn, f"bias_ih_{end}") + getattr(rnn, f"bias_hh_{end}")
    return both.detach().view(-1, H)


def _changed(before, after):
    """The names of the parameters that differ, without layer and direction."""
    old = before.state_dict()
    pairs = after.state_dict().items()
    return {name.partition("_l")[0] for name, value in pairs if not torch.equal(old[name], value)}


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("kind", KINDS)
def test_orthogonal_blocks(owner, kind):
    rnn = _layer(owner, kind)
    before = copy.deepcopy(rnn)
    assert init.orthogonal_(rnn, gain=1.5) is rnn
    assert _changed(before, rnn) == {"weight_hh"}
    seen = []
    for end in _ends(rnn):
        blocks = getattr(rnn, f"weight_hh_{end}").detach().view(GATES[kind], H, H)
        for block in blocks:
            torch.testing.assert_close(block.T @ block, 2.25 * torch.eye(H))
            assert not any(torch.equal(block, other) for other in seen)
            seen.append(block)


def test_orthogonal_columns_under_a_projection():
    rnn = fusedrnn.init.orthogonal_(_layer("ours", "LSTM", proj_size=4))
    for end in _ends(rnn):
        for block in getattr(rnn, f"weight_hh_{end}").detach().view(4, H, 4):
            torch.testing.assert_close(block.T @ block, torch.eye(4))


@pytest.mark.parametrize("owner", OWNERS)
def test_identity_with_relu_adds_up_its_input(owner):
    rnn = _layer(owner, "RNN", nonlinearity="relu")
    before = copy.deepcopy(rnn)
    assert init.identity_(rnn, scale=0.5) is rnn
    assert _changed(before, rnn) == {"weight_hh", "weight_ih", "bias_ih", "bias_hh"}
    for end in _ends(rnn):
        assert torch.equal(getattr(rnn, f"weight_hh_{end}"), 0.5 * torch.eye(H))
        assert _bias(rnn, end).count_nonzero() == 0
        spread = getattr(rnn, f"weight_ih_{end}").std().item()
        assert 0.0005 < spread < 0.002
    one = init.identity_(_layer(owner, "RNN", nonlinearity="relu", num_layers=1))
    with torch.no_grad():
        one.weight_ih_l0.fill_(1.0)
        y, _ = one(torch.ones(7, 1, 5))
    torch.testing.assert_close(y[:, 0, 0], 5.0 * torch.arange(1, 8))


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_chrono_biases(owner, kind):
    rnn = _layer(owner, kind)
    before = copy.deepcopy(rnn)
    assert init.chrono_(rnn, longest=100) is rnn
    assert _changed(before, rnn) == {"bias_ih", "bias_hh"}
    for end in _ends(rnn):
        bias, old = _bias(rnn, end), _bias(before, end)
        steps = bias[1].exp()
        assert steps.min() >= 1 - 1e-6
        assert steps.max() <= 99 + 1e-4
        assert steps.unique().numel() == H
        if kind == "LSTM":
            torch.testing.assert_close(bias[0], -bias[1])
            rest = [2, 3]
        else:
            rest = [0, 2]
        assert torch.equal(bias[rest], old[rest])


def test_chrono_is_even_in_time():
    rnn = init.chrono_(fusedrnn.LSTM(1, 5_000), longest=101)
    with torch.no_grad():
        keep = (rnn.bias_ih_l0 + rnn.bias_hh_l0).view(4, -1)[1].exp()
    shares = torch.histc(keep, 4, 1, 100) / keep.numel()
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_forget_gate_bias(owner, kind):
    rnn = _layer(owner, kind)
    before = copy.deepcopy(rnn)
    assert init.forget_gate_bias_(rnn, 2.0) is rnn
    assert _changed(before, rnn) == {"bias_ih", "bias_hh"}
    for end in _ends(rnn):
        bias, old = _bias(rnn, end), _bias(before, end)
        assert torch.equal(bias[1], torch.full((H,), 2.0))
        rest = [gate for gate in range(GATES[kind]) if gate != 1]
        assert torch.equal(bias[rest], old[rest])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_gate_that_is_opened_keeps_the_state(kind):
    """The contract itself: a large bias there, and the state stays what it was."""
    rnn = init.forget_gate_bias_(getattr(fusedrnn, kind)(5, H), 50.0)
    if kind == "LSTM":
        with torch.no_grad():
            rnn.bias_ih_l0[:H] = -50.0  # the input gate shut
    state = torch.randn(1, 1, H)
    hx = (torch.zeros(1, 1, H), state) if kind == "LSTM" else state
    _, after = rnn(torch.randn(9, 1, 5), hx)
    torch.testing.assert_close(after[1] if kind == "LSTM" else after, state)


@pytest.mark.parametrize("owner", OWNERS)
def test_cells(owner):
    own = OWNERS[owner]
    for kind in KINDS:
        cell = init.orthogonal_(getattr(own, f"{kind}Cell")(5, H))
        for block in cell.weight_hh.detach().view(-1, H, H):
            torch.testing.assert_close(block.T @ block, torch.eye(H))
    for kind in ("LSTM", "GRU"):
        cell = init.forget_gate_bias_(getattr(own, f"{kind}Cell")(5, H), 1.0)
        assert torch.equal((cell.bias_ih + cell.bias_hh).view(-1, H)[1], torch.ones(H))
    cell = init.identity_(own.RNNCell(5, H, nonlinearity="relu"))
    assert torch.equal(cell.weight_hh, torch.eye(H))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_one_seed_gives_the_same_values_in_every_dtype(dtype):
    def make(dtype):
        rnn = fusedrnn.LSTM(5, H, dtype=dtype)
        init.orthogonal_(rnn, generator=torch.Generator().manual_seed(3))
        return init.chrono_(rnn, 50, generator=torch.Generator().manual_seed(3))

    exact, rounded = make(torch.float64), make(dtype)
    assert torch.equal(exact.weight_hh_l0.to(dtype), rounded.weight_hh_l0)
    assert torch.equal(exact.bias_ih_l0[: 2 * H].to(dtype), rounded.bias_ih_l0[: 2 * H])


def test_by_name_in_a_whole_model():
    def model():
        torch.manual_seed(0)
        return nn.ModuleDict({"a": fusedrnn.LSTM(5, H), "b": nn.GRU(5, H), "c": nn.Linear(H, 2)})

    untouched = model()
    init.initialise(untouched, "default")
    assert _changed(model(), untouched) == set()
    for name, changed in (
        ("orthogonal", {"a.weight_hh", "b.weight_hh"}),
        ("chrono", {"a.bias_ih", "a.bias_hh", "b.bias_ih", "b.bias_hh"}),
        ("forget-gate", {"a.bias_ih", "a.bias_hh", "b.bias_ih", "b.bias_hh"}),
    ):
        other = model()
        init.initialise(other, name, longest=30)
        assert _changed(model(), other) == changed
    irnn = fusedrnn.RNN(5, H, nonlinearity="relu")
    init.initialise(irnn, "identity")
    assert torch.equal(irnn.weight_hh_l0, torch.eye(H))
    assert set(init.NAMES) == {"default", "orthogonal", "identity", "chrono", "forget-gate"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.orthogonal_(fusedrnn.GRU(2, 3), gain=0), "gain: expected a number above 0"),
        (lambda: init.orthogonal_(fusedrnn.GRU(2, 3), gain=math.inf), "gain: expected a number"),
        (lambda: init.identity_(fusedrnn.RNN(2, 3)), "nonlinearity='relu', got RNN with .*'tanh'"),
        (lambda: init.identity_(nn.LSTM(2, 3)), "nonlinearity='relu', got LSTM"),
        (
            lambda: init.identity_(fusedrnn.RNN(2, 3, nonlinearity="relu"), scale=-1),
            "scale: expected a number above 0, got -1",
        ),
        (lambda: init.chrono_(fusedrnn.LSTM(2, 3), longest=1), "at least 2 steps, got 1"),
        (lambda: init.chrono_(fusedrnn.RNN(2, 3), longest=9), "expected an LSTM or a GRU, got RNN"),
        (lambda: init.chrono_(nn.GRU(2, 3, bias=False), longest=9), "biases, got GRU with bias="),
        (lambda: init.forget_gate_bias_(nn.RNN(2, 3)), "expected an LSTM or a GRU, got RNN"),
        (lambda: init.forget_gate_bias_(nn.GRU(2, 3), math.nan), "expected a finite number"),
        (lambda: init.orthogonal_(nn.GRU(2, 3, device="meta")), "with values, got one on meta"),
        (lambda: init.initialise(nn.GRU(2, 3), "glorot"), "expected one of default, .*'glorot'"),
        (lambda: init.initialise(nn.GRU(2, 3), "chrono"), "longest dependency, got None"),
        (lambda: init.initialise(nn.Linear(2, 3), "orthogonal"), "recurrent layer, got Linear"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="expected a recurrent layer or cell, got Linear"):
        init.orthogonal_(nn.Linear(2, 2))


def test_weights_computed_from_others_are_refused():
    rnn = nn.utils.parametrizations.weight_norm(fusedrnn.LSTM(2, 3), "weight_hh_l0")
    with pytest.raises(ValueError, match="weight_hh_l0: expected a parameter, got one that is"):
        init.orthogonal_(rnn)
