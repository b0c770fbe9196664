"""benchmarks/gpu.py without a GPU: what its commands are given, and what makes a part fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_small

ROOT = Path(__file__).resolve().parent.parent
REFUSED = "fusedrnn: the device refused a launch of the fma family"


@pytest.mark.parametrize(
    ("words", "short", "extra"),
    [
        ("--short", True, []),
        ("--part bench --out x --short", True, []),
        ("--part tests --out x -k lstm", False, ["-k", "lstm"]),
        ("--part sanitize --families fma grid", False, []),
    ],
)
def test_further_arguments_are_those_of_pytest(words, short, extra):
    args, further = gpu.arguments(words.split())
    assert args.short is short
    assert further == extra


@pytest.mark.parametrize("part", ["all", "build", "sanitize", "bench"])
def test_a_part_without_further_arguments_says_so(part, capsys):
    with pytest.raises(SystemExit):
        gpu.arguments(["--part", part, "-k", "lstm"])
    assert f"part {part} takes no further arguments, got -k lstm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "code", "failed"), [("all well", 0, 0), ("all well", 3, 3), (REFUSED, 0, 1)]
)
def test_a_command_fails_where_a_launch_was_refused(tmp_path, said, code, failed):
    program = f"import os; os.write(2, b'{said}\\n'); os._exit({code})"
    done = gpu.run(tmp_path / "log", 60, [sys.executable, "-c", program])
    assert done["exit"] == failed
    assert (tmp_path / "log").read_text() == said + "\n"
    assert (
        gpu.run(tmp_path / "log", 60, [sys.executable, "-c", program], ours=False)["exit"] == code
    )


def test_what_native_code_says_in_a_test_reaches_the_log(tmp_path):
    """Also of a test that passes."""
    test = tmp_path / "test_refused.py"
    test.write_text(f"import os\ndef test_refused():\n    os.write(2, b'{REFUSED}\\n')\n")
    done = gpu.tests(tmp_path, 120, [str(test), "-p", "no:cacheprovider"])
    assert "\n1 passed" in "\n".join(done["last_lines"])  # a path takes the place of tests/cuda
    assert done["exit"] == 1


def test_the_block_family_is_tested_where_it_can_run():
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/cuda/test_options.py"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    shapes = [line for line in listed.splitlines() if "test_shapes[" in line]
    assert any("block-float32" in line for line in shapes)
    assert not any("block-bfloat16" in line for line in shapes)
    assert any("step-bfloat16" in line for line in shapes)


def test_a_family_that_no_call_is_planned_for_is_an_error(monkeypatch, capsys):
    float32 = gpu_small.calls([torch.float32])
    monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", "block")
    gpu_small.plan_all(float32, device=90)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(float32)
    assert any("forward block, backward block" in line for line in said)
    monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", "cluster")
    with pytest.raises(SystemExit, match="FUSEDRNN_CUDA_FAMILY=cluster"):
        gpu_small.plan_all(float32, device=90)


@pytest.mark.parametrize("major", [8, 9, 10])
def test_every_family_has_a_call_of_the_sanitizers(monkeypatch, major):
    for family, shape in gpu.no_remote_stores(major).items():
        monkeypatch.setenv("FUSEDRNN_CUDA_FAMILY", family)
        monkeypatch.setenv("FUSEDRNN_FMA_SHAPE", shape)
        calls = gpu_small.calls([torch.float32, torch.bfloat16])
        gpu_small.plan_all(calls, device=10 * major)
