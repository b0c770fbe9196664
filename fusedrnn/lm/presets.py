"""Sets of flags of `fusedrnn train`, by name."""

from __future__ import annotations

from typing import Any

# Zaremba, Sutskever, Vinyals, "Recurrent neural network regularization", arXiv:1409.2329, section 4.1
# and the authors' code: the non-regularized model. Two layers of 200 units, 20 steps, batch 20,
# everything drawn from +-0.1, no dropout, the loss summed over time, learning rate 1, halved each
# epoch after the fourth, 13 epochs, norm clipped at 5. The text is words, with a token at the end
# of each line, and each epoch begins with its first word and a state of zeros.
_ZAREMBA_SMALL: dict[str, Any] = {
    "tokens": "word",
    "line_end": "<eos>",
    "cell": "lstm",
    "hidden": 200,
    "layers": 2,
    "embedding": 200,
    "dropout": 0.0,
    "init_uniform": 0.1,
    "batch": 20,
    "steps": 20,
    "order": "sequential",
    "same_start": True,
    "optimizer": "sgd",
    "lr": 1.0,
    "loss": "sum",
    "clip": 5.0,
    "epochs": 13,
    "schedule": "step",
    "decay": 0.5,
    "decay_after": 4,
    "decay_every": 1,
}

# Characters of a text of about a megabyte: less than 1.55 nats held out, in less than 40 minutes on two
# cores.
_TINY_SHAKESPEARE: dict[str, Any] = {
    "tokens": "char",
    "valid_fraction": 0.1,
    "cell": "lstm",
    "hidden": 512,
    "layers": 1,
    "embedding": 0,
    "dropout": 0.3,
    "batch": 32,
    "steps": 64,
    "order": "sequential",
    "optimizer": "adam",
    "lr": 0.003,
    "clip": 1.0,
    "epochs": 9,
    "schedule": "cosine",
    "warmup": 50,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny-shakespeare": _TINY_SHAKESPEARE,
    "zaremba-small": _ZAREMBA_SMALL,
}
