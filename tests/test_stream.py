"""A streaming step past the dispatcher: the bits of the op, and only where it may."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from pathlib import Path

import pytest
import torch
from stream_steps import LAYERS, by_the_op, case, flat, taken
from torch import nn

import fusedrnn
from fusedrnn import _C, _direct, _ops

pytestmark = [
    pytest.mark.skipif(not _direct.READY, reason="this torch publishes no DLPack functions"),
]

cells = pytest.mark.parametrize("cell", LAYERS)


@cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ids", [False, True], ids=["dense", "ids"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_bits_of_the_op(cell, dtype, ids, layers):
    for batch in (1, 2, 3, 4, 7, 25, 32):
        for given in (False, True):
            for bias in (False, True):
                args = case(cell, batch, layers, dtype, ids, given, bias=bias)
                got = taken(cell, *args)
                for a, b in zip(flat(got), by_the_op(cell, *args), strict=True):
                    assert torch.equal(a, b)
                    assert a.dtype == dtype
                    assert not a.requires_grad


@cells
def test_the_layers_take_it(cell, monkeypatch):
    layer, x, state = case(cell, 2, 2)
    want = by_the_op(cell, layer, x, state)
    monkeypatch.setattr(_ops, "layer_step", None)
    for a, b in zip(flat(layer.step(x, state)), want, strict=True):
        assert torch.equal(a, b)


@cells
def test_results_are_tensors_of_their_own(cell):
    args = case(cell, layers=2)
    results = [flat(taken(cell, *args)) for _ in range(2)]
    own = [t.untyped_storage().data_ptr() for result in results for t in result]
    own += [t.untyped_storage().data_ptr() for t in flat((args[1], args[2]))]
    assert len(set(own)) == len(own)


@cells
def test_results_are_used_as_any_tensor(cell):
    """Autograd, numpy, pickles, DLPack, other processes and inference mode take them, though their
    memory is not torch's own; that shows where it should grow."""
    layer, x, state = case(cell, layers=2)
    want = by_the_op(cell, layer, x, state)
    results = flat(taken(cell, layer, x, state))
    del layer, state
    for t, w in zip(results, want, strict=True):
        assert t.is_leaf
        assert t.is_contiguous()
        assert t.stride() == w.stride()
        assert t.untyped_storage().nbytes() == w.untyped_storage().nbytes()
        assert t.data_ptr() % 64 == 0
        assert torch.equal(torch.from_numpy(t.numpy()), w)
        assert torch.equal(torch.from_dlpack(t), w)
        assert torch.equal(pickle.loads(pickle.dumps(t)), w)
        with pytest.raises(RuntimeError, match="not resizable"):
            t.detach().resize_(1000, 1000)
        t.requires_grad_().square().sum().backward()
        assert torch.equal(t.grad, 2 * w)
        assert torch.equal(t.detach().share_memory_(), w)
    with torch.inference_mode():
        results = flat(taken(cell, *case(cell, layers=2)))
    assert all(t.is_inference() for t in results)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's count of pages")
def test_the_memory_of_results_is_given_back():
    """By the thread that made them, and by another."""
    layer, x, h = fusedrnn.RNN(1, 100), torch.randn(32, 1), torch.randn(1, 32, 100)
    assert not any(t.untyped_storage().resizable() for t in taken("elman_tanh", layer, x, h))
    each = 2 * h.nbytes

    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def make_and_drop(drop):
        for _ in range(2000):
            results = [taken("elman_tanh", layer, x, h)]
            assert results[0] is not None
            drop(results.clear)

    def elsewhere(call):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    for drop in (lambda call: call(), elsewhere):
        make_and_drop(drop)
        before = resident()
        make_and_drop(drop)
        assert resident() - before < 2000 * each / 4


@cells
def test_changes_of_weights_take_effect(cell):
    """In place, behind autograd's back, another tensor of the same memory in another order."""
    layer, x, state = case(cell)
    w = layer.weight_hh_l0

    def swap():
        w.data = w.data.flip(0)

    changes = [lambda: w.data.mul_(2), swap, lambda: nn.init.uniform_(layer.weight_ih_l0)]
    results = [taken(cell, layer, x, state)[0]]
    for change in changes:
        change()
        results.append(taken(cell, layer, x, state)[0])
        assert torch.equal(results[-1], by_the_op(cell, layer, x, state)[0])
        assert not torch.equal(*results[-2:])
    square = fusedrnn.RNN(19, 19)
    square.weight_hh_l0.data = square.weight_hh_l0.data.t()
    assert taken("elman_tanh", square, torch.randn(1, 19), None) is None


def test_it_declines_what_is_not_plain():
    layer, x, h = case(layers=2)
    large, larger = fusedrnn.GRU(5, 512), fusedrnn.GRU(5, 1200)
    mixed = case()[0]
    mixed.weight_hh_l0 = nn.Parameter(mixed.weight_hh_l0.double())
    parametrized = case()[0]
    nn.utils.parametrizations.weight_norm(parametrized, "weight_hh_l0")

    class Mine(torch.Tensor):
        pass

    number = torch.randn((), dtype=torch.complex64)
    imaginary = number.view(1, 1).conj().imag
    dense_imaginary = number.conj().imag.view(1, 1)
    assert imaginary.is_neg()
    assert dense_imaginary.is_neg()
    assert dense_imaginary.stride() == (1, 1)
    one, small = fusedrnn.GRU(1, 3), fusedrnn.GRU(5, 1)
    declined = {
        "unbatched": (layer, x[0], None),
        "too many rows": (layer, torch.randn(33, 5), None),
        "too many rows for their weights": (large, torch.randn(6, 5), None),
        "no rows": (layer, torch.randn(0, 5), None),
        "strided input": (layer, torch.randn(1, 10)[:, ::2], h),
        "strided state": (layer, x, torch.randn(2, 1, 38)[..., ::2]),
        "another width": (layer, torch.randn(1, 6), h),
        "another batch": (layer, x, torch.randn(2, 2, 19)),
        "another dtype": (layer, x.double(), h),
        "state of another dtype": (layer, x, h.double()),
        "ids of int32": (layer, torch.zeros(1, dtype=torch.int32), h),
        "ids too large": (layer, torch.tensor([5]), h),
        "negative ids": (layer, torch.tensor([-1]), h),
        "half": (case(dtype=torch.bfloat16)[0], x.bfloat16(), None),
        "another device": (layer, x.to("meta"), h),
        "a subclass": (layer, x.as_subclass(Mine), h),
        "sparse": (layer, x.to_sparse(), h),
        "not a tensor": (layer, [0.0] * 5, h),
        "a list for a state": (layer, x, [h]),
        "large": (larger, x, None),
        "weights of two dtypes": (mixed, x, None),
        "a weight that is computed": (parametrized, x, None),
        "a conjugate's imaginary part": (one, imaginary, None),
        "the same with dense strides": (one, dense_imaginary, None),
        "the same as a state": (small, x, dense_imaginary.view(1, 1, 1)),
    }
    assert taken("gru", layer, x, h) is not None
    for what, args in declined.items():
        assert taken("gru", *args) is None, what
    lstm, x, state = case("lstm", proj_size=0)
    for wrong in (state[0], state[:1], (state[0], None), list(state)):
        assert taken("lstm", lstm, x, wrong) is None
    assert taken("lstm", fusedrnn.LSTM(5, 19, proj_size=3), x, None) is None


@cells
def test_a_sign_that_is_not_in_memory_counts(cell):
    """That of a conjugate's imaginary part, which one element can have with dense strides."""
    torch.manual_seed(0)
    layer = LAYERS[cell](1, 1)
    x = torch.tensor(0.3 + 0.7j).conj().imag.view(1, 1)
    state = x.view(1, 1, 1)
    given = (state, state) if cell == "lstm" else state
    plain = state.clone(memory_format=torch.contiguous_format).resolve_neg()
    want = layer.step(plain[0], (plain, plain) if cell == "lstm" else plain)
    for a, b in zip(flat(layer.step(x, given)), flat(want), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("ids", [False, True], ids=["dense", "ids"])
def test_arguments_that_no_layer_gives(ids):
    layer, x, _ = case(ids=ids)
    numbers = {"GRU": _ops.CELLS["gru"].number}
    plain = vars(layer)
    own, names = layer._parameters, layer._flat_weights_names
    assert _C.stream_step(plain, numbers, x, None) is not None
    for changed in (
        {"_parameters": {}}, {"_parameters": None}, {"_parameters": dict.fromkeys(own, 1)},
        {"_flat_weights_names": names[:3]}, {"_flat_weights_names": []}, {"_flat_weights_names": None},
        {"num_layers": 0}, {"num_layers": 2}, {"num_layers": -1}, {"num_layers": 1.0}, {"num_layers": 2**70},
        {"input_size": 4}, {"input_size": 2**62}, {"input_size": None},
        {"hidden_size": 18}, {"hidden_size": 2**62}, {"hidden_size": 2**70}, {"hidden_size": -19},
        {"bidirectional": True}, {"bidirectional": 0}, {"mode": "LSTM"}, {"mode": None},
    ):  # fmt: skip
        assert _C.stream_step(plain | changed, numbers, x, None) is None, changed
    for name in (
        "_parameters",
        "_flat_weights_names",
        "num_layers",
        "input_size",
        "hidden_size",
        "mode",
    ):
        assert (
            _C.stream_step({k: v for k, v in plain.items() if k != name}, numbers, x, None) is None
        )
    for number in (99, -1, 2**70, "gru", _ops.CELLS["lstm"].number):
        assert _C.stream_step(plain, {"GRU": number}, x, None) is None, number
    for args in ((None, numbers), (layer, numbers), (plain, None)):
        assert _C.stream_step(*args, x, None) is None
    with pytest.raises(TypeError, match="expected 4 arguments, got 1"):
        _C.stream_step(3)


def test_nothing_is_leaked():
    layer, x, state = case("lstm")
    held = [x, *state, *layer.parameters(), layer._parameters, layer._flat_weights_names, None]
    before = [sys.getrefcount(t) for t in held[:-1]]
    for _ in range(100):
        assert taken("lstm", layer, x, state) is not None
        assert taken("lstm", layer, x, state[0]) is None
        assert taken("lstm", layer, x.to_sparse(), state) is None
    assert [sys.getrefcount(t) for t in held[:-1]] == before
    y, (h, c) = taken("lstm", layer, x, state)
    fresh = torch.zeros(1)
    counts = [sys.getrefcount(t) for t in (y, h, c, fresh)]
    assert len(set(counts)) == 1
