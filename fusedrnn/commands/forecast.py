"""`fusedrnn forecast`: train a forecaster on a file of series, or forecast with a trained one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from fusedrnn.commands import training_flags
from fusedrnn.commands.flags import command, number, whole
from fusedrnn.tasks.forecast.dates import CYCLES, short_time, uneven
from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.examples import EXAMPLES, write_example
from fusedrnn.tasks.forecast.forecaster import Forecast, Forecaster, write_csv
from fusedrnn.tasks.forecast.forecasts import STRATEGIES
from fusedrnn.tasks.forecast.judge import Judged, judge, shown_horizons, table
from fusedrnn.tasks.forecast.networks import CELLS, NETWORKS
from fusedrnn.tasks.forecast.plot import plot_forecasts
from fusedrnn.tasks.forecast.scale import SCALES
from fusedrnn.tasks.forecast.series import Columns, read_csv
from fusedrnn.tasks.forecast.settings import Settings
from fusedrnn.tasks.forecast.task import ForecastTask
from fusedrnn.train.plot import PlotUnavailableError

_SHOWN_STEPS = 12


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
    _add_data_flags(parser.add_argument_group("data"))
    _add_model_flags(parser.add_argument_group("model"))
    training_flags.add(parser, epochs=20, lr=0.003)
    parser.add_argument("--json", action="store_true", help="of a run: forecasts as JSON")


def _add_data_flags(group: Any) -> None:
    group.add_argument("--target", metavar="COLUMN", help="what is forecast")
    group.add_argument("--time", metavar="COLUMN", help="dates, as 2024-05-31, 2024-05 or 2024")
    group.add_argument("--time-format", metavar="FORMAT", help="of the dates, as for strptime")
    group.add_argument("--series", metavar="COLUMN", help="names the series that a row belongs to")
    group.add_argument(
        "--covariates", type=_names, default=(), metavar="A,B", help="known up to the present only"
    )
    group.add_argument(
        "--known", type=_names, default=(), metavar="A,B",
        help="covariates known ahead; rows with an empty target give them after the end",
    )  # fmt: skip
    group.add_argument(
        "--calendar", type=_names, default=(), metavar="A,B", help=f"of {', '.join(CYCLES)}"
    )
    group.add_argument("--delimiter", default=",", metavar="C", help="what separates cells")
    group.add_argument(
        "--season", type=whole(1), default=1, metavar="N", help="steps of a season; 1: none"
    )
    group.add_argument("--scale", choices=SCALES, default="standard", help="of every column")
    below_one = number(0.0, 1.0, high_excluded=True)
    for name, default, what in (("valid", 0.1, "validates"), ("test", 0.2, "is tested on")):
        group.add_argument(
            f"--{name}-fraction", type=below_one, default=default, metavar="X",
            help=f"share of the end that {what}",
        )  # fmt: skip


def _add_model_flags(group: Any) -> None:
    group.add_argument("--lags", type=whole(1), default=12, metavar="N", help="steps it reads")
    group.add_argument(
        "--horizon", type=whole(1), default=1, metavar="N", help="steps it forecasts"
    )
    group.add_argument("--model", choices=list(NETWORKS), default="rnn", help="kind of network")
    group.add_argument("--cell", choices=list(CELLS), default="gru", help="recurrent cell")
    group.add_argument("--hidden", type=whole(1), default=32, metavar="N", help="units a layer")
    group.add_argument("--layers", type=whole(1), default=1, metavar="N", help="hidden layers")
    group.add_argument("--dropout", type=number(0.0, 1.0), default=0.0, metavar="P", help="in it")
    group.add_argument(
        "--residual", action="store_true", help="forecast the change from the last value"
    )
    group.add_argument(
        "--strategy", choices=STRATEGIES, default="rollout",
        help="rollout feeds forecasts back, direct gives all steps at once",
    )  # fmt: skip
    group.add_argument(
        "--quantiles", type=_levels, default=(), metavar="A,B",
        help="levels to learn, 0.5 in their middle (default: the mean)",
    )  # fmt: skip
    group.add_argument(
        "--ar", type=whole(1), metavar="P", help="order of the AR floor (default: --lags)"
    )


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _levels(value: str) -> tuple[float, ...]:
    return tuple(number(0.0, 1.0)(level) for level in value.split(","))


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
    if args.source or is_run:
        return _predict(args, args.source or args.file, None if is_run else args.file)
    return _train(args)


def _predict(args: argparse.Namespace, source: str, file: str | None) -> int:
    """Forecasts from a checkpoint, as a table on standard output."""
    forecaster = Forecaster.load(source, args.device)
    series = None
    if file is not None:
        options = {"delimiter": args.delimiter, "time_format": args.time_format}
        series = forecaster.read(file, **options)
    forecasts = forecaster.forecast(series, seed=args.seed)
    if args.json:
        print(json.dumps([each.to_dict() for each in forecasts]))
    else:
        write_csv(sys.stdout, forecasts)
    return 0


def _train(args: argparse.Namespace) -> int:
    if args.target is None:
        raise SeriesError("expected --target, the column to forecast, got none")
    name = f"{Path(args.file).stem}-{args.cell if args.model == 'rnn' else args.model}"
    folder = training_flags.run_folder(args, name)
    settings = _settings(args)
    series = read_csv(
        args.file, settings.columns, delimiter=args.delimiter, time_format=args.time_format
    )
    torch.manual_seed(args.seed)
    task = ForecastTask(series, settings, batch=args.batch, seed=args.seed, device=args.device)
    if settings.test_fraction:
        judge(task, args.ar)  # what cannot be judged is found before the training, not after it
    _introduce(args, task, folder.path)
    result = training_flags.run_training(task, args, name, folder=folder)
    if result.interrupted:
        return 130
    _report(args, task, folder.path)
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        columns=Columns(args.target, args.time, args.series, args.covariates, args.known),
        calendar=args.calendar,
        lags=args.lags,
        horizon=args.horizon,
        season=args.season,
        strategy=args.strategy,
        levels=args.quantiles,
        scale=args.scale,
        valid_fraction=args.valid_fraction,
        test_fraction=args.test_fraction,
        kind=args.model,
        cell=args.cell,
        hidden=args.hidden,
        layers=args.layers,
        dropout=args.dropout,
        residual=args.residual,
    )


def _introduce(args: argparse.Namespace, task: ForecastTask, path: Path) -> None:
    steps = sum(len(each) for each in task.series)
    count = f"{len(task.series)} series, " if len(task.series) > 1 else ""
    parts = [
        sum(getattr(cut, end) - (getattr(cut, begin) if begin else 0) for cut in task.cuts)
        for begin, end in ((None, "valid"), ("valid", "test"), ("test", "end"))
    ]
    print(
        f"data: {args.file}: {count}{steps:,} steps: {parts[0]:,} to train on, {parts[1]:,} to "
        f"validate, {parts[2]:,} to test"
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
    """Judges the best network of the run, forecasts the future, and writes both down."""
    forecaster = Forecaster.load(path, args.device)
    task.model.load_state_dict(forecaster.network.state_dict())
    written = []
    if task.settings.test_fraction:
        judged = judge(task, args.ar, seed=args.seed)
        print(f"\ntest part, {len(judged.actual):,} origins:")
        print(table(judged, shown_horizons(task.settings.horizon)))
        written.append(_write_errors(path / "errors.json", judged))
    future = _future(forecaster, args.seed)
    if future:
        written.append(path / "forecasts.csv")
        with written[-1].open("w", encoding="utf-8", newline="") as file:
            write_csv(file, future)
    try:
        plot_forecasts(path / "forecast.png", task, future, str(path), seed=args.seed)
        written.append(path / "forecast.png")
    except PlotUnavailableError as error:
        print(error)
    print("\nwritten: " + ", ".join(map(str, written)))


def _write_errors(path: Path, judged: Judged) -> Path:
    content = {"origins": len(judged.actual), **judged.errors(), "coverage": judged.coverage()}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def _future(forecaster: Forecaster, seed: int) -> list[Forecast]:
    """What comes after the end; nothing where covariates known ahead do not reach that far."""
    try:
        future = forecaster.forecast(seed=seed)
    except SeriesError as error:
        print(f"\nno forecast after the end: {error}")
        return []
    shown = future[0].point[:_SHOWN_STEPS]
    more = "" if len(future[0].point) <= _SHOWN_STEPS else " ..."
    whose = f" of {future[0].name}" if len(future) > 1 else ""
    print(f"\nafter the end{whose}: " + " ".join(f"{value:.4g}" for value in shown) + more)
    return future
