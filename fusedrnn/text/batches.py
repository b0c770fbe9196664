"""The two ways of cutting a long sequence of token indices into batches of short ones.

Both (Zhang et al., *Dive into Deep Learning*, section 9.3) cut the text into subsequences of
``steps`` tokens, beginning at an offset that is drawn anew every epoch, and label each token with
the one after it:

* random sampling: a batch holds subsequences from anywhere; no batch continues another.
* sequential partitioning: the text is split into ``batch`` streams; each row of a batch continues
  the same row of the batch before, so that a recurrent state can be carried along.

`Windows` is the dataset: it knows how to cut out a subsequence at any position. `RandomSampling`
and `SequentialPartition` are samplers: they say which positions make a batch. The sampler runs in
the main process, so any number of DataLoader workers gives the same batches in the same order::

    windows = Windows(ids, steps=35)
    order = SequentialPartition(len(ids), batch=32, steps=35, seed=0)
    for inputs, labels in DataLoader(windows, sampler=order, batch_size=None):
        ...  # [35, 32] each

Every subsequence that fits is used, but for what does not fill a batch. Left out of an epoch are:

* the tokens before the offset, fewer than ``steps``;
* in random sampling, the subsequences left over when no further batch can be filled: fewer than
  ``batch``, other ones each epoch;
* in sequential partitioning, the end of each stream, fewer than ``steps`` tokens, and fewer than
  ``batch`` tokens at the end of the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fusedrnn.text.errors import TextError

_SIGNED = {
    torch.uint16: (torch.int16, 0xFFFF),
    torch.uint32: (torch.int32, 0xFFFFFFFF),
    torch.uint64: (torch.int64, -1),
}


def gather(ids: Tensor, positions: Tensor) -> Tensor:
    """The tokens at ``positions``, int64 in their shape; ``ids`` is read where it lies.

    Args:
        ids: integer ``[tokens]`` of any integer type.
        positions: int64, on the device of ``ids``. Raises IndexError for one outside the text.
    """
    # torch gathers no unsigned type but uint8: they are read as signed and turned back afterwards.
    signed, mask = _SIGNED.get(ids.dtype, (ids.dtype, -1))
    # index_select, unlike indexing, refuses negative positions.
    found = ids.view(signed).index_select(0, positions.flatten()).view_as(positions).long()
    return found & mask if mask >= 0 else found


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Subsequences of a text with their labels, by start position.

    ``windows[start]`` gives inputs and labels ``[steps]``; ``windows[starts]``, with a list or
    int64 tensor of B start positions on the device of ``ids``, gives inputs and labels ``[steps,
    B]``. Both are int64; labels are the inputs one token later.

    Args:
        ids: integer tensor ``[tokens]``, at least ``steps + 1`` long, of any integer type; read
            where it lies, so that it may be a file mapped into memory.
        steps: length of a subsequence.

    Raises:
        TextError: too few tokens, or not one dimension of integers.
        IndexError: a start position outside ``[0, len(self))``.
    """

    def __init__(self, ids: Tensor, steps: int) -> None:
        if ids.dim() != 1 or ids.is_floating_point():
            raise TextError(
                f"ids: expected integers in one dimension, got {ids.dtype} {list(ids.shape)}"
            )
        _check_fits(len(ids), 1, steps)
        self.ids = ids
        self.steps = steps
        self._span = torch.arange(steps + 1, device=ids.device).unsqueeze(1)

    def __len__(self) -> int:
        """The number of start positions."""
        return len(self.ids) - self.steps

    def __getitem__(self, start: int | Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(start, int) and not 0 <= start < len(self):
            raise IndexError(f"start: expected 0 to {len(self) - 1}, got {start}")
        positions = torch.as_tensor(start, device=self.ids.device)
        span = self._span.squeeze(1) if positions.dim() == 0 else self._span
        block = gather(self.ids, positions + span)
        return block[:-1], block[1:]


class Order(Sampler[Tensor]):
    """The positions that make each batch, epoch by epoch: what the two orders share.

    Iterating gives int64 tensors ``[batch]`` of start positions, one per batch; each new iteration
    is the next epoch. ``len()`` is the number of batches of the coming epoch. Positions depend on
    nothing but the arguments, the seed and the number of the epoch.

    Args:
        tokens: length of the text.
        batch, steps: size of a batch.
        seed: any integer.

    Attributes:
        epoch: the epoch that comes next, from 0; set it to go on where a run stopped.
        carries: whether each batch continues the one before.

    Raises:
        TextError: a size below 1, or a text too short for one batch: ``batch * steps + 1`` tokens
            fill one.
    """

    carries: bool

    def __init__(self, tokens: int, batch: int, steps: int, seed: int = 0) -> None:
        _check_fits(tokens, batch, steps)
        self.tokens, self.batch, self.steps, self.seed = tokens, batch, steps, seed
        self.epoch = 0

    def starts(self, epoch: int) -> Tensor:
        """Start positions of a whole epoch, int64 ``[batches, batch]``."""
        generator, offset = self._draw_offset(epoch)
        return offset + self._starts(self.tokens - 1 - offset, generator)

    def batches(self, epoch: int) -> int:
        """The number of batches of an epoch."""
        _, offset = self._draw_offset(epoch)
        return (self.tokens - 1 - offset) // (self.batch * self.steps)

    def _draw_offset(self, epoch: int) -> tuple[torch.Generator, int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        # All offsets short of one subsequence, as long as a whole batch still fits behind them.
        offsets = min(self.steps, self.tokens - self.batch * self.steps)
        return generator, int(torch.randint(offsets, (), generator=generator))

    def _starts(self, labelled: int, generator: torch.Generator) -> Tensor:
        """Positions counted from the offset, behind which ``labelled`` tokens have a successor."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Tensor]:
        # A generator, so that the epoch begins with the first batch: a DataLoader with workers asks
        # for an iterator twice and leaves the first one unused.
        epoch, self.epoch = self.epoch, self.epoch + 1
        yield from self.starts(epoch)

    def __len__(self) -> int:
        return self.batches(self.epoch)


class RandomSampling(Order):
    """Random sampling: the subsequences of the epoch, shuffled."""

    carries = False

    def _starts(self, labelled: int, generator: torch.Generator) -> Tensor:
        order = torch.randperm(labelled // self.steps, generator=generator)
        batches = len(order) // self.batch
        return self.steps * order[: batches * self.batch].view(batches, self.batch)


class SequentialPartition(Order):
    """Sequential partitioning: row b of every batch walks along stream b."""

    carries = True

    def _starts(self, labelled: int, generator: torch.Generator) -> Tensor:
        stream = labelled // self.batch
        first = stream * torch.arange(self.batch)
        return first + self.steps * torch.arange(stream // self.steps).unsqueeze(1)


ORDERS: dict[str, type[Order]] = {"sequential": SequentialPartition, "random": RandomSampling}


def make_order(name: str, tokens: int, batch: int, steps: int, seed: int = 0) -> Order:
    """The order called ``name`` (a key of `ORDERS`). Raises TextError for another name."""
    if name not in ORDERS:
        raise TextError(f"order: expected one of {', '.join(ORDERS)}, got {name!r}")
    return ORDERS[name](tokens, batch, steps, seed)


def document_resets(documents: Tensor, starts: Tensor, steps: int) -> Tensor:
    """Where a document begins in the batch whose rows begin at ``starts``, for the ``resets`` of the
    layers.

    Args:
        documents: int64, positions where a document begins, rising.
        starts: int64 ``[B]``, start positions of the rows.

    Returns:
        bool ``[steps, B]``.
    """
    positions = starts + torch.arange(steps, device=starts.device).unsqueeze(1)
    found = torch.searchsorted(documents, positions).clamp_(max=max(len(documents) - 1, 0))
    return documents[found] == positions if len(documents) else torch.zeros_like(positions) > 0


def make_loader(
    ids: Tensor, batch: int, steps: int, order: str = "sequential", seed: int = 0, **options: Any
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A DataLoader over (inputs, labels), each int64 ``[steps, batch]``; every pass is a new epoch.

    ``options`` go to the DataLoader (``num_workers``, ``pin_memory``, ...).
    """
    sampler = make_order(order, len(ids), batch, steps, seed)
    return DataLoader(Windows(ids, steps), sampler=sampler, batch_size=None, **options)


def _check_fits(tokens: int, batch: int, steps: int) -> None:
    if batch < 1 or steps < 1:
        raise TextError(f"expected a batch and steps of at least 1, got {batch} and {steps}")
    if tokens < batch * steps + 1:
        raise TextError(
            f"expected at least {batch * steps + 1} tokens (batch {batch} x steps {steps}, and one "
            f"for the last label), got {tokens}"
        )
