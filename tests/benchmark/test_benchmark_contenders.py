"""The contenders: all compute the same, and who does not, or is not there, is named."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_records import plan
from torch import nn

from benchmarks import contenders, grid, peers, summary, worker
from benchmarks.contenders import Problem, torch_loop, torch_nn


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
