"""What fusedrnn means to reach, beside what was measured. Pure arithmetic over a run's records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isnan, nan
from statistics import median
from typing import Any

from benchmarks.contenders import fused, torch_nn
from benchmarks.timing import geometric_mean

OURS, TORCH = fused.NAME, torch_nn.NAME
Record = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """One goal: ``met`` says whether ``value`` is at least, or at most, ``limit``.

    A value of nan says that what the goal is about is not there; such a goal is not met.
    """

    text: str
    value: float
    limit: float
    at_least: bool
    where: str = ""  # the point that decides, if it is one of several
    ceiling: float = nan  # the value if ours did its products at the measured peak and nothing else

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


# cell: geometric mean and worst of the ratio to torch.nn
SPEED = {
    "training": {"rnn": (6, 2.3), "gru": (6, 2.3), "lstm": (1.6, 1.05)},
    "forward": {"rnn": (5, 2.3), "gru": (5, 2.3), "lstm": (1.5, 1.0)},
}
BATCH_ONE = {"rnn": 20, "gru": 20, "lstm": 3}
# Tokens a second of the book's job, and how many times torch.nn in the same loop, both from the same
# two-core machine, whose peak was 505 GFLOP/s: on another only the second can be asked for.
BOOK = {"rnn": (550_000, 550 / 167), "gru": (270_000, 270 / 68), "lstm": (220_000, 220 / 149)}


def evaluate(run: dict[str, Any]) -> list[Goal]:
    """The goals that the records of a run say something about."""
    records = run["records"]
    if run["isa"]:
        return list(_forced(records))
    out = [
        *_speed(records, run["peak_gflops"]),
        *_peak(records, run["peak_gflops"]),
        *_memory(records),
    ]
    return out + [g for r in records if r["group"] in RULES for g in RULES[r["group"]](r)]


def medians(record: Record) -> dict[str, float]:
    return {name: median(samples) for name, samples in record["samples"].items()}


def gain(record: Record, ours: str = OURS, other: str = TORCH) -> float:
    """How many times faster ours is by the medians; nan where one is absent."""
    m = medians(record)
    return m.get(other, nan) / m.get(ours, nan)


# The grid


def _grid(records: list[Record], cell: str, kind: str) -> list[Record]:
    return [r for r in records if (r["group"], r["cell"], r["kind"]) == ("grid", cell, kind)]


def _entered(record: Record) -> bool:
    """Whether ours took part, be it in vain."""
    return OURS in record["samples"] or OURS in record["left_out"]


def _gains(records: list[Record]) -> dict[str, float]:
    """By shape, where torch.nn ran; a shape at which ours failed counts, as nan."""
    return {r["shape"]: gain(r) for r in records if TORCH in r["samples"] and _entered(r)}


def _ceilings(records: list[Record], peak: float) -> dict[str, float]:
    """By shape, how many times faster than torch.nn the products alone would be at the peak."""
    return {
        r["shape"]: medians(r)[TORCH] * peak * 1e9 / r["flops"]
        for r in records if TORCH in r["samples"] and _entered(r)
    }  # fmt: skip


def _worst(values: dict[str, float]) -> tuple[float, str]:
    """The least value and where it is; a failure is the worst of all."""
    where = min(values, key=lambda name: -inf if isnan(values[name]) else values[name])
    return values[where], where


def _speed(records: list[Record], peak: float) -> Iterator[Goal]:
    for kind, cells in SPEED.items():
        for cell, (mean, least) in cells.items():
            rows = _grid(records, cell, kind)
            gains, ceilings = _gains(rows), _ceilings(rows, peak)
            if gains:
                text, value = f"{cell} {kind}, times torch.nn", geometric_mean([*gains.values()])
                ceiling, count = geometric_mean([*ceilings.values()]), f"{len(gains)} shapes"
                yield Goal(f"{text}: geometric mean", value, mean, True, count, ceiling)
                value, shape = _worst(gains)
                yield Goal(f"{text}: worst", value, least, True, shape, min(ceilings.values()))
    for cell, limit in BATCH_ONE.items():
        rows = [r for r in _grid(records, cell, "training") if r["case"]["batch"] == 1]
        if gains := _gains(rows):
            value, shape = _worst(gains)
            text = f"{cell} training at batch 1, times torch.nn: worst"
            yield Goal(text, value, limit, True, shape, min(_ceilings(rows, peak).values()))


def peak_wanted(case: dict[str, Any]) -> float:
    """The fraction of the peak to reach in training; 0 where there is too little work at a time."""
    hidden, batch = case["hidden"], case["batch"]
    if hidden >= 256 and batch >= 16:
        return 0.85 if hidden >= 512 else 0.80
    return 0.70 if hidden >= 128 and batch >= 64 else 0.0


def _peak(records: list[Record], peak: float) -> Iterator[Goal]:
    """For each class of shapes the one that reaches least."""
    classes = {0.85: "H >= 512, B >= 16", 0.80: "H >= 256, B >= 16", 0.70: "H >= 128, B >= 64"}
    for cell in BATCH_ONE:
        for limit, name in classes.items():
            values = {
                r["shape"]: r["flops"] / medians(r).get(OURS, nan) / 1e9 / peak
                for r in _grid(records, cell, "training")
                if peak_wanted(r["case"]) == limit and _entered(r)
            }
            if values:
                value, shape = _worst(values)
                text = f"{cell} training, fraction of the peak, {name}: worst"
                yield Goal(text, value, limit, True, shape)


def _memory(records: list[Record]) -> Iterator[Goal]:
    """A ragged batch with lengths has a padded output, torch.nn's is packed: judged apart, by cell."""
    ratios: dict[str, float] = {}
    for r in records:
        if r["group"] != "grid" or not {OURS, TORCH} <= set(r["saved_bytes"]):
            continue
        ratio = r["saved_bytes"][OURS] / r["saved_bytes"][TORCH]
        if r["case"]["ragged"]:
            text = f"{r['cell']} lengths, memory kept for backward, of torch.nn's packed"
            yield Goal(text, ratio, 1.0, False, r["shape"])
        else:
            ratios[r["name"]] = ratio
    if ratios:
        name = max(ratios, key=ratios.__getitem__)
        yield Goal("memory kept for backward, of torch.nn's: worst", ratios[name], 1.0, False, name)


def _forced(records: list[Record]) -> Iterator[Goal]:
    """Both sides held to an older instruction set: ahead of torch.nn for RNN and GRU."""
    for cell in ("rnn", "gru"):
        for kind in SPEED:
            if gains := _gains(_grid(records, cell, kind)):
                value, shape = _worst(gains)
                yield Goal(f"{cell} {kind}, times torch.nn: worst", value, 1.0, True, shape)


# The questions: each rule is given a record of its group


def _step(r: Record) -> Iterator[Goal]:
    value = medians(r).get(OURS, nan) * 1e6
    yield Goal(f"{r['cell']} step(), microseconds", value, 8, False, r["shape"])


def _tiny(r: Record) -> Iterator[Goal]:
    text = f"{r['cell']} forward and backward of T = B = 1, times torch.nn"
    yield Goal(text, gain(r), 1.0, True, r["shape"])


def _ids(r: Record) -> Iterator[Goal]:
    value = gain(r, f"{OURS} ids", f"{OURS} one-hot")
    yield Goal(f"{r['cell']} token ids, times our one-hot rows", value, 1.3, True, r["shape"])


def _lengths(r: Record) -> Iterator[Goal]:
    """In proportion to the valid steps, within 15 %. Packed, no more is kept than torch.nn keeps."""
    for way in ("lengths", "packed"):
        value = gain(r, f"{OURS} padded", f"{OURS} {way}") / r["valid_fraction"]
        text = f"{r['cell']} {way}, cost of a valid step over that of a padded one"
        yield Goal(text, value, 1.15, False, r["shape"])
    kept, ours, theirs = r["saved_bytes"], f"{OURS} packed", f"{TORCH} packed"
    if {ours, theirs} <= set(kept):
        text = f"{r['cell']} packed, memory kept for backward, of torch.nn's"
        yield Goal(text, kept[ours] / kept[theirs], 1.0, False, r["shape"])


def _resets(r: Record) -> Iterator[Goal]:
    value = gain(r, OURS, f"{OURS} resets")
    yield Goal(f"{r['cell']} resets, time over time without", value, 1.05, False, r["shape"])


def _bfloat16(r: Record) -> Iterator[Goal]:
    value = gain(r, f"{OURS} bfloat16", f"{OURS} float32")
    yield Goal(f"{r['cell']} bfloat16, times our float32", value, 1.6, True, r["shape"])


def _recompute(r: Record) -> Iterator[Goal]:
    kept = r["saved_bytes"]
    value = kept.get(f"{OURS} recompute", nan) / kept.get(OURS, nan)
    yield Goal(
        f"{r['cell']} recompute, memory kept over that without", value, 0.5, False, r["shape"]
    )


def _long(r: Record) -> Iterator[Goal]:
    """The longest against the shortest, a step. A tenth more is still called linear."""
    steps = r["steps_of"]
    first, last = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    for what, values in (("time", medians(r)), ("memory", r["saved_bytes"])):
        value = values.get(last, nan) / steps[last] / (values.get(first, nan) / steps[first])
        text = f"{r['cell']} {what} a step at T = {steps[last]} over T = {steps[first]}"
        yield Goal(text, value, 1.1, False, r["shape"])


def _neighbour(r: Record) -> Iterator[Goal]:
    """At most what is lost when the neighbour has a core of its own: n cores become n - 1."""
    cores = max(2, r["threads"])
    value = gain(r, f"{OURS} alone", f"{OURS} beside it")
    text = f"{r['cell']} beside a busy process, time over time alone"
    yield Goal(text, value, cores / (cores - 1), False, r["shape"])


def _book(r: Record) -> Iterator[Goal]:
    text = f"{r['cell']} language model, times torch.nn in the same loop"
    yield Goal(text, gain(r), BOOK[r["cell"]][1], True, r["shape"])


def _command(r: Record) -> Iterator[Goal]:
    value = r["tokens"] / medians(r).get(OURS, nan)
    text = f"{r['cell']} fusedrnn train, tokens/s (goal of a machine of 505 GFLOP/s)"
    yield Goal(text, value, BOOK[r["cell"]][0], True, r["shape"])


RULES = {
    "step": _step,
    "tiny call": _tiny,
    "token ids": _ids,
    "lengths": _lengths,
    "resets": _resets,
    "bfloat16": _bfloat16,
    "recompute": _recompute,
    "long sequences": _long,
    "busy neighbour": _neighbour,
    "language model": _book,
    "train command": _command,
}
