"""`fusedrnn info`: what is installed and what it runs on."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import torch

import fusedrnn
from fusedrnn import _C
from fusedrnn.commands.flags import command


def add(commands: Any) -> None:
    parser = command(commands, "info", run, "say what is installed and what it runs on")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    has_cuda = torch.cuda.is_available()
    facts = {
        "version": fusedrnn.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "isa": _C.isa(),
        "available_isas": list(_C.available_isas()),
        "threads": torch.get_num_threads(),
        "cuda_build": _C.cuda_build,
        "cuda_device": torch.cuda.get_device_name() if has_cuda else None,
    }
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name:15} {'none' if shown is None else shown}")
    return 0
