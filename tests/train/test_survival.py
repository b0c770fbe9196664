"""A run that is killed again and again is the run that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusedrnn.train import checkpoint

LIVES = Path(__file__).with_name("lives.py")
KILLS = int(os.environ.get("FUSEDRNN_KILLS", "50"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _lines(path, without=("seconds", "tokens_per_s")):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in without} for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lives")
    command = [sys.executable, str(LIVES), str(folder), str(KILLS), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    killed = int(done.stdout.split()[0])
    assert killed >= KILLS // 2, done.stdout
    print(done.stdout)
    return folder / "calm", folder / "killed"


@pytest.mark.parametrize("name", ["metrics.jsonl", "steps.jsonl", "samples.jsonl"])
def test_the_records_are_those_of_an_undisturbed_run(runs, name):
    calm, killed = (_lines(run / name) for run in runs)
    assert len(calm) >= 12
    assert killed == calm


@pytest.mark.parametrize("name", ["checkpoint", "best"])
def test_the_parameters_are_those_of_an_undisturbed_run(runs, name):
    calm, killed = (
        checkpoint.read(run / f"{name}.safetensors", "language model", training=True)
        for run in runs
    )
    for one, other in ((calm.model, killed.model), (_tensors(calm), _tensors(killed))):
        assert one.keys() == other.keys()
        for key in one:
            assert torch.equal(one[key], other[key]), key
    assert calm.info == killed.info


def _tensors(found):
    return found.training.tensors if found.training else {}


def test_nothing_else_is_left(runs):
    calm, killed = (sorted(os.listdir(run)) for run in runs)
    assert not [name for name in killed if name.endswith(".tmp")]
    assert set(calm) <= set(killed)
