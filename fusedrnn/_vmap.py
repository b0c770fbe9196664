"""The two ways of calling a batched kernel under ``torch.vmap``: one folded call, or one call each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def fold(
    n: int, in_dims: Sequence[int | None], args: Sequence[Tensor | None], axes: Sequence[int]
) -> list[Tensor | None]:
    """The tensors among ``args`` with the mapped dimension, of size ``n``, folded into the batch.

    ``axes[i]`` is the batch axis of ``args[i]`` as the function without vmap sees it. What is not
    mapped is repeated. None and tensors without a batch axis, of shape ``[0]``, which stand for
    nothing, pass.
    """
    folded: list[Tensor | None] = []
    for t, dim, axis in zip(args, in_dims, axes, strict=False):
        if t is None or t.dim() - (dim is not None) <= axis:
            folded.append(t if t is None or dim is None else t.select(dim, 0))
        elif dim is None:
            shape = (*t.shape[:axis], n, *t.shape[axis:])
            folded.append(t.unsqueeze(axis).expand(shape).flatten(axis, axis + 1))
        else:
            folded.append(t.movedim(dim, axis).flatten(axis, axis + 1))
    return folded


def unfold(
    n: int, outputs: Sequence[Tensor], axes: Sequence[int]
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """The other way for results: the tensors, and where the mapped dimension is in each."""
    unfolded: list[Tensor] = []
    dims: list[int | None] = []
    for t, axis in zip(outputs, axes, strict=True):
        nothing = _is_nothing(t)
        unfolded.append(t if nothing else t.unflatten(axis, (n, t.shape[axis] // n)))
        dims.append(None if nothing else axis)
    return tuple(unfolded), tuple(dims)


def each(
    n: int,
    in_dims: Sequence[int | None],
    args: Sequence[Any],
    function: Callable[..., Sequence[Tensor]],
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """``function`` called for each of the ``n`` mapped slices, and the results stacked."""
    outputs = [
        function(*(a if d is None else a.select(d, i) for a, d in zip(args, in_dims, strict=True)))
        for i in range(n)
    ]
    columns = list(zip(*outputs, strict=True))
    nothing = [_is_nothing(column[0]) for column in columns]
    stacked = (c[0] if none else torch.stack(c) for c, none in zip(columns, nothing, strict=True))
    return tuple(stacked), tuple(None if none else 0 for none in nothing)


def _is_nothing(t: Tensor) -> bool:
    return t.dim() == 1 and t.shape[0] == 0
