"""Plans of the benchmark and what a measurement leaves, made up for its tests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks import machine
from benchmarks.grid import Case

ONCE = {"seconds": 0.0, "fewest": 2, "most": 2, "sample": 0.0}


def plan(**changes: Any) -> dict[str, Any]:
    base = {
        "threads": 1, "isa": "", "shapes": ["4,3,5,6"], "cells": ["gru"], "kinds": ["training"],
        "contenders": ["fused", "torch_nn"], "compiled_shapes": [], "questions": [], "effort": ONCE, "quiet": 0.0,
        "limit": 0.0,
    }  # fmt: skip
    return {**base, **changes}


def record(**changes: Any) -> dict[str, Any]:
    """What a measurement leaves, with ours at 1 ms and torch.nn at 2 ms."""
    case = changes.pop("case", Case("gru", 35, 32, 28, 256))
    base = {
        "group": "grid", "name": case.name, "cell": case.cell, "shape": case.shape,
        "kind": case.kind, "flops": case.flops, "threads": 2,
        "valid_fraction": case.valid_steps / (case.steps * case.batch), "case": asdict(case),
        "samples": {"fusedrnn": [1e-3] * 3, "torch.nn": [2e-3] * 3}, "disturbed_samples": {},
        "steady": True, "saved_bytes": {},
        "steps_of": {}, "tokens": 0, "left_out": {}, "others_cores": 0.0, "preempted": 0,
    }  # fmt: skip
    return {**base, **changes}


def run_of(*records: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "machine": machine.facts(), "threads": 2, "isa": "", "peak_gflops": 500.0,
        "peaks": [{"gflops": 500.0, "source": "a test"}], "absent": {}, "skipped": [], "seconds": 1.0,
        "others_cores": 0.0, "effort": ONCE, "records": list(records), **changes,
    }  # fmt: skip
