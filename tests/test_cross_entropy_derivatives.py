"""Derivatives of the loss of a linear head: which are made, when, and how they are handed on."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from cross_entropy import F32, F64, assert_right, by_definition, data_of, ours

from fusedrnn import _ops
from fusedrnn.functional import linear_cross_entropy

# torch's own, from inside jvp
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.mark.parametrize("wanted", list(itertools.product((True, False), repeat=3)), ids=str)
def test_gradients_of_what_wants_them(wanted):
    given = data_of((20, 7, 11))
    x, w, b = (t.detach().requires_grad_(need) for t, need in zip(given, wanted, strict=False))
    loss = linear_cross_entropy(x, w, given[3], linear_bias=b)
    assert loss.requires_grad == any(wanted)
    expected = ours(*given)
    assert torch.equal(loss, expected[0])
    if loss.requires_grad:
        loss.backward()
    for t, need, g in zip((x, w, b), wanted, expected[1], strict=True):
        assert torch.equal(t.grad, g) if need else t.grad is None


@pytest.fixture
def asked(monkeypatch):
    """What gradients the op has been asked for, call by call."""
    calls, op = [], _ops.linear_cross_entropy

    def spy(*args):
        calls.append(args[-3:])
        return op(*args)

    monkeypatch.setattr(_ops, "linear_cross_entropy", spy)
    return calls


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_none_are_made(asked, mode):
    x, w, b, labels = data_of((20, 7, 11))
    with mode():
        loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    assert not loss.requires_grad
    constants = (t.detach() for t in (x, w, b))
    x0, w0, b0 = constants
    assert torch.equal(linear_cross_entropy(x0, w0, labels, linear_bias=b0), loss)
    assert asked == [(False, False, False)] * 2
    assert torch.equal(loss, ours(x, w, b, labels)[0])


def test_only_what_is_wanted_is_made(asked):
    x, w, b, labels = data_of((20, 7, 11))
    linear_cross_entropy(x.detach(), w.detach(), labels, linear_bias=b).backward()
    linear_cross_entropy(x, w.detach(), labels).backward()
    assert asked == [(False, False, True), (True, False, False)]


def test_backward_twice_adds_the_same_again():
    """What is kept is not what the first backward handed out and others add to."""
    x, w, b, labels = data_of((20, 7, 11))
    expected = ours(x, w, b, labels)[1]
    loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    for count in (1, 2, 3):
        loss.backward(retain_graph=True)
        for t, g in zip((x, w, b), expected, strict=True):
            assert torch.allclose(t.grad, g * count)
    with torch.no_grad():
        w.grad.fill_(7)
    assert torch.equal(torch.autograd.grad(loss, w)[0], expected[1])


def test_second_derivatives():
    x, w, b, labels = data_of((6, 3, 4), F64, ignored=(2,))

    def loss(*given):
        return linear_cross_entropy(given[0], given[1], labels, linear_bias=given[2])

    assert torch.autograd.gradcheck(loss, (x, w, b))
    assert torch.autograd.gradgradcheck(loss, (x, w, b))
    frozen = w.detach()
    assert torch.autograd.gradgradcheck(lambda *given: loss(given[0], frozen, given[1]), (x, b))


def test_second_derivatives_where_one_argument_comes_from_another():
    """As with tied weights: the head's are the embedding's."""
    w = torch.randn(6, 4, dtype=F64, requires_grad=True)
    ids, labels = torch.randint(0, 6, (2, 5))

    def tied(w):
        return linear_cross_entropy(F.embedding(ids, w).tanh(), w, labels, linear_bias=w[:, 0])

    def plain(w):
        return F.cross_entropy(F.linear(F.embedding(ids, w).tanh(), w, w[:, 0]), labels)

    first, expected = (torch.autograd.grad(f(w), w, create_graph=True)[0] for f in (tied, plain))
    assert torch.allclose(first, expected)
    assert torch.allclose(first, torch.autograd.grad(tied(w), w)[0])
    second = (torch.autograd.grad(g.square().sum(), w)[0] for g in (first, expected))
    assert torch.allclose(*second)
    same = torch.autograd.grad(linear_cross_entropy(w, w, labels[:1].expand(6)), w)[0]
    again = torch.autograd.grad(
        linear_cross_entropy(w, w, labels[:1].expand(6)), w, create_graph=True
    )[0]
    assert torch.allclose(same, again)


def test_several_gradients_of_the_loss_at_once():
    x, w, b, labels = data_of((6, 3, 4))
    loss = linear_cross_entropy(x, w, labels, linear_bias=b)
    factors = torch.tensor([1.0, -2.0])
    both = torch.autograd.grad(loss, (x, w, b), factors, is_grads_batched=True, retain_graph=True)
    mapped = torch.vmap(lambda v: torch.autograd.grad(loss, (x, w, b), v))(factors)
    for many, more, one in zip(both, mapped, ours(x, w, b, labels)[1], strict=True):
        assert torch.allclose(many, torch.stack([one, -2 * one]))
        assert torch.allclose(more, many)


def test_transforms_and_forward_mode():
    x, w, b, labels = (t.detach() for t in data_of((6, 3, 4), F64))

    def of(x, w, b):
        return linear_cross_entropy(x, w, labels, linear_bias=b)

    def plain(x, w, b):
        return F.cross_entropy(F.linear(x, w, b), labels)

    for transform in (
        lambda f: torch.func.grad(f, argnums=(0, 1, 2))(x, w, b),
        lambda f: torch.func.hessian(f)(x, w, b),
        lambda f: torch.func.vmap(f, in_dims=(0, None, None))(torch.stack([x, 2 * x]), w, b),
        lambda f: torch.func.jvp(f, (x, w, b), (x, w, b)),
    ):
        for a, c in zip(transform(of), transform(plain), strict=True):
            assert torch.allclose(a, c)


def test_compiled():
    given = data_of((12, 5, 8))
    compiled = torch.compile(
        lambda x, w, b, labels: linear_cross_entropy(x, w, labels, linear_bias=b),
        backend="aot_eager",
        fullgraph=True,
    )
    loss = compiled(*given)
    expected = by_definition(*given)
    assert_right(F32, (loss, torch.autograd.grad(loss, given[:3])), expected)


def test_scores_are_never_in_memory():
    rows, features, classes = 600, 16, 3000
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        linear_cross_entropy(
            *data_of((rows, features, classes), bias=False)[:2], torch.zeros(rows).long()
        )
    assert sum(t.numel() for t in kept) < rows * classes // 4
