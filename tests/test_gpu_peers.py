"""Peers beside cuDNN: compared before they are timed, and named with the reason where they cannot be."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import contenders, gpu_peers, grid
from benchmarks.contenders import Problem

GPU_CASE = grid.Case("gru", 5, 3, 4, 6)


def gpu_rows(names: tuple[str, ...], out: Path, budget: float = 60.0) -> list[dict[str, Any]]:
    def once(run: Any) -> float:
        return float(run(0) is not None)

    return gpu_peers.measure_all([GPU_CASE], names, "cpu", once, budget, out)


def test_peers_on_the_gpu_are_compared_before_they_are_timed(tmp_path, monkeypatch) -> None:
    rows = gpu_rows(("fused", "torch_nn"), tmp_path)
    assert [r["contender"] for r in rows] == ["fusedrnn", "torch.nn"]
    assert all(r["forward_ms"] == r["training_ms"] == 1 for r in rows)
    assert json.loads((tmp_path / "peers.json").read_text()) == rows

    module = contenders.load("torch_nn")
    build = module.build
    monkeypatch.setattr(module, "build", lambda p: lambda: [1.01 * a for a in build(p)()])
    (row,) = gpu_rows(("torch_nn",), tmp_path)
    assert "other results: 1.0e-02" in row["reason"]
    assert not any(key.endswith("_ms") for key in row)


def test_a_peer_that_cannot_take_part_is_named_with_the_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "flashrnn", None)  # as where it is not installed
    torch_module = contenders.load("torch_nn")

    def broken(problem: Problem) -> Any:
        raise RuntimeError("nvcc said\nno | never")

    monkeypatch.setattr(torch_module, "build", broken)
    rows = gpu_rows(("flash_rnn", "torch_nn", "fused"), tmp_path)
    assert rows[0]["contender"] == "FlashRNN"
    assert rows[0]["reason"].startswith("not importable: ")
    assert rows[1]["reason"] == "RuntimeError: nvcc said\nno | never"
    assert "reason" not in rows[2]
    table = gpu_peers.markdown(rows).splitlines()
    assert len(table) == 5
    assert all(text.count("|") == 6 for text in table)
    assert (tmp_path / "peers.md").read_text().splitlines() == table
    assert not gpu_peers.ours_failed(rows)
    assert gpu_peers.ours_failed([{**rows[2], "reason": "RuntimeError: x"}])
    late = gpu_rows(contenders.ON_GPU, tmp_path, budget=-1)
    assert not gpu_peers.ours_failed(late)
    assert [r["reason"] for r in late] == ["no time was left"] * 4


@pytest.mark.parametrize("cell", grid.GATES)
def test_flash_rnn_is_given_the_same_layer(cell: str) -> None:
    """By its own plain torch backend, where it is installed."""
    module = contenders.load("flash_rnn")
    if why := module.missing():
        pytest.skip(why)
    for kind in grid.KINDS:
        problem = Problem(replace(GPU_CASE, cell=cell, kind=kind), 1)
        assert contenders.error(module.build(problem, ("vanilla",))(), problem.expected) < 1e-5
