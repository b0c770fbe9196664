"""The native code without Python: its own test programs under sanitizers, and what its objects hold."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "tests" / "native"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def compiler():
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if found is None:
        pytest.skip("no C++ compiler on PATH")
    return found


def built_objects():
    """The objects of the per-instruction-set build, newest build folder first."""
    folders = sorted((ROOT / "build").glob("cmake-*"), key=lambda p: p.stat().st_mtime)
    return [o for o in folders[-1].glob("CMakeFiles/cpu_*.dir/**/*.o")] if folders else []


def test_no_weak_symbols():
    # The linker keeps one copy of a weak symbol: if that one was compiled for AVX-512, everybody runs it.
    objects = built_objects()
    if not objects:
        pytest.skip("no build folder: the package was not built from this checkout")
    assert len({o.parts[o.parts.index("CMakeFiles") + 1] for o in objects}) >= 1
    for obj in objects:
        lines = subprocess.run(
            ["nm", "-C", str(obj)], capture_output=True, text=True, check=True
        ).stdout
        weak = [ln for ln in lines.splitlines() if ln[17:18] in {"W", "V", "w", "v", "u"}]
        assert not weak, f"{obj.name}: weak symbols {weak[:5]}"
