"""`fusedrnn sample`: a trained model goes on from a prompt, or says how likely a text is to it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from fusedrnn import lm
from fusedrnn.commands.flags import (
    FlagError,
    add_device_and_seed,
    command,
    number,
    refuse,
    whole,
)
from fusedrnn.text.vocab import UNKNOWN_POLICIES

_RULES = ("top_k", "top_p", "repetition_penalty", "no_repeat_ngram")
_FIRST = ("temperature", "seed")  # without a prompt they choose the first token of beams, too


def add(commands: Any) -> None:
    parser = command(commands, "sample", run, "continue a text with a trained model")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="text to go on from; several times for several texts side by side",
    )
    parser.add_argument(
        "--unknown",
        choices=UNKNOWN_POLICIES,
        default="error",
        help="what becomes of a prompt's tokens that are not in the vocabulary",
    )
    parser.add_argument("--length", type=whole(0), default=200, metavar="N", help="tokens to draw")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this; repeatable"
    )
    parser.add_argument("--stream", action="store_true", help="print the text as it comes")
    parser.add_argument("--json", action="store_true", help="one JSON object a text")
    parser.add_argument(
        "--score", metavar="TEXT", help="print how likely TEXT is, instead of drawing one"
    )
    _add_rules(parser.add_argument_group("choice of tokens"))
    add_device_and_seed(parser, "the draws")


def _add_rules(group: Any) -> None:
    group.add_argument(
        "--temperature",
        type=number(0.0, math.inf, high_excluded=True),
        default=1.0,
        metavar="X",
        help="0: always the likeliest token",
    )
    group.add_argument(
        "--top-k", type=whole(0), default=0, metavar="N", help="of the N likeliest alone; 0: all"
    )
    group.add_argument(
        "--top-p",
        type=number(0.0, 1.0, low_excluded=True),
        default=1.0,
        metavar="X",
        help="of the fewest likeliest that make up this share",
    )
    group.add_argument(
        "--repetition-penalty",
        type=number(0.0, math.inf, low_excluded=True, high_excluded=True),
        default=1.0,
        metavar="X",
        help="above 1: tokens that were there already are less likely",
    )
    group.add_argument(
        "--no-repeat-ngram",
        type=whole(0),
        default=0,
        metavar="N",
        help="no N tokens come twice in the same order; 0: no such rule",
    )
    group.add_argument(
        "--beams",
        type=whole(0),
        default=0,
        metavar="N",
        help="beam search of this width for the likeliest text; 0: draw",
    )
    group.add_argument(
        "--length-penalty",
        type=number(0.0, math.inf, high_excluded=True),
        default=0.0,
        metavar="X",
        help="of beam search: above 0 favours long texts where --stop can end them",
    )


def run(args: argparse.Namespace) -> int:
    prompts = args.prompt or [""]
    _refuse_useless(args, prompts)
    if args.stream and (args.beams or args.json or len(prompts) > 1):
        raise FlagError("--stream: expected one prompt, without --beams and --json, got more")
    checkpoint = lm.load_checkpoint(Path(args.checkpoint), args.device)
    model = (checkpoint.model, checkpoint.tokenizer, checkpoint.vocab)
    if args.score is not None:
        return _score(lm.score_text(*model, args.score, unknown=args.unknown), args.json)
    options = _options(args)
    if args.stream:
        for piece in lm.stream_text(*model, prompts[0], args.length, **options):
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
        return 0
    options |= {"beams": args.beams, "length_penalty": args.length_penalty}
    texts = lm.sample_texts(*model, prompts, args.length, **options)
    for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        if args.json:
            print(json.dumps({"prompt": prompt, "text": text}))
        else:
            print(text if i == 0 else f"---\n{text}")
    return 0


def _refuse_useless(args: argparse.Namespace, prompts: list[str]) -> None:
    """FlagError for a flag that would do nothing beside the others."""
    if args.score is not None:
        drawing = ("prompt", "length", "stop", "stream", "beams", "length_penalty")
        refuse(args, (*drawing, *_RULES, *_FIRST), "expected it without --score, got both")
    if args.beams:
        useless = (*_RULES, *_FIRST) if all(prompts) else _RULES
        refuse(args, useless, "expected it without --beams, got both")
    else:
        refuse(args, ["length_penalty"], "expected it with --beams, got none")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("temperature", "seed", "top_k", "top_p", "repetition_penalty", "no_repeat_ngram")
    return {name: getattr(args, name) for name in (*names, "stop", "unknown")}


def _score(found: lm.TextScore, as_json: bool) -> int:
    """Prints a text's log-probability: for each token with --json."""
    bits = -found.total / math.log(2)
    if as_json:
        result = {
            "logprob": found.total,
            "perplexity": found.perplexity,
            "tokens": found.tokens,
            "logprobs": found.logprobs,
        }
        print(json.dumps(result))
        return 0
    print(
        f"log-probability {found.total:.4f} nats ({bits:.4f} bits) for {len(found.logprobs)} tokens "
        f"after the first; perplexity {found.perplexity:.4f}"
    )
    return 0
