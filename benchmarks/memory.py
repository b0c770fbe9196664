"""Bytes that autograd keeps between forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_bytes(forward: Callable[[], object], given: Iterable[Tensor]) -> int:
    """Bytes of all tensors that ``forward`` saves for its backward, each storage counted once.

    ``given`` are tensors that exist anyway, inputs and parameters: their storages do not count. The
    output counts where backward needs it, as for everybody.
    """
    own = {t.untyped_storage().data_ptr() for t in given}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer and pointer not in own:
            kept[pointer] = tensor  # held, so that no later storage can get the same address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(t.untyped_storage().nbytes() for t in kept.values())
    del result
    return total
