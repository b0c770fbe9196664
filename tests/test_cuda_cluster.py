"""The cluster kernels on the emulator: right as they are, and wrong with each seeded fault.

The faults and what builds them are in native/cuda_faults.py. Two that show
at once stand for all here; with FUSEDRNN_ALL_FAULTS=1 every one is tried (minutes)."""

import importlib.util
import os
import platform
import shutil
from pathlib import Path

import pytest

if shutil.which("g++") is None or platform.machine() != "x86_64":
    pytest.skip("the emulator needs g++ on x86-64", allow_module_level=True)

SPEC = importlib.util.spec_from_file_location(
    "cuda_faults", Path(__file__).parent / "native" / "cuda_faults.py"
)
faults = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(faults)

FEW = ("half the announced bytes", "no barrier before the product")
ALL = os.environ.get("FUSEDRNN_ALL_FAULTS") == "1"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return faults.sound_objects(tmp_path_factory.mktemp("sound") / "tree")


def test_right_without_a_fault(sound, tmp_path):
    program = faults.build(tmp_path / "tree", sound, None)
    assert not faults.caught(program)
    assert not faults.caught(program, "options")  # every cell; the faults are the LSTM's


@pytest.mark.parametrize("name", tuple(faults.FAULTS) if ALL else FEW)
def test_fault_is_caught(sound, tmp_path, name):
    assert faults.caught(faults.build(tmp_path / "tree", sound, name))


def test_faults_still_stand_in_the_sources():
    for name, (path, there, _) in faults.FAULTS.items():
        assert (faults.ROOT / path).read_text().count(there) == 1, name
