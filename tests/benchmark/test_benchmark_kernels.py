"""The measurement of the kernels alone: it runs what it says, and refuses what it cannot."""

from __future__ import annotations

import pytest
import torch

from benchmarks import kernels
from benchmarks.contenders import Problem
from benchmarks.grid import Case


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_calls_are_a_forward_and_a_backward_with_all_gradients(cell):
    case = Case(cell, 4, 3, 5, 6)
    forward, backward = kernels._calls(case)
    kept = forward()
    dx, _, _, dweights = backward(kept)
    problem = Problem(case, 1)
    x = problem.x.detach().clone().requires_grad_()
    y = problem.module(x)[0]
    expected = torch.autograd.grad(y, [x, *problem.module.parameters()], problem.dy)
    torch.testing.assert_close([kept[0], dx, *dweights], [y.detach(), *expected])


def test_thread_counts_take_turns_and_each_call_is_timed():
    taken = kernels.measure(Case("gru", 4, 3, 5, 6), [1, 2], seconds=0.05)
    assert list(taken) == [1, 2]
    for times in taken.values():
        assert len(times["forward"]) == len(times["backward"]) > 0
        assert min(times["forward"] + times["backward"]) > 0


def test_a_table_has_a_column_for_each_thread_count_and_part(monkeypatch, capsys):
    arguments = ["kernels", "--cells", "lstm", "--shapes", "3,2,4,5", "--seconds", "0.02"]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    kernels.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in lines] == [10, 10, 10]
    assert lines[-1].startswith("| lstm 3,2,4,5 |")


def test_stacks_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["kernels", "--shapes", "3,2,4,5 2 layers"])
    with pytest.raises(SystemExit):
        kernels.main()
    assert "expected one layer of one direction, got 3,2,4,5 2 layers" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def threads_as_before():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)
