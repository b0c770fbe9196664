"""The character model of a textbook, end to end, and torch.nn in the very same loop.

The job: the first 10,000 characters of a text with an alphabet of 28, one-hot input, hidden size
256, batches of 32 rows of 35 steps, SGD with rate 1, gradients clipped at norm 1, 500 epochs; from
Zhang, Lipton, Li, Smola, "Dive into Deep Learning", chapters 9 and 10 (https://d2l.ai). Any text of
that alphabet costs the same, so that of Python's own documentation serves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contenders import NN, Call
from benchmarks.grid import Case
from benchmarks.machine import ROOT

CELLS = {"rnn": "elman", "gru": "gru", "lstm": "lstm"}
CHARACTERS, ALPHABET, HIDDEN, EPOCHS = 10_000, 28, 256, 500
TOKENS = CHARACTERS // 32 // 35 * 32 * 35
"""Characters that are trained on in an epoch: whole batches alone."""


def case(cell: str) -> Case:
    return Case(cell, 35, 32, ALPHABET, HIDDEN)


class OneHot(nn.Module):
    """A layer of torch.nn behind the interface that ours has: token ids in."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, ids: Tensor, state: Any = None) -> Any:
        rows = nn.functional.one_hot(ids, self.layer.input_size).to(self.layer.weight_ih_l0.dtype)
        return self.layer(rows, state)


def epochs(cell: str, ours: bool) -> Call:
    """A call that trains for one epoch more."""
    from fusedrnn import lm, text

    corpus = text.build_corpus(
        text.python_docs_text(), text.make_tokenizer("char", "letters"), max_tokens=CHARACTERS
    )
    torch.manual_seed(0)
    model = lm.LanguageModel(len(corpus.vocab), CELLS[cell], HIDDEN)
    if not ours:
        layer = NN[cell](len(corpus.vocab), HIDDEN)
        layer.load_state_dict(model.rnn.state_dict())
        model.rnn = OneHot(layer)
    optimizer = lm.make_optimizer("sgd", model.parameters(), 1.0)
    # More epochs than anyone will wait for; each call asks for one.
    run = lm.train(model, optimizer, corpus.train, epochs=10**6, batch=32, steps=35, clip=1.0)
    return lambda: next(run)


def command(cell: str) -> list[float]:
    """Seconds of each epoch of the whole job, run as ``fusedrnn train`` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        words = ["train", "--cell", CELLS[cell], "--hidden", str(HIDDEN), "--filter", "letters",
                 "--max-tokens", str(CHARACTERS), "--batch", "32", "--steps", "35",
                 "--order", "sequential", "--optimizer", "sgd", "--lr", "1", "--clip", "1",
                 "--epochs", str(EPOCHS), "--valid-fraction", "0", "--out", str(out)]  # fmt: skip
        start = "import sys; from fusedrnn.cli import main; sys.exit(main(sys.argv[1:]))"
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run([sys.executable, "-c", start, *words], cwd=ROOT, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"fusedrnn train ended with code {done.returncode}: {done.stderr}")
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["seconds"] for line in lines]
