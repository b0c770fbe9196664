"""Where backpropagation through time is cut.

The recurrent state goes on from batch to batch in any case; what is cut is the way of the gradient.

``fixed``   after every ``steps`` tokens (Werbos 1990, Mikolov et al. 2010). The gradient misses
            whatever reaches further back: it is biased.
``random``  after every ``steps`` tokens with probability ``cut``; where it is not cut, the gradient
            that crosses is multiplied by ``1 / (1 - cut)``. Its expectation over the cuts is the
            gradient of the whole stream: it is unbiased (Tallec and Ollivier, "Unbiasing truncated
            backpropagation through time", arXiv:1705.08209, equation 5). A smaller ``cut`` gives
            longer stretches, ``steps / cut`` tokens on average, and less variance.
``full``    nowhere: one update per epoch, by the gradient of the whole stream.

Fixed is ``random`` with ``cut`` 1 and full is ``random`` with ``cut`` 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusedrnn.train.trees import transform

TRUNCATIONS = ("fixed", "random", "full")


def probability(truncation: str, cut: float) -> float:
    """The probability of a cut after a chunk of ``steps`` tokens.

    Raises ValueError for an unknown truncation, or for ``random`` with a cut outside (0, 1].
    """
    if truncation not in TRUNCATIONS:
        raise ValueError(
            f"truncation: expected one of {', '.join(TRUNCATIONS)}, got {truncation!r}"
        )
    if truncation == "random" and not 0.0 < cut <= 1.0:
        raise ValueError(f"cut: expected a probability above 0 and at most 1, got {cut!r}")
    return {"fixed": 1.0, "full": 0.0}.get(truncation, cut)


def stretches(chunks: int, cut: float, seed: int, epoch: int) -> list[int]:
    """How many chunks each stretch between two cuts has; the sum is ``chunks``.

    The same seed and epoch give the same stretches.
    """
    if cut == 1.0 or chunks == 0:
        return [1] * chunks
    if cut == 0.0:
        return [chunks]
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch + 1) % 2**63)
    cuts = torch.rand(chunks - 1, generator=generator) < cut
    ends = [*(cuts.nonzero().flatten() + 1).tolist(), chunks]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def crossing(state: Any, cut: float) -> Any:
    """The state as it enters the next chunk of its stretch: the same values, with the gradient that
    goes back through it multiplied by ``1 / (1 - cut)``."""
    if cut == 0.0:
        return state
    return transform(state, lambda each: _scaled(each, 1.0 / (1.0 - cut)))


def _scaled(x: Tensor, factor: float) -> Tensor:
    result: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]  # torch's own
    return result


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
