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
    name: str, parameters: Iterable[nn.Parameter], lr: float | None = None
) -> torch.optim.Optimizer:
    """The optimizer ``name`` (a key of `OPTIMIZERS`: torch.optim's names in lower case).

    Args:
        lr: learning rate; None for the one in `LEARNING_RATES`, else torch's default.

    Raises:
        ValueError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer: expected one of {', '.join(sorted(OPTIMIZERS))}, got {name!r}"
        )
    kind = OPTIMIZERS[name]
    options: dict[str, object] = {}
    lr = LEARNING_RATES.get(name) if lr is None else lr
    if lr is not None:
        options["lr"] = lr
    # One pass over each parameter instead of one per operation, where torch has it for every
    # device.
    if name in ("sgd", "adam", "adamw"):
        options["fused"] = True
    return kind(parameters, **options)  # type: ignore[arg-type]
