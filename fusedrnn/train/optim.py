"""Optimizers by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch
from torch import nn

# Those that need a closure, sparse gradients, or matrices only.
_UNFIT = {"LBFGS", "SparseAdam", "Muon", "Optimizer"}

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name not in _UNFIT
}

# Learning rates that train a character model of a few hundred units; others keep torch's own.
LEARNING_RATES = {"sgd": 1.0, "adam": 0.006, "adamw": 0.006, "nadam": 0.006, "rmsprop": 0.002}


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    lr: float | None = None,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """The optimizer ``name`` (a key of `OPTIMIZERS`: torch.optim's names in lower case).

    Args:
        lr: learning rate; None for the one in `LEARNING_RATES`, else torch's default.
        weight_decay: 0 keeps torch's own, which is 0 but for AdamW's 0.01.

    Raises:
        ValueError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer: expected one of {', '.join(sorted(OPTIMIZERS))}, got {name!r}"
        )
    kind = OPTIMIZERS[name]
    options: dict[str, object] = {"lr": learning_rate(name, lr)}
    if weight_decay:
        options["weight_decay"] = weight_decay
    # One pass over each parameter instead of one per operation, where torch has it for every
    # device.
    if name in ("sgd", "adam", "adamw"):
        options["fused"] = True
    return kind(parameters, **options)  # type: ignore[arg-type]


def learning_rate(name: str, lr: float | None = None) -> float:
    """``lr``, or where it is None the one that `make_optimizer` takes for the optimizer ``name``."""
    if lr is not None:
        return lr
    if name in LEARNING_RATES:
        return LEARNING_RATES[name]
    default: float = inspect.signature(OPTIMIZERS[name]).parameters["lr"].default
    return default
