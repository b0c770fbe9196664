"""`fusedrnn forecast`: train a forecaster on a file of series, or forecast with a trained one."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from fusedrnn.commands import forecast_flags, training_flags
from fusedrnn.commands.flags import command, refuse
from fusedrnn.tasks.forecast.dates import short_time, uneven
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.examples import EXAMPLES, write_example
from fusedrnn.tasks.forecast.forecaster import Forecast, Forecaster, write_csv
from fusedrnn.tasks.forecast.judge import Judged, check, judge, shown_horizons, table
from fusedrnn.tasks.forecast.plot import plot_forecasts
from fusedrnn.tasks.forecast.series import read_csv
from fusedrnn.tasks.forecast.task import ForecastTask
from fusedrnn.train.plot import PlotUnavailableError

_SHOWN_STEPS = 12
_RESULTS = ("errors.json", "forecasts.csv", "forecast.png")
_OF_A_FILE = ("delimiter", "time_format")


def add(commands: Any) -> None:
    parser = command(commands, "forecast", run, "forecast series of numbers")
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE.csv|RUN",
        help="file of comma-separated values with a header, to train on; or the folder of a run, to "
        "forecast what comes after the series it was trained on",
    )
    parser.add_argument(
        "--from", dest="source", metavar="RUN", help="forecast FILE.csv with this run, untrained"
    )
    parser.add_argument(
        "--example", choices=EXAMPLES, help="write the series NAME to NAME.csv, and nothing else"
    )
    forecast_flags.add(parser)
    training_flags.add(parser, epochs=20, lr=0.003)
    parser.add_argument("--json", action="store_true", help="of a run: forecasts as JSON")


def run(args: argparse.Namespace) -> int:
    if args.example:
        path = Path(f"{args.example}.csv")
        write_example(args.example, path)
        print(f"written: {path}")
        return 0
    if args.file is None and args.source is None:
        raise SeriesError("expected a file to train on, or a run to forecast with, got neither")
    is_run = args.file is not None and (
        Path(args.file).is_dir() or args.file.endswith(".safetensors")
    )
    if args.source and is_run:
        raise SeriesError(f"--from: expected a file to forecast, got another run, {args.file}")
    if args.source or is_run:
        return _predict(args, args.source or args.file, None if is_run else args.file)
    return _train(args)


def _predict(args: argparse.Namespace, source: str, file: str | None) -> int:
    """Forecasts from a checkpoint, as a table on standard output."""
    flags = ("seed", "device", "json", *(_OF_A_FILE if file is not None else ()))
    shown = ", ".join(f"--{name.replace('_', '-')}" for name in flags)
    rest = vars(args).keys() - {"file", "source", *flags}
    refuse(args, rest, f"the run {source} has its own; expected no other flags than {shown}")
    forecaster = Forecaster.load(source, args.device)
    series = None
    if file is not None:
        options = {name: getattr(args, name) for name in _OF_A_FILE}
        series = forecaster.read(file, **options)
    forecasts = forecaster.forecast(series, seed=args.seed)
    if args.json:
        print(json.dumps([each.to_dict() for each in forecasts]))
    else:
        write_csv(sys.stdout, forecasts)
    return 0


def _train(args: argparse.Namespace) -> int:
    if not Path(args.file).exists():  # whatever else is missing: it may be the name of a run
        raise SeriesError(
            f"{args.file}: expected a file to train on or the folder of a run, got none"
        )
    refuse(args, ["json"], "expected a run whose forecasts to print, got a file to train on")
    if args.time is None:
        refuse(args, ["time_format"], "expected --time, the column of the dates, got none")
    if args.model in ("linear", "mlp"):
        refuse(args, ["cell"], f"expected a recurrent --model, got {args.model}")
    if args.model == "linear":
        refuse(args, ["hidden", "layers", "dropout"], "expected hidden units, got --model linear")
    if args.target is None:
        raise SeriesError("expected --target, the column to forecast, got none")
    name = f"{Path(args.file).stem}-{args.cell if args.model == 'rnn' else args.model}"
    folder = training_flags.run_folder(args, name, _RESULTS)
    settings = forecast_flags.settings_of(args)
    series = read_csv(
        args.file, settings.columns, delimiter=args.delimiter, time_format=args.time_format
    )
    torch.manual_seed(args.seed)
    task = ForecastTask(series, settings, batch=args.batch, seed=args.seed, device=args.device)
    if settings.test_fraction:
        check(task, args.ar)  # what cannot be judged is found before the training, not after it
    _introduce(args, task, folder.path)
    result = training_flags.run_training(task, args, name, folder=folder)
    if result.interrupted:
        return 130
    _report(args, task, folder.path)
    return 0


def _introduce(args: argparse.Namespace, task: ForecastTask, path: Path) -> None:
    steps = sum(len(each) for each in task.series)
    count = f"{len(task.series)} series, " if len(task.series) > 1 else ""
    training = sum(cut.valid for cut in task.cuts)
    validation = sum(cut.test - cut.valid for cut in task.cuts)
    test = sum(cut.end - cut.test for cut in task.cuts)
    print(
        f"data: {args.file}: {count}{steps:,} steps: {training:,} to train on, {validation:,} to "
        f"validate, {test:,} to test"
    )
    for each in task.series:
        off = None if each.times is None else uneven(each.times)
        if off is not None and each.times is not None:
            print(
                f"note: series {each.name!r}: {short_time(each.times[off])} does not follow "
                f"{short_time(each.times[off - 1])} by the usual gap; steps count as even"
            )
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    what = args.model if args.model in ("linear", "mlp") else f"{args.model} of {args.cell}"
    print(
        f"model: {what}, {args.lags} lags to {args.horizon} steps, {args.strategy}, "
        f"{parameters:,} parameters"
    )
    print(f"run: {path}", flush=True)


def _report(args: argparse.Namespace, task: ForecastTask, path: Path) -> None:
    """Judges the best network of the run, forecasts the future, writes both down and prints them."""
    forecaster = Forecaster.load(path, args.device)
    task.model.load_state_dict(forecaster.network.state_dict())
    written, lines = [], []
    if task.settings.test_fraction:
        judged = judge(task, args.ar, seed=args.seed)
        written.append(_write_errors(path / "errors.json", judged))
        lines.append(f"\ntest part, {len(judged.actual):,} origins:")
        lines.append(table(judged, shown_horizons(task.settings.horizon)))
    future: list[Forecast] = []
    try:
        future = forecaster.forecast(seed=args.seed)
        written.append(_write_future(path / "forecasts.csv", future))
        lines.append(_first_steps(future))
    except SeriesError as error:  # covariates known ahead do not reach that far
        lines.append(f"\nno forecast after the end: {error}")
    try:
        plot_forecasts(path / "forecast.png", task, future, str(path), seed=args.seed)
        written.append(path / "forecast.png")
    except PlotUnavailableError as error:
        lines.append(str(error))
    print("\n".join([*lines, "\nwritten: " + ", ".join(map(str, written))]))


def _write_errors(path: Path, judged: Judged) -> Path:
    content = {"origins": len(judged.actual), **judged.errors(), "coverage": judged.coverage()}
    path.write_text(json.dumps(_finite(content), indent=2) + "\n", encoding="utf-8")
    return path


def _finite(content: Any) -> Any:
    """With null for what is no number (MASE in a series that repeats itself), as JSON has it."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _write_future(path: Path, future: list[Forecast]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, future)
    return path


def _first_steps(future: list[Forecast]) -> str:
    """What comes after the end of the first series, in one line."""
    shown = future[0].point[:_SHOWN_STEPS]
    more = "" if len(future[0].point) <= _SHOWN_STEPS else " ..."
    whose = f" of {future[0].name}" if len(future) > 1 else ""
    return f"\nafter the end{whose}: " + " ".join(f"{value:.4g}" for value in shown) + more
