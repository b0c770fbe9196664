"""The goals: what a record is judged by."""

from __future__ import annotations

import math
from typing import Any

import pytest
from benchmark_records import record, run_of

from benchmarks import goals, summary
from benchmarks.grid import Case


@pytest.mark.parametrize(
    ("changes", "value", "met"),
    [
        ({"group": "step", "samples": {"fusedrnn": [7e-6]}}, 7.0, True),
        ({"group": "step", "samples": {"fusedrnn": [9e-6]}}, 9.0, False),
        ({"group": "tiny call", "samples": {"fusedrnn": [2.0], "torch.nn": [1.0]}}, 0.5, False),
        ({"group": "token ids", "samples": {"fusedrnn ids": [1.0], "fusedrnn one-hot": [1.4]}}, 1.4, True),
        ({"group": "resets", "samples": {"fusedrnn": [1.0], "fusedrnn resets": [1.1]}}, 1.1, False),
        ({"group": "bfloat16", "samples": {"fusedrnn float32": [3.2], "fusedrnn bfloat16": [2.0]}}, 1.6, True),
        ({"group": "lengths", "samples": {"fusedrnn padded": [2.0], "fusedrnn lengths": [1.5]},
          "valid_fraction": 0.625}, 1.2, False),
        ({"group": "recompute", "samples": {"fusedrnn": [1.0], "fusedrnn recompute": [1.0]},
          "saved_bytes": {"fusedrnn": 100, "fusedrnn recompute": 40}}, 0.4, True),
        ({"group": "busy neighbour", "samples": {"fusedrnn alone": [1.0], "fusedrnn beside it": [2.5]}},
         2.5, False),
        ({"group": "language model"}, 2.0, False),
        ({"group": "train command", "tokens": 300}, 300_000.0, True),
    ],
)  # fmt: skip
def test_each_question_has_its_goal(changes: dict[str, Any], value: float, met: bool) -> None:
    goal, *_ = goals.evaluate(run_of(record(**changes)))
    assert goal.value == pytest.approx(value)
    assert goal.met is met


def test_long_sequences_are_judged_by_the_step() -> None:
    names = {"T=10": 10, "T=1000": 1000}
    long = record(
        group="long sequences", steps_of=names, saved_bytes={"T=10": 100, "T=1000": 10_000},
        samples={"T=10": [1.0], "T=1000": [120.0]},
    )  # fmt: skip
    time, space = goals.evaluate(run_of(long))
    assert (time.value, time.met) == (pytest.approx(1.2), False)
    assert (space.value, space.met) == (1.0, True)


def test_packed_data_are_judged_by_time_and_by_what_is_kept() -> None:
    packed = record(
        group="lengths", saved_bytes={"fusedrnn packed": 9, "torch.nn packed": 8}, valid_fraction=0.5,
        samples={"fusedrnn padded": [2.0], "fusedrnn lengths": [1.0], "fusedrnn packed": [1.2]},
    )  # fmt: skip
    lengths, time, kept = goals.evaluate(run_of(packed))
    assert (lengths.value, lengths.met) == (pytest.approx(1.0), True)
    assert (time.value, time.met) == (pytest.approx(1.2), False)
    assert (kept.value, kept.met) == (pytest.approx(1.125), False)


def test_the_grid_is_judged_by_mean_worst_point_peak_and_memory() -> None:
    slow = record(case=Case("gru", 100, 64, 256, 256), saved_bytes={"fusedrnn": 3, "torch.nn": 4})
    fast = record(samples={"fusedrnn": [1e-3], "torch.nn": [18e-3]})
    found = {g.text: g for g in goals.evaluate(run_of(slow, fast))}
    mean, worst = (found[f"gru training, times torch.nn: {k}"] for k in ("geometric mean", "worst"))
    assert (mean.value, mean.met) == (pytest.approx(6.0), True)
    assert (worst.value, worst.met, worst.where) == (pytest.approx(2.0), False, "100,64,256,256")
    # What is left where the products take as long as the peak of 500 GFLOP/s lets them.
    ceilings = [r["samples"]["torch.nn"][0] * 500e9 / r["flops"] for r in (slow, fast)]
    assert worst.ceiling == pytest.approx(min(ceilings))
    assert mean.ceiling == pytest.approx(math.sqrt(ceilings[0] * ceilings[1]))
    peak = found["gru training, fraction of the peak, H >= 256, B >= 16: worst"]
    assert peak.value == pytest.approx(fast["flops"] / 1e-3 / 500e9)
    assert peak.where == "35,32,28,256"
    assert found["memory kept for backward, of torch.nn's: worst"].value == 0.75


def test_what_is_not_there_is_a_goal_not_met() -> None:
    why = {"fusedrnn recompute": "GRU has no 'recompute'"}
    (goal,) = goals.evaluate(run_of(record(group="recompute", left_out=why)))
    assert math.isnan(goal.value)
    assert not goal.met
    broken = record(samples={"torch.nn": [1.0]}, left_out={"fusedrnn": "failed: RuntimeError: no"})
    fine = record(case=Case("gru", 100, 64, 256, 256))
    found = {g.text: g for g in goals.evaluate(run_of(fine, broken))}
    worst = found["gru training, times torch.nn: worst"]
    assert (math.isnan(worst.value), worst.met, worst.where) == (True, False, "35,32,28,256")
    assert not found["gru training, times torch.nn: geometric mean"].met
    assert "NOT THERE" in summary.goal_table(run_of(broken)).text()


def test_an_instruction_set_forced_on_both_sides_has_its_own_goal() -> None:
    (goal,) = goals.evaluate(run_of(record(), isa="x86-64-v3"))
    assert (goal.value, goal.limit, goal.met) == (pytest.approx(2.0), 1.0, True)
