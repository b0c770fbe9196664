"""PackedSequence to padded rows and back, by index operations alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor, Tensor]:
    """The padded data, time first, in the packed (longest first) order of rows.

    Rows are gathered, because torch's scatter (``index_copy``) costs as much as a third of a layer.

    Returns:
        ``x [T, B, ...]`` with anything past each row's length, ``lengths [B]`` int64, and the places
        of the packed elements among the ``T*B`` padded ones, all on the device of the data. The
        sizes are read from ``batch_sizes``, which PackedSequence keeps on the CPU.
    """
    data, sizes = packed.data, packed.batch_sizes
    steps, batch = sizes.shape[0], int(sizes[0])
    row = torch.arange(batch)
    valid = row < sizes[:, None]
    source = torch.where(valid, (sizes.cumsum(0) - sizes)[:, None] + row, 0).flatten()
    places = valid.flatten().nonzero().squeeze(1).to(data.device, non_blocking=True)
    padded = data.index_select(0, source.to(data.device, non_blocking=True))
    lengths = valid.sum(0).to(data.device, non_blocking=True)
    return padded.unflatten(0, (steps, batch)), lengths, places


def repack(y: Tensor, places: Tensor, packed: PackedSequence) -> PackedSequence:
    """``y [T, B, ...]`` packed as ``packed`` is."""
    return PackedSequence(
        y.flatten(0, 1).index_select(0, places),
        packed.batch_sizes,
        packed.sorted_indices,
        packed.unsorted_indices,
    )
