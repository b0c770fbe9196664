"""The CUDA kernels without a GPU: compiled by g++ and run on the emulator in tests/native/cuda_emulator.

The programs compare every output with a float64 reference; here they are built and run, plain and under
sanitizers, and faults put into copies of the kernels must be caught.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="the emulator switches stacks on x86-64 only",
)


def tool(name: str) -> str:
    """A build tool beside this Python, else on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def build(folder: Path, sanitize: str, source: Path, *targets: str) -> Path:
    configured = run(
        tool("cmake"), "-S", source / "tests/native/cuda_emulator", "-B", folder, "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DFUSEDRNN_SANITIZE={sanitize}",
        f"-DFUSEDRNN_SOURCE={source}",
    )  # fmt: skip
    assert configured.returncode == 0, configured.stdout + configured.stderr
    jobs = str(os.cpu_count())
    built = run(tool("cmake"), "--build", folder, "--parallel", jobs, "--target", *targets)
    assert built.returncode == 0, (built.stdout + built.stderr)[-6000:]
    return folder


def assert_good(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    # after which the step family would have given the right results
    assert "refused a launch" not in done.stderr, done.stderr[-6000:]


PROGRAMS = ("cuda_plan_test", "cuda_step_test", "cuda_fma_test")


@pytest.mark.parametrize(
    ("program", "mode"),
    [("cuda_plan_test", ""), ("cuda_step_test", ""), ("cuda_fma_test", "small")],
)
def test_against_the_reference(program, mode):
    folder = build(ROOT / "build" / "cuda-emulator", "", ROOT, *PROGRAMS)
    assert_good(run(folder / program, mode))


@pytest.mark.parametrize(
    ("program", "mode"), [("cuda_step_test", "small"), ("cuda_fma_test", "tiny")]
)
def test_under_asan_and_ubsan(program, mode):
    folder = build(ROOT / "build" / "cuda-emulator-asan", "address,undefined", ROOT, *PROGRAMS)
    assert_good(run(folder / program, mode))


@pytest.mark.parametrize(
    ("program", "mode"), [("cuda_step_test", "tiny"), ("cuda_fma_test", "edges")]
)
def test_under_tsan(program, mode):
    folder = build(ROOT / "build" / "cuda-emulator-tsan", "thread", ROOT, program)
    assert_good(run(folder / program, mode))


# name: (file, text that stands there once, what replaces it, program, mode)
FAULTS = {
    "a reset does not cut the state": (
        "step_forward.cu", "s.state[i] = s.rows.cut(d, d ? t - 1 : t + 1, b, length) ? narrow<T>(0) : h;",
        "s.state[i] = h;", "cuda_step_test", "small",
    ),
    "a gradient crosses a reset": (
        "step_backward.cu", "return !s.rows.cut(d, d ? t - 1 : t + 1, b, length);", "return true;",
        "cuda_step_test", "small",
    ),
    "the end of a backward row is missed": (
        "step_backward.cu", "return d == 1 && t == length && length > 0;", "return false;",
        "cuda_step_test", "small",
    ),
    "padding reaches a product over all steps": (
        "layer_kernels.cu", "valid ? from[row * width + i] : Unit{};", "from[row * width + i];",
        "cuda_step_test", "small",
    ),
    "no barrier in the transpose": (
        "layer_kernels.cu", "  __syncthreads();\n  for (int i = threadIdx.y; i < kTile; i += 8)\n    if (c0",
        "  for (int i = threadIdx.y; i < kTile; i += 8)\n    if (c0", "cuda_step_test", "ids",
    ),
    "no barrier between rounds of ids": (
        "layer_kernels.cu", "    __syncthreads();\n  }\n  if (c < width) partial",
        "  }\n  if (c < width) partial", "cuda_step_test", "ids",
    ),
    "fma: a state that is not finite passes a reset": (
        "fma_unit.h", "(in.cut ? 0.f : products[g])", "(in.cut ? 0.f : 1.f) * products[g]", "cuda_fma_test", "tiny",
    ),
    "fma: no barrier before the cell": (
        "fma_forward.h", "    __syncthreads();\n    if (p.item) {", "    if (p.item) {", "cuda_fma_test", "tiny",
    ),
    "fma: no wait for the state": (
        "fma_forward.h", "if (s > 0 && shape.R > 1) next_phase(base, s, steps - 1, shape.arrival);", "",
        "cuda_fma_test", "tiny",
    ),
    "fma: half the bytes expected": (
        "fma_kernels.h", "if (threadIdx.x == 0 && i + 2 <= arrivals) phase_arm(barrier, static_cast<uint32_t>(bytes));",
        "if (threadIdx.x == 0 && i + 2 <= arrivals) phase_arm(barrier, static_cast<uint32_t>(bytes / 2));",
        "cuda_fma_test", "tiny",
    ),
    "fma: wrong parity": (
        "fma_kernels.h", "phase_wait(barrier, static_cast<uint32_t>((i - 1) >> 1) & 1);",
        "phase_wait(barrier, static_cast<uint32_t>(i >> 1) & 1);", "cuda_fma_test", "tiny",
    ),
    "fma: a block's part is left out": (
        "fma_backward.h", "for (int q = 0; q < s.R; q++) sum += in", "for (int q = 1; q < s.R; q++) sum += in",
        "cuda_fma_test", "tiny",
    ),
    "block: no barrier between steps": (
        "block_kernels.h", "    __syncthreads();\n    if (live) unit.store", "    if (live) unit.store",
        "cuda_fma_test", "block",
    ),
    "block: one buffer of gradients": (
        "block_kernels.h", "dg + (i & 1) * N * G * K;", "dg;", "cuda_fma_test", "block",
    ),
    "block: a lane's share is left out": (
        "block_kernels.h", "for (int i = 0; i < V; i++) v[i] += __shfl_xor_sync(~0u, v[i], M);",
        "if (M > 1) for (int i = 0; i < V; i++) v[i] += __shfl_xor_sync(~0u, v[i], M);",
        "cuda_fma_test", "block",
    ),
    "grid: no wait for the team": (
        "grid.h", "  if (static_cast<int>(threadIdx.x) < s.R) await_flag(flags + threadIdx.x, value);\n", "",
        "cuda_fma_test", "tiny",
    ),
    "grid: the flag counts a step ahead": (
        "grid.h", "raise_flag(flags + p.rank, static_cast<uint32_t>(s + 1));",
        "raise_flag(flags + p.rank, static_cast<uint32_t>(s + 2));", "cuda_fma_test", "tiny",
    ),
    "grid: one buffer": (
        "grid.h", "exchange + ((i + 1) & 1) * shape.R * block, block);", "exchange, block);",
        "cuda_fma_test", "tiny",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the sources, and its build without a fault; a fault recompiles what it touches."""
    folder = tmp_path_factory.mktemp("faults")
    for part in ("csrc/cuda", "csrc/cells", "tests/native"):
        shutil.copytree(ROOT / part, folder / "tree" / part)
    shutil.copy(ROOT / "csrc/layer.h", folder / "tree/csrc/layer.h")
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_caught(copy, fault):
    name, there, instead, program, mode = FAULTS[fault]
    path = copy / "tree/csrc/cuda" / name
    text = path.read_text()
    assert text.count(there) == 1, f"expected the text of the fault once in {name}"
    path.write_text(text.replace(there, instead))
    try:
        folder = build(copy / "build", "", copy / "tree", program)
        assert run("timeout", "300", folder / program, mode).returncode != 0, "nobody noticed"
    finally:
        path.write_text(text)
