"""The data of a PackedSequence: its lengths, and padded rows from it and back.

Packed are the rows of a ragged batch step by step, those that have ended left out: ``[N, ...]``, the
longest row first in each step. All of this is index operations, which have every derivative.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_packed(x: Tensor, lengths: Tensor | None) -> bool:
    """Whether ``x`` is packed ``[N, I]``, or ``[N]`` of token ids, and not ``[T, B, I]``, ``[T, B]``."""
    return lengths is not None and x.dim() == (2 if x.is_floating_point() else 1)


def lengths(sizes: Tensor) -> Tensor:
    """int64 ``[B]``, longest first, of the ``batch_sizes [T]`` of a PackedSequence."""
    return (torch.arange(int(sizes[0])) < sizes[:, None]).sum(0)


def sizes(lengths: Tensor) -> Tensor:
    """The other way: int64 ``[T]`` of ``lengths [B]`` that do not increase."""
    return (torch.arange(int(lengths[0])) < lengths[:, None]).sum(0)


def pad(data: Tensor, sizes: Tensor, batch: int) -> Tensor:
    """``[T, B, ...]`` of ``data [N, ...]``, with anything past each row's length.

    Rows are gathered, because torch's scatter (``index_copy``) costs as much as a third of a layer.
    ``sizes`` are on the CPU, where PackedSequence keeps them, whatever the device of the data.
    """
    row = torch.arange(batch)
    first = (sizes.cumsum(0) - sizes)[:, None]
    source = torch.where(row < sizes[:, None], first + row, 0)
    chosen = data.index_select(0, source.flatten().to(data.device, non_blocking=True))
    return chosen.view(*source.shape, *data.shape[1:])


def pack(padded: Tensor, sizes: Tensor) -> Tensor:
    """``[N, ...]`` of ``padded [T, B, ...]``."""
    valid = torch.arange(padded.shape[1]) < sizes[:, None]
    places = valid.flatten().nonzero().squeeze(1).to(padded.device, non_blocking=True)
    return padded.flatten(0, 1).index_select(0, places)
