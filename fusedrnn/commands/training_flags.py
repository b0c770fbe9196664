"""The flags of every command that trains, and the run that they describe."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fusedrnn.commands.flags import add_device_and_seed, number, refuse, whole
from fusedrnn.errors import UserError
from fusedrnn.train import distributed
from fusedrnn.train.about import about
from fusedrnn.train.folder import RunFolder
from fusedrnn.train.loop import alone_in, finish
from fusedrnn.train.optim import LEARNING_RATES, OPTIMIZERS, learning_rate
from fusedrnn.train.plot import PlotUnavailableError, plot_curves
from fusedrnn.train.progress import Progress
from fusedrnn.train.settings import SCHEDULES, Settings
from fusedrnn.train.task import Task
from fusedrnn.train.trainer import Result, Trainer

_NOT_FLAGS = ("run", "command", "words")
_FINITE = number(0.0, math.inf, high_excluded=True)


def add(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Adds the flags of training and of the run's folder.

    Args:
        defaults: of the command, by the name of the flag: ``add(parser, epochs=5, lr=0.01)``.
    """
    group = parser.add_argument_group("training")
    group.add_argument("--batch", type=whole(1), default=32, metavar="N", help="rows of a batch")
    group.add_argument(
        "--epochs", type=whole(1), default=10, metavar="N", help="passes over the data"
    )
    _add_optimizer(group)
    _add_schedule(group)
    group.add_argument(
        "--patience", type=whole(1), metavar="N", help="end after N epochs without improvement"
    )
    group.add_argument(
        "--autocast", action="store_true", help="forward passes in bfloat16, by torch's autocast"
    )
    add_device_and_seed(group, "initial parameters, order and dropout")
    _add_output(parser.add_argument_group("output"))
    parser.set_defaults(**defaults)


def _add_optimizer(group: Any) -> None:
    group.add_argument(
        "--optimizer",
        choices=sorted(OPTIMIZERS),
        default="adam",
        metavar="NAME",
        help=f"one of {', '.join(sorted(OPTIMIZERS))}",
    )
    rates = ", ".join(f"{name} {lr}" for name, lr in LEARNING_RATES.items())
    group.add_argument(
        "--lr", type=_FINITE, metavar="X", help=f"learning rate (default: {rates}, else torch's)"
    )
    group.add_argument(
        "--weight-decay", type=_FINITE, default=0.0, metavar="X", help="of the optimizer"
    )
    group.add_argument(
        "--clip",
        type=_FINITE,
        default=1.0,
        metavar="X",
        help="largest global norm of the gradients; 0: no clipping",
    )
    group.add_argument(
        "--clip-value", type=_FINITE, metavar="X", help="largest absolute value in a gradient"
    )
    group.add_argument(
        "--accumulate", type=whole(1), default=1, metavar="N", help="batches that make one update"
    )


def _add_schedule(group: Any) -> None:
    group.add_argument(
        "--schedule", choices=SCHEDULES, default="constant", help="of the learning rate"
    )
    group.add_argument(
        "--warmup", type=whole(0), default=0, metavar="N", help="updates of a rising learning rate"
    )
    group.add_argument(
        "--decay",
        type=_FINITE,
        default=0.5,
        metavar="X",
        help="factor of the schedules step, exponential (per epoch) and plateau",
    )
    group.add_argument(
        "--decay-after",
        type=whole(1),
        metavar="N",
        help="epochs before the first decay of the schedule step (default: --decay-every)",
    )
    group.add_argument(
        "--decay-every", type=whole(1), default=1, metavar="N", help="epochs between its decays"
    )
    group.add_argument(
        "--plateau",
        type=whole(0),
        default=0,
        metavar="N",
        help="epochs without improvement that the schedule plateau bears",
    )
    group.add_argument(
        "--min-lr", type=_FINITE, default=0.0, metavar="X", help="schedules go no lower"
    )


def _add_output(group: Any) -> None:
    group.add_argument(
        "--out", metavar="RUN", help="folder of the run (default: a new one in runs/)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace a run that is in --out")
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out from its last checkpoint; all other flags as before",
    )
    group.add_argument(
        "--save-every",
        type=_FINITE,
        default=30.0,
        metavar="S",
        help="seconds between checkpoints",
    )
    group.add_argument(
        "--keep", type=whole(1), default=2, metavar="N", help="checkpoints to keep beside the best"
    )
    group.add_argument(
        "--log-every",
        type=whole(0),
        default=0,
        metavar="N",
        help="updates between the lines of steps.jsonl; 0: no such file",
    )
    group.add_argument(
        "--samples",
        type=whole(0),
        default=0,
        metavar="N",
        help="samples written to samples.jsonl after each epoch",
    )
    group.add_argument(
        "--tensorboard", action="store_true", help="write the numbers for TensorBoard too"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that the flags of `add` describe. Raises SettingsError."""
    return Settings(
        epochs=args.epochs,
        optimizer=args.optimizer,
        lr=learning_rate(args.optimizer, args.lr),
        weight_decay=args.weight_decay,
        schedule=args.schedule,
        warmup=args.warmup,
        decay=args.decay,
        decay_after=args.decay_after,
        decay_every=args.decay_every,
        plateau=args.plateau,
        min_lr=args.min_lr,
        clip=args.clip,
        clip_value=args.clip_value,
        accumulate=args.accumulate,
        autocast=args.autocast,
        patience=args.patience,
        seed=args.seed,
        save_every_s=args.save_every,
        keep=args.keep,
        log_every=args.log_every,
        samples=args.samples,
        tensorboard=args.tensorboard,
    )


def run_folder(args: argparse.Namespace, name: str, results: Sequence[str] = ()) -> RunFolder:
    """The folder that the flags name, checked; nothing is created yet.

    For commands that want its errors before they read their data, and for those that write
    ``results`` into it. All processes get that of the first. Raises RunExistsError.
    """
    if args.resume and args.out is None:
        raise UserError("--resume: expected the folder of a run with --out, got none")
    if distributed.rank() == 0:
        folder = RunFolder(
            args.out, name, overwrite=args.overwrite, resume=args.resume, results=results
        )
        distributed.from_first(str(folder.path))
        return folder
    return RunFolder(distributed.from_first(None), overwrite=True)


def run_training(
    task: Task,
    args: argparse.Namespace,
    name: str,
    *,
    folder: RunFolder | None = None,
    floors: Mapping[str, float] | None = None,
    held_out: Mapping[str, int] | None = None,
) -> Result:
    """Trains a task as the flags of `add` say: folder, progress, metrics, checkpoints, picture.

    Args:
        name: what a new folder is called after.
        folder: what `run_folder` gave, where the command has asked it already.
        floors: level lines of the picture, by their names.
        held_out: see `about`.

    In a run of several processes all but the first are silent and write nothing.
    """
    settings = settings_of(args)
    if type(task).samples is Task.samples:
        refuse(args, ["samples"], f"expected a task with something to show, got a {task.kind}")
    first = distributed.rank() == 0
    folder = folder or run_folder(args, name)
    with alone_in(folder):
        if first and not args.resume:
            folder.create({**_config(args, settings), "about": about(task, floors, held_out)})
        with Progress(task, settings, quiet=not first) as progress:
            trainer = Trainer(task, settings, folder, resume=args.resume, on_step=progress.step)
            # Not before the run is known to go on, nor where there is nothing left to do.
            if first and args.resume and len(trainer.result.history) < settings.epochs:
                _rewrite_config(folder, args, settings)
            result = finish(trainer)
        if first:
            _tell(task, args, name, folder, result, floors)
    return result


def _tell(
    task: Task,
    args: argparse.Namespace,
    name: str,
    folder: RunFolder,
    result: Result,
    floors: Mapping[str, float] | None,
) -> None:
    """How the run ended, and its picture."""
    if result.interrupted:
        last = len(result.history) + 1
        print(f"interrupted in epoch {last}; the run is saved, go on with:\n{_again(args, folder)}")
    if result.stopped:
        print(f"stopped after epoch {len(result.history)}: {result.stopped}")
    if result.history:
        _plot(task, folder, result, name, floors)


def _config(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    values = {name: value for name, value in vars(args).items() if name not in _NOT_FLAGS}
    return {**values, "lr": settings.lr, "device": str(args.device)}


def _rewrite_config(folder: RunFolder, args: argparse.Namespace, settings: Settings) -> None:
    """What a run that goes on may have changed: its flags, and the command that makes it again."""
    before = folder.read_config()
    about_it = before.get("about")
    command = shlex.join(["fusedrnn", *_without(args.words, "--resume")])
    now = {**(about_it if isinstance(about_it, dict) else {}), "command": command}
    try:
        folder.write_config({**before, **_config(args, settings), "resume": False, "about": now})
    except OSError as error:  # it is there to be read; the run does not need it
        print(f"{folder.config}: expected to write it, got: {error.strerror}", file=sys.stderr)


def _without(words: Sequence[str], *flags: str) -> list[str]:
    """The words of a command line but for these flags, which argparse also takes by a beginning."""
    end = words.index("--") if "--" in words else len(words)  # after it nothing is a flag
    kept = [
        word for word in words[:end] if len(word) < 3 or not any(f.startswith(word) for f in flags)
    ]
    return [*kept, *words[end:]]


def _again(args: argparse.Namespace, folder: RunFolder) -> str:
    """The command that goes on with the run."""
    words = _without(args.words, "--overwrite", "--resume")
    flags = ["--resume"] if args.out is not None else ["--out", str(folder.path), "--resume"]
    end = words.index("--") if "--" in words else len(words)  # after it nothing is a flag
    words[end:end] = flags
    start = ["fusedrnn"]
    if distributed.world() > 1:
        start = ["torchrun", "--nproc-per-node", str(distributed.world()), "-m", "fusedrnn"]
    return shlex.join([*start, *words])


def _plot(
    task: Task,
    folder: RunFolder,
    result: Result,
    title: str,
    floors: Mapping[str, float] | None,
) -> None:
    key = "perplexity" if task.perplexity else "loss"
    path = folder.plot if task.perplexity else folder.loss_plot
    try:
        plot_curves(
            path,
            result.history,
            title,
            key=key,
            label=f"{key} per {task.unit.removesuffix('s')}" if task.perplexity else key,
            floors=floors,
            logarithmic=task.perplexity,
        )
    except PlotUnavailableError as error:
        print(error)
