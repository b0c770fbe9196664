"""Two processes, started by torchrun, train as one; one that is killed ends both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fusedrnn import cli
from fusedrnn.train import checkpoint

TEXT = "the time traveller for so it will be convenient to speak of him\n" * 40
FLAGS = [
    "train", "text.txt", "--hidden", "12", "--batch", "4", "--steps", "8", "--clip", "0.3",
    "--valid-fraction", "0.1",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux", reason="needs gloo and /proc"
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)


def _start(*flags):
    """Two processes of the command, through torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*torchrun, "-m", "fusedrnn", *FLAGS, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _one_process(*flags):
    assert cli.main([*FLAGS, *flags]) == 0


def _epochs(run):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def _assert_same(two, one):
    assert len(two) == len(one)
    for ours, theirs in zip(two, one, strict=True):
        assert (ours["epoch"], ours["tokens"]) == (theirs["epoch"], theirs["tokens"])
        for key in ("loss", "valid_loss", "grad_norm", "largest_grad_norm", "lr"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key


def _process_of(rank, of):
    """The process that torchrun started with this rank."""
    for child in Path(f"/proc/{of}/task/{of}/children").read_text().split():
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in environment:
            return int(child)
    pytest.fail(f"no process of rank {rank}")


def test_two_processes_have_the_losses_of_one(capfd):
    process = _start("--epochs", "3", "--out", "two")
    _one_process("--epochs", "3", "--out", "one")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    _assert_same(_epochs("two"), _epochs("one"))
    assert out.count("run: two") == 1  # the first process alone speaks
    assert sorted(os.listdir("two")) == sorted(os.listdir("one"))


def test_a_killed_process_ends_all_and_one_alone_goes_on(capfd):
    process = _start("--epochs", "100000", "--out", "two", "--save-every", "0.2")
    try:
        deadline = time.monotonic() + 240
        while not Path("two/checkpoint.safetensors").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(_process_of(1, process.pid), signal.SIGKILL)
        _, err = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert "expected an answer from the other processes" in err
    assert "two/checkpoint.safetensors holds the run after update" in err

    saved = checkpoint.read("two", "language model", training=True)
    carried = [t for name, t in saved.training.tensors.items() if name.startswith("carried")]
    assert all(each.shape == (1, 4, 12) for each in carried)  # the rows of both
    epochs = str(saved.info["epochs"] + 2)
    _one_process("--epochs", epochs, "--out", "two", "--resume")
    _one_process("--epochs", epochs, "--out", "one")
    _assert_same(_epochs("two")[:12], _epochs("one")[:12])
    assert len(_epochs("two")) == int(epochs)
