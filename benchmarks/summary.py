"""From the records of a run to the tables, paragraphs and plots of a report."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import goals, plots
from benchmarks.contenders import fused, torch_nn
from benchmarks.grid import GATES, KINDS
from benchmarks.report import Report, Table, duration, percent, significant, size, times
from benchmarks.steady import FAR
from benchmarks.timing import geometric_mean, ratio, spread

OURS, TORCH = fused.NAME, torch_nn.NAME
TITLES = {"rnn": "Elman (tanh)", "gru": "GRU", "lstm": "LSTM"}
Run = dict[str, Any]


def label(run: Run) -> str:
    """What sets this configuration apart."""
    count = run["threads"]
    words = "one thread" if count == 1 else f"{count} threads"
    return f"{words}, both held to {run['isa']}" if run["isa"] else words


def build(runs: list[Run], folder: Path, title: str) -> Report:
    """The whole report; plots are drawn into ``folder`` where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    why = plots.missing()
    report = Report(title, paragraphs=[machine(runs[0]), *(f"{why}." for _ in [0] if why)])
    for run in runs:
        report.paragraphs.append(conditions(run))
        report.tables += tables(run)
        if why is None:
            report.figures |= draw(run, folder)
    report.data = {"format": 1, "configurations": runs}
    for run in runs:
        run["goals"] = [{**vars(g), "met": g.met} for g in goals.evaluate(run)]
    return report


def machine(run: Run) -> str:
    """The facts every figure depends on, as a sentence or two."""
    facts = run["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    caches = ", ".join(f"{k} {v}" for k, v in facts["caches"].items())
    words = f"{facts['date']}. {facts['cpu']}, {facts['usable_cores']} cores usable, {caches}, "
    words += f"{facts['memory_gib']} GiB. {facts['system']}, Python {facts['python']}, {versions}. "
    words += f"torch uses {facts['torch_capability']} with {', '.join(facts['torch_libraries'])}. "
    return words + (f"Measured commit: {facts['commit']}." if facts["commit"] else "")


def conditions(run: Run) -> str:
    """How this configuration was measured, and how quiet the machine was."""
    facts, effort = run["machine"], run["effort"]
    isa = facts["isa"]["used"] if facts["isa"] else "not built"
    rates = [p["gflops"] for p in run["peaks"]]
    words = [
        f"**{label(run)}**: fusedrnn on {isa}, torch on {facts['torch_capability']}.",
        f"Peak {run['peak_gflops']:.0f} GFLOP/s ({run['peaks'][0]['source']}; the highest of",
        f"{len(rates)} measurements, their median {median(rates):.0f}).",
        f"At least {effort['fewest']} interleaved rounds, medians.",
        f"Other processes took {run['others_cores']:.2f} cores; {run['seconds']:.0f} s.",
    ]
    if exchanges := run.get("exchanges"):
        near = [each for each in exchanges if each <= FAR]
        words.append(
            f"A cache line goes to another core and back in {median(near or exchanges):.0f} ns;"
            f" {len(exchanges) - len(near)} of {len(exchanges)} times the cores lay farther apart."
        )
    words += rounds_left_out(run["records"])
    absent = "; ".join(f"{name} ({why})" for name, why in run["absent"].items())
    words += [f"Left out: {absent}."] if absent else []
    skipped = ", ".join(run["skipped"])
    words += [f"Left out for lack of time: {skipped}."] if skipped else []
    return " ".join(words)


def rounds_left_out(records: list[dict[str, Any]]) -> list[str]:
    """A sentence about the rounds for which the machine had not all its cores together, if any."""
    left_out = unsteady = 0
    for r in records:  # older records do not know
        left_out += max(map(len, r.get("disturbed_samples", {}).values()), default=0)
        unsteady += not r.get("steady", True)
    if not left_out and not unsteady:
        return []
    return [
        f"In {left_out} rounds, which are left out, the machine had not all its cores together; in {unsteady}"
        f" of {len(records)} cases that were too many, and all count (marked +)."
    ]


def marks(r: dict[str, Any]) -> str:
    """What disturbed a row: * other processes, + the machine's own lack of cores."""
    return " *" * (r["others_cores"] > 0.1) + " +" * (not r.get("steady", True))


def explained(records: list[dict[str, Any]]) -> list[str]:
    """The marks that rows of a table carry, in words."""
    shown = " ".join(map(marks, records))
    words = {
        "*": "* Other processes used more than a tenth of a core.",
        "+": "+ The machine lacked a core, or its cores lay apart, in most rounds.",
    }
    return [text for mark, text in words.items() if mark in shown]


def tables(run: Run) -> Iterator[Table]:
    """Goals first, then the grid, then the questions."""
    yield goal_table(run)
    for kind in KINDS:
        for cell in GATES:
            records = [r for r in run["records"]
                       if (r["group"], r["cell"], r["kind"]) == ("grid", cell, kind)]  # fmt: skip
            if records:
                yield grid_table(run, f"{TITLES[cell]}, {kind}, {label(run)}", records)
    peers = peer_table(run)
    if peers.rows:
        yield peers
    others = [r for r in run["records"] if r["group"] != "grid"]
    if others:
        yield question_table(f"Questions, {label(run)}", others)


def goal_table(run: Run) -> Table:
    rows = [
        [
            g.text, "-" if isnan(g.value) else significant(g.value),
            f"{'>=' if g.at_least else '<='} {significant(g.limit)}",
            "met" if g.met else "NOT THERE" if isnan(g.value) else "MISSED", g.where,
            "-" if isnan(g.ceiling) else significant(g.ceiling),
        ]
        for g in goals.evaluate(run)
    ]  # fmt: skip
    missed = sum(row[3] != "met" for row in rows)
    note = (
        f"{len(rows) - missed} of {len(rows)} met. At the peak: what the products alone would reach at the peak that "
        "this machine measures; a goal above it cannot be met here."
    )
    titles = ["goal", "measured", "wanted", "", "where", "at the peak"]
    return Table(f"Goals, {label(run)}", titles, rows, note)


def peer_table(run: Run) -> Table:
    """How many times as long each contender takes as ours, over the shapes that both did."""
    rows = []
    for kind in KINDS:
        for cell in GATES:
            found: dict[str, list[float]] = {}
            for r in run["records"]:
                if (r["group"], r["cell"], r["kind"]) == ("grid", cell, kind):
                    for name in r["samples"]:
                        if name != OURS and OURS in r["samples"]:
                            found.setdefault(name, []).append(goals.gain(r, other=name))
            rows += [
                [f"{TITLES[cell]}, {kind}", name, str(len(gains)), times(geometric_mean(gains)),
                 times(min(gains)), times(max(gains))]
                for name, gains in found.items()
            ]  # fmt: skip
    columns = ["", "peer", "shapes", "geometric mean", "least", "most"]
    note = "Time of the peer over time of fusedrnn: above 1, fusedrnn is faster."
    return Table(f"All peers, {label(run)}", columns, rows, note)


def grid_table(run: Run, title: str, records: list[dict[str, Any]]) -> Table:
    """One row a shape. Ratios are of the medians, with the median of the rounds' own ratios."""
    names = list(dict.fromkeys(name for r in records for name in r["samples"]))
    peers = [n for n in names if n not in (OURS, TORCH)]
    training = records[0]["kind"] == "training"
    columns = ["T,B,I,H", OURS, TORCH, "ratio", "by round", "GF/s", "of peak"]
    columns += ["kept", f"{TORCH} kept"] * training + peers
    rows = [_grid_row(run, r, peers, training) for r in records]
    note = (
        "Times are medians and half their interquartile range. Ratio above 1: fusedrnn is faster."
    )
    return Table(title, columns, rows, " ".join([note, *explained(records), *_left_out(records)]))


def _grid_row(run: Run, r: dict[str, Any], peers: list[str], training: bool) -> list[str]:
    samples = r["samples"]
    ours, torch = samples.get(OURS), samples.get(TORCH)
    row = [r["shape"] + marks(r), _time(ours), _time(torch)]
    if ours and torch:
        overall, by_round = ratio(torch, ours)
        row += [times(overall), times(by_round.median)]
    else:
        row += ["-", "-"]
    if ours:
        rate = r["flops"] / spread(ours).median / 1e9
        row += [f"{rate:.0f}", percent(rate / run["peak_gflops"])]
    else:
        row += ["-", "-"]
    if training:
        row += [size(r["saved_bytes"][n]) if n in r["saved_bytes"] else "-" for n in (OURS, TORCH)]
    return row + [_time(samples.get(peer)) for peer in peers]


def _left_out(records: list[dict[str, Any]]) -> list[str]:
    """A sentence for each contender that some rows lack, and why."""
    reasons = sorted({(n, why) for r in records for n, why in r["left_out"].items()})
    return [f"{name} left out: {why}." for name, why in reasons]


def _time(samples: list[float] | None) -> str:
    if not samples:
        return "-"
    s = spread(samples)
    return f"{duration(s.median)} ±{50 * s.relative:.0f} %"


def question_table(title: str, records: list[dict[str, Any]]) -> Table:
    """One row for each way of each question; the first way is what the ratio is to."""
    rows = []
    for r in records:
        first = next(iter(r["samples"].values()), [])
        for name, samples in r["samples"].items():
            kept, middle = r["saved_bytes"].get(name), spread(samples).median
            rate = f"{r['tokens'] / middle:,.0f}" if r["tokens"] else "-"
            rows.append([
                f"{r['group']}: {r['cell']} {r['shape']}{marks(r)}", name, _time(samples),
                times(middle / spread(first).median), size(kept) if kept else "-", rate,
            ])  # fmt: skip
        rows += [[f"{r['group']}: {r['cell']} {r['shape']}", name, "left out", "-", "-", "-"]
                 for name in r["left_out"]]  # fmt: skip
    columns = ["question", "way", "time", "of the first", "kept", "tokens/s"]
    return Table(title, columns, rows, " ".join([*explained(records), *_left_out(records)]))


def draw(run: Run, folder: Path) -> dict[str, str]:
    """The plots of one configuration: file name to caption."""
    from benchmarks.machine import slug

    out, where = {}, label(run)
    subtitle = f"{run['machine']['cpu']}, {where}, float32; rows are T,B,I,H"
    for kind in KINDS:
        panels = [p for cell in GATES if (p := _speed_panel(run, cell, kind))]
        if panels:
            name = f"{kind}-{slug(where)}.png"
            title = f"fusedrnn against torch.nn, {kind}"
            plots.ratios(folder / name, title, panels, TORCH, subtitle)
            out[name] = f"{title}, {where}"
    panels = [p for cell in GATES if (p := _peak_panel(run, cell))]
    if panels:
        name, title = (
            f"peak-{slug(where)}.png",
            "Training, fraction of the measured arithmetic peak",
        )
        plots.fractions(folder / name, title, panels, subtitle)
        out[name] = f"{title}, {where}"
    return out


def _speed_panel(run: Run, cell: str, kind: str) -> plots.Panel | None:
    bars: dict[str, float] = {}
    marks: dict[str, dict[str, float]] = {}
    for r in run["records"]:
        if (r["group"], r["cell"], r["kind"]) != ("grid", cell, kind):
            continue
        m = goals.medians(r)
        if not {OURS, TORCH} <= set(m):
            continue
        bars[r["shape"]] = m[TORCH] / m[OURS]
        for name in m:
            if name not in (OURS, TORCH):
                marks.setdefault(name, {})[r["shape"]] = m[TORCH] / m[name]
    return plots.Panel(TITLES[cell], bars, marks) if bars else None


def _peak_panel(run: Run, cell: str) -> plots.Panel | None:
    bars: dict[str, float] = {}
    torch: dict[str, float] = {}
    wanted: dict[str, float] = {}
    for r in run["records"]:
        if (r["group"], r["cell"], r["kind"]) == ("grid", cell, "training") and OURS in r[
            "samples"
        ]:
            m = goals.medians(r)
            bars[r["shape"]] = r["flops"] / m[OURS] / 1e9 / run["peak_gflops"]
            if limit := goals.peak_wanted(r["case"]):
                wanted[r["shape"]] = limit
            if TORCH in m:
                torch[r["shape"]] = r["flops"] / m[TORCH] / 1e9 / run["peak_gflops"]
    return (
        plots.Panel(TITLES[cell], bars, {TORCH: torch} if torch else {}, wanted) if bars else None
    )
