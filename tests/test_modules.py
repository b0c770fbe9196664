"""The layers as modules: what torch and its users do to an nn.Module."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fusedrnn

NAMES = ("RNN", "LSTM", "GRU")
VARIANTS = [
    ("RNN", {}),
    ("RNN", {"num_layers": 2, "nonlinearity": "relu", "bias": False}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"num_layers": 2, "proj_size": 2, "dropout": 0.25, "dtype": torch.float64}),
    ("GRU", {"num_layers": 3, "bidirectional": True, "dtype": torch.float64}),
]
variants = pytest.mark.parametrize(("name", "options"), VARIANTS)
names = pytest.mark.parametrize("name", NAMES)


def build(family, name, options=None, seed=0):
    torch.manual_seed(seed)
    return getattr(family, name)(4, 5, **(options or {}))


def x_for(module):
    torch.manual_seed(1)
    return torch.randn(3, 2, 4, dtype=next(module.parameters()).dtype)


def same_results(a, b):
    a, b = a.eval(), b.eval()
    x = x_for(a)
    torch.testing.assert_close(a(x), b(x))


@variants
def test_one_seed_gives_torchs_parameters(name, options):
    ours, theirs = build(fusedrnn, name, options), build(nn, name, options)
    mine, other = list(ours.named_parameters()), list(theirs.named_parameters())
    assert [n for n, _ in mine] == [n for n, _ in other]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(mine, other, strict=True))
    ours.reset_parameters()
    assert not torch.equal(ours.weight_ih_l0, theirs.weight_ih_l0)


@variants
def test_repr_and_attributes(name, options):
    ours, theirs = build(fusedrnn, name, options), build(nn, name, options)
    assert repr(ours) == repr(theirs)
    assert {k for k in vars(theirs) if not k.startswith("_")} == {
        k for k in vars(ours) if not k.startswith("_")
    }
    assert [[p.shape for p in layer] for layer in ours.all_weights] == [
        [p.shape for p in layer] for layer in theirs.all_weights
    ]
    assert ours.all_weights[0][0] is ours.weight_ih_l0


@variants
def test_state_dict_moves_both_ways(name, options):
    ours, theirs = build(fusedrnn, name, options), build(nn, name, options, seed=1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    same_results(ours, theirs)
    other = build(nn, name, options, seed=2)
    other.load_state_dict(ours.state_dict())
    same_results(ours, other)


def test_they_are_not_torchs_layers():
    """torch.compile refuses to trace those; nn.RNNBase it traces."""
    for name in NAMES:
        module = build(fusedrnn, name)
        assert isinstance(module, nn.RNNBase)
        assert not isinstance(module, (nn.RNN, nn.LSTM, nn.GRU))


def by_torch_save(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@variants
@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), by_torch_save],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies(name, options, clone):
    module = build(fusedrnn, name, options)
    module(x_for(module))[0].sum().backward()
    other = clone(module)
    assert all(a is not b for a, b in zip(module.parameters(), other.parameters(), strict=True))
    same_results(module, other)
    with torch.no_grad():
        other.weight_hh_l0.zero_()
    assert module.weight_hh_l0.any()


@variants
def test_meta_device_and_to_empty(name, options):
    module = build(fusedrnn, name, {**options, "device": "meta"})
    assert all(p.is_meta for p in module.parameters())
    y, _ = module(x_for(module).to("meta"))
    assert y.is_meta
    module = module.to_empty(device="cpu")
    module.load_state_dict(build(nn, name, options).state_dict())
    same_results(module, build(nn, name, options))


@names
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_changing_dtype(name, dtype):
    module = build(fusedrnn, name).to(dtype)
    y, _ = module(torch.randn(3, 2, 4).to(dtype))
    assert y.dtype == dtype
    y.sum().backward()
    assert all(p.grad.dtype == dtype for p in module.parameters())


@names
def test_functional_call(name):
    ours, theirs = build(fusedrnn, name), build(nn, name, seed=1)
    values = {k: v.detach().clone().requires_grad_() for k, v in theirs.named_parameters()}
    x = x_for(ours)
    y, state = torch.func.functional_call(ours, values, (x,))
    torch.testing.assert_close((y, state), theirs(x))
    y.sum().backward()
    assert all(v.grad is not None for v in values.values())
    assert all(p.grad is None for p in ours.parameters())


@names
def test_changes_of_weights_take_effect(name):
    ours, theirs = build(fusedrnn, name), build(nn, name, seed=1)
    x = x_for(ours)
    ours(x)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        a.data = b.data.clone()
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        ours.weight_hh_l0.mul_(2)
        theirs.weight_hh_l0.mul_(2)
    torch.testing.assert_close(ours(x), theirs(x))
    ours.weight_ih_l0 = nn.Parameter(theirs.weight_ih_l0.detach() * 3)
    theirs.weight_ih_l0 = nn.Parameter(theirs.weight_ih_l0.detach() * 3)
    torch.testing.assert_close(ours(x), theirs(x))


@names
def test_parametrizations(name):
    ours, theirs = build(fusedrnn, name), build(nn, name)
    for module in (ours, theirs):
        parametrizations.weight_norm(module, "weight_hh_l0")
    x = x_for(ours)
    results = []
    for module in (ours, theirs):
        y, _ = module(x)
        y.sin().sum().backward()
        results.append((y, [p.grad for _, p in sorted(module.named_parameters())]))
    torch.testing.assert_close(*results)


@names
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_the_older_weight_norm(name):
    ours, theirs = build(fusedrnn, name), build(nn, name)
    for module in (ours, theirs):
        nn.utils.weight_norm(module, "weight_ih_l0")
        with torch.no_grad():
            module.weight_ih_l0_g.mul_(2)
    torch.testing.assert_close(ours(x_for(ours)), theirs(x_for(ours)))


@names
def test_hooks_and_keyword_calls(name):
    module = build(fusedrnn, name)
    seen = []
    module.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(set(kwargs)), with_kwargs=True
    )
    module.register_forward_hook(lambda m, args, out: seen.append(out[0].shape))
    module.register_full_backward_hook(lambda m, gi, go: seen.append("backward"))
    x = x_for(module).requires_grad_()
    state = module(x)[1]
    module(input=x, hx=state)
    assert {"input", "hx"} in seen
    y, _ = module(x)
    y.sum().backward()
    assert torch.Size([3, 2, 5]) in seen
    assert seen[-1] == "backward"


@names
def test_backward_in_eval_mode(name):
    module = build(fusedrnn, name).eval()
    module(x_for(module))[0].sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@names
def test_frozen_parameters_get_no_gradient(name):
    module = build(fusedrnn, name)
    module.weight_hh_l0.requires_grad_(False)
    module(x_for(module))[0].sum().backward()
    assert module.weight_hh_l0.grad is None
    assert module.weight_ih_l0.grad is not None


@names
def test_flatten_parameters_does_nothing(name):
    module = build(fusedrnn, name)
    before = [p.data_ptr() for p in module.parameters()]
    assert module.flatten_parameters() is None
    assert before == [p.data_ptr() for p in module.parameters()]


@names
def test_an_empty_batch(name):
    module = build(fusedrnn, name, {"num_layers": 2, "bidirectional": True})
    x = torch.randn(3, 0, 4, requires_grad=True)
    y, state = module(x)
    assert y.shape == (3, 0, 10)
    for s in state if name == "LSTM" else (state,):
        assert s.shape == (4, 0, 5)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not any(p.grad.any() for p in module.parameters())
    lengths, resets = torch.zeros(0, dtype=torch.long), torch.zeros(3, 0, dtype=torch.bool)
    assert module(x, lengths=lengths, resets=resets)[0].shape == (3, 0, 10)


@names
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_autocast(name, given):
    """One rule: outputs and states in autocast's dtype, whatever the input's."""
    module = build(fusedrnn, name, {"num_layers": 2})
    x = torch.randn(3, 2, 4).to(given)
    h = torch.randn(2, 2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = module(x, (h, h) if name == "LSTM" else h)
    assert all(t.dtype == torch.bfloat16 for t in (y, *(state if name == "LSTM" else (state,))))
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())


@names
def test_the_same_seed_trains_to_the_same_bits(name):
    def train():
        torch.manual_seed(3)
        module = getattr(fusedrnn, name)(4, 33, 2, dropout=0.2)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        losses = []
        for _ in range(5):
            loss = module(torch.randn(7, 9, 4))[0].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    assert train() == train()
