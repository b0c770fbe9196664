"""What the benchmark measures with: turns, medians, the peak, the bytes that are kept."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from benchmarks import machine, memory, timing


def test_contenders_take_turns_and_each_round_starts_with_another() -> None:
    log: list[str] = []
    calls = {name: lambda name=name: log.append(name) for name in "abc"}
    before = {"b": lambda: log.append("before b")}
    effort = timing.Effort(seconds=0.0, fewest=3, most=9, sample=0.0)
    samples = timing.interleave(calls, effort, before)
    assert {name: len(s) for name, s in samples.items()} == {"a": 3, "b": 3, "c": 3}
    rounds = "".join(log[log.index("before b") - 2 :]).replace("before b", "<")
    # Each sample is one untimed call and one timed call.
    assert rounds == "aa<bbcc" + "<bbccaa" + "ccaa<bb"


def test_fast_calls_are_repeated_and_the_rounds_are_limited() -> None:
    calls: Counter[str] = Counter()
    effort = timing.Effort(seconds=60.0, fewest=1, most=3, sample=1e-3)
    samples = timing.interleave({"a": lambda: calls.update("a")}, effort)
    assert len(samples["a"]) == 3
    assert calls["a"] > 30  # a call of a microsecond, samples of a millisecond


def test_medians_quartiles_and_both_ratios() -> None:
    spread = timing.spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (spread.low, spread.median, spread.high) == (2.0, 3.0, 4.0)
    assert spread.relative == pytest.approx(2 / 3)
    assert timing.spread([7.0]).relative == 0.0
    overall, by_round = timing.ratio([2.0, 9.0, 40.0], [1.0, 3.0, 20.0])
    assert (overall, by_round.median) == (3.0, 2.0)
    assert timing.geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)


def test_the_peak_is_measured_per_thread_and_refuses_what_cannot_be() -> None:
    from fusedrnn import _C

    one = _C.fma_peak(1, 0.01)
    assert len(one["gflops"]) == len(one["fastest"]) == 1
    assert 0 < one["gflops"][0] <= one["fastest"][0]
    assert len(_C.fma_peak(2, 0.01)["gflops"]) == 2
    for bad in ((0, 0.01, ""), (1, 0.0, ""), (1, math.nan, ""), (1, 61.0, ""), (1, 0.01, "z80")):
        with pytest.raises(ValueError, match=r"expected .* got"):
            _C.fma_peak(*bad)
    assert "multiply-adds" in machine.fma_peak(1, 0.01).source


def test_saved_bytes_count_each_storage_once_and_nothing_that_was_given() -> None:
    x = torch.randn(4, 6, requires_grad=True)
    size = 4 * 6 * 4
    assert memory.saved_bytes(lambda: x.exp(), [x]) == size  # exp keeps its output
    assert memory.saved_bytes(lambda: x * 2.0, [x]) == 0
    assert memory.saved_bytes(lambda: (x.sin(), x.cos(), x * x), [x]) == 0  # all keep x alone
    assert memory.saved_bytes(lambda: x.exp().t().exp(), [x]) == 2 * size

    def halves() -> torch.Tensor:  # keeps three views of one storage
        left, right = x.exp().chunk(2)
        return left * right

    assert memory.saved_bytes(halves, [x]) == size
