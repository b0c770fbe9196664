"""What a run was: the facts that its figures mean nothing without."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fusedrnn import _C, __version__
from fusedrnn.train.task import Task


def about(
    task: Task,
    floors: Mapping[str, float] | None = None,
    held_out: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The task, the machine, the versions and the command of this process, in JSON's own types.

    Args:
        floors: what simple methods reach on the task's figure, by their names.
        held_out: ``tokens``, ``characters`` and ``words`` of the text that they were judged on.
    """
    device = next(task.model.parameters()).device
    return {
        "kind": task.kind,
        "unit": task.unit,
        "perplexity": bool(task.perplexity),
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "floors": dict(floors or {}),
        "held_out": dict(held_out or {}),
        "command": shlex.join(["fusedrnn", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory": _memory(),
            "instruction set": _C.isa(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {
            "fusedrnn": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _processor() -> str:
    """The name of the processor, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"
