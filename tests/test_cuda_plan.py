"""The plan as Python shows it. That it keeps every limit over all shapes is tested natively."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from fusedrnn import _C, _plan, cuda_plan

LIMITS = {arch: _C.cuda_device(arch) for arch in (80, 90, 100)}
PERSISTENT = ("block", "cluster", "fma", "grid")


@pytest.mark.parametrize("arch", LIMITS)
@pytest.mark.parametrize("family", [None, *PERSISTENT])
def test_no_plan_exceeds_its_device(arch, family, monkeypatch):
    if family:
        monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", family)
    else:
        monkeypatch.delenv("FUSEDRNN_CUDA_FAMILY", raising=False)
    limit = LIMITS[arch]
    sizes = itertools.product(
        ("lstm", "gru", "elman_tanh"), (1, 7, 16, 128, 5000), (1, 40, 128, 300, 768, 1024, 3000)
    )
    for cell, batch, hidden in sizes:
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            plans = cuda_plan(cell, 100, batch, 32, hidden, dtype=dtype, device=arch)
            for plan in plans.values():
                assert plan["why"]
                if plan["family"] == "step":
                    continue
                assert family in (None, plan["family"])
                assert 0 < plan["shared_memory"] <= limit["smem_block"]
                assert 0 < plan["threads"] <= 1024
                assert plan["cluster"] <= limit["max_cluster"]
                assert plan["step_us"] > 0


def test_a_forced_family_runs_where_it_can_and_says_where_not(monkeypatch):
    monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", "block")
    assert cuda_plan("lstm", 10, 4, 8, 64)["forward"]["family"] == "block"
    plan = cuda_plan("lstm", 10, 4, 8, 200)["forward"]
    assert plan["family"] == "step"
    assert "block: W_hh does not fit" in plan["why"]


def test_hopper_takes_persistent_kernels_and_others_wait_for_proof(monkeypatch):
    monkeypatch.delenv("FUSEDRNN_CUDA_FAMILY", raising=False)
    bf16 = {"dtype": torch.bfloat16}
    assert cuda_plan("lstm", 1024, 16, 256, 256, **bf16)["forward"]["family"] == "cluster"
    for arch in (80, 100):
        plan = cuda_plan("lstm", 1024, 16, 256, 256, device=arch)["forward"]
        assert plan["family"] == "step"
        assert "has not run on such a device" in plan["why"]


@pytest.mark.parametrize(
    ("major", "minor", "blocks"), [(8, 9, 0), (9, 0, 16), (10, 0, 16), (10, 3, 16), (12, 0, 8)]
)
def test_the_largest_cluster_of_a_device(monkeypatch, major, minor, blocks):
    device = SimpleNamespace(
        major=major, minor=minor, multi_processor_count=1, shared_memory_per_block_optin=1,
        shared_memory_per_multiprocessor=1, regs_per_multiprocessor=1,
        max_threads_per_multi_processor=1,
    )  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    assert _plan._facts("cuda")["max_cluster"] == blocks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "cell: expected one of"),
        ({"dtype": torch.int64}, "dtype: expected"),
        ({"directions": 3}, "directions: expected 1 or 2"),
        ({"hidden_size": 0}, "hidden_size: expected 1"),
        ({"proj_size": 64}, "proj_size"),
        ({"device": "cpu"}, "device: expected a CUDA device"),
        ({"device": 75}, "80, 90 or 100"),
    ],
)
def test_bad_arguments(change, message):
    good = {"cell": "lstm", "steps": 10, "batch": 4, "input_size": 8, "hidden_size": 64}
    with pytest.raises(ValueError, match=message):
        cuda_plan(**(good | change))
