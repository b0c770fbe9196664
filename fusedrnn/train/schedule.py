"""Learning rates over a run.

``constant``    the learning rate as it is.
``step``        times ``decay`` after epoch number ``decay_after``, and again every ``decay_every``
                epochs. With decay 0.5, after 4, every 1, the halving of Zaremba et al. 2014.
``exponential`` times ``decay`` over each epoch, a little with every update.
``cosine``      half a cosine from the learning rate down, to be at ``min_lr`` one update after the
                last (Loshchilov and Hutter 2017, without restarts).
``plateau``     times ``decay`` whenever the loss has not improved for more than ``plateau`` epochs.

Each rises from 0 over the first ``warmup`` updates, and none goes below ``min_lr``.
"""

from __future__ import annotations

import math
from typing import Any

from fusedrnn.train.settings import Settings
from fusedrnn.train.task import Task


class Schedule:
    """The learning rate of every update.

    Args:
        lr: where it starts.
        task: asked for the number of its batches, which the cosine needs.

    Raises:
        SettingsError: a ``min_lr`` above ``lr``.
    """

    def __init__(self, settings: Settings, lr: float, task: Task) -> None:
        settings.check_start(lr)
        self._settings, self._lr = settings, lr
        self._last = 1
        if settings.schedule == "cosine":
            batches = (task.updates(epoch) for epoch in range(settings.epochs))
            self._last = sum(-(-each // settings.accumulate) for each in batches)
        self._factor = 1.0
        self._best = math.inf
        self._waited = 0

    def rate(self, update: int, epoch: int, done: float) -> float:
        """The learning rate of an update.

        Args:
            update: its number in the run, from 0.
            epoch: the epoch it is in, from 0.
            done: the share of that epoch that is over, in ``[0, 1)``.
        """
        settings = self._settings
        if settings.schedule == "cosine":
            whole = max(1, self._last - settings.warmup)
            turn = math.pi * min(1.0, max(0, update - settings.warmup) / whole)
            span = self._lr - settings.min_lr
            rate = settings.min_lr + span * 0.5 * (1.0 + math.cos(turn))
        else:
            rate = max(settings.min_lr, self._lr * self._decay(epoch, done))
        if update < settings.warmup:
            rate *= (update + 1) / settings.warmup
        return rate

    def _decay(self, epoch: int, done: float) -> float:
        settings = self._settings
        if settings.schedule == "step":
            after = settings.decay_after or settings.decay_every
            return float(settings.decay ** max(0, (epoch - after) // settings.decay_every + 1))
        if settings.schedule == "exponential":
            return float(settings.decay ** (epoch + done))
        return self._factor  # 1 but for plateau

    def epoch_ended(self, loss: float) -> None:
        """To be told the loss that counts (held out, if there is such) after each epoch."""
        if loss < self._best:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._settings.schedule == "plateau" and self._waited > self._settings.plateau:
            self._factor *= self._settings.decay
            self._waited = 0

    def state(self) -> dict[str, Any]:
        """What a run that goes on must know, in JSON's own types."""
        best = self._best if math.isfinite(self._best) else None
        return {"factor": self._factor, "best": best, "waited": self._waited}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._factor, self._waited = state["factor"], state["waited"]
        self._best = math.inf if state["best"] is None else state["best"]
