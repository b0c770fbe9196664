"""Measures one configuration (threads, instruction set) and writes what it found as JSON.

``python -m benchmarks.worker PLAN OUT``: a process of its own for each configuration, since the
environment that forces an instruction set or a number of threads is read when libraries load.
:mod:`benchmarks.peers` writes the plan and starts it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import contenders, grid, machine, questions, report, timing
from benchmarks.contenders import Problem, Unsupported, fused, torch_nn
from benchmarks.questions import Trial
from benchmarks.steady import Cores

SLOW_TO_COMPILE = "torch_loop"


class Wrong(Exception):
    """A contender's result is not torch.nn's."""


def grid_trial(case: grid.Case, plan: dict[str, Any], present: dict[str, Any]) -> Iterator[Trial]:
    """A case of the grid: every contender that is here and can do it, checked against torch.nn."""
    problem, trial = Problem(case, plan["threads"]), Trial("grid", case)
    for name, module in present.items():
        if name == SLOW_TO_COMPILE and case.shape not in plan["compiled_shapes"]:
            trial.left_out[module.NAME] = "takes half a minute to compile"
            continue
        try:
            trial.calls[module.NAME] = checked(module.build(problem), problem)
        except Unsupported as error:
            trial.left_out[module.NAME] = str(error)
        except Exception as error:  # any failure of a contender is a result, and is shown
            trial.left_out[module.NAME] = f"failed: {type(error).__name__}: {error}"
    if problem.training:
        for name, layer in layers(present, problem).items():
            trial.saved[name] = saved(layer, problem)
    yield trial


def checked(call: contenders.Call, problem: Problem) -> contenders.Call:
    """The call, after one run of it gave what torch.nn gives."""
    got = call()
    if hasattr(call, "unpacked"):
        got = call.unpacked(got)
    error = contenders.error(got, problem.expected)
    if not error <= contenders.TOLERANCE[problem.case.dtype]:
        raise Wrong(f"relative error {error:.1e} against torch.nn")
    return call


def layers(present: dict[str, Any], problem: Problem) -> dict[str, torch.nn.Module]:
    """The two contenders that are layers, by name."""
    out = {torch_nn.NAME: problem.module} if "torch_nn" in present else {}
    if "fused" in present:
        out[fused.NAME] = fused.layer(problem.module)
    return out


def saved(layer: torch.nn.Module, problem: Problem) -> int:
    if problem.lengths is None:
        return questions.saved(layer, problem)
    if isinstance(layer, (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM)):
        return torch_nn.saved_packed(layer, problem)
    return questions.saved(layer, problem, lengths=problem.lengths)


def measure(trial: Trial, effort: timing.Effort, cores: Cores | None = None) -> dict[str, Any]:
    """Times a trial; everything about it as JSON-ready values."""
    load, switches = timing.OtherLoad(), timing.context_switches()
    taken = timing.Rounds({}, {}, True)
    if trial.calls:
        watch = (cores.all_there,) if cores and trial.all_cores else ()
        taken = timing.rounds(trial.calls, trial.effort or effort, trial.before, *watch)
    samples = trial.samples | taken.samples
    case = trial.case
    return {
        "group": trial.group,
        "name": case.name,
        "cell": case.cell,
        "shape": case.shape,
        "kind": case.kind,
        "flops": case.flops,
        "threads": torch.get_num_threads(),
        "valid_fraction": case.valid_steps / (case.steps * case.batch),
        "case": asdict(case),
        "samples": samples,
        "disturbed_samples": taken.disturbed,
        "steady": taken.steady,
        "saved_bytes": trial.saved,
        "steps_of": trial.steps,
        "tokens": trial.tokens,
        "left_out": trial.left_out,
        "others_cores": load.look(),
        "preempted": timing.context_switches() - switches,
    }


def line(record: dict[str, Any]) -> str:
    """One line of progress."""
    medians = {k: timing.spread(v).median for k, v in record["samples"].items()}
    words = [f"{k} {report.duration(v)}" for k, v in medians.items()]
    if fused.NAME in medians and torch_nn.NAME in medians:
        words.append(report.times(medians[torch_nn.NAME] / medians[fused.NAME]))
    failed = [f"{k} {v}" for k, v in record["left_out"].items() if v.startswith("failed")]
    return f"{record['group']}: {record['name']}: " + ", ".join(words + failed)


def agenda(plan: dict[str, Any], present: dict[str, Any]) -> Iterator[tuple[str, Iterator[Trial]]]:
    """What there is to do, by name: nothing is built before its turn."""
    for case in grid.cases(plan["shapes"], plan["cells"], plan["kinds"]):
        yield case.name, grid_trial(case, plan, present)
    for name in plan["questions"] if "fused" in present else ():
        for cell in plan["cells"] or grid.GATES:
            yield f"{name}: {cell}", questions.QUESTIONS[name](cell, plan["threads"])


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Everything the plan asks for, as far as its time allows."""
    if plan["threads"]:
        torch.set_num_threads(plan["threads"])
    plan = {**plan, "threads": torch.get_num_threads()}
    modules = {name: contenders.load(name) for name in plan["contenders"]}
    absent = {m.NAME: why for m in modules.values() if (why := m.missing()) is not None}
    present = {name: m for name, m in modules.items() if m.NAME not in absent}
    effort = timing.Effort(**plan["effort"])
    facts, load, start = machine.facts(), timing.OtherLoad(), time.perf_counter()
    peaks, records, skipped = [], [], []
    cores = machine.cores(plan["threads"], plan["isa"])
    for name, trials in agenda(plan, present):
        if records and 0 < plan["limit"] < time.perf_counter() - start:
            skipped.append(name)
            continue
        timing.wait_for_quiet(plan["quiet"])
        timing.settle()
        # Again and again between the cases: the clock of a core is not the same all the time.
        peaks.append(machine.fma_peak(plan["threads"], 0.05, plan["isa"]))
        for trial in trials:
            records.append(measure(trial, effort, cores))
            print(line(records[-1]), file=sys.stderr, flush=True)
    return {
        "machine": facts,
        "threads": plan["threads"],
        "isa": plan["isa"],
        # The highest: a disturbed measurement reads too low, which would flatter every rate.
        "peak_gflops": max(p.gflops for p in peaks),
        "peaks": [p.as_json() for p in peaks],
        "exchanges": cores.exchanges if cores else [],
        "absent": absent,
        "skipped": skipped,
        "seconds": time.perf_counter() - start,
        "others_cores": load.look(),
        "effort": asdict(effort),
        "records": records,
    }


def main() -> None:
    plan_path, out = map(Path, sys.argv[1:])
    plan = json.loads(plan_path.read_text())
    if plan["threads"] == 1 and hasattr(os, "sched_setaffinity"):
        # The pools of some peers cannot be set to one thread from outside, but do obey this.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    report.write_json(out, run(plan))


if __name__ == "__main__":
    main()
