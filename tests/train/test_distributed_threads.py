"""The threads of gloo do not take the core from one another; those of the caller stay as they were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import os, sys
import torch
from fusedrnn.train import distributed

os.environ |= {"WORLD_SIZE": "2", "RANK": sys.argv[1], "MASTER_ADDR": "127.0.0.1"}
os.environ["MASTER_PORT"] = sys.argv[2]
begin = int(sys.argv[3])
os.sched_setscheduler(0, begin, os.sched_param(0))
with distributed.from_environment(torch.device("cpu")):
    assert distributed.summed([1.0]) == [2.0]
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/comm") as file:
            name = file.read().strip()
        print(name, os.sched_getscheduler(int(thread)), "main" * (int(thread) == os.getpid()))
"""

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux", reason="needs gloo and /proc"
)


def _free_port():
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return str(store.port)


def _policies(begin):
    """The policy of the main thread and those of gloo's, of two processes that began with ``begin``."""
    port = _free_port()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), port, str(begin)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    main, gloo = set(), set()
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        for line in out.splitlines():
            name, policy, *is_main = line.split()
            if is_main:
                main.add(int(policy))
            elif "gloo" in name:
                gloo.add(int(policy))
    return main, gloo


def test_threads_of_gloo_wait_their_turn():
    assert _policies(os.SCHED_OTHER) == ({os.SCHED_OTHER}, {os.SCHED_BATCH})


def test_a_policy_that_was_chosen_stays():
    assert _policies(os.SCHED_IDLE) == ({os.SCHED_IDLE}, {os.SCHED_IDLE})
