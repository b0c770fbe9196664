"""fusedrnn beside its peers, in one command.

    python -m benchmarks.peers                     two minutes: a few shapes
    python -m benchmarks.peers --full              everything: grid, questions, one thread, and AVX2 where there is more
    python -m benchmarks.peers --shapes "35,32,28,256" --cells gru --threads all,1
    python -m benchmarks.peers --isa x86-64-v3     both sides held to AVX2

Each configuration (threads, instruction set) runs in a process of its own. The results go into one
folder: results.json, README.md and plots; the tables are printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, grid, machine, questions, summary
from benchmarks.report import Report
from benchmarks.timing import Effort

SHORT_LIMIT = 110.0
"""Seconds after which the short form begins nothing new."""

OLDER_ISA = "x86-64-v3"
"""What the full form measures both sides with once more, where the machine has more than that."""

# What holds the peers to the instruction set that FUSEDRNN_ISA names. oneDNN and MKL, which torch
# calls, have switches of their own; ONNX Runtime has none.
PEERS_ISA = {
    "x86-64-v3": {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2",
                  "MKL_ENABLE_INSTRUCTIONS": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "x86-64-v2": {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41",
                  "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
}  # fmt: skip


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="two minutes; the default")
    form.add_argument("--full", action="store_true", help="the record of a machine: half an hour")
    parser.add_argument(
        "--shapes", help='any T,B,I,H, joined by ";": "35,32,28,256;30,8,64,64 ragged"'
    )
    parser.add_argument("--cells", help="from rnn,gru,lstm")
    parser.add_argument("--kinds", help="from training,forward")
    parser.add_argument("--contenders", help="from " + ",".join(contenders.ALL))
    parser.add_argument("--questions", help='from "' + ",".join(questions.QUESTIONS) + '", or none')
    parser.add_argument("--threads", help="for example all or all,1")
    parser.add_argument("--isa", choices=sorted(PEERS_ISA), help="hold both sides to this set")
    parser.add_argument("--seconds", type=float, help="time for each case")
    parser.add_argument("--quiet", type=float, default=0.0, metavar="SECONDS",
                        help="wait so long at most, before each case, for others to be idle")  # fmt: skip
    parser.add_argument("--limit", type=float, metavar="SECONDS",
                        help="begin no case after so long, for each configuration; 0: no limit")  # fmt: skip
    parser.add_argument("--compile-all", action="store_true", help="torch.compile on every shape")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument(
        "--redraw", type=Path, metavar="FOLDER", help="report again from results.json"
    )
    options = parser.parse_args(words)
    for name, known in (("cells", grid.GATES), ("kinds", grid.KINDS),
                        ("contenders", contenders.ALL),
                        ("questions", [*questions.QUESTIONS, "none"])):  # fmt: skip
        for word in (getattr(options, name) or "").split(","):
            if word and word not in known:
                parser.error(f"--{name}: expected names among {', '.join(known)}, got {word!r}")
    try:
        grid.cases(_split(options.shapes, ";"))
    except ValueError as error:
        parser.error(f"--shapes: {error}")
    for word in _split(options.threads) or []:
        if word != "all" and (not word.isdecimal() or int(word) < 1):
            parser.error(f"--threads: expected all or numbers > 0, got {word!r}")
    return options


def _split(text: str | None, mark: str = ",") -> list[str] | None:
    return None if text is None else [w.strip() for w in text.split(mark) if w.strip()]


def plans(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One plan a configuration; the first has everything, the others what tells them apart."""
    full = options.full
    effort = Effort() if full else Effort(seconds=0.7, fewest=3, most=15)
    if options.seconds:
        effort = Effort(options.seconds, effort.fewest, effort.most)
    asked = _split(options.questions)
    chosen = list(questions.QUESTIONS if full else questions.SHORT) if asked is None else asked
    shapes = _split(options.shapes, ";") or (None if full else grid.SHORT_SHAPES)
    compiled = shapes or [case.shape for case in grid.SHAPES]
    compiled = compiled if options.compile_all else grid.COMPILED_SHAPES
    others = ["fused", "torch_nn"] if options.isa else list(contenders.ALL)
    base: dict[str, Any] = {
        "threads": 0,
        "isa": options.isa or "",
        "shapes": shapes,
        "cells": _split(options.cells),
        "kinds": _split(options.kinds),
        "contenders": _split(options.contenders) or others,
        "compiled_shapes": compiled if full or options.compile_all else [],
        "questions": [q for q in chosen if q != "none"],
        "effort": vars(effort),
        "quiet": options.quiet,
        "limit": (0.0 if full else SHORT_LIMIT) if options.limit is None else options.limit,
    }
    two = {"contenders": [c for c in ("fused", "torch_nn") if c in base["contenders"]]}
    wanted = _split(options.threads) or (["all", "1"] if full and not options.isa else ["all"])
    out = []
    for number, word in enumerate(wanted):
        plan = {**base, "threads": 0 if word == "all" else int(word)}
        if number and not options.contenders:
            plan |= {**two, "questions": [q for q in plan["questions"] if q in ("step", "resets")]}
        out.append(plan)
    available = (machine.isa() or {"available": []})["available"]
    if full and not options.isa and OLDER_ISA in available[:-1]:  # the last is the best one
        out.append({**out[0], **two, "isa": OLDER_ISA, "questions": []})
    return out


def measure(plan: dict[str, Any]) -> dict[str, Any]:
    """Runs one configuration in a fresh process; ends with its message if it fails."""
    environment = dict(os.environ)
    if plan["isa"]:
        environment |= {"FUSEDRNN_ISA": plan["isa"], **PEERS_ISA[plan["isa"]]}
    if plan["threads"]:
        environment["OMP_NUM_THREADS"] = str(plan["threads"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.json").write_text(json.dumps(plan))
        files = [str(folder / "plan.json"), str(folder / "out.json")]
        command = [sys.executable, "-m", "benchmarks.worker", *files]
        code = subprocess.run(command, cwd=machine.ROOT, env=environment).returncode
        if code:
            sys.exit(f"the measurement ended with code {code}")
        return dict(json.loads((folder / "out.json").read_text()))


def failures(runs: list[dict[str, Any]]) -> list[str]:
    """Contenders that were there and broke, ours first of all."""
    return [
        f"{r['group']}: {r['name']}: {name}: {why}"
        for run in runs for r in run["records"] for name, why in r["left_out"].items()
        if why.startswith("failed")
    ]  # fmt: skip


def save(runs: list[dict[str, Any]], out: Path | None) -> tuple[Report, Path]:
    """The report of what there is so far, written to ``out`` or to a folder named by machine and day."""
    facts = runs[0]["machine"]
    day = facts["date"][:10]
    name = machine.slug(f"cpu-{facts['cpu'].partition('(')[0]}-{day}")
    folder = out or machine.ROOT / "runs" / "benchmarks" / name
    report = summary.build(runs, folder, f"fusedrnn beside its peers: {facts['cpu']}, {day}")
    report.write(folder)
    return report, folder


def main(words: Sequence[str] | None = None) -> None:
    options = arguments(words)
    if options.redraw:
        runs = json.loads((options.redraw / "results.json").read_text())["configurations"]
        report, folder = save(runs, options.redraw)
    else:
        runs = []
        for plan in plans(
            options
        ):  # saved after each, so that who breaks off keeps what was measured
            runs.append(measure(plan))
            report, folder = save(runs, options.out)
    print(report.text())
    print(f"\nresults: {folder}")
    broken = failures(runs)
    if broken:
        sys.exit("\n".join(["contenders that failed:", *broken]))


if __name__ == "__main__":
    main()
