"""Full, truncated and randomly truncated gradients: the factors that `state_gradients` takes.

Between every ``every`` steps the way of the gradient may be cut:

* full: nowhere;
* fixed: everywhere. The gradient misses what reaches further back: it is biased.
* random: with probability ``cut``; where it is not cut, what crosses is multiplied by
  ``1 / (1 - cut)``. The mean over the cuts is the full gradient: it is unbiased (Tallec and Ollivier,
  arXiv:1705.08209, equation 5; *Dive into Deep Learning*, section 9.7.1.3), at the price of variance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from fusedrnn.tasks.gradients.errors import GradientError


def fixed(steps: int, every: int) -> list[float]:
    """``steps + 1`` factors with a cut after every ``every`` steps."""
    return _at_boundaries(steps, every, lambda: 0.0)


def random(steps: int, every: int, cut: float, generator: torch.Generator) -> list[float]:
    """``steps + 1`` factors, drawn: at each boundary 0 with probability ``cut``, else
    ``1 / (1 - cut)``.

    Raises:
        GradientError: cut not above 0 and below 1.
    """
    if not 0.0 < cut < 1.0:
        raise GradientError(f"cut: expected a probability above 0 and below 1, got {cut!r}")

    def draw() -> float:
        cuts = float(torch.rand((), generator=generator)) < cut
        return 0.0 if cuts else 1.0 / (1.0 - cut)

    return _at_boundaries(steps, every, draw)


def _at_boundaries(steps: int, every: int, factor: Callable[[], float]) -> list[float]:
    if every < 1:
        raise GradientError(f"every: expected at least 1 step, got {every}")
    return [factor() if 0 < t < steps and t % every == 0 else 1.0 for t in range(steps + 1)]
