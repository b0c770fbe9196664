"""A layer past the dispatcher: the bits of the ops, and only where it may."""

from __future__ import annotations

import copy
import itertools
import pickle
import sys
import threading

import pytest
import torch
from oracle import CELLS, random_options, states_of, strided, weights_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from fusedrnn import _C, _direct, _ops, functional
from fusedrnn.reference import CELLS as INFO

pytestmark = [
    pytest.mark.skipif(not _direct.READY, reason="this torch publishes no DLPack functions"),
]

cells = pytest.mark.parametrize("cell", CELLS)
T, B, I, H = 4, 3, 5, 7  # noqa: E741


def case(cell, directions=1, bias=True, ids=False, given=True, options=False, dtype=torch.float32):
    """x, h0, c0, weights, lengths, resets, cell, directions."""
    torch.manual_seed(0)
    x = torch.randint(0, I, (T, B)) if ids else torch.randn(T, B, I, dtype=dtype).requires_grad_()
    states = states_of(cell, B, H, directions, dtype=dtype) if given else (None, None)
    lengths, resets = random_options(T, B) if options else (None, None)
    w = weights_of(cell, I, H, directions, bias, dtype=dtype)
    return x, *states, w, lengths, resets, cell, directions


def taken(args, save=True):
    """What the native side gives for forward, None where it declines."""
    *data, w, lengths, resets, cell, directions = args
    number = _ops.CELLS[cell].number
    return _C.direct_forward(number, directions, save, *data, lengths, resets, w)


def differentiate(args, seeds, **options):
    """Outputs, and gradients of all that require one."""
    x, h0, c0, w, *_ = args
    inputs = [t for t in (x, h0, c0, *w) if t is not None and t.requires_grad]
    outputs = [t for t in functional.layer(*args, **options) if t.dim() > 1]
    return [*outputs, *torch.autograd.grad(outputs, inputs, seeds[: len(outputs)])]


def seeds_of(args):
    w, directions = args[3], args[7]
    sizes = ((T, B, directions * H), (directions, B, H), (directions, B, H))
    return [torch.randn(s, dtype=w[0].dtype) for s in sizes]


def equal(got, want):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


class Ops(TorchDispatchMode):
    """Our ops that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "fusedrnn":
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


# -- the same results -----------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("directions", [1, 2])
def test_the_bits_of_the_ops(cell, dtype, directions):
    for bias, ids, given, options in itertools.product((False, True), repeat=4):
        args = case(cell, directions, bias, ids, given, options, dtype)
        seeds = seeds_of(args)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_direct, "READY", False)
            want = differentiate(args, seeds)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_ops, "layer_forward", None)
            patch.setattr(_ops, "layer_backward", None)
            got = differentiate(args, seeds)
            again = differentiate(args, seeds)
        equal(got, want)
        equal(again, want)


@cells
def test_recomputation_gives_the_same_bits(cell):
    args = case(cell, 2, options=True)
    seeds = seeds_of(args)
    equal(differentiate(args, seeds, recompute=True), differentiate(args, seeds))


@cells
@pytest.mark.parametrize("absent", range(3))
def test_absent_gradients_are_zeros(cell, absent):
    """An output that nothing depends on takes no gradient of zeros to be right."""
    args = case(cell, 2)
    x, h0, c0, w, *_ = args
    inputs = [t for t in (x, h0, c0, *w) if t is not None]
    outputs = [t for t in functional.layer(*args) if t.dim() > 1]
    seeds = seeds_of(args)[: len(outputs)]
    absent %= len(outputs)
    kept = [i for i in range(len(outputs)) if i != absent]
    some = [outputs[i] for i in kept], inputs, [seeds[i] for i in kept]
    got = torch.autograd.grad(*some, retain_graph=True)
    seeds[absent] = torch.zeros_like(seeds[absent])
    equal(got, torch.autograd.grad(outputs, inputs, seeds))


@cells
def test_a_graph_can_be_walked_twice(cell):
    args = case(cell, options=True)
    y, w = functional.layer(*args)[0], args[3]
    dy = torch.randn_like(y)
    equal(torch.autograd.grad(y, w, dy, retain_graph=True), torch.autograd.grad(y, w, dy))


@cells
def test_only_what_is_needed_is_made(cell):
    """Forward saves for backward alone; backward makes what was asked for."""
    has_c, slots = INFO[cell].has_c, _ops.CELLS[cell].slots
    args = case(cell)
    *_, gates, cells_, hidden = taken(args, save=True)
    assert [t is not None for t in (gates, cells_, hidden)] == [slots > 0, has_c, False]
    assert taken(args, save=False)[3:] == (None, None, None)

    x, h0, c0, w, *_ = args
    done = taken(args)
    saved, dy = (x, h0, c0, None, None, done[0], *done[3:], *w), torch.randn(T, B, H)
    for i in range(6 + len(w)):
        if i in (3, 4, 5) or (i == 2 and not has_c):
            continue
        needs = tuple(k == i for k in range(6 + len(w)))
        number = _ops.CELLS[cell].number
        grads = _C.direct_backward(number, 1, needs, saved, dy, None, None)
        made = [g is not None for g in grads]
        assert made == ([k >= 6 for k in range(len(made))] if i >= 6 else list(needs))
    ids = (torch.randint(0, I, (T, B)), *saved[1:])
    needs = (True,) * (6 + len(w))
    assert _C.direct_backward(number, 1, needs, ids, dy, None, None)[0] is None


@cells
def test_results_are_tensors_of_their_own(cell):
    args = case(cell)
    results = [[t for t in taken(args) if t is not None and t.numel()] for _ in range(2)]
    own = [t.untyped_storage().data_ptr() for result in results for t in result]
    assert len(set(own)) == len(own)
    assert all(not t.requires_grad for result in results for t in result)


@cells
def test_changing_what_is_saved_is_an_error(cell):
    args = case(cell)
    for change in (lambda y: y.mul_(2), lambda y: args[3][1].detach().mul_(2)):
        y = functional.layer(*args)[0]
        with torch.no_grad():
            change(y)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@cells
def test_hooks_on_saved_tensors_see_them(cell):
    args, packed = case(cell), []

    def pack(t):
        packed.append(t)
        return t.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = functional.layer(*args)[0]
    got = torch.autograd.grad(y, args[3], torch.ones_like(y))
    equal(got, torch.autograd.grad(functional.layer(*args)[0], args[3], torch.ones_like(y)))
    assert any(t is args[0] for t in packed)


@cells
def test_torchs_default_device_and_dtype_are_not_ours(cell):
    args = case(cell)
    seeds = seeds_of(args)
    want = differentiate(args, seeds)
    with torch.device("meta"):
        equal(differentiate(args, seeds), want)
    torch.set_default_dtype(torch.float64)
    try:
        equal(differentiate(args, seeds), want)
    finally:
        torch.set_default_dtype(torch.float32)


# -- who watches ----------------------------------------------------------------------------------


@cells
def test_a_dispatch_mode_sees_the_ops(cell):
    args = case(cell)
    want = torch.autograd.grad(functional.layer(*args)[0].sum(), args[3])
    with Ops() as ops:
        y = functional.layer(*args)[0]
    assert ops.seen == ["layer_forward.default"]
    equal(torch.autograd.grad(y.sum(), args[3]), want)
    y = functional.layer(*args)[0]  # the direct way, and the mode comes later
    with Ops() as ops:
        equal(torch.autograd.grad(y.sum(), args[3]), want)
    assert ops.seen == ["layer_backward.default"]


def test_the_profiler_sees_the_ops():
    args = case("gru")
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        functional.layer(*args)[0].sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"fusedrnn::layer_forward", "fusedrnn::layer_backward"} <= names


@cells
def test_a_tensor_that_outlived_a_transform(cell):
    """It is a wrapper around the real one, whose gradient is asked for."""
    x, h0, c0, w, *rest = case(cell)
    kept = []

    def keep(t):
        kept.append(t)
        return t.sum()

    torch.func.grad(keep)(x)
    assert taken((kept[0], h0, c0, w, *rest)) is None
    y = functional.layer(kept[0], h0, c0, w, *rest)[0]
    got = torch.autograd.grad(y.sum(), x)
    equal(got, torch.autograd.grad(functional.layer(x, h0, c0, w, *rest)[0].sum(), x))


def test_other_threads_run_meanwhile():
    """The lock of Python is given up, as for an op."""
    x, w = torch.randn(2000, 64, 64), [t.detach() for t in weights_of("lstm", 64, 128)]
    w = [t.float() for t in w]
    done = threading.Event()

    def work():
        functional.layer(x, None, None, w, None, None, "lstm", 1)
        done.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        ran = 0
        while not done.wait(0.001):
            ran += 1
        thread.join()
    finally:
        sys.setswitchinterval(before)
    assert ran > 3


# -- what it declines -----------------------------------------------------------------------------


def test_it_declines_what_is_not_plain():
    x, h, c, w, _, _, cell, d = case("lstm")

    class Mine(torch.Tensor):
        pass

    def call(x=x, h=h, c=c, w=w, lengths=None, resets=None, cell=cell, d=d):
        return taken((x, h, c, w, lengths, resets, cell, d))

    assert call() is not None
    full, none = torch.full((B,), T), torch.zeros(T, B, dtype=torch.bool)
    assert call(lengths=full, resets=none) is not None
    halves = [t.bfloat16() for t in (x, h, c)]
    projects = weights_of("lstm", I, H, proj=3, dtype=torch.float32)
    declined = {
        "unbatched": {"x": x[0]},
        "no rows": {"x": x[:, :0]},
        "strided input": {"x": strided(x)},
        "strided state": {"h": strided(h)},
        "a strided weight": {"w": [strided(w[0]), *w[1:]]},
        "another width": {"x": torch.randn(T, B, I + 1)},
        "another batch": {"x": torch.randn(T, B + 1, I)},
        "another dtype": {"x": x.double()},
        "state of another dtype": {"c": c.double()},
        "a weight of another dtype": {"w": [*w[:3], w[3].double()]},
        "half": {"x": halves[0], "h": halves[1], "c": halves[2], "w": [t.bfloat16() for t in w]},
        "ids of int32": {"x": torch.zeros(T, B, dtype=torch.int32)},
        "ids too large": {"x": torch.full((T, B), I)},
        "negative ids": {"x": torch.full((T, B), -1)},
        "a sign that is not in memory": {"x": torch._neg_view(x.detach())},
        "a state of that kind": {"h": torch._neg_view(h.detach())},
        "another device": {"x": x.to("meta")},
        "a subclass": {"x": x.detach().as_subclass(Mine)},
        "sparse": {"x": x.detach().to_sparse()},
        "not a tensor": {"x": [0.0]},
        "a projection": {"w": projects, "h": None},
        "too few weights": {"w": w[:3]},
        "too many weights": {"w": w * 3},
        "weights in a tuple": {"w": tuple(w)},
        "swapped weights": {"w": [w[1], w[0], *w[2:]]},
        "three directions": {"d": 3},
        "two directions": {"d": 2},
        "lengths too large": {"lengths": full + 1},
        "negative lengths": {"lengths": -full},
        "lengths of int32": {"lengths": full.int()},
        "too many lengths": {"lengths": torch.full((B + 1,), T)},
        "resets of another dtype": {"resets": none.to(torch.uint8)},
        "resets of another shape": {"resets": none.t()},
        "a cell state for a cell without": {"cell": "gru"},
    }
    for what, change in declined.items():
        assert call(**change) is None, what
    with torch.autocast("cpu"):
        assert call() is None
    assert _C.direct_forward(99, 1, True, x, h, c, None, None, w) is None
    assert _C.direct_forward(-1, 1, True, x, h, c, None, None, w) is None


def test_backward_declines_what_is_not_plain():
    x, h, c, w, *_ = args = case("lstm")
    done = taken(args)
    saved, needs = (x, h, c, None, None, done[0], *done[3:], *w), (True,) * 10
    dy, dh = torch.randn(T, B, H), torch.randn(1, B, H)

    def call(needs=needs, saved=saved, dy=dy, dh=dh, dc=None):
        return _C.direct_backward(_ops.CELLS["lstm"].number, 1, needs, saved, dy, dh, dc)

    assert call() is not None
    for what, change in {
        "a strided gradient": {"dy": strided(dy)},
        "a gradient whose sign is not in memory": {"dy": torch._neg_view(dy)},
        "an expanded gradient": {"dy": torch.ones(()).expand(T, B, H)},
        "a gradient of another shape": {"dh": dy},
        "a gradient of another dtype": {"dc": dh.double()},
        "nothing kept": {"saved": (*saved[:5], None, None, None, None, *w)},
        "no gates": {"saved": (*saved[:6], None, *saved[7:])},
        "no cells": {"saved": (*saved[:7], None, *saved[8:])},
        "too little kept": {"saved": saved[:8]},
        "fewer needs": {"needs": needs[:9]},
        "lists": {"saved": list(saved), "needs": list(needs)},
    }.items():
        assert call(**change) is None, what


@cells
@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_may_go_one_way_and_then_the_other(cell, first, monkeypatch):
    x, *_, w, _, _, _, _ = case(cell, given=False)
    inputs = [x, *w]

    def run(x):
        return functional.layer(x, None, None, w, None, None, cell, 1)[0]

    want = torch.autograd.grad(run(x).sin().sum(), inputs)
    monkeypatch.setattr(_direct, "READY", _direct.READY and first)
    y = checkpoint(run, x, use_reentrant=False)
    monkeypatch.undo()
    monkeypatch.setattr(_direct, "READY", _direct.READY and not first)
    for got, gradient in zip(torch.autograd.grad(y.sin().sum(), inputs), want, strict=True):
        assert torch.allclose(got, gradient)


def test_a_wrong_number_or_type_of_arguments():
    for f, count in ((_C.direct_forward, 9), (_C.direct_backward, 7)):
        with pytest.raises(TypeError, match=f"expected {count} arguments, got 1"):
            f(3)
        with pytest.raises(TypeError):
            f("gru", *[None] * (count - 1))


def test_nothing_is_leaked():
    args = case("lstm", options=True)
    x, h, c, w, lengths, resets, *_ = args
    held = [x, h, c, lengths, resets, *w]
    before = [sys.getrefcount(t) for t in held]
    dy, number, needs = torch.randn(T, B, H), _ops.CELLS["lstm"].number, (True,) * 10
    for _ in range(100):
        y, *_, gates, cells_, hidden = taken(args)
        saved = (x, h, c, lengths, resets, y, gates, cells_, hidden, *w)
        assert _C.direct_backward(number, 1, needs, saved, dy, None, None) is not None
        assert _C.direct_backward(number, 1, needs, saved, x, None, None) is None
        assert taken((x, c.double(), *args[2:])) is None
    del saved
    assert [sys.getrefcount(t) for t in held] == before
    fresh = torch.zeros(1)
    assert sys.getrefcount(gates) == sys.getrefcount(fresh)


@cells
def test_small_results_are_tensors_like_others(cell):
    """Their memory is ours: all but a change of its size goes as with torch's own."""
    args = case(cell)
    for t in differentiate(args, seeds_of(args)):
        t, want = t.detach(), t.detach().clone()
        with pytest.raises(RuntimeError, match="not resizable"):
            t.detach().resize_(1000)
        for other in (copy.deepcopy(t), pickle.loads(pickle.dumps(t)), torch.from_numpy(t.numpy())):
            assert torch.equal(other, want)
        t.share_memory_()
        assert t.is_shared()
        t.add_(1)
        assert torch.equal(t, want + 1)
