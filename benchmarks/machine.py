"""Facts of the machine and of the software that a figure means nothing without.

:func:`facts` serves the CPU and the GPU record; :func:`fma_peak` measures what the CPU could do.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.steady import Cores

PACKAGES = (
    "fusedrnn", "torch", "numpy", "onnxruntime", "onnx", "jax", "jaxlib", "triton", "flashrnn",
)  # fmt: skip
VARIABLES = re.compile(
    r"(OMP|GOMP|MKL|KMP|DNNL|ONEDNN|ATEN|FUSEDRNN|XLA|JAX|CUDA|CUBLAS|CUDNN|TORCH|PYTORCH)_\w+"
    r"|LD_PRELOAD|MALLOC_\w+"
)
ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, Any]:
    """Everything about this machine, its software and this process, as JSON-ready values."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "caches": caches(),
        "memory_gib": memory_gib(),
        "system": system(),
        "load": [round(v, 2) for v in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_libraries": torch_libraries(),
        "threads": torch.get_num_threads(),
        "isa": isa(),
        "commit": commit(),
        "variables": {k: v for k, v in sorted(os.environ.items()) if VARIABLES.fullmatch(k)},
        "gpus": gpus(),
    }


def facts_line() -> str:
    """Processor, cores, torch and date in one line, for a page."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return f"{cpu_model()}, {usable_cores()} cores, torch {torch.__version__}, {today}"


def cpu_model() -> str:
    """What the processor calls itself, with family and model where the name alone is vague."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    fields = dict(re.findall(r"^(.+?)\s*:\s*(.*)$", text.partition("\n\n")[0], re.MULTILINE))
    name = fields.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def system() -> str:
    """Kernel, its version as far as it is a number, and architecture."""
    release = re.match(r"[\d.]*\d", platform.release())
    return f"{platform.system()} {release[0] if release else ''} {platform.machine()}"


def caches() -> dict[str, str]:
    """Size of each cache of the first core, by name: L1d, L1i, L2, L3."""
    out: dict[str, str] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        out[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = size
    return out


def one_cache() -> bool:
    """Whether the cores that this process may run on share a cache, by the system's account."""
    if not hasattr(os, "sched_getaffinity"):
        return False
    usable = os.sched_getaffinity(0)
    lists = Path(f"/sys/devices/system/cpu/cpu{min(usable)}/cache").glob("index*/shared_cpu_list")
    return any(usable <= _numbers(each.read_text()) for each in lists)


def _numbers(text: str) -> set[int]:
    """Those of a list such as ``0-3,8``."""
    out: set[int] = set()
    for each in filter(None, text.strip().split(",")):
        first, _, last = each.partition("-")
        out |= set(range(int(first), int(last or first) + 1))
    return out


def memory_gib() -> float | None:
    """Physical memory in GiB."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    """Versions of the packages that are installed, of those that can appear in a comparison."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            module = sys.modules.get(name)
            if module is not None and hasattr(module, "__version__"):
                found[name] = str(module.__version__)
    return found | {"torch": torch.__version__}  # with its build, which not every wheel's name says


def torch_libraries() -> list[str]:
    """The numeric libraries torch was built with."""
    lines = torch.__config__.show().splitlines()
    return [
        re.sub(r"\s*\(Git Hash.*|\s+Build \d+.*|\(R\)", "", line.strip(" -"))
        for line in lines
        if re.search(r"Math Kernel|MKL-DNN|OpenBLAS|OpenMP|CUDA Runtime|CuDNN", line)
    ]


def isa() -> dict[str, Any] | None:
    """fusedrnn's instruction set in use and those available; None where it is not built."""
    try:
        native = importlib.import_module("fusedrnn._C")
    except ImportError:
        return None
    return {"used": native.isa(), "available": list(native.available_isas())}


def commit() -> str | None:
    """The commit that was measured, with ``+changes`` where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"],
                              capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"],
                                 capture_output=True, text=True, check=True).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+changes" * bool(changed.strip())


def gpus() -> list[dict[str, Any]]:
    """The CUDA devices torch sees, with the libraries that drive them."""
    if not torch.cuda.is_available():
        return []
    try:
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True,
        ).stdout.split()[0]  # fmt: skip
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = None
    out = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        out.append({
            "name": device.name,
            "capability": f"{device.major}.{device.minor}",
            "multiprocessors": device.multi_processor_count,
            "memory_gib": round(device.total_memory / 2**30, 1),
            "driver": driver,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        })  # fmt: skip
    return out


def slug(text: str) -> str:
    """A name for a folder: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True)
class Peak:
    """Float32 arithmetic per second, 1e9 FLOP/s, over all threads, and how it was measured."""

    gflops: float
    source: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def fma_peak(threads: int, seconds: float = 0.2, isa: str = "") -> Peak:
    """What ``threads`` cores reach at once on multiply-adds in registers, for one instruction set.

    Where the package is not built, a large matrix product stands in; it reads lower, and
    ``source`` says so.
    """
    try:
        native = importlib.import_module("fusedrnn._C")
        measured = native.fma_peak(threads, seconds, isa)
    except (ImportError, AttributeError):
        return Peak(_matmul_rate(seconds), "best of torch.mm, 1536 x 1536: below the true peak")
    return Peak(sum(measured["gflops"]), f"multiply-adds in registers, {measured['isa']}")


def cores(threads: int, isa: str = "") -> Cores | None:
    """What tells whether ``threads`` cores are there, where the package is built.

    And whether they lie together, where the system says that they do.
    """
    try:
        native = importlib.import_module("fusedrnn._C")
    except ImportError:
        return None
    together = 1 < threads <= usable_cores() and one_cache()
    return Cores(
        # Long enough for several turns of two threads that share a core.
        lambda: min(native.fma_peak(threads, 0.04, isa)["mean"]),
        exchange=(lambda: native.line_exchange(0.01)) if together else None,
    )


def _matmul_rate(seconds: float) -> float:
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        torch.mm(a, b)
        now = time.perf_counter()
        best = max(best, 2 * 1536**3 / (now - start) * 1e-9)
        if now > end:
            return best
