#!/usr/bin/env python3
"""The GPU record: build, test, sanitize and benchmark on the GPU of this machine. `make gpu` runs it.

    make gpu                             all parts
    make gpu PART=tests                  one of: build, tests, sanitize, bench
    make gpu ARGS=--short                the short benchmark
    make gpu PART=tests ARGS="-k lstm"   further arguments of pytest

Results go into one folder, benchmarks/results/<gpu>-<date>. Each part is held to ten minutes, with
what it has to compile. Nothing is fetched: torch with CUDA, nvcc, CMake, Ninja, pybind11 and pytest
must be installed.

Where a command may take ten minutes only, one part per command, into one folder:

    make gpu PART=build ARGS="--out DIR"
    make gpu PART=tests ARGS="--out DIR"
    make gpu PART=sanitize ARGS="--out DIR"
    make gpu PART=bench ARGS="--out DIR --short"

Tests and sanitizers run kernels that were compiled with FUSEDRNN_POLL_LIMIT: a wait for another
block that would never end traps ("unspecified launch failure"), and does not spin until the time
limit. The benchmark runs what users get, without it, so it compiles the kernels anew; where it is not
the last part that ran, `python3 run.py build` does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("build", "tests", "sanitize", "bench")
LIMIT = 570.0  # seconds of a part, ten minutes with the imports and with what is killed late
# A step takes microseconds, under a sanitizer perhaps milliseconds; so many polls, 40 ms at least.
POLL_LIMIT = 1 << 22
# What a log must not hold, even where the command ends well.
FAILURES = {
    "refused a launch": "the step family ran in the place of kernels that were asked for",
    "unspecified launch failure": "a kernel trapped: a wait reached FUSEDRNN_POLL_LIMIT, or another fault",
}


def no_remote_stores(major: int) -> dict[str, str]:
    """The families that racecheck watches, with their FUSEDRNN_FMA_SHAPE, on compute capability major.x.

    It takes what st.async stores in another block, and an mbarrier orders, for races: these do without.
    The fma family is for clusters, which begin with 9.0."""
    return {"step": "", "block": "", "grid": ""} | ({"fma": "1,2"} if major >= 9 else {})


def run(
    log: Path, limit: float, command: list[str], ours: bool = True, **environment: str
) -> dict[str, object]:
    """Runs a command with its output on screen and in the log, and ends it at the limit (seconds).

    Its `exit` is not 0 where the log holds one of FAILURES and what it runs is ours."""
    print("+", " ".join(command), flush=True)
    start = time.monotonic()
    full = ["timeout", "-k", "10", str(max(1, int(limit))), *command]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    with log.open("w") as f, subprocess.Popen(
        full, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        last: list[str] = []
        failures: list[str] = []
        for line in process.stdout:
            f.write(line)
            last = [*last[-4:], line.rstrip()]
            found = [why for text, why in FAILURES.items() if ours and text in line]
            failures += [why for why in found if why not in failures]
            sys.stdout.write(line)
        code = process.wait()
    seconds = round(time.monotonic() - start, 1)
    print(f"  exit {code} after {seconds} s", *failures, sep="\n  ", flush=True)
    return {
        "command": command,
        "exit": code or int(bool(failures)),
        "seconds": seconds,
        "failures": failures,
        "last_lines": last,
    }


def capability() -> tuple[int, int]:
    import torch

    return torch.cuda.get_device_capability()


def architecture() -> str:
    major, minor = capability()
    return f"{major}{minor}{'a' if major >= 9 else ''}-real"


def build(out: Path, part: str) -> dict[str, object]:
    return run(
        out / f"build-{part}.log", LIMIT, [sys.executable, "setup.py", "build_ext", "--inplace"],
        FUSEDRNN_CUDA="ON", FUSEDRNN_CUDA_ARCHS=os.environ.get("FUSEDRNN_CUDA_ARCHS") or architecture(),
        FUSEDRNN_POLL_LIMIT="" if part == "bench" else str(POLL_LIMIT),
    )  # fmt: skip


def tests(out: Path, limit: float, extra: list[str]) -> dict[str, object]:
    paths = any(Path(word.partition("::")[0]).exists() for word in extra)
    # pytest's own capture would keep what the native code says on stderr out of the log.
    return run(
        out / "tests.log", limit,
        [sys.executable, "-m", "pytest", "-q", "--capture=sys", "--durations=15",
         *([] if paths else ["tests/cuda"]), *extra],
        PYTHONPATH=str(ROOT),
    )  # fmt: skip


def sanitize(out: Path, limit: float, families: list[str]) -> dict[str, object]:
    tool_path = shutil.which("compute-sanitizer")
    if tool_path is None:
        print("skipped: compute-sanitizer is not installed")
        return {"exit": 0, "skipped": "compute-sanitizer is not installed"}
    results: dict[str, object] = {"exit": 0}
    jobs = [(tool, family, "") for family in families for tool in ("memcheck", "synccheck")]
    jobs += [("racecheck", *each) for each in no_remote_stores(capability()[0]).items()]
    end = time.monotonic() + limit
    for i, (tool, family, shape) in enumerate(jobs):
        left = (end - time.monotonic()) / (len(jobs) - i)
        if left < 1:
            results[f"{tool}-{family}"] = {"exit": 1, "skipped": "no time was left"}
            results["exit"] = results["exit"] or 1
            continue
        # Only our kernels: cuBLAS is not ours to check, and takes most of the time.
        result = run(
            out / f"{tool}-{family}.log", left,
            [tool_path, "--tool", tool, "--error-exitcode", "7", "--kernel-name",
             "kernel_substring=fusedrnn", sys.executable, "benchmarks/gpu_small.py",
             *(["float32", "bfloat16"] if tool != "memcheck" else [])],
            PYTHONPATH=str(ROOT), FUSEDRNN_CUDA_FAMILY="" if family == "auto" else family,
            FUSEDRNN_FMA_SHAPE=shape,
        )  # fmt: skip
        results[f"{tool}-{family}"] = result
        results["exit"] = results["exit"] or result["exit"]
    return results


def bench(out: Path, limit: float, short: bool) -> dict[str, object]:
    start = time.monotonic()
    grid = run(
        out / "bench.log", 0.76 * limit,
        [sys.executable, "benchmarks/gpu_bench.py", "--out", str(out),
         "--budget", str(int(0.58 * limit)), *(["--short"] if short else [])],
        PYTHONPATH=str(ROOT),
    )  # fmt: skip
    peers = run(
        out / "peers.log", limit - (time.monotonic() - start),
        [sys.executable, "benchmarks/gpu_peers.py", "--out", str(out)], ours=False,
        PYTHONPATH=str(ROOT),
    )  # fmt: skip
    # A peer whose kernels hang or crash is not ours to answer for: it stands in the record. Code 1 is about us.
    return {"exit": grid["exit"] or int(peers["exit"] == 1), "grid": grid, "peers": peers}


def folder() -> Path:
    import torch

    gpu = torch.cuda.get_device_name().lower().replace(" ", "-")
    return ROOT / "benchmarks" / "results" / f"{gpu}-{time.strftime('%Y-%m-%d', time.gmtime())}"


def arguments(words: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """What was asked for, and the further arguments of pytest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--out", type=Path, help="results folder")
    parser.add_argument("--short", action="store_true", help="a short benchmark")
    parser.add_argument(
        "--families",
        nargs="+",
        default=["step", "auto", "block", "grid"],
        help="families for memcheck and synccheck",
    )
    args, extra = parser.parse_known_args(words)
    if extra and args.part != "tests":
        parser.error(f"part {args.part} takes no further arguments, got {' '.join(extra)}")
    return args, extra


def main() -> int:
    args, extra = arguments()
    import torch

    if not torch.cuda.is_available():
        print("make gpu: expected a CUDA device, and torch sees none", file=sys.stderr)
        return 1
    out = (args.out or folder()).resolve()
    out.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Callable[[float], dict[str, object]]] = {
        "build": lambda limit: {"exit": 0},
        "tests": lambda limit: tests(out, limit, extra),
        "sanitize": lambda limit: sanitize(out, limit, args.families),
        "bench": lambda limit: bench(out, limit, args.short),
    }
    record: dict[str, dict[str, object]] = {}
    for part in PARTS if args.part == "all" else (args.part,):
        start = time.monotonic()
        built = build(out, part)
        done = {"exit": built["exit"]}
        if not built["exit"]:
            done = jobs[part](LIMIT - (time.monotonic() - start))
        record[part] = {**done, "build": built}
        if built["exit"]:
            break
    (out / f"record-{args.part}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"results in {out}")
    return int(any(done["exit"] for done in record.values()))


if __name__ == "__main__":
    sys.exit(main())
