"""Dropout with one mask per sequence: the same units are missing at every step.

Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
NeurIPS 2016, equation 7 without the mask inside the recurrence: the inputs and outputs of layers
are dropped, the states are whole. Merity et al. 2018 call it locked dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn import functional

_CELLS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "elman": partial(functional.elman, nonlinearity="tanh"),
    "elman-relu": partial(functional.elman, nonlinearity="relu"),
    "gru": functional.gru,
    "lstm": functional.lstm,
}


class SequenceDropout(nn.Module):
    """Drops entries of ``[T, B, F]`` with one mask ``[1, B, F]`` for all steps, in training, and
    scales the others by ``1 / (1 - p)``."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask = nn.functional.dropout(x.new_ones(1, *x.shape[1:]), self.p)
        return x * mask

    def extra_repr(self) -> str:
        return f"p={self.p}"


def dropped_between(
    cell: str,
    weights: Sequence[Sequence[Tensor]],
    x: Tensor,
    state: Any,
    dropout: nn.Module,
    options: Mapping[str, Tensor],
) -> tuple[Tensor, Any]:
    """Layer upon layer with ``dropout`` between them.

    Args:
        cell: as `LanguageModel` calls it.
        weights: of each layer, as ``nn.RNNBase.all_weights`` lists them.
        x, state, options: as the layers' forward takes them.

    Returns:
        The output of the last layer and the new state, as the layers' forward gives them.
    """
    states = (state,) if state is None or isinstance(state, Tensor) else tuple(state)
    after: list[tuple[Tensor, ...]] = []
    for i, own in enumerate(weights):
        if i:
            x = dropout(x)
        before = [None if each is None else each[i : i + 1] for each in states]
        x, *last = _CELLS[cell](x, own, *before, **options)
        after.append(tuple(last))
    joined = tuple(torch.cat(parts) for parts in zip(*after, strict=True))
    return x, joined if len(joined) > 1 else joined[0]
