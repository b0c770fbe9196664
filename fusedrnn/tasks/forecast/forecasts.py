"""Forecasts of all steps of the horizon from a trained network.

* direct: the network gives all steps at once.
* rollout: it gives one, which is fed back as if it had been observed, and so on (*Dive into Deep
  Learning*, section 9.1.5, "k-step-ahead"). Covariates of the past stay as they were before the
  origin; those known ahead go on.

With quantiles, a rollout follows many paths: in each one, the value fed back is drawn from the
distribution that the quantiles describe, and the intervals are the quantiles of the paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fusedrnn.tasks.forecast.networks import Network, SequenceToSequence
from fusedrnn.tasks.forecast.series import Floats
from fusedrnn.tasks.forecast.windows import Batch, Windows

STRATEGIES = ("rollout", "direct")

Pick = Callable[[Tensor], Tensor]
Values = TypeVar("Values", Tensor, Floats)


@torch.no_grad()
def forecast(
    network: Network,
    windows: Windows,
    strategy: str,
    levels: Sequence[float] = (),
    *,
    paths: int = 100,
    seed: int = 0,
    rows: int = 4096,
) -> Tensor:
    """Forecasts of all windows, on the scale that they are in.

    Args:
        strategy: one of `STRATEGIES`.
        levels: the quantiles that the network was trained for, rising; none for the mean.
        paths, seed: of a rollout with quantiles.
        rows: windows (times paths) computed at once.

    Returns:
        ``[n, K, Q]`` on the CPU, with quantiles in rising order.
    """
    training = network.training
    network.eval()
    draws = bool(levels) and strategy == "rollout" and windows.horizon > 1
    copies = paths if draws else 1
    generator = torch.Generator().manual_seed(seed)
    parts = []
    try:
        for index in torch.arange(len(windows)).split(max(1, rows // copies)):
            batch = windows.batch(index.repeat_interleave(copies))
            if strategy == "direct":
                out = network(batch.past, batch.known)
            else:
                pick = _drawing(levels, generator) if draws else point
                out = _roll(network, batch, pick)
            out = out.transpose(0, 1).cpu()
            parts.append(_quantiles_of_paths(out, copies, levels) if draws else out)
    finally:
        network.train(training)
    out = torch.cat(parts)
    # Quantiles fitted one by one may cross; in order they are no worse (Chernozhukov,
    # Fernandez-Val and Galichon, Econometrica 78 (2010), 1093-1125).
    return out.sort(dim=2).values


def point(values: Values) -> Values:
    """The point forecast of ``[..., Q]``, ``[...]``: the mean, or the middle quantile."""
    result: Values = values[..., values.shape[-1] // 2]
    return result


def _roll(network: Network, batch: Batch, pick: Pick) -> Tensor:
    """``[K, B, Q]``, or in a drawn rollout ``[K, B, 1]`` with the path itself."""
    if isinstance(network, SequenceToSequence):
        return _roll_decoder(network, batch, pick)
    past, outs = batch.past, []
    held = batch.past[-1, :, 1 : 1 + network.past_columns]
    for k in range(len(batch.known)):
        out = network(past, batch.known[k : k + 1])[0]
        value, out = _picked(out, pick)
        outs.append(out)
        if k + 1 < len(batch.known):
            row = torch.cat([value.unsqueeze(1), held, batch.known[k + 1]], dim=1)
            past = torch.cat([past[1:], row.unsqueeze(0)])
    return torch.stack(outs)


def _roll_decoder(network: SequenceToSequence, batch: Batch, pick: Pick) -> Tensor:
    """The same with a state instead of a window that moves on."""
    state, row, outs = network.encode(batch.past), batch.past[-1], []
    held = batch.past[-1, :, 1 : 1 + network.past_columns]
    for k in range(len(batch.known)):
        out, state = network.decode(row.unsqueeze(0), state)
        value, shown = _picked(out[0], pick)
        outs.append(shown)
        if k + 1 < len(batch.known):
            row = torch.cat([value.unsqueeze(1), held, batch.known[k + 1]], dim=1)
    return torch.stack(outs)


def _picked(out: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
    """What is fed back ``[B]``, and what is shown: all of ``out``, or the value if it was drawn."""
    value = pick(out)
    return value, out if pick is point else value.unsqueeze(1)


def _drawing(levels: Sequence[float], generator: torch.Generator) -> Pick:
    """A draw from quantiles ``[B, Q]``: the inverse of the distribution function, straight between
    the levels and, beyond the outermost, straight on."""

    def draw(out: Tensor) -> Tensor:
        values = out.sort(dim=1).values
        uniform = torch.rand(len(out), generator=generator).to(out)
        if len(levels) == 1:
            return values[:, 0]
        grid = torch.tensor(levels).to(out)
        right = torch.searchsorted(grid, uniform).clamp(1, len(levels) - 1)
        low, high = grid[right - 1], grid[right]
        below = values.gather(1, (right - 1).unsqueeze(1)).squeeze(1)
        above = values.gather(1, right.unsqueeze(1)).squeeze(1)
        return below + (above - below) * (uniform - low) / (high - low)

    return draw


def _quantiles_of_paths(out: Tensor, paths: int, levels: Sequence[float]) -> Tensor:
    """Paths ``[B*paths, K, 1]`` to ``[B, K, Q]``."""
    grouped = out.squeeze(2).view(-1, paths, out.shape[1])
    return grouped.quantile(torch.tensor(levels).to(out), dim=1).permute(1, 2, 0)
