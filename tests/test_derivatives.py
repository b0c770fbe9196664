"""Derivatives of every cell, with and without lengths and resets: eager, twice and more, and torch.func.

All in float64 against the reference, or against finite differences.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from oracle import CELLS, random_options, run_reference, states_of, strided, weights_of
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck
from torch.func import functional_call, jacfwd, jacrev, jvp, vjp, vmap

import fusedrnn
from fusedrnn import _direct, _ops, functional, reference

# torch's own, from inside jvp
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script(_method)?. is deprecated:DeprecationWarning"
)

F64 = torch.float64
T, B, I, H = 3, 2, 3, 4  # noqa: E741

options = pytest.mark.parametrize("options", [False, True], ids=["plain", "lengths-resets"])
cells = pytest.mark.parametrize("cell", CELLS)


def case(cell, options, directions=2, proj=0, ids=False):
    """x, h0, c0, weights, lengths, resets, cell, directions."""
    torch.manual_seed(0)
    x = torch.randint(0, I, (T, B)) if ids else torch.randn(T, B, I, dtype=F64, requires_grad=True)
    lengths = torch.tensor([2, 3]) if options else None
    resets = torch.tensor([[False, True], [True, False], [False, True]]) if options else None
    w = weights_of(cell, I, H, directions, proj=proj)
    return x, *states_of(cell, B, H, directions, proj), w, lengths, resets, cell, directions


def detached(args):
    x, h0, c0, w, *rest = args
    return (
        x.detach(),
        h0.detach(),
        None if c0 is None else c0.detach(),
        [t.detach() for t in w],
        *rest,
    )


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


class Counter:
    """Counts calls of the native ops, with the direct way past them closed."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(_direct, "READY", False)
        self.forward = self.backward = 0
        forward, backward = _ops.layer_forward, _ops.layer_backward

        def layer_forward(*args):
            self.forward += 1
            return forward(*args)

        def layer_backward(*args):
            self.backward += 1
            return backward(*args)

        monkeypatch.setattr(_ops, "layer_forward", layer_forward)
        monkeypatch.setattr(_ops, "layer_backward", layer_backward)

    def took(self):
        """The calls since the last time."""
        counts = (self.forward, self.backward)
        self.forward = self.backward = 0
        return counts


@pytest.fixture
def calls(monkeypatch):
    return Counter(monkeypatch)


# -- eager and double backward --------------------------------------------------------------------

VARIANTS = [
    (cell, options, directions, proj, ids)
    for cell, options, directions, ids in itertools.product(
        CELLS, (False, True), (1, 2), (False, True)
    )
    for proj in ((0, 2) if cell == "lstm" else (0,))
]


@pytest.mark.parametrize(("cell", "options", "directions", "proj", "ids"), VARIANTS)
def test_gradcheck_and_gradgradcheck(cell, options, directions, proj, ids):
    x, h0, c0, w, *rest = case(cell, options, directions, proj, ids)

    def run(*inputs):
        it = iter(inputs)
        first = x if ids else next(it)
        h, c = next(it), None if c0 is None else next(it)
        return [t for t in functional.layer(first, h, c, list(it), *rest) if t.dim() > 1]

    inputs = [t for t in (None if ids else x, h0, c0, *w) if t is not None]
    assert gradcheck(run, inputs, fast_mode=True)
    assert gradgradcheck(run, inputs, fast_mode=True)


@cells
@options
def test_third_derivative(cell, options):
    args = detached(case(cell, options))

    def third(layer):
        a = torch.tensor(0.3, dtype=F64, requires_grad=True)
        x, h0, c0, w, *rest = args
        value = layer(x * a, h0 * a, c0, [t * a for t in w], *rest)[0].sum()
        for _ in range(3):
            (value,) = grad(value, a, create_graph=True)
        return value

    close(third(functional.layer), third(run_reference))


@cells
def test_double_backward_with_expanded_and_strided_tensors(cell):
    """A gradient penalty on inputs that are not contiguous, with gradients of stride 0."""
    x, h0, c0, w, *rest = case(cell, True)
    x, w = strided(x), [strided(t) for t in w]

    def penalty(layer):
        (dx,) = grad(layer(x, h0, c0, w, *rest)[0].sum(), x, create_graph=True)
        return grad(dx.square().sum(), [x, h0, *w])

    close(penalty(functional.layer), penalty(run_reference))


@cells
def test_double_backward_of_a_part(cell):
    """Only some inputs require gradients; h0 is a function of x, which must not be counted twice."""
    x, _, c0, w, *rest = case(cell, False)
    frozen = [t.detach() for t in w]

    def penalty(layer):
        h0 = x.sum() * torch.ones(2, B, H, dtype=F64)
        (dx,) = grad(layer(x, h0, c0, [w[0], *frozen[1:]], *rest)[1].sum(), x, create_graph=True)
        return grad(dx.square().sum(), [x, w[0]])

    close(penalty(functional.layer), penalty(run_reference))


@cells
def test_the_first_backward_of_a_double_one_is_native(cell, calls):
    x, h0, c0, w, *rest = case(cell, False)
    y = functional.layer(x, h0, c0, w, *rest)[0]
    grad(y.sum(), x, create_graph=True)
    assert calls.took() == (1, 1)


# -- torch.func -----------------------------------------------------------------------------------


def loss(layer, args):
    """A scalar of x, h0 and the weights."""
    _, _, c0, _, *rest = args

    def run(x, h0, w):
        y, h_n, c_n = layer(x, h0, c0, w, *rest)
        return y.sin().sum() + (h_n**2).sum() + (c_n**2).sum()

    return run


@cells
@options
def test_func_grad_uses_the_kernels(cell, options, calls):
    args = detached(case(cell, options))
    x, h0, _, w, *_ = args
    ours = torch.func.grad(loss(functional.layer, args), (0, 1, 2))(x, h0, w)
    assert calls.took() == (1, 1)
    close(ours, torch.func.grad(loss(run_reference, args), (0, 1, 2))(x, h0, w))


@cells
@options
def test_vmap_over_data_is_one_call(cell, options, calls):
    args = detached(case(cell, options))
    x, h0, _, w, *_ = args
    xs, hs = torch.stack([x, 2 * x, -x]), torch.stack([h0, -h0, 3 * h0], 1)
    for inputs, dims in (((xs, hs), (0, 1)), ((xs, h0), (0, None)), ((x, hs), (None, 1))):
        ours = vmap(loss(functional.layer, args), (*dims, None))(*inputs, w)
        assert calls.took() == (1, 0)
        close(ours, vmap(loss(run_reference, args), (*dims, None))(*inputs, w))


@cells
@options
def test_vmap_over_weights(cell, options):
    args = detached(case(cell, options))
    x, h0, _, w, *_ = args
    xs, ws = torch.stack([x, 2 * x, -x]), [torch.stack([t, 2 * t, -t], 1) for t in w]
    for inputs, dims in (((x, h0), (None, None)), ((xs, h0), (0, None))):
        for transform in (lambda f: f, lambda f: torch.func.grad(f, (0, 1, 2))):
            ours = vmap(transform(loss(functional.layer, args)), (*dims, 1))(*inputs, ws)
            close(ours, vmap(transform(loss(run_reference, args)), (*dims, 1))(*inputs, ws))


@cells
@options
def test_gradients_per_sample(cell, options, calls):
    args = detached(case(cell, options))
    x, h0, _, w, *_ = args
    xs = torch.stack([x, 2 * x, -x])
    for argnums, wanted in (((0, 1), (1, 1)), ((0, 1, 2), (1, 3))):
        ours = vmap(torch.func.grad(loss(functional.layer, args), argnums), (0, None, None))(
            xs, h0, w
        )
        assert calls.took() == wanted  # gradients of weights are one backward for each sample
        close(
            ours,
            vmap(torch.func.grad(loss(run_reference, args), argnums), (0, None, None))(xs, h0, w),
        )


@cells
def test_grad_of_vmap_sums_in_the_kernel(cell, calls):
    args = detached(case(cell, True))
    x, h0, _, w, *_ = args
    xs = torch.stack([x, 2 * x, -x])

    def total(layer):
        return lambda w: vmap(loss(layer, args), (0, None, None))(xs, h0, w).sum()

    ours = torch.func.grad(total(functional.layer))(w)
    assert calls.took() == (1, 1)
    close(ours, torch.func.grad(total(run_reference))(w))


@cells
def test_vmap_over_ids_lengths_and_resets(cell):
    _, h0, c0, w, _, _, cell, directions = detached(case(cell, True))
    ids = torch.randint(0, I, (5, T, B))
    options = [torch.stack(o) for o in zip(*(random_options(T, B) for _ in range(5)), strict=True)]

    def run(layer):
        return lambda ids, lengths, resets, w: (
            layer(ids, h0, c0, w, lengths, resets, cell, directions)[0].cos().sum()
        )

    dims = (0, 0, 0, None)
    close(
        vmap(torch.func.grad(run(functional.layer), 3), dims)(ids, *options, w),
        vmap(torch.func.grad(run(run_reference), 3), dims)(ids, *options, w),
    )


def nested_vmap(f, x):
    return vmap(vmap(f))(torch.stack([torch.stack([x, -x]), torch.stack([2 * x, x])]))


def pushed_through_pullback(f, x):
    value, pullback = vjp(f, x)
    return jvp(pullback, (value,), (value.cos(),))


TRANSFORMS = {
    "jvp": lambda f, x: jvp(f, (x,), (x.cos(),)),
    "jacrev": lambda f, x: jacrev(f)(x),
    "jacrev of jacrev": lambda f, x: jacrev(jacrev(f))(x),
    "jacfwd of jacrev": lambda f, x: jacfwd(jacrev(f))(x),
    "jacrev of jacfwd": lambda f, x: jacrev(jacfwd(f))(x),
    "nested vmap": nested_vmap,
    "vmap of jacrev": lambda f, x: vmap(jacrev(f))(torch.stack([x, -x])),
    "jvp of a pullback": pushed_through_pullback,
}


@cells
@options
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("of", ["x", "weights"])
def test_transforms(cell, options, transform, of):
    x, h0, c0, w, *rest = detached(case(cell, options))

    def run(layer):
        if of == "x":
            return lambda v: layer(v, h0, c0, w, *rest)[0][:, 0, :2]
        return lambda v: layer(x, h0, c0, [v[0] * w[0], v[1] + w[1], *w[2:]], *rest)[0][:, 0, :2]

    at = x if of == "x" else torch.tensor([0.7, 0.2], dtype=F64)
    apply = TRANSFORMS[transform]
    close(apply(run(functional.layer), at), apply(run(run_reference), at))


@cells
@options
def test_forward_mode_without_func(cell, options):
    x, h0, c0, w, *rest = detached(case(cell, options))

    def tangent(layer):
        with forward_ad.dual_level():
            y = layer(forward_ad.make_dual(x, x.cos()), h0, c0, w, *rest)[0]
            return forward_ad.unpack_dual(y).tangent

    close(tangent(functional.layer), tangent(run_reference))


@cells
@pytest.mark.parametrize("create_graph", [False, True])
def test_batched_gradients(cell, create_graph):
    """autograd.grad(is_grads_batched=True), which torch.autograd.functional.jacobian can use."""
    x, h0, c0, w, *rest = case(cell, True)
    seeds = torch.randn(3, T, B, 2 * H, dtype=F64)

    def run(layer):
        y = layer(x, h0, c0, w, *rest)[0]
        return grad(y, [x, *w], seeds, is_grads_batched=True, create_graph=create_graph)

    close(run(functional.layer), run(run_reference))


@cells
def test_backward_through_vmap(cell, calls):
    """torch.func outside, ordinary autograd around it."""
    x, h0, c0, w, *rest = case(cell, False)
    xs = torch.stack([x, -x])

    def run(layer):
        return grad(vmap(lambda v: layer(v, h0, c0, w, *rest)[0].sum())(xs).sum(), [x, h0, *w])

    ours = run(functional.layer)
    assert calls.took() == (1, 1)
    close(ours, run(run_reference))


def test_functional_call_of_a_module():
    """An ensemble: torch.func.stack_module_state and vmap."""
    torch.manual_seed(0)
    modules = [fusedrnn.GRU(I, H, 2, bidirectional=True, dtype=F64) for _ in range(3)]
    params, buffers = torch.func.stack_module_state(modules)
    x = torch.randn(T, B, I, dtype=F64)
    y = vmap(lambda p, b: functional_call(modules[0], (p, b), (x,))[0])(params, buffers)
    close(y, torch.stack([m(x)[0] for m in modules]))


# -- the way it takes ------------------------------------------------------------------------------


@cells
def test_reference_is_not_what_runs_eagerly(cell, monkeypatch):
    """The plain paths never fall back."""
    monkeypatch.setattr(reference, "layer", None)
    args = case(cell, options=False)
    x, h0, c0, weights, *_ = args
    outputs = [t for t in functional.layer(*args) if t is not None and t.numel()]
    inputs = [t for t in (x, h0, c0, *weights) if t is not None]
    grad(sum(t.sum() for t in outputs), inputs)
    with torch.no_grad():
        functional.layer(*args)
