"""The flags of `fusedrnn forecast`, and the settings that they describe."""

from __future__ import annotations

import argparse
from typing import Any

from fusedrnn.commands.flags import number, whole
from fusedrnn.lm.model import CELLS
from fusedrnn.tasks.forecast.dates import CYCLES
from fusedrnn.tasks.forecast.forecasts import STRATEGIES
from fusedrnn.tasks.forecast.networks import NETWORKS
from fusedrnn.tasks.forecast.scale import SCALES
from fusedrnn.tasks.forecast.series import Columns
from fusedrnn.tasks.forecast.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the data and of the model."""
    _add_data_flags(parser.add_argument_group("data"))
    _add_model_flags(parser.add_argument_group("model"))


def _add_data_flags(group: Any) -> None:
    group.add_argument("--target", metavar="COLUMN", help="what is forecast")
    group.add_argument("--time", metavar="COLUMN", help="dates, as 2024-05-31, 2024-05 or 2024")
    group.add_argument("--time-format", metavar="FORMAT", help="of the dates, as for strptime")
    group.add_argument("--series", metavar="COLUMN", help="names the series that a row belongs to")
    group.add_argument(
        "--covariates", type=_names, metavar="A,B", help="known up to the present only"
    )
    group.add_argument(
        "--known", type=_names, metavar="A,B",
        help="covariates known ahead; rows with an empty target give them after the end",
    )  # fmt: skip
    group.add_argument("--calendar", type=_names, metavar="A,B", help=f"of {', '.join(CYCLES)}")
    group.add_argument(
        "--delimiter",
        type=_character,
        default=",",
        metavar="C",
        help=r"separates cells (\t: a tab)",
    )
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
        "--quantiles", type=_levels, metavar="A,B",
        help="levels to learn, 0.5 in their middle (default: the mean)",
    )  # fmt: skip
    group.add_argument(
        "--ar", type=whole(1), metavar="P", help="order of the AR floor (default: --lags)"
    )


def _character(value: str) -> str:
    return "\t" if value == r"\t" else value


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _levels(value: str) -> tuple[float, ...]:
    return tuple(number(0.0, 1.0)(level) for level in value.split(","))


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that the flags of `add` describe. Raises SeriesError."""
    return Settings(
        columns=Columns(
            args.target, args.time, args.series, args.covariates or (), args.known or ()
        ),
        calendar=args.calendar or (),
        lags=args.lags,
        horizon=args.horizon,
        season=args.season,
        strategy=args.strategy,
        levels=args.quantiles or (),
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
