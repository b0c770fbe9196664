"""The native code without Python: its own test programs under sanitizers, and what its objects hold."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusedrnn import _C

ROOT = Path(__file__).resolve().parent.parent
FAILS = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def tool(name):
    """A build tool beside this Python, else on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def run(*command, **environment):
    done = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{output[-6000:]}"
    return output


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """An object of the register tiles for 64-bit Arm, optimised as in the package."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("crosses from x86 to Arm")
    out = tmp_path_factory.mktemp("arm") / "tile.o"
    run(
        tool("aarch64-linux-gnu-g++"), "-DFUSEDRNN_ISA_ID=baseline", "-std=gnu++20", "-O3", "-Wall", "-Wextra",
        "-Werror", "-fno-math-errno", "-ffp-contract=fast", "-c", ROOT / "csrc/cpu/isa_tile.cpp", "-o", out,
    )  # fmt: skip
    return out


def test_arm_tiles_are_vectorised(arm):
    code = run(tool("aarch64-linux-gnu-objdump"), "-d", "--no-show-raw-insn", arm)
    lines = [line.split("\t")[1:] for line in code.splitlines() if line.count("\t") == 2]
    vector = sum(op == "fmla" and ".4s" in operands for op, operands in lines)
    single = sum(op == "fmadd" and operands.startswith("s") for op, operands in lines)
    assert vector > 1000, "multiply-adds of four floats"
    assert single == 0, "multiply-adds of one float"


@pytest.fixture(scope="module")
def programs():
    """Folder of the test programs, built under the address and undefined-behaviour sanitizers."""
    folder = ROOT / "build" / "native-asan-ubsan"
    run(
        tool("cmake"), "-S", ROOT / "tests" / "native", "-B", folder, "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", "-DFUSEDRNN_SANITIZE=address,undefined",
    )  # fmt: skip
    run(tool("cmake"), "--build", folder, "--parallel", str(os.cpu_count()))
    return folder


@pytest.mark.parametrize("isa", _C.available_isas())
def test_cpu_kernels(programs, isa):
    output = run(programs / "cpu_test", FUSEDRNN_ISA=isa, **FAILS)
    assert isa in output
    passed, failed = output.strip().splitlines()[-1].split(", ")
    assert int(passed.split()[0]) > 0
    assert failed == "0 failed"


def test_text_encoder(programs):
    passed, failed = run(programs / "encode_test", **FAILS).strip().splitlines()[-1].split(", ")
    assert int(passed.split()[0]) > 0
    assert failed == "0 failed"


def test_no_weak_symbols():
    # The linker keeps one copy of a weak symbol: if that one was compiled for AVX-512, everybody runs it.
    folders = sorted((ROOT / "build").glob("cmake-*"), key=lambda p: p.stat().st_mtime)
    objects = list(folders[-1].glob("CMakeFiles/cpu_*.dir/**/*.o")) if folders else []
    if not objects:
        pytest.skip("the package was not built from this checkout, so there are no objects to read")
    for obj in objects:
        symbols = [line.split() for line in run("nm", "-C", obj).splitlines()]
        weak = [s for s in symbols if any(kind in ("W", "V", "w", "v", "u") for kind in s[:2])]
        assert not weak, f"{obj}: weak symbols {weak[:5]}"
