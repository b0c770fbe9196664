"""For tracking one's own change with pytest-benchmark.

    pytest benchmarks --benchmark-enable --benchmark-autosave     before the change
    pytest benchmarks --benchmark-enable --benchmark-compare      after it
    pytest benchmarks --benchmark-enable -k "gru and training"

Every cell on one shape of each kind, and each option once. Peers and goals: benchmarks/peers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fusedrnn
from benchmarks.contenders import Problem, fused
from benchmarks.grid import GATES, KINDS, Case

LAYERS: dict[str, Callable[..., nn.Module]] = {
    "rnn": fusedrnn.RNN,
    "gru": fusedrnn.GRU,
    "lstm": fusedrnn.LSTM,
}
# Small, wide, one row, and sizes that fit no vector.
SHAPES = [(35, 32, 28, 256), (64, 16, 512, 512), (100, 1, 128, 128), (50, 7, 100, 200)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def training(layer: nn.Module, x: torch.Tensor, **options: Any) -> Callable[[], Any]:
    """One forward and backward, with the gradient of the input where it can have one."""
    wanted = [*([x.requires_grad_()] if x.is_floating_point() else []), *layer.parameters()]
    dy = torch.randn_like(layer(x, **options)[0])
    return lambda: torch.autograd.grad(layer(x, **options)[0], wanted, dy)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", GATES)
def test_layer(benchmark: Any, cell: str, kind: str, shape: tuple[int, int, int, int]) -> None:
    case = Case(cell, *shape, kind=kind)
    benchmark.extra_info["gflop"] = case.flops / 1e9
    benchmark(fused.build(Problem(case, torch.get_num_threads())))


@pytest.mark.parametrize("cell", GATES)
def test_step(benchmark: Any, cell: str) -> None:
    layer = LAYERS[cell](128, 128)
    x = torch.randn(1, 128)
    _, state = layer.step(x, None)
    benchmark(layer.step, x, state)


@pytest.mark.parametrize("cell", GATES)
def test_one_step_of_one_row(benchmark: Any, cell: str) -> None:
    benchmark(training(LAYERS[cell](128, 128), torch.randn(1, 1, 128)))


@pytest.mark.parametrize("cell", GATES)
def test_token_ids(benchmark: Any, cell: str) -> None:
    benchmark(training(LAYERS[cell](28, 256), torch.randint(0, 28, (35, 32))))


@pytest.mark.parametrize("cell", GATES)
def test_lengths(benchmark: Any, cell: str) -> None:
    lengths = torch.tensor(Case(cell, 100, 64, 128, 256, ragged=True).lengths)
    benchmark(training(LAYERS[cell](128, 256), torch.randn(100, 64, 128), lengths=lengths))


@pytest.mark.parametrize("cell", GATES)
def test_resets(benchmark: Any, cell: str) -> None:
    resets = torch.rand(100, 64) < 0.05
    benchmark(training(LAYERS[cell](128, 256), torch.randn(100, 64, 128), resets=resets))


@pytest.mark.parametrize("cell", GATES)
def test_two_layers_both_directions(benchmark: Any, cell: str) -> None:
    layer = LAYERS[cell](128, 128, num_layers=2, bidirectional=True)
    benchmark(training(layer, torch.randn(50, 16, 128)))


@pytest.mark.parametrize("cell", GATES)
def test_bfloat16(benchmark: Any, cell: str) -> None:
    layer = LAYERS[cell](512, 512, dtype=torch.bfloat16)
    benchmark(training(layer, torch.randn(32, 16, 512, dtype=torch.bfloat16)))
