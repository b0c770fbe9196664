"""recompute=True: the same bits from a second forward pass in backward, and nothing kept for it."""

from __future__ import annotations

import pytest
import torch
from oracle import CELLS, DTYPES, random_options, results, states_of, weights_of
from torch import library, nn
from torch.func import functional_call, vmap

import fusedrnn
from benchmarks.memory import saved_bytes
from fusedrnn import _ops, functional

# torch's own, from inside torch.compile and torch.export
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.torch.jit.script(_method)?. is deprecated:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]

cells = pytest.mark.parametrize("cell", CELLS)
layers = pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
T, B, I, H = 9, 5, 7, 19  # noqa: E741


def case(cell, dtype, options, ids=False, directions=2, proj=0):
    """The arguments of functional.layer but the last, and gradients of its outputs."""
    x = torch.randn(T, B, I, dtype=torch.float64).to(dtype).requires_grad_()
    x = torch.randint(0, I, (T, B)) if ids else x
    lengths, resets = random_options(T, B) if options else (None, None)
    state = states_of(cell, B, H, directions, proj, dtype)
    w = weights_of(cell, I, H, directions, proj=proj, dtype=dtype)
    seeds = [torch.randn(T, B, directions * (proj or H)), torch.randn(directions, B, proj or H)]
    seeds.append(torch.randn(directions, B, H))
    return (x, *state, w, lengths, resets, cell, directions), seeds


def assert_same(args, seeds):
    kept, again = (
        results(functional.layer, args, seeds),
        results(functional.layer, (*args, True), seeds),
    )
    for a, b in zip((*kept[0], *kept[1]), (*again[0], *again[1]), strict=True):
        assert torch.equal(a, b)


@cells
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("options", [False, True], ids=["plain", "lengths-resets"])
@pytest.mark.parametrize("ids", [False, True], ids=["dense", "ids"])
def test_the_same_bits(cell, dtype, options, ids):
    torch.manual_seed(0)
    assert_same(*case(cell, dtype, options, ids))
    assert_same(*case(cell, dtype, options, ids, directions=1))


@cells
@pytest.mark.parametrize("batch", [1, 3, 32, 33])
def test_the_same_bits_of_one_step(cell, batch):
    """A step that saves nothing has a kernel of its own: not where there is a backward."""
    torch.manual_seed(0)
    x = torch.randn(1, batch, I, dtype=torch.float64, requires_grad=True)
    args = (x, *states_of(cell, batch, H, 1), weights_of(cell, I, H), None, None, cell, 1)
    assert_same(args, [torch.randn(1, batch, H, dtype=torch.float64)] * 3)


@pytest.mark.parametrize("directions", [1, 2])
def test_the_same_bits_with_projection(directions):
    torch.manual_seed(0)
    assert_same(*case("lstm", torch.float32, True, directions=directions, proj=5))


def stack(name, recompute, **options):
    torch.manual_seed(0)
    return getattr(fusedrnn, name)(I, H, 2, bidirectional=True, recompute=recompute, **options)


def gradients(function, module, x, **options):
    y, state = function(x, **options)
    state = state if isinstance(state, tuple) else (state,)
    total = y.sin().sum() + sum(s.square().sum() for s in state)
    return torch.autograd.grad(total, [x, *module.parameters()])


@layers
def test_layers(name):
    x = torch.randn(T, B, I, requires_grad=True)
    lengths, resets = random_options(T, B)
    both = [stack(name, recompute) for recompute in (False, True)]
    for options in ({}, {"lengths": lengths, "resets": resets}):
        kept, again = (gradients(m, m, x, **options) for m in both)
        assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
    assert [m.recompute for m in both] == [False, True]
    assert ["recompute=True" in repr(m) for m in both] == [False, True]


@layers
def test_at_most_half_is_kept(name):
    """Of what we keep without it, and of what torch.nn keeps; the output is the input of the next."""
    x = torch.randn(50, 4, I, requires_grad=True)
    torch_nn = getattr(nn, name)(I, H, 2, bidirectional=True)
    kept, again, theirs = (
        saved_bytes(lambda m=m: m(x), [x, *m.parameters()])
        for m in (stack(name, False), stack(name, True), torch_nn)
    )
    assert 2 * again <= min(kept, theirs)
    assert again == 50 * 4 * 2 * H * 4  # what the second layer was given


@layers
def test_the_output_may_be_changed_in_place(name):
    module = stack(name, True)
    y, _ = module(torch.randn(T, B, I))
    y.add_(1).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@layers
@pytest.mark.parametrize("what", ["x", "h", "lengths", "resets", "weight"])
def test_what_was_given_may_not_be_changed_in_place(name, what):
    module = getattr(fusedrnn, name)(I, H, recompute=True)
    x, h = torch.randn(T, B, I), torch.randn(1, B, H)
    lengths, resets = random_options(T, B)
    given = {"x": x, "h": h, "lengths": lengths, "resets": resets, "weight": module.weight_hh_l0}
    y, _ = module(x, (h, h) if name == "LSTM" else h, lengths=lengths, resets=resets)
    with torch.no_grad():
        given[what].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@layers
def test_autocast_in_forward_is_that_of_the_second_pass_too(name):
    def run(recompute, inside):
        module = stack(name, recompute)
        torch.manual_seed(1)
        x = torch.randn(T, B, I, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = module(x)[0].float().sin().sum()
            if inside:
                return torch.autograd.grad(loss, [x, *module.parameters()])
        return torch.autograd.grad(loss, [x, *module.parameters()])

    want = run(False, False)
    for inside in (False, True):
        assert all(torch.equal(a, b) for a, b in zip(run(True, inside), want, strict=True))


@layers
@pytest.mark.parametrize("frozen", ["weight", "bias", "l0", "l1", "weight_hh_l0"])
def test_partly_frozen(name, frozen):
    """The gradients of the others, of the first and second order, are those with nothing frozen."""

    def run(recompute, frozen):
        module = stack(name, recompute, dtype=torch.float64)
        torch.manual_seed(1)
        x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
        for n, p in module.named_parameters():
            p.requires_grad_(not frozen or frozen not in n)
        given = {"x": x, **{n: p for n, p in module.named_parameters() if p.requires_grad}}
        loss = module(x)[0].square().sum()
        first = torch.autograd.grad(loss, given.values(), create_graph=True)
        second = torch.autograd.grad(
            first[0].square().sum(), given.values(), materialize_grads=True
        )
        return {n: both for n, *both in zip(given, first, second, strict=True)}

    every = run(False, "")
    for recompute in (False, True):
        found = run(recompute, frozen)
        assert not any(frozen in n for n in found)
        torch.testing.assert_close(found, {n: every[n] for n in found})


@layers
def test_double_backward(name):
    def penalty(recompute):
        module = stack(name, recompute, dtype=torch.float64)
        torch.manual_seed(1)
        x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
        (dx,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [x, *module.parameters()], allow_unused=True)

    torch.testing.assert_close(penalty(True), penalty(False))


@layers
def test_transforms(name):
    """grad over weights and vmap of grad, whose forward passes keep nothing either."""
    both = [stack(name, recompute, dtype=torch.float64) for recompute in (False, True)]
    x = torch.randn(3, 4, 2, I, dtype=torch.float64)

    def run(module):
        def loss(w, x):
            return functional_call(module, w, x)[0].square().sum()

        w = dict(module.named_parameters())
        by_input = vmap(torch.func.grad(loss, 1), (None, 0))(w, x)
        return (
            torch.func.grad(loss)(w, x[0]),
            vmap(torch.func.grad(loss), (None, 0))(w, x),
            by_input,
        )

    torch.testing.assert_close(run(both[1]), run(both[0]))


@layers
def test_compiled_it_keeps_nothing_either(name):
    torch._dynamo.reset()
    module = stack(name, True)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    x = torch.randn(50, 4, I, requires_grad=True)
    torch.testing.assert_close(gradients(compiled, module, x), gradients(module, module, x))
    given = [x, *module.parameters()]
    kept = saved_bytes(lambda: compiled(x), given)
    assert kept <= 2 * saved_bytes(lambda: module(x), given)
    assert 2 * kept <= saved_bytes(lambda: stack(name, False)(x), given)


def test_exported():
    module = stack("LSTM", True)
    x = torch.randn(T, B, I, requires_grad=True)
    program = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(gradients(program, program, x), gradients(module, module, x))


@pytest.mark.parametrize("wrong", [1, None, "yes"])
def test_it_is_a_bool(wrong):
    with pytest.raises(TypeError, match="expected recompute to be a bool, got"):
        fusedrnn.GRU(2, 3, recompute=wrong)


def test_public_functions_take_it():
    w = weights_of("gru", I, H, dtype=torch.float32)
    x = torch.randn(T, B, I)
    y, _ = functional.gru(x, w, recompute=True)
    assert saved_bytes(lambda: functional.gru(x, w, recompute=True), [x, *w]) == 0
    assert torch.equal(y, functional.gru(x, w)[0])


# -- the op ---------------------------------------------------------------------------------------


def backward_args(cell):
    (x, h0, c0, w, *options), seeds = case(cell, torch.float32, True)
    data = [None if t is None else t.detach() for t in (x, h0, c0)]
    w = [t.detach() for t in w]
    lengths, resets, _, directions = options
    out = _ops.layer_forward(*data, w, lengths, resets, cell, directions, True, False)
    dc = seeds[2] if c0 is not None else None
    return [*seeds[:2], dc, *data, w, lengths, resets, out[0], *out[3:], cell, directions], out


@cells
def test_the_op_without_what_was_kept_and_without_dw(cell):
    args, _ = backward_args(cell)
    kept = _ops.layer_backward(*args, True, True, False)
    again = _ops.layer_backward(*args[:9], *[None] * 4, *args[13:], True, True, False)
    for a, b in zip((*kept[:3], *kept[3]), (*again[:3], *again[3]), strict=True):
        assert torch.equal(a, b)
    frozen = _ops.layer_backward(*args, True, False, False)
    assert all(torch.equal(a, b) for a, b in zip(kept[:3], frozen[:3], strict=True))
    assert [list(g.shape) for g in frozen[3]] == [[0]] * len(args[6])
    op = torch.ops.fusedrnn.layer_backward.default
    index = _ops.CELLS[cell].number
    for saved, need_dw in (([None] * 4, True), (args[9:13], False)):
        library.opcheck(op, (*args[:9], *saved, index, args[14], True, need_dw, False))


def test_all_of_what_was_kept_or_none():
    args, out = backward_args("lstm")
    with pytest.raises(RuntimeError, match=r"all of y, gates, cells and hidden, or none .* got 1"):
        _ops.layer_backward(*args[:9], out[0], *[None] * 3, *args[13:], True, True, False)
