"""The command as its user calls it: in a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT


def call(flags: str, folder: str | Path) -> str:
    """What ``fusedrnn`` with these flags prints, run in ``folder``.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    start = "import sys; from fusedrnn.cli import main; sys.exit(main(sys.argv[1:]))"
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-c", start, *shlex.split(flags)],
        cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"fusedrnn {flags}: code {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
