#!/usr/bin/env python3
"""The GPU record: build, test, sanitize and benchmark on the GPU of this machine. `make gpu` runs it.

    make gpu                    all three parts
    make gpu PART=tests         one of: tests, sanitize, bench
    make gpu ARGS=--short       the short benchmark

Results go into one folder, benchmarks/results/<gpu>-<date>. Each part is held to ten minutes. Nothing
is fetched: torch with CUDA, nvcc, CMake, Ninja, pybind11 and pytest must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("tests", "sanitize", "bench")
# racecheck takes what st.async stores in another block, and an mbarrier orders, for races: it watches the kernels
# that do without.
NO_REMOTE_STORES = {"step": "", "block": "", "grid": "", "fma": "1,2"}  # family: FUSEDRNN_FMA_SHAPE


def run(log: Path, limit: float, command: list[str], **environment: str) -> dict[str, object]:
    """Runs a command with its output on screen and in the log, and ends it at the limit (seconds)."""
    print("+", " ".join(command), flush=True)
    start = time.monotonic()
    full = ["timeout", "-k", "10", str(int(limit)), *command]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    with log.open("w") as f, subprocess.Popen(
        full, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        last: list[str] = []
        for line in process.stdout:
            f.write(line)
            last = [*last[-4:], line.rstrip()]
            sys.stdout.write(line)
        code = process.wait()
    seconds = round(time.monotonic() - start, 1)
    print(f"  exit {code} after {seconds} s", flush=True)
    return {"command": command, "exit": code, "seconds": seconds, "last_lines": last}


def architecture() -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}{'a' if major >= 9 else ''}-real"


def build(out: Path) -> dict[str, object]:
    return run(
        out / "build.log", 590, [sys.executable, "setup.py", "build_ext", "--inplace"],
        FUSEDRNN_CUDA="ON", FUSEDRNN_CUDA_ARCHS=os.environ.get("FUSEDRNN_CUDA_ARCHS") or architecture(),
    )  # fmt: skip


def tests(out: Path, extra: list[str]) -> dict[str, object]:
    return run(
        out / "tests.log", 590,
        [sys.executable, "-m", "pytest", "-q", "--durations=15", *(extra or ["tests/cuda"])],
        PYTHONPATH=str(ROOT),
    )  # fmt: skip


def sanitize(out: Path, families: list[str]) -> dict[str, object]:
    tool_path = shutil.which("compute-sanitizer")
    if tool_path is None:
        return {"exit": 0, "skipped": "compute-sanitizer is not installed"}
    results: dict[str, object] = {"exit": 0}
    jobs = [(tool, family, "") for family in families for tool in ("memcheck", "synccheck")]
    jobs += [("racecheck", family, shape) for family, shape in NO_REMOTE_STORES.items()]
    end = time.monotonic() + 580
    for i, (tool, family, shape) in enumerate(jobs):
        # Only our kernels: cuBLAS is not ours to check, and takes most of the time.
        result = run(
            out / f"{tool}-{family}.log", max(5, (end - time.monotonic()) / (len(jobs) - i)),
            [tool_path, "--tool", tool, "--error-exitcode", "7", "--kernel-name",
             "kernel_substring=fusedrnn", sys.executable, "benchmarks/gpu_small.py",
             *(["float32", "bfloat16"] if tool != "memcheck" else [])],
            PYTHONPATH=str(ROOT), FUSEDRNN_CUDA_FAMILY="" if family == "auto" else family,
            FUSEDRNN_FMA_SHAPE=shape,
        )  # fmt: skip
        results[f"{tool}-{family}"] = result
        results["exit"] = results["exit"] or result["exit"]
    return results


def bench(out: Path, extra: list[str]) -> dict[str, object]:
    start = time.monotonic()
    grid = run(
        out / "bench.log", 450,
        [sys.executable, "benchmarks/gpu_bench.py", "--out", str(out), "--budget", "340", *extra],
        PYTHONPATH=str(ROOT),
    )  # fmt: skip
    peers = run(
        out / "peers.log", 585 - (time.monotonic() - start),
        [sys.executable, "benchmarks/gpu_peers.py", "--out", str(out)], PYTHONPATH=str(ROOT),
    )  # fmt: skip
    # A peer whose kernels hang or crash is not ours to answer for: it stands in the record. Code 1 is about us.
    return {"exit": grid["exit"] or int(peers["exit"] == 1), "grid": grid, "peers": peers}


def folder() -> Path:
    import torch

    gpu = torch.cuda.get_device_name().lower().replace(" ", "-")
    return ROOT / "benchmarks" / "results" / f"{gpu}-{time.strftime('%Y-%m-%d', time.gmtime())}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--out", type=Path, help="results folder")
    parser.add_argument(
        "--families",
        nargs="+",
        default=["step", "auto"],
        help="families for memcheck and synccheck",
    )
    args, extra = parser.parse_known_args()
    import torch

    if not torch.cuda.is_available():
        print("make gpu: expected a CUDA device, and torch sees none", file=sys.stderr)
        return 1
    out = args.out or folder()
    out.mkdir(parents=True, exist_ok=True)
    record: dict[str, object] = {"build": build(out)}
    bad = int(record["build"]["exit"] != 0)  # type: ignore[index]
    jobs = {
        "tests": lambda: tests(out, extra),
        "sanitize": lambda: sanitize(out, args.families),
        "bench": lambda: bench(out, extra),
    }
    for part in PARTS if not bad else ():
        if args.part in (part, "all"):
            record[part] = jobs[part]()
            bad |= int(record[part]["exit"] != 0)  # type: ignore[index]
    (out / f"record-{args.part}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"results in {out}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
