"""The cases of the benchmark: their names, their arithmetic, the whole grid."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks import grid
from benchmarks.grid import Case


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
