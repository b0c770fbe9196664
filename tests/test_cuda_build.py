"""What ptxas said of the kernels when the CUDA part was built: none spills registers or keeps a stack."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from fusedrnn import _C

LOGS = sorted(Path(__file__).resolve().parent.parent.glob("build/cmake-*/ptxas/*.cu.log"))
pytestmark = pytest.mark.skipif(
    not (_C.cuda_build and LOGS), reason="the CUDA part was not built in this folder"
)

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'\n.*\n?"
    r"\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
)
PERSISTENT = re.compile(r"(block|cluster|fma|grid)_(forward|backward)_kernel")


def kernels(text: str) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(kernel, architecture) to bytes of stack, spill stores and spill loads."""
    return {
        (m["name"], m["arch"]): (int(m["stack"]), int(m["stores"]), int(m["loads"]))
        for m in ENTRY.finditer(text)
    }


def test_no_persistent_kernel_spills():
    spilled, seen = [], defaultdict(set)
    for log in LOGS:
        for (name, arch), use in kernels(log.read_text()).items():
            persistent = PERSISTENT.search(name)
            if persistent:
                seen[persistent[1]].add(arch)
                if use != (0, 0, 0):
                    spilled.append(f"{log.name}: {name} for {arch}: {use}")
    assert not spilled, "\n".join(spilled)
    assert set(seen) == {"block", "cluster", "fma", "grid"}


def test_a_spill_would_be_seen():
    said = (
        "ptxas info    : Compiling entry function '_Z4grid_forward_kernel' for 'sm_90a'\n"
        "ptxas info    : Function properties for _Z4grid_forward_kernel\n"
        "    16 bytes stack frame, 12 bytes spill stores, 24 bytes spill loads\n"
    )
    assert kernels(said) == {("_Z4grid_forward_kernel", "sm_90a"): (16, 12, 24)}
