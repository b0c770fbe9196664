"""The batches of a language model, cut out of the text on the device that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fusedrnn.text.batches import (
    Order,
    SequentialPartition,
    Windows,
    document_resets,
    make_order,
)
from fusedrnn.text.errors import TextError

Batch = tuple[Tensor, Tensor, Tensor | None]


class _SameStart(SequentialPartition):
    """Sequential partitioning from the first token on, in every epoch."""

    def _draw_offset(self, epoch: int) -> tuple[torch.Generator, int]:
        return torch.Generator(), 0


class Streams:
    """Rows of a text, epoch by epoch, in an order of `fusedrnn.text.batches`.

    Args:
        ids: integer ``[tokens]``, contiguous, of any integer dtype.
        batch, steps, order, seed: see `make_order`.
        same_start: whether every epoch begins at the first token, not at an offset drawn anew.
        documents: int64, positions where a document begins, rising; the state is reset there.

    Raises:
        TextError: as `make_order`; ``same_start`` in random order.
    """

    def __init__(
        self,
        ids: Tensor,
        batch: int,
        steps: int,
        order: str = "sequential",
        seed: int = 0,
        *,
        same_start: bool = False,
        documents: Tensor | None = None,
    ) -> None:
        self.order: Order = make_order(order, len(ids), batch, steps, seed)
        if same_start:
            if order != "sequential":
                raise TextError(f"same_start: expected sequential order, got {order!r}")
            self.order = _SameStart(len(ids), batch, steps, seed)
        self._ids = ids.contiguous()
        self._windows = Windows(self._ids, steps)
        several = documents is not None and len(documents) > 1
        self._documents = documents.to(ids.device) if documents is not None and several else None
        self._rows = slice(0, batch)

    def share(self, rank: int, world: int) -> None:
        """From now on the rows of process ``rank`` of ``world`` alone. Raises TextError."""
        batch = self.order.batch
        if batch % world:
            raise TextError(f"batch: expected a multiple of {world}, the processes, got {batch}")
        rows = batch // world
        self._rows = slice(rank * rows, (rank + 1) * rows)

    def chunks(self, epoch: int) -> int:
        """How many chunks of ``steps`` tokens each row has in an epoch."""
        return self.order.batches(epoch)

    def blocks(self, epoch: int, stretches: Sequence[int], skip: int = 0) -> Iterator[Batch]:
        """Inputs and labels int64 ``[T, rows]``, labels being the inputs one token later, and where
        documents begin among the inputs, bool ``[T, rows]``, or None where there is but one.

        Args:
            stretches: how many chunks each block has; other than 1 in sequential order alone.
            skip: number of blocks to leave out at the beginning.
        """
        starts = self.order.starts(epoch)[:, self._rows]
        streams = self._side_by_side(starts) if self.order.carries else None
        begin = sum(stretches[:skip])
        for chunks in stretches[skip:]:
            first, length = begin * self.order.steps, chunks * self.order.steps
            if streams is not None:
                block = streams[first : first + length + 1].to(
                    torch.int64, memory_format=torch.contiguous_format, copy=True
                )
                inputs, labels = block[:-1], block[1:]
            else:
                inputs, labels = self._windows[starts[begin].to(self._ids.device)]
            resets = self._documents
            if resets is not None:
                resets = document_resets(resets, starts[begin].to(resets.device), length)
            yield inputs, labels, resets
            begin += chunks

    def _side_by_side(self, starts: Tensor) -> Tensor:
        """In sequential order the rows of an epoch are equally far apart: one view ``[tokens, rows]``
        of the text, from which one copy makes a block."""
        first = int(starts[0, 0])
        stride = int(starts[0, 1]) - first if starts.shape[1] > 1 else 1
        length = len(starts) * self.order.steps + 1
        offset = self._ids.storage_offset() + first
        return self._ids.as_strided((length, starts.shape[1]), (1, stride), offset)
