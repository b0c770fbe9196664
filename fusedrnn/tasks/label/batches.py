"""Batches of sequences of unequal length.

Each epoch shuffles the examples, sorts them by length within pools of some batches, so that little
is padding, and shuffles the batches. All of it depends on the seed and the epoch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PADDING = -100
"""The target of a step that is padding; the loss leaves it out."""

_POOL = 20  # batches whose examples are sorted together


@dataclass(frozen=True)
class Batch:
    """Sequences side by side.

    Attributes:
        inputs: what the model takes, ``[T, B, ...]``.
        lengths: int64 ``[B]``, valid steps.
        targets: int64 classes, ``[B]`` or ``[T, B]`` with `PADDING` past a row's length.
        count: targets that are not padding.
    """

    inputs: Any
    lengths: Tensor
    targets: Tensor
    count: int

    def to(self, device: torch.device | str) -> Batch:
        inputs, lengths, targets = (
            each.to(device) for each in (self.inputs, self.lengths, self.targets)
        )
        return Batch(inputs, lengths, targets, self.count)


def epoch_order(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The examples of each batch of an epoch, every one once; the last drawn may be short.

    Args:
        lengths: steps of each example.
        batch: examples of a batch, at least 1.
        seed, epoch: whole numbers from 0.
    """
    generator = epoch_generator(seed, epoch)
    order: list[int] = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for begin in range(0, len(order), _POOL * batch):
        pool = sorted(order[begin : begin + _POOL * batch], key=lambda i: lengths[i])
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def sorted_order(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Every example once, by length: batches for evaluation and prediction."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i : i + batch] for i in range(0, len(order), batch)]


def epoch_generator(seed: int, epoch: int, part: int = 0) -> torch.Generator:
    """Random numbers that belong to one epoch, or one part (batch) of it."""
    mixed = (seed * 1_000_003 + epoch) * 1_000_003 + part
    return torch.Generator().manual_seed(mixed % 2**63)


def pad_targets(targets: Sequence[Tensor]) -> Tensor:
    """Classes ``[T_i]`` of each step side by side, ``[T, B]``, or a class ``[]`` each, ``[B]``."""
    if targets[0].dim() == 0:
        return torch.stack(list(targets))
    return pad_sequence(list(targets), padding_value=PADDING)
