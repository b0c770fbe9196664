"""Ragged batches of sentence pairs: sentences of like length together, padded to the longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusedrnn.tasks.translate.codec import PADDING, START

_POOL = 50  # batches that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """Sentence pairs, time first.

    Attributes:
        source: int64 ``[S, B]``, each row ending in the end mark, then padding.
        source_lengths: int64 ``[B]``, end mark included.
        inputs: int64 ``[T, B]``, what the decoder reads: the start mark and the target.
        labels: int64 ``[T, B]``, what it is to write: the target and the end mark.
        lengths: int64 ``[B]``, of inputs and labels.
        truth: the probability with which the decoder reads the given token, see `EncoderDecoder`.
    """

    source: Tensor
    source_lengths: Tensor
    inputs: Tensor
    labels: Tensor
    lengths: Tensor
    truth: float = 1.0


class PairData:
    """Encoded sentence pairs, from which batches are cut.

    Args:
        sources, targets: token indices of each sentence, end mark included.
        device: where batches are made.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        device: str | torch.device = "cpu",
    ) -> None:
        self.sources, self.source_lengths = pad(sources, device)
        self.targets, self.lengths = pad(targets, device)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Tensor, truth: float = 1.0) -> Batch:
        """The pairs ``rows [B]``, int64, padded to the longest among them."""
        source_lengths, lengths = self.source_lengths[rows], self.lengths[rows]
        labels = self.targets[: int(lengths.max()), rows]
        start = labels.new_full((1, len(rows)), START)
        return Batch(
            source=self.sources[: int(source_lengths.max()), rows],
            source_lengths=source_lengths,
            inputs=torch.cat([start, labels[:-1]]),
            labels=labels,
            lengths=lengths,
            truth=truth,
        )

    def shuffled(self, size: int, seed: int, epoch: int) -> list[Tensor]:
        """The rows of each batch of an epoch: every pair once, the last batch perhaps smaller.

        Pairs are shuffled, sorted by length within pools of 50 batches, and the batches shuffled.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=generator)
        batches: list[Tensor] = []
        for pool in order.split(_POOL * size):
            batches += pool[self._by_length(pool)].split(size)
        places = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[place].to(self.lengths.device) for place in places]

    def in_order(self, size: int) -> Iterator[Tensor]:
        """The rows of batches that hold every pair once, the longest first."""
        rows = torch.arange(len(self))
        yield from rows[self._by_length(rows)].flip(0).to(self.lengths.device).split(size)

    def _by_length(self, rows: Tensor) -> Tensor:
        lengths, others = self.lengths.cpu()[rows], self.source_lengths.cpu()[rows]
        return (lengths * (int(others.max()) + 1) + others).argsort(stable=True)


def pad(
    sentences: Sequence[Sequence[int]], device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Sentences as int64 ``[S, B]``, padded to the longest, and their lengths ``[B]``."""
    lengths = [len(sentence) for sentence in sentences]
    longest = max(lengths, default=0)
    rows = [[*sentence, *[PADDING] * (longest - len(sentence))] for sentence in sentences]
    padded = torch.tensor(rows, dtype=torch.int64).view(len(rows), longest)
    return padded.t().contiguous().to(device), torch.tensor(lengths, device=device)
