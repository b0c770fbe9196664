"""`fusedrnn eval`: how well a trained model predicts a text."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from fusedrnn import lm
from fusedrnn.commands import text_flags
from fusedrnn.commands.flags import command, device, whole


def add(commands: Any) -> None:
    parser = command(commands, "eval", run, "perplexity of a text under a trained model")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument("text", nargs="+", metavar="TEXT", help=text_flags.TEXTS)
    text_flags.add_reading(parser)
    parser.add_argument("--separator", metavar="TOKEN", help=text_flags.SEPARATOR)
    parser.add_argument(
        "--batch", type=whole(1), default=32, metavar="N", help="streams read side by side"
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    checkpoint = lm.load_checkpoint(Path(args.checkpoint), args.device)
    text = text_flags.encode(args, checkpoint.tokenizer, checkpoint.vocab)
    begin = time.perf_counter()
    loss = lm.evaluate(
        checkpoint.model,
        text.ids,
        batch=args.batch,
        separator=text_flags.separator(args, checkpoint.vocab),
        documents=text.documents,
    )
    seconds = time.perf_counter() - begin
    if not math.isfinite(lm.perplexity(loss)):
        raise lm.DivergedError(
            f"{args.text[0]}: expected a loss with a finite perplexity, got {loss}"
        )
    result = {
        "perplexity": lm.perplexity(loss),
        "loss": loss,
        "bits_per_token": loss / math.log(2),
        **lm.per_text(loss, text.sizes),
        "tokens": len(text.ids),
        "unknown_tokens": text.sizes.unknown,
        "tokens_per_s": len(text.ids) / seconds,
    }
    if args.json:
        print(json.dumps(result))
    else:
        _show(result, checkpoint.tokenizer.unit, args.unknown)
    return 0


def _show(result: dict[str, Any], unit: str, unknown: str) -> None:
    texts = {"bits_per_character": "bits per character", "bits_per_word": "bits per word"}
    spread = "".join(f"{result[key]:.4f} {of}, " for key, of in texts.items() if key in result)
    print(
        f"perplexity {result['perplexity']:.4f}, {result['loss']:.4f} nats or "
        f"{result['bits_per_token']:.4f} bits per token, {spread}{result['tokens']:,} "
        f"{unit}, {result['tokens_per_s']:,.0f} tokens/s"
    )
    if result["unknown_tokens"]:
        what = "of them are unknown to the model and were counted as <unk>"
        if unknown == "skip":
            what = "more are unknown to the model and were left out"
        print(f"{result['unknown_tokens']:,} {what}")
