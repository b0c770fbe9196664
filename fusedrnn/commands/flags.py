"""What the parsers of all commands share: their form, and the types of their flags."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from fusedrnn.errors import UserError

LARGEST_SEED = 2**63 - 1  # of torch's generators

Command = Callable[[argparse.Namespace], int]


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == "":
            return action.help
        return super()._get_help_string(action)


def command(commands: Any, name: str, run: Command, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        formatter_class=_HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


class FlagError(UserError, ValueError):
    """Flags that cannot be together."""


class JobOrPredict(argparse._SubParsersAction):  # type: ignore[type-arg]  # no public name
    """Jobs of a command by name; a first word that is none begins the job ``predict``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.choices = None  # type: ignore[assignment]  # any word passes the parser's check

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        words = list(values) if values[0] in self._name_parser_map else ["predict", *values]
        super().__call__(parser, namespace, words, option)


def given(args: argparse.Namespace) -> list[str]:
    """The flags on the command line, also those that ask for the default, by their names in
    ``args`` (which names them as argparse does: ``--time-format`` is ``time_format``)."""
    flags = {f"--{name.replace('_', '-')}": name for name in vars(args)}
    words = itertools.takewhile(lambda word: word != "--", args.words)
    found = []
    for word in (word.split("=", 1)[0] for word in words if word.startswith("--")):
        asked = word if word in flags else f"--{word.removeprefix('--no-')}"
        if asked not in flags:  # argparse takes the beginning of a flag that is the only one
            asked = next((flag for flag in flags if flag.startswith(word)), asked)
        if asked in flags:
            found.append(flags[asked])
    return found


def refuse(args: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """FlagError for the first of the flags ``names`` that was given though it would do nothing."""
    useless = set(names)
    for name in given(args):
        if name in useless:
            raise FlagError(f"--{name.replace('_', '-')}: {why}")


def add_device_and_seed(parser: Any, seed: str) -> None:
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=0, metavar="N", help=f"decides {seed}"
    )


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def convert(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, got {value!r}"
            )
        if most is not None and number > most:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at most {most}, got {value!r}"
            )
        return number

    return convert


def number(
    low: float, high: float, *, low_excluded: bool = False, high_excluded: bool = False
) -> Callable[[str], float]:
    def convert(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        inside = low < number < high
        if not (
            inside or (number == low and not low_excluded) or (number == high and not high_excluded)
        ):
            lower = f"above {low:g}," if low_excluded else f"from {low:g}"
            most = "below" if high_excluded else "at most" if low_excluded else "to"
            bounds = lower.rstrip(",") if high == math.inf else f"{lower} {most} {high:g}"
            raise argparse.ArgumentTypeError(f"expected a finite number {bounds}, got {value!r}")
        return number

    return convert


def device(value: str) -> torch.device:
    try:
        device = torch.device(value)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {value!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"expected a CUDA device for {value!r}, got none here")
    return device
