"""`fusedrnn sample`: a trained model goes on from a prompt."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from fusedrnn import lm
from fusedrnn.commands.flags import add_device_and_seed, command, number, whole


def add(commands: Any) -> None:
    parser = command(commands, "sample", run, "continue a text with a trained model")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument(
        "--prompt", default="", help="text to go on from; every token of it must be known"
    )
    parser.add_argument("--length", type=whole(0), default=200, metavar="N", help="tokens to draw")
    parser.add_argument(
        "--temperature",
        type=number(0.0, math.inf, high_excluded=True),
        default=1.0,
        metavar="X",
        help="0: always the likeliest token",
    )
    add_device_and_seed(parser, "the draws")


def run(args: argparse.Namespace) -> int:
    checkpoint = lm.load_checkpoint(Path(args.checkpoint), args.device)
    print(
        lm.sample_text(
            checkpoint.model,
            checkpoint.tokenizer,
            checkpoint.vocab,
            args.prompt,
            args.length,
            temperature=args.temperature,
            seed=args.seed,
        )
    )
    return 0
