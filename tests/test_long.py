"""Very long sequences: time and memory in proportion to the steps."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from torch import Tensor

import fusedrnn
from benchmarks.memory import saved_bytes

STEPS = 100_000
LAYERS = {"rnn": fusedrnn.RNN, "lstm": fusedrnn.LSTM, "gru": fusedrnn.GRU}


def case(kind: str, steps: int) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    return LAYERS[kind](3, 16), torch.randn(steps, 1, 3, requires_grad=True)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", LAYERS)
def test_time_is_linear(kind: str, one_thread: None) -> None:
    def seconds(steps: int) -> float:
        layer, x = case(kind, steps)
        times = []
        for _ in range(3):
            begin = time.thread_time()  # of this thread: a neighbour does not count
            layer(x)[0].sum().backward()
            times.append(time.thread_time() - begin)
        return statistics.median(times)

    short, long = seconds(STEPS // 10), seconds(STEPS)
    assert long < 20 * short, f"{long:.3f} s for {STEPS} steps, {short:.3f} s for a tenth of them"


@pytest.mark.parametrize("kind", LAYERS)
def test_memory_is_linear(kind: str) -> None:
    def kept(steps: int) -> int:
        layer, x = case(kind, steps)
        return saved_bytes(lambda: layer(x), [x, *layer.parameters()])

    short, long = kept(STEPS // 100), kept(STEPS)
    assert long <= 101 * short, f"{long} bytes for {STEPS} steps, {short} for a hundredth of them"


@pytest.mark.parametrize("kind", LAYERS)
def test_the_last_step_is_right(kind: str) -> None:
    # In one call and in a hundred, the state handed on: offsets and chunks far into the sequence.
    layer, x = case(kind, STEPS)
    state = None
    with torch.no_grad():
        whole, _ = layer(x)
        for part in x.split(STEPS // 100):
            y, state = layer(part, state)
    fusedrnn.tolerances.check(whole[-1000:], y.double(), torch.float32, "the last thousand steps")
