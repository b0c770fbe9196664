"""`fusedrnn eval`: how well a trained model predicts a text."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusedrnn import lm, text
from fusedrnn.commands.flags import command, device, whole


def add(commands: Any) -> None:
    parser = command(commands, "eval", run, "perplexity of a text under a trained model")
    parser.add_argument("checkpoint", metavar="RUN", help="folder of a run, or a checkpoint file")
    parser.add_argument("text", metavar="TEXT", help="UTF-8 file")
    parser.add_argument(
        "--batch", type=whole(1), default=32, metavar="N", help="streams read side by side"
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    checkpoint = lm.load_checkpoint(Path(args.checkpoint), args.device)
    tokens = checkpoint.tokenizer.tokenize(text.read_text(args.text))
    ids = checkpoint.vocab.encode(tokens)
    begin = time.perf_counter()
    loss = lm.evaluate(checkpoint.model, ids, batch=args.batch)
    seconds = time.perf_counter() - begin
    if not math.isfinite(lm.perplexity(loss)):
        raise lm.DivergedError(f"{args.text}: expected a loss with a finite perplexity, got {loss}")
    result = {
        "perplexity": lm.perplexity(loss),
        "loss": loss,
        "bits_per_token": loss / math.log(2),
        **_bits(checkpoint.tokenizer, tokens, loss),
        "tokens": len(ids),
        "unknown_tokens": int((ids == 0).sum()),
        "tokens_per_s": len(ids) / seconds,
    }
    if args.json:
        print(json.dumps(result))
    else:
        _show(result, checkpoint.tokenizer.unit)
    return 0


def _bits(tokenizer: text.Tokenizer, tokens: Sequence[str], loss: float) -> dict[str, float]:
    """The same loss per character and per word of the text as the tokenizer reads it.

    The first token is predicted by nothing, so neither it nor its characters count.
    """
    bits = loss * (len(tokens) - 1) / math.log(2)
    read = tokenizer.join(tokens)
    characters = len(read) - len(tokenizer.join(tokens[:1]))
    words = len(read.split()) - (tokenizer.unit == "words")
    return {
        "bits_per_character": bits / max(1, characters),
        "bits_per_word": bits / max(1, words),
    }


def _show(result: dict[str, Any], unit: str) -> None:
    print(
        f"perplexity {result['perplexity']:.4f}, {result['loss']:.4f} nats or "
        f"{result['bits_per_token']:.4f} bits per token, "
        f"{result['bits_per_character']:.4f} bits per character, "
        f"{result['bits_per_word']:.4f} bits per word, {result['tokens']:,} "
        f"{unit}, {result['tokens_per_s']:,.0f} tokens/s"
    )
    if result["unknown_tokens"]:
        print(
            f"{result['unknown_tokens']:,} of them are unknown to the model and were counted as <unk>"
        )
