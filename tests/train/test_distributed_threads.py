"""The threads of gloo do not take the core from one another; those of the caller stay as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

# Begins with a policy, meets the other process, and writes down the policies of the first thread and of
# those that the meeting started, which have names of their own in newer releases of torch alone.
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from fusedrnn.train import distributed

begin, folder = int(sys.argv[1]), sys.argv[2]
os.sched_setscheduler(0, begin, os.sched_param(0))
before = set(os.listdir("/proc/self/task"))
with distributed.from_environment(torch.device("cpu")):
    assert distributed.summed([1.0]) == [2.0]
    threads = []
    for task in set(os.listdir("/proc/self/task")) - before | {str(os.getpid())}:
        try:
            threads.append((int(task) == os.getpid(), os.sched_getscheduler(int(task))))
        except OSError:
            pass  # it has just ended
    Path(folder, f"{distributed.rank()}.json").write_text(json.dumps(threads))
"""


def _can_change_policy():
    change = "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"
    return subprocess.run([sys.executable, "-c", change], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux" or not _can_change_policy(),
    reason="needs gloo, /proc and the right to choose a scheduling policy",
)


def _policies(begin, folder):
    """What the main threads and those of gloo of two processes have that begin with a policy."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(program), str(begin), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    each = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    for threads in each:
        assert len(threads) > 2  # one that waits for the network, one that exchanges
    main = {policy for threads in each for first, policy in threads if first}
    return main, {policy for threads in each for first, policy in threads if not first}


def test_threads_of_gloo_wait_their_turn(tmp_path):
    assert _policies(os.SCHED_OTHER, tmp_path) == ({os.SCHED_OTHER}, {os.SCHED_BATCH})


def test_a_policy_that_was_chosen_stays(tmp_path):
    assert _policies(os.SCHED_IDLE, tmp_path) == ({os.SCHED_IDLE}, {os.SCHED_IDLE})
