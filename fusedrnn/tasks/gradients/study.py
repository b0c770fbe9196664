"""What `fusedrnn gradients` measures of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fusedrnn.tasks.gradients import truncation
from fusedrnn.tasks.gradients.probe import Pair, Probe
from fusedrnn.tasks.gradients.spectrum import Spectrum, main_spectrum
from fusedrnn.tasks.gradients.states import StateGradients, state_gradients

_SINGLE = 5  # random draws that are kept one by one


@dataclass(frozen=True)
class Curve:
    """Norms by the number of steps back from the last state, counted from 0.

    Attributes:
        h: mean over the rows of the norm of the gradient by ``h`` of the last layer, ``T + 1`` of
            them.
        c: by ``c``; None for cells without one.
        spectrum: of the last layer's recurrent weights.
    """

    h: list[float]
    c: list[float] | None
    spectrum: Spectrum


@dataclass(frozen=True)
class Truncated:
    """The gradient with cuts beside the full one, after training.

    Attributes:
        every, cut, draws: as the caller gave them.
        full, fixed: norms by steps back, as in `Curve.h`.
        single: of the first few random draws.
        mean_of_draws: of the mean over all draws of the gradients themselves, not of their norms.
        fixed_error, one_draw_error, mean_error: distance of the gradient by all recurrent weights
            from the full one, relative to the norm of that; for one draw, the mean over the draws.
    """

    every: int
    cut: float
    draws: int
    full: list[float]
    fixed: list[float]
    single: list[list[float]]
    mean_of_draws: list[float]
    fixed_error: float
    one_draw_error: float
    mean_error: float


@dataclass(frozen=True)
class Study:
    """All that is measured of one run."""

    run: str
    cell: str
    before: Curve
    after: Curve
    truncated: Truncated

    def to_dict(self) -> dict[str, Any]:
        """In JSON's own types."""
        return asdict(self)


def study(
    pair: Pair,
    *,
    every: int,
    cut: float,
    draws: int,
    seed: int = 0,
    on_pass: Callable[[], object] = lambda: None,
) -> Study:
    """Measures a run.

    Args:
        every, cut: see `truncation`.
        draws: random truncations to average over, at least 1.
        on_pass: called after each of ``passes(draws)`` passes over the sequence.
    """
    before = _pass(pair.before, None, on_pass)
    full = _pass(pair.after, None, on_pass)
    truncated = _truncated(pair.after, full, every, cut, draws, seed, on_pass)
    return Study(
        pair.name,
        pair.after.cell,
        _curve(pair.before, before),
        _curve(pair.after, full),
        truncated,
    )


def passes(draws: int) -> int:
    """How often `study` goes through the sequence."""
    return draws + 3


def _pass(
    probe: Probe, factors: list[float] | None, on_pass: Callable[[], object]
) -> StateGradients:
    found = state_gradients(probe.rnn, probe.inputs, probe.loss, factors=factors)
    on_pass()
    return found


def _curve(probe: Probe, found: StateGradients) -> Curve:
    cells = found.cell_norms()
    return Curve(
        _back(found.h),
        None if cells is None else cells[:, -1].mean(dim=1).flip(0).tolist(),
        main_spectrum(probe.rnn, probe.rnn.num_layers - 1),
    )


def _back(h: Tensor) -> list[float]:
    """``[T + 1, L, B, P]`` to mean norms of the last layer, the last state first."""
    norms: list[float] = h[:, -1].double().norm(dim=2).mean(dim=1).flip(0).tolist()
    return norms


def _truncated(
    probe: Probe,
    full: StateGradients,
    every: int,
    cut: float,
    draws: int,
    seed: int,
    on_pass: Callable[[], object],
) -> Truncated:
    steps = probe.inputs.shape[0]
    # A cut is counted back from the loss, so that the last stretch is a whole one.
    shift = [1.0] * (steps % every)
    fixed = _pass(probe, shift + truncation.fixed(steps - len(shift), every), on_pass)
    generator = torch.Generator().manual_seed(seed)
    target = _recurrent(full)
    sum_h, sum_w, error = torch.zeros_like(full.h), torch.zeros_like(target), 0.0
    single: list[list[float]] = []
    for _ in range(draws):
        factors = shift + truncation.random(steps - len(shift), every, cut, generator)
        drawn = _pass(probe, factors, on_pass)
        if len(single) < _SINGLE:
            single.append(_back(drawn.h))
        sum_h += drawn.h
        sum_w += _recurrent(drawn)
        error += _distance(_recurrent(drawn), target)
    return Truncated(
        every,
        cut,
        draws,
        _back(full.h),
        _back(fixed.h),
        single,
        _back(sum_h / draws),
        _distance(_recurrent(fixed), target),
        error / draws,
        _distance(sum_w / draws, target),
    )


def _recurrent(found: StateGradients) -> Tensor:
    """The gradient by all recurrent weights, as one vector."""
    own = [p.flatten() for name, p in found.parameters.items() if name.startswith("weight_hh")]
    return torch.cat(own)


def _distance(found: Tensor, target: Tensor) -> float:
    return float((found - target).norm() / target.norm())
