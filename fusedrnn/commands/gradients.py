"""`fusedrnn gradients`: how the gradient of a trained model fades on its way back in time."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fusedrnn import init
from fusedrnn.commands.flags import LARGEST_SEED, command, number, whole
from fusedrnn.tasks.gradients.errors import GradientError
from fusedrnn.tasks.gradients.plot import plot_studies
from fusedrnn.tasks.gradients.probe import Sample, load_pair
from fusedrnn.tasks.gradients.study import Study, passes, study
from fusedrnn.train.plot import PlotUnavailableError


def add(commands: Any) -> None:
    parser = command(
        commands,
        "gradients",
        run,
        "show the gradient by each earlier state, before and after training",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of language models or recurrent forecasts"
    )
    parser.add_argument(
        "--data", metavar="FILE", help="text or series (default: what the run was trained on)"
    )
    parser.add_argument("--steps", type=whole(1), default=100, metavar="N", help="length of a row")
    parser.add_argument("--batch", type=whole(1), default=16, metavar="N", help="rows")
    parser.add_argument("--every", type=whole(1), default=5, metavar="N", help="steps between cuts")
    parser.add_argument(
        "--cut", type=number(0.0, 1.0), default=0.5, metavar="P",
        help="probability of a random cut",
    )  # fmt: skip
    parser.add_argument(
        "--draws", type=whole(1), default=50, metavar="N", help="random cuts to average over"
    )
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=0, metavar="N",
        help="decides the fresh parameters and the cuts",
    )  # fmt: skip
    parser.add_argument(
        "--init", choices=init.NAMES, default="default",
        help="initialisation of the fresh parameters (chrono: for --steps)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FOLDER", help="for gradients.png and .json (default: the first run)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    if not 0.0 < args.cut < 1.0:
        raise GradientError(f"--cut: expected a probability above 0 and below 1, got {args.cut}")
    sample = Sample(args.data, args.steps, args.batch, args.seed, args.init)
    pairs = [load_pair(Path(each), sample) for each in args.runs]
    total = len(pairs) * passes(args.draws)
    with tqdm(total=total, unit=" passes", dynamic_ncols=True) as bar:
        studies = [
            study(
                pair,
                every=args.every,
                cut=args.cut,
                draws=args.draws,
                seed=args.seed,
                on_pass=lambda: bar.update() and None,
            )
            for pair in pairs
        ]
    out = Path(args.out or args.runs[0])
    out.mkdir(parents=True, exist_ok=True)
    numbers = [each.to_dict() for each in studies]
    written = [out / "gradients.json"]
    written[0].write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    try:
        plot_studies(out / "gradients.png", studies)
        written.append(out / "gradients.png")
    except PlotUnavailableError as error:
        print(error)
    if args.json:
        print(json.dumps(numbers))
        return 0
    for each in studies:
        print("\n".join(_lines(each)))
    print("\nwritten: " + ", ".join(map(str, written)))
    return 0


def _lines(each: Study) -> list[str]:
    """A run as a small table: norms at distances that double."""
    last = len(each.after.h) - 1
    marks = [0, *(2**i for i in range(20) if 2**i < last), last]
    cut = each.truncated
    rows: list[tuple[str, Sequence[float]]] = [
        ("before training", each.before.h),
        ("after training", each.after.h),
        (f"cut every {cut.every} steps", cut.fixed),
        (f"random cuts, mean of {cut.draws}", cut.mean_of_draws),
    ]
    if each.after.c is not None:
        rows.insert(2, ("after training, by the cell", each.after.c))
    lines = [
        f"\n{each.run}: {each.cell}; recurrent weights: largest eigenvalue "
        f"{each.before.spectrum.eigenvalue:.2f} before, {each.after.spectrum.eigenvalue:.2f} after "
        f"training, largest singular value {each.before.spectrum.singular:.2f} and "
        f"{each.after.spectrum.singular:.2f}",
        f"{'steps back':<28}" + "".join(f"{mark:>10}" for mark in marks),
    ]
    lines += [
        f"{name:<28}" + "".join(f"{values[mark]:>10.1e}" for mark in marks) for name, values in rows
    ]
    lines.append(
        f"gradient by the recurrent weights, error beside the full one: cut {cut.fixed_error:.3f}, "
        f"one draw of random cuts {cut.one_draw_error:.3f}, mean of {cut.draws} {cut.mean_error:.3f}"
    )
    return lines
