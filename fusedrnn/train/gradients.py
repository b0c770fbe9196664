"""Clipping of gradients (Pascanu et al. 2013, algorithm 1), and the norm that is logged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def clip(parameters: Sequence[nn.Parameter], norm: float, value: float | None = None) -> Tensor:
    """Clips the gradients of ``parameters`` in place.

    Args:
        norm: their largest global norm; 0 leaves them as they are.
        value: the largest absolute value of an entry, applied first; None leaves them as they are.

    Returns:
        The global norm before it was clipped, a scalar. A CUDA device is not waited for.
    """
    gradients = [grad for each in parameters if (grad := each.grad) is not None]
    if value is not None:
        torch._foreach_clamp_min_(gradients, -value)
        torch._foreach_clamp_max_(gradients, value)
    total = global_norm(gradients)
    if norm and gradients:
        if total.is_cpu:
            # Reading the norm is free here, and most updates need no pass over the gradients.
            scale = norm / (float(total) + 1e-6)
            if scale < 1.0:
                torch._foreach_mul_(gradients, scale)
        else:
            torch.nn.utils.clip_grads_with_norm_(parameters, norm, total)
    return total


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The 2-norm of all entries of all gradients, a scalar without history."""
    if not gradients:
        return torch.zeros(())
    first = gradients[0]
    if all(each.dtype == first.dtype and each.device == first.device for each in gradients):
        # What get_total_norm does, without its sorting by device and dtype, which costs more.
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
        return norm.detach()  # costs less than no_grad; gradients seldom have a history
    return torch.nn.utils.get_total_norm(gradients)
