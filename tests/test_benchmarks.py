"""The benchmark's own arithmetic, its fairness, and that it hides nothing. No speed is asserted."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import (
    contenders,
    goals,
    grid,
    machine,
    memory,
    peers,
    report,
    summary,
    timing,
    worker,
)
from benchmarks.contenders import Problem, fused, torch_loop, torch_nn
from benchmarks.grid import Case

TINY = Case("gru", 4, 3, 5, 6)
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
        "samples": {"fusedrnn": [1e-3] * 3, "torch.nn": [2e-3] * 3}, "saved_bytes": {},
        "steps_of": {}, "tokens": 0, "left_out": {}, "others_cores": 0.0, "preempted": 0,
    }  # fmt: skip
    return {**base, **changes}


def run_of(*records: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "machine": machine.facts(), "threads": 2, "isa": "", "peak_gflops": 500.0,
        "peaks": [{"gflops": 500.0, "source": "a test"}], "absent": {}, "skipped": [], "seconds": 1.0,
        "others_cores": 0.0, "effort": ONCE, "records": list(records), **changes,
    }  # fmt: skip


# The cases


def test_flops_are_counted_as_the_issue_of_speed_counts_them() -> None:
    case = Case("gru", 35, 32, 28, 256)
    assert case.flops == 3 * 2 * 35 * 32 * (28 + 256) * 3 * 256
    assert replace(case, kind="forward").flops * 3 == case.flops
    assert replace(case, cell="lstm").flops / replace(case, cell="rnn").flops == 4


def test_flops_of_a_stack_and_of_a_ragged_batch() -> None:
    stack = Case("lstm", 10, 2, 8, 16, layers=2, directions=2)
    steps = 10 * 2
    assert stack.flops == 6 * steps * 2 * 4 * 16 * ((8 + 16) + (32 + 16))
    ragged = Case("rnn", 10, 4, 8, 16, ragged=True)
    assert sum(ragged.lengths or []) == ragged.valid_steps < 10 * 4
    assert ragged.flops == 6 * ragged.valid_steps * (8 + 16) * 16


@pytest.mark.parametrize("batch", [1, 2, 3, 64, 100])
def test_lengths_are_spread_over_a_quarter_to_all_of_the_steps(batch: int) -> None:
    lengths = Case("rnn", 100, batch, 8, 8, ragged=True).lengths
    assert lengths is not None
    assert len(lengths) == batch
    assert min(lengths) == 25
    assert batch == 1 or max(lengths) == 100
    assert batch < 3 or lengths != sorted(lengths)


def test_a_shape_is_its_own_name() -> None:
    for case in grid.SHAPES:
        assert grid.parse(case.shape) == case
    with pytest.raises(ValueError, match=r"expected a shape like .* got '4,3'"):
        grid.parse("4,3")
    with pytest.raises(ValueError, match="sizes > 0, got '0,1,1,1'"):
        grid.parse("0,1,1,1")
    with pytest.raises(ValueError, match="expected cells among rnn, gru, lstm, got 'cnn'"):
        grid.cases(cells=["cnn"])


def test_the_whole_grid_is_every_shape_with_every_cell_both_ways() -> None:
    count = Counter((c.cell, c.kind) for c in grid.cases())
    assert set(count.values()) == {len(grid.SHAPES)}
    assert len(count) == len(grid.GATES) * len(grid.KINDS)
    assert {grid.parse(s).shape for s in grid.SHORT_SHAPES} <= {c.shape for c in grid.SHAPES}


# Time


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


# Memory


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


# Contenders


@pytest.mark.parametrize("kind", grid.KINDS)
@pytest.mark.parametrize("cell", grid.GATES)
@pytest.mark.parametrize("name", [n for n in contenders.ALL if n != "torch_loop"])
def test_every_contender_computes_what_torch_nn_computes(name: str, cell: str, kind: str) -> None:
    module = contenders.load(name)
    if why := module.missing():
        pytest.skip(why)
    for shape in ("4,3,5,6", "4,3,5,6 2 layers bidirectional", "4,3,5,6 ragged"):
        problem = Problem(replace(grid.parse(shape), cell=cell, kind=kind), 1)
        try:
            call = module.build(problem)
        except contenders.Unsupported:
            continue
        worker.checked(call, problem)


@pytest.mark.parametrize("cell", grid.GATES)
def test_the_compiled_loop_has_the_right_formulas(cell: str) -> None:
    # Compiling takes long; its steps in plain torch are quick.
    module = contenders.NN[cell](5, 6)
    w_ih, w_hh, b_ih, b_hh = module.parameters()
    x = torch.randn(3, 2, 5)
    state = tuple(torch.zeros(2, 6) for _ in range(2 if cell == "lstm" else 1))
    for x_t, expected in zip(x, module(x)[0], strict=True):
        state = torch_loop.STEPS[cell](nn.functional.linear(x_t, w_ih, b_ih), state, w_hh, b_hh)
        torch.testing.assert_close(state[0], expected)


def test_the_error_of_a_contender_is_found() -> None:
    expected = [torch.tensor([3.0, 4.0])]
    assert contenders.error([torch.tensor([3.0, 4.5])], expected) == pytest.approx(0.1)
    for value in (math.nan, math.inf):
        wrong = [torch.tensor([3.0, value]), torch.tensor([3.0, 4.0])]
        assert contenders.error(wrong, 2 * expected) == math.inf
    with pytest.raises(ValueError, match=r"expected shape \(2,\)"):
        contenders.error([torch.zeros(3)], expected)
    with pytest.raises(ValueError, match="expected 1 arrays from a contender, got 0"):
        contenders.error([], expected)


def test_a_contender_with_wrong_results_is_shown_and_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = torch_nn.build

    def wrong(problem: Problem) -> contenders.Call:
        call = right(problem)
        return lambda: [2 * value for value in call()]

    monkeypatch.setattr(torch_nn, "build", wrong)
    found = worker.run(plan(contenders=["torch_nn", "fused"]))
    (only,) = found["records"]
    assert list(only["samples"]) == ["fusedrnn"]
    assert "failed: Wrong: relative error 1.0e+00" in only["left_out"]["torch.nn"]
    assert "torch.nn: failed: Wrong" in peers.failures([found])[0]
    assert "torch.nn left out: failed: Wrong" in summary.grid_table(found, "t", [only]).text()


def test_an_absent_peer_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jax_scan = contenders.load("jax_scan")
    monkeypatch.setattr(jax_scan, "missing", lambda: "not installed: no module named jax")
    found = worker.run(plan(contenders=["fused", "torch_nn", "jax_scan"]))
    assert found["absent"] == {"JAX scan": "not installed: no module named jax"}
    assert all(set(r["samples"]) == {"fusedrnn", "torch.nn"} for r in found["records"])
    text = summary.build([found], tmp_path, "a title").text()
    assert "Left out: JAX scan (not installed: no module named jax)" in text


def test_what_there_was_no_time_for_is_named(tmp_path: Path) -> None:
    found = worker.run(plan(shapes=["1,1,1,1", "2,1,1,1"], questions=["step"], limit=1e-9))
    assert [r["shape"] for r in found["records"]] == ["1,1,1,1"]  # the first is always done
    assert found["skipped"] == ["gru 2,1,1,1 training", "step: gru"]
    text = summary.build([found], tmp_path, "a title").text()
    assert "Left out for lack of time: " in text
    assert "step: gru." in text


def test_who_breaks_off_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = iter([run_of(record())])
    monkeypatch.setattr(peers, "measure", lambda _: next(runs))
    with pytest.raises(StopIteration):
        peers.main(["--threads", "1,2", "--out", str(tmp_path)])
    kept = json.loads((tmp_path / "results.json").read_text())["configurations"]
    assert len(kept) == 1


def test_rates_are_fractions_of_the_highest_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([80.0, 100.0])  # the first was disturbed
    monkeypatch.setattr(machine, "fma_peak", lambda *_: machine.Peak(next(rates), "a test"))
    found = worker.run(plan(shapes=["1,1,1,1", "2,1,1,1"]))
    assert (found["peak_gflops"], len(found["peaks"])) == (100.0, 2)


# Goals


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


# What a person reads


def test_a_question_that_nobody_could_answer_is_in_the_table() -> None:
    nobody = record(group="recompute", samples={}, left_out={"fusedrnn": "failed: E: no"})
    text = summary.question_table("title", [nobody]).text()
    assert "left out" in text
    assert "failed: E: no" in text


def test_a_losing_point_is_in_the_table_like_any_other() -> None:
    losing = record(samples={"fusedrnn": [4e-3] * 3, "torch.nn": [2e-3] * 3})
    text = summary.grid_table(run_of(losing), "title", [losing]).text()
    assert "0.500x" in text
    assert "MISSED" in summary.goal_table(run_of(losing)).text()


def test_tables_align_and_escape() -> None:
    table = report.Table("T", ["name", "value"], [["a|b", "1"], ["c", "1000"]], "note")
    assert table.text().splitlines() == [
        "T", "-----------", "name  value", "-----------", "a|b       1", "c      1000", "note",
    ]  # fmt: skip
    assert "| a\\|b | 1 |" in table.markdown()
    with pytest.raises(ValueError, match="expected 2 cells"):
        report.Table("T", ["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (412e-6, "412 us"),
        (3.25e-3, "3.25 ms"),
        (1.0712, "1.07 s"),
        (12.0, "12.0 s"),
        (5e-8, "0.0500 us"),
    ],
)
def test_durations_have_three_digits(value: float, text: str) -> None:
    assert report.duration(value) == text


def test_json_is_written_whole_and_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    data = {"a": [1.23456789, 2], "b": {"c": math.nan, "d": None, "e": []}, "f": [{"g": True}]}
    report.write_json(file, data)
    assert json.loads(file.read_text()) == {
        "a": [1.23457, 2], "b": {"c": None, "d": None, "e": []}, "f": [{"g": True}],
    }  # fmt: skip
    with pytest.raises(TypeError):
        report.write_json(file, {"a": object()})
    assert json.loads(file.read_text())["f"] == [{"g": True}]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_one_command_leaves_a_folder_of_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peers.main([
        "--shapes", "4,3,5,6;6,2,4,5 ragged", "--cells", "gru,lstm", "--contenders", "fused,torch_nn",
        "--questions", "step", "--seconds", "0.01", "--out", str(tmp_path),
    ])  # fmt: skip
    names = {p.name for p in tmp_path.iterdir()}
    assert {"results.json", "README.md"} <= names
    if summary.plots.missing() is None:
        assert sum(name.endswith(".png") for name in names) == 3
    data = json.loads((tmp_path / "results.json").read_text())["configurations"][0]
    assert len(data["records"]) == 2 * 2 * 2 + 2
    assert all({fused.NAME, torch_nn.NAME} <= set(r["samples"]) for r in data["records"])
    assert data["machine"]["versions"]["torch"] == torch.__version__
    printed = capsys.readouterr().out
    for part in (
        "Goals, ",
        "GRU, training",
        "LSTM, forward",
        "6,2,4,5 ragged",
        "Questions",
        "Peak",
    ):
        assert part in printed
        assert part in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cells", "cnn"], "--cells: expected names among rnn, gru, lstm, got 'cnn'"),
        (["--contenders", "fused,numpy"], "--contenders: expected names among"),
        (["--shapes", "1,2,3"], "--shapes: expected a shape like"),
        (["--questions", "why"], "--questions: expected names among"),
        (["--threads", "many"], "--threads: expected all or numbers > 0, got 'many'"),
        (["--isa", "z80"], "invalid choice"),
    ],
)
def test_a_wrong_argument_ends_it_before_it_starts(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        peers.arguments(words)
    assert message in capsys.readouterr().err


def test_the_full_record_has_every_question_one_thread_and_an_older_instruction_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "isa", lambda: {"used": "x86-64-v4"})
    everything, one, older = peers.plans(peers.arguments(["--full"]))
    assert everything["shapes"] is None
    assert everything["contenders"] == list(contenders.ALL)
    assert "train command" in everything["questions"]
    assert (one["threads"], older["isa"]) == (1, "x86-64-v3")
    monkeypatch.setattr(machine, "isa", lambda: {"used": "x86-64-v3"})
    assert peers.plans(peers.arguments(["--full"])) == [everything, one]  # it is the older one
    (short,) = peers.plans(peers.arguments([]))
    assert short["shapes"] == grid.SHORT_SHAPES
    (held,) = peers.plans(peers.arguments(["--isa", "x86-64-v3"]))
    assert held["contenders"] == ["fused", "torch_nn"]  # not every peer can be held to it
