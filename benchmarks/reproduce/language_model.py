"""Language models: a textbook's character models, and tiny-shakespeare.

The textbook is Zhang, Lipton, Li, Smola, *Dive into Deep Learning*, chapters 9 and 10: the first
10,000 characters of *The Time Machine*, one-hot input, hidden size 256, 32 rows of 35 steps, SGD
with rate 1, gradients clipped at norm 1, 500 epochs; its speeds are those of its GPU. The texts are
looked for as the named corpora are, see docs/text.md.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import ROOT
from benchmarks.reproduce.command import call
from fusedrnn import lm, text
from fusedrnn.text.named import fetch

_BOOK = (
    "train time-machine --filter letters --max-tokens 10000 --valid-fraction 0 --batch 32 "
    "--steps 35 --optimizer sgd --lr 1 --clip 1 --epochs 500 --hidden 256"
)
_PLAYS = "train tiny-shakespeare --valid-fraction 0.1"
_HALF_AN_HOUR = (
    "--cell lstm --layers 2 --hidden 512 --dropout 0.5 --lr 0.002 --schedule cosine --warmup 50 "
    "--epochs 10"
)


def run(flags: str) -> tuple[str, list[dict[str, Any]], str]:
    """Runs ``fusedrnn`` with these flags: the command, its epochs, and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        printed = call(f"{flags} --out {shlex.quote(str(out))}", ROOT)
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
    return f"fusedrnn {flags}", [line for line in epochs if "loss" in line], printed


def _book(flags: str, asked: float, speed: str) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        command, epochs, _ = run(f"{_BOOK} {flags}")
        tokens, seconds = (sum(e[key] for e in epochs) for key in ("tokens", "seconds"))
        return {
            "ours": f"perplexity {epochs[-1]['perplexity']:.3f}",
            "floor": "unigram 17.4, bigram 9.87",
            "asked": f"<= {asked}",
            "published": speed,
            "seconds": round(seconds),
            "speed": f"{tokens / seconds:,.0f} tokens/s",
            "command": command,
        }

    return make


def _plays(flags: str, asked: str) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        command, epochs, _ = run(f"{_PLAYS} {flags}")
        tokens, seconds = (sum(e[key] for e in epochs) for key in ("tokens", "seconds"))
        best = min(epochs, key=lambda e: e["valid_loss"])
        return {
            "ours": f"{best['valid_loss']:.3f} nats per character (epoch {best['epoch']})",
            "floor": "Kneser-Ney, order 7: 1.517",
            "asked": asked,
            "seconds": round(seconds),
            "speed": f"{tokens / seconds:,.0f} tokens/s",
            "command": command,
        }

    return make


def _scratch(order: str, asked: float) -> Callable[[], dict[str, Any]]:
    """The textbook's model from scratch: normal weights of deviation 0.01, no initial biases."""

    def make() -> dict[str, Any]:
        tokenizer = text.make_tokenizer("char", "letters")
        book = text.read_text(fetch("time-machine"))
        corpus = text.build_corpus(book, tokenizer, max_tokens=10_000)
        torch.manual_seed(0)
        model = lm.LanguageModel(len(corpus.vocab), "elman", 256)
        for parameter in model.parameters():
            deviation = 0.01 if parameter.dim() > 1 else 0.0
            torch.nn.init.normal_(parameter, 0.0, deviation)
        optimizer = lm.make_optimizer("sgd", model.parameters(), 1.0)
        options = {"epochs": 500, "batch": 32, "steps": 35, "clip": 1.0, "order": order}
        epochs = list(lm.train(model, optimizer, corpus.train, **options))
        tokens, seconds = sum(e.tokens for e in epochs), sum(e.seconds for e in epochs)
        return {
            "ours": f"perplexity {epochs[-1].perplexity:.3f}",
            "floor": "unigram 17.4, bigram 9.87",
            "asked": f"<= {asked}",
            "seconds": round(seconds),
            "speed": f"{tokens / seconds:,.0f} tokens/s",
        }

    return make


TABLE: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    ("Elman 256 from scratch, sequential", _scratch("sequential", 1.5)),
    ("Elman 256 from scratch, random", _scratch("random", 1.8)),
    ("Elman 256 concise, sequential", _book("--cell elman", 1.5, "298,788 tokens/s")),
    ("Elman 256 concise, random", _book("--cell elman --order random", 1.8, "")),
    ("GRU 256", _book("--cell gru", 1.2, "about 330,000 tokens/s")),
    ("LSTM 256", _book("--cell lstm", 1.2, "313,000 tokens/s")),
    ("LSTM 2 x 256, rate 2", _book("--cell lstm --layers 2 --lr 2", 1.2, "")),
    ("tiny-shakespeare, LSTM 2 x 128", _plays("--cell lstm --layers 2 --hidden 128 --epochs 20", "")),
    ("tiny-shakespeare, preset", _plays("--preset tiny-shakespeare", "<= 1.55 in 40 minutes")),
    ("tiny-shakespeare, LSTM 2 x 512, half an hour", _plays(_HALF_AN_HOUR, "")),
]  # fmt: skip
