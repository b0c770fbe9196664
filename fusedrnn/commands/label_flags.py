"""What `fusedrnn classify` and `fusedrnn tag` share: their form, their flags and their report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fusedrnn import init
from fusedrnn.commands import training_flags
from fusedrnn.commands.flags import FlagError, number, refuse, whole
from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.label.labeller import Labeller
from fusedrnn.tasks.label.metrics import Scores
from fusedrnn.tasks.label.model import SequenceLabeller
from fusedrnn.tasks.label.plot import plot_confusion
from fusedrnn.tasks.label.tasks import CLASS_WEIGHTS, LabelTask
from fusedrnn.train import RunFolder
from fusedrnn.train.plot import PlotUnavailableError

RESULTS = ("scores.json", "confusion.png")


def add_model_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Flags of the recurrent layers, of their initial values and of the loss."""
    group = parser.add_argument_group("model")
    group.add_argument("--cell", choices=list(CELLS), default="lstm", help="recurrent cell")
    group.add_argument(
        "--hidden", type=whole(1), default=128, metavar="N", help="units a layer and direction"
    )
    group.add_argument("--layers", type=whole(1), default=1, metavar="N", help="recurrent layers")
    group.add_argument(
        "--bidirectional",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a second direction reads from the end",
    )
    group.add_argument(
        "--embedding", type=whole(0), default=64, metavar="N", help="size of the embedding"
    )
    group.add_argument(
        "--dropout",
        type=number(0.0, 1.0),
        default=0.3,
        metavar="P",
        help="probability of dropping an entry of an embedding or of a layer's output",
    )
    group.add_argument(
        "--init",
        choices=init.NAMES,
        default="default",
        help="initial values of the recurrent layers; default: as torch.nn",
    )
    group.add_argument(
        "--longest",
        type=number(2.0, 1e9),
        metavar="T",
        help="steps of the longest dependency, for --init chrono",
    )
    group.add_argument(
        "--class-weights",
        choices=CLASS_WEIGHTS,
        default="none",
        help="balanced: every class weighs as much as any other in the loss",
    )
    parser.set_defaults(**defaults)


def add_data_flags(parser: argparse.ArgumentParser, fraction: float, how: str) -> Any:
    """Flags that say what is held out; returns their group."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--valid-fraction",
        type=number(0.0, 1.0, high_excluded=True),
        default=fraction,
        metavar="X",
        help=f"share of the file that is held out, {how}",
    )
    group.add_argument("--valid", metavar="FILE", help="held-out file, instead of a share")
    return group


def make_model(
    args: argparse.Namespace, inputs: dict[str, Any], outputs: int, pool: str | None
) -> SequenceLabeller:
    """The model that the flags describe, initialised by seed and name, on its device."""
    if args.init != "chrono":
        refuse(args, ["longest"], f"expected it with --init chrono alone, got --init {args.init}")
    torch.manual_seed(args.seed)
    try:
        model = SequenceLabeller(
            inputs,
            outputs,
            pool,
            args.cell,
            args.hidden,
            args.layers,
            args.bidirectional,
            args.dropout,
        )
        init.initialise(model.rnn, args.init, longest=args.longest)
    except ValueError as error:
        hint = " (--longest)" if args.init == "chrono" and args.longest is None else ""
        raise FlagError(f"{error}{hint}") from error
    return model.to(args.device)


def train_and_report(
    task: LabelTask,
    args: argparse.Namespace,
    folder: RunFolder,
    about: str,
    floor: Callable[[], dict[str, float]],
) -> int:
    """Says what there is, trains, and writes and prints what came of it; the exit code.

    Args:
        about: a line on the data.
        floor: accuracy without a network on the held-out part, by name; asked if there is one.
    """
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    name = f"{args.layers} x {args.hidden} {args.cell}"
    name += ", bidirectional" if args.bidirectional else ""
    print(about)
    print(f"model: {name}, {parameters:,} parameters")
    print(f"run: {folder.path}", flush=True)
    result = training_flags.run_training(task, args, name, folder=folder)
    if result.history and "valid_accuracy" in result.history[-1]:
        loss, scores = task.score()
        print(scores.table())
        floors = floor()
        print(
            f"held out: accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f}, "
            f"loss {loss:.4f}; floor: "
            + ", ".join(f"{name} {value:.4f}" for name, value in floors.items())
        )
        save_scores(folder.path, loss, scores, floors)
    print(f"more: fusedrnn {args.command} {folder.path} ...")
    return 130 if result.interrupted else 0


def save_scores(folder: Path, loss: float, scores: Scores, floors: dict[str, float]) -> None:
    """Writes ``scores.json`` and ``confusion.png``."""
    content = {**summary(loss, scores), "floors": floors, "labels": list(scores.labels)}
    content["confusion"] = scores.matrix.tolist()
    table, picture = (folder / file for file in RESULTS)
    table.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    title = f"accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}"
    try:
        plot_confusion(picture, scores, title)
    except PlotUnavailableError as error:
        print(error)


def summary(loss: float, scores: Scores) -> dict[str, Any]:
    """The scores in JSON's own types."""
    overall = {"loss": loss, "accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
    return {**overall, "classes": scores.rows()}


def evaluate(labeller: Labeller, pairs: Sequence[tuple[Any, Any]], args: argparse.Namespace) -> int:
    """Prints the scores of a trained model on a file."""
    loss, scores = labeller.score(labeller.encode(pairs))
    if args.json:
        print(json.dumps(summary(loss, scores)))
        return 0
    print(scores.table())
    print(f"accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f}, loss {loss:.4f}")
    return 0
