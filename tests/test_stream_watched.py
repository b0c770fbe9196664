"""Who watches a streaming step: a mode, a tracer, the profiler, a finalizer."""

from __future__ import annotations

import gc

import pytest
import torch
from stream_steps import case, taken
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from fusedrnn import _C, _direct, _ops

pytestmark = [
    pytest.mark.skipif(not _direct.READY, reason="this torch publishes no DLPack functions"),
]


class Ops(TorchDispatchMode):
    """The ops it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_native_side_asks_after_watchers_itself(monkeypatch):
    args = ("gru", *case())
    assert taken(*args) is not None
    with forward_ad.dual_level():
        assert taken(*args) is None
    for level in (None, "unknown"):  # of another torch
        monkeypatch.setattr(forward_ad, "_current_level", level)
        assert taken(*args) is None
    monkeypatch.delattr(forward_ad, "_current_level")
    assert taken(*args) is None


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_step(strict):
    layer, x, h = case()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, h):
            return self.layer.step(x, h)

    exported = torch.export.export(Model(), (x, h), strict=strict).module()
    for a, b in zip(exported(x + 1, h), layer.step(x + 1, h), strict=True):
        torch.testing.assert_close(a, b)


def test_a_step_seen_by_make_fx():
    layer, x, h = case()
    graph = make_fx(lambda x, h: layer.step(x, h))(x, h)
    assert torch.ops.fusedrnn.layer_step.default in {node.target for node in graph.graph.nodes}


def test_a_finalizer_changes_the_names():
    """In the middle of a step, where only a collection of garbage can run Python."""
    layer, x, h = case()
    names = layer._flat_weights_names
    before, threshold = list(names), gc.get_threshold()

    def change(phase, info):
        names[:] = before * 1000

    gc.callbacks.append(change)
    gc.set_threshold(1)
    try:
        for _ in range(50):
            names[:] = before
            taken("gru", layer, x, h)
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(change)
        names[:] = before
    assert taken("gru", layer, x, h) is not None


def test_a_dispatch_mode_sees_the_op():
    layer, x, h = case()
    with Ops() as ops:
        layer.step(x, h)
    assert ops.seen == ["fusedrnn.layer_step.default"]


def test_the_profiler_sees_the_op():
    layer, x, h = case()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        layer.step(x, h)
    assert "fusedrnn::layer_step" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_torchs_default_device_and_dtype_are_not_ours(device):
    layer, x, h = case()
    want = layer.step(x, h)
    with torch.device(device):
        torch.testing.assert_close(layer.step(x, h), want)
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(layer.step(x, h), want)
    finally:
        torch.set_default_dtype(torch.float32)


def test_without_torchs_functions_the_op_does_it(monkeypatch):
    layer, x, h = case()
    want = layer.step(x, h)
    calls, native = [], _ops.layer_step
    monkeypatch.setattr(_C, "stream_step", lambda *_: None)
    monkeypatch.setattr(_ops, "layer_step", lambda *args: calls.append(args) or native(*args))
    torch.testing.assert_close(layer.step(x, h), want)
    assert len(calls) == 1
