"""The flags of the `fusedrnn` command, with what each accepts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch

import fusedrnn
from fusedrnn.lm.model import CELLS
from fusedrnn.lm.optim import LEARNING_RATES, OPTIMIZERS
from fusedrnn.text.batches import ORDERS
from fusedrnn.text.tokenize import FILTERS, TOKENIZERS

_LARGEST_SEED = 2**63 - 1  # of torch's generators

Command = Callable[[argparse.Namespace], int]


def build_parser(
    train: Command, sample: Command, evaluate: Command, info: Command
) -> argparse.ArgumentParser:
    """The parser of the whole command; the namespace it returns names its command in ``run``."""
    parser = argparse.ArgumentParser(
        prog="fusedrnn", description="Recurrent language models on fused kernels."
    )
    parser.add_argument("--version", action="version", version=f"fusedrnn {fusedrnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands, train)
    _add_sample(commands, sample)
    _add_eval(commands, evaluate)
    one = _command(commands, "info", info, "say what is installed and what it runs on")
    one.add_argument("--json", action="store_true", help="as one JSON object")
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == "":
            return action.help
        return super()._get_help_string(action)


def _command(commands: Any, name: str, run: Command, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        formatter_class=_HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_train(commands: Any, run: Command) -> None:
    parser = _command(commands, "train", run, "train a language model on a text")
    parser.add_argument(
        "text",
        nargs="?",
        metavar="TEXT",
        help="UTF-8 file; without it, the English help topics that every Python carries "
        "(about 465,000 characters)",
    )
    _add_text_flags(parser.add_argument_group("text"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_training_flags(parser.add_argument_group("training"))
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", metavar="RUN", help="folder of the run (default: a new one in runs/)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace a run that is in --out")


def _add_text_flags(group: Any) -> None:
    group.add_argument("--tokens", choices=list(TOKENIZERS), default="char", help="unit of text")
    group.add_argument(
        "--filter",
        choices=FILTERS,
        default="none",
        help="letters: other characters become single spaces, capitals become small",
    )
    group.add_argument("--max-tokens", type=_whole(1), metavar="N", help="use the first N tokens")
    group.add_argument(
        "--min-freq", type=_whole(1), default=1, metavar="N", help="rarer tokens are unknown"
    )
    group.add_argument(
        "--valid-fraction",
        type=_number(0.0, 1.0, high_excluded=True),
        default=0.05,
        metavar="X",
        help="share of the text, its end, that is held out",
    )


def _add_model_flags(group: Any) -> None:
    group.add_argument("--cell", choices=list(CELLS), default="lstm", help="recurrent cell")
    group.add_argument("--hidden", type=_whole(1), default=256, metavar="N", help="units a layer")
    group.add_argument("--layers", type=_whole(1), default=1, metavar="N", help="recurrent layers")
    group.add_argument(
        "--embedding",
        type=_whole(0),
        default=0,
        metavar="N",
        help="size of the token embedding; 0: one-hot",
    )
    group.add_argument(
        "--dropout",
        type=_number(0.0, 1.0),
        default=0.0,
        metavar="P",
        help="probability of dropping an output of the embedding or of a layer",
    )


def _add_training_flags(group: Any) -> None:
    group.add_argument("--batch", type=_whole(1), default=32, metavar="N", help="rows of a batch")
    group.add_argument(
        "--steps", type=_whole(1), default=64, metavar="N", help="tokens of a row, and of gradient"
    )
    group.add_argument(
        "--order",
        choices=list(ORDERS),
        default="sequential",
        help="sequential carries the state from batch to batch, random begins each anew",
    )
    group.add_argument(
        "--optimizer",
        choices=sorted(OPTIMIZERS),
        default="adam",
        metavar="NAME",
        help=f"one of {', '.join(sorted(OPTIMIZERS))}",
    )
    rates = ", ".join(f"{name} {lr}" for name, lr in LEARNING_RATES.items())
    group.add_argument(
        "--lr",
        type=_number(0.0, math.inf, high_excluded=True),
        metavar="X",
        help=f"learning rate (default: {rates}, else torch's)",
    )
    group.add_argument(
        "--clip",
        type=_number(0.0, math.inf, high_excluded=True),
        default=1.0,
        metavar="X",
        help="largest global norm of the gradients; 0: no clipping",
    )
    group.add_argument(
        "--epochs", type=_whole(1), default=10, metavar="N", help="passes over the text"
    )
    _add_common(group, "initial parameters, order and dropout")


def _add_sample(commands: Any, run: Command) -> None:
    parser = _command(commands, "sample", run, "continue a text with a trained model")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument(
        "--prompt", default="", help="text to go on from; every token of it must be known"
    )
    parser.add_argument("--length", type=_whole(0), default=200, metavar="N", help="tokens to draw")
    parser.add_argument(
        "--temperature",
        type=_number(0.0, math.inf, high_excluded=True),
        default=1.0,
        metavar="X",
        help="0: always the likeliest token",
    )
    _add_common(parser, "the draws")


def _add_eval(commands: Any, run: Command) -> None:
    parser = _command(commands, "eval", run, "perplexity of a text under a trained model")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument("text", metavar="TEXT", help="UTF-8 file")
    parser.add_argument(
        "--batch", type=_whole(1), default=32, metavar="N", help="streams read side by side"
    )
    parser.add_argument("--device", type=_device, default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def _add_common(parser: Any, seed: str) -> None:
    parser.add_argument("--device", type=_device, default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--seed", type=_whole(0, _LARGEST_SEED), default=0, metavar="N", help=f"decides {seed}"
    )


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
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


def _number(low: float, high: float, *, high_excluded: bool = False) -> Callable[[str], float]:
    def convert(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (low <= number < high or (number == high and not high_excluded)):
            upper = "" if high == math.inf else f" {'below' if high_excluded else 'to'} {high:g}"
            raise argparse.ArgumentTypeError(
                f"expected a finite number from {low:g}{upper}, got {value!r}"
            )
        return number

    return convert


def _device(value: str) -> torch.device:
    try:
        device = torch.device(value)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {value!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"expected a CUDA device for {value!r}, got none here")
    return device
