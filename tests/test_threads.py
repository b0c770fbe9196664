"""Threads: callers at once, a process after fork, a neighbour on the core, other counts of threads.

The split of the work depends on the shape and on ``torch.get_num_threads()`` alone, so however the
threads come and go, the bits are those of a call in peace.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from oracle import CELLS, weights_of
from torch import Tensor

from benchmarks.busy import busy_process
from fusedrnn import functional
from fusedrnn.tolerances import check

ROOT = Path(__file__).resolve().parents[1]
# Whole tiles and parts of them; rows that do not divide among threads; one row, whose units are split.
SHAPES = ((12, 7, 20, 40), (40, 1, 64, 128), (9, 32, 24, 96), (30, 2, 16, 33))


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Layer:
    """A layer with its data, and what one forward and backward of it gives."""

    def __init__(self, cell: str, shape: tuple[int, int, int, int]) -> None:
        steps, batch, inputs, hidden = shape
        torch.manual_seed(len(cell) + hidden)
        self.cell = cell
        self.w = weights_of(cell, inputs, hidden, dtype=torch.float32)
        self.x = torch.randn(steps, batch, inputs)
        self.dy = torch.randn(steps, batch, hidden)

    def run(self) -> list[Tensor]:
        y = functional.layer(self.x, None, None, self.w, None, None, self.cell, 1)[0]
        return [y.detach(), *torch.autograd.grad(y, self.w, self.dy)]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_python_threads_at_once() -> None:
    layers = [Layer(cell, shape) for cell in CELLS for shape in SHAPES]
    wanted = [layer.run() for layer in layers]
    wrong: list[str] = []
    done: list[int] = []

    def work(first: int) -> None:
        torch.set_num_threads(2)
        for i in range(3 * len(layers)):
            n = (first + 5 * i) % len(layers)
            if not equal(layers[n].run(), wanted[n]):
                wrong.append(f"{layers[n].cell} {SHAPES[n % len(SHAPES)]}")
        done.append(first)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(done) == [0, 1, 2, 3], "a caller hangs or has failed"
    assert not wrong, f"other bits than alone: {wrong[:3]}"


@pytest.mark.parametrize("cell", CELLS)
def test_other_counts_of_threads(cell: str) -> None:
    for shape in SHAPES:
        layer = Layer(cell, shape)
        torch.set_num_threads(1)
        wanted = layer.run()
        for count in (2, 3, 5):
            torch.set_num_threads(count)
            for i, (a, b) in enumerate(zip(layer.run(), wanted, strict=True)):
                check(a, b, torch.float32, f"{count} threads, {shape}, {i}", gradient=i > 0)


def test_a_busy_neighbour_changes_no_bit_and_hangs_nobody() -> None:
    layers = [Layer(cell, shape) for cell in CELLS for shape in SHAPES]
    wanted = [layer.run() for layer in layers]
    with busy_process() as (begin, end):
        begin()
        for layer, bits in zip(layers, wanted, strict=True):
            for _ in range(5):
                assert equal(layer.run(), bits), layer.cell
        end()


def digest(tensors: list[Tensor]) -> str:
    """Of all bits; unlike torch.equal, on the calling thread alone whatever the size."""
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def script(text: str) -> str:
    """The output of a Python process that begins with the helpers of this file."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from test_threads import *\ntorch.set_num_threads(2)\n{text}"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its child too, which hangs on
        process.communicate()
        raise
    assert process.returncode == 0
    return output


FORK = """
layers = [Layer(cell, shape) for cell in CELLS for shape in SHAPES]
if {before}:
    wanted = [layer.run() for layer in layers]
child = os.fork()
if not {before} or child == 0:
    got = [layer.run() for layer in layers]
if child == 0:
    if {before}:
        print(list(map(digest, got)) == list(map(digest, wanted)), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_after_fork() -> None:
    # The child has none of the parent's threads; libgomp, and torch with it, would wait for them for ever.
    assert script(FORK.format(before=True)).split() == ["True", "0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_before_the_first_call() -> None:
    assert script(FORK.format(before=False)).split() == ["0"]


def libgomp() -> ctypes.CDLL:
    """The OpenMP library that torch has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libgomp" in line.rpartition("/")[2]:
            return ctypes.CDLL(line[line.index("/") :])
    pytest.skip("torch brings no libgomp here")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for libgomp in /proc")
def test_inside_a_parallel_region() -> None:
    layers = [Layer(cell, shape) for cell in CELLS for shape in SHAPES]
    wanted = [layer.run() for layer in layers]
    same: list[bool] = []

    def body(_: int | None) -> None:
        for layer, bits in zip(layers, wanted, strict=True):
            same.append(equal(layer.run(), bits))

    pointer = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(body)
    libgomp().GOMP_parallel(pointer, None, ctypes.c_uint(2), ctypes.c_uint(0))
    assert len(same) == 2 * len(layers), "each thread of the region calls every layer"
    assert all(same)
