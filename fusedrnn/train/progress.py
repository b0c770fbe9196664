"""The live line of a run, on standard error."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from fusedrnn.train.metrics import perplexity
from fusedrnn.train.settings import Settings
from fusedrnn.train.task import Task
from fusedrnn.train.watch import Update

_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class Progress:
    """A bar over the updates of all epochs, with loss, perplexity where there is one, gradient
    norm, units per second and the time left.

    Numbers are read from their tensors only when the line is about to be drawn, because reading
    waits for the device.

    Args:
        quiet: draws nothing (in all processes but one).
    """

    def __init__(self, task: Task, settings: Settings, *, quiet: bool = False) -> None:
        # A terminal is redrawn often; a log file gets a line now and then.
        self._interval = 0.2 if sys.stderr.isatty() else 10.0
        self._task, self._settings = task, settings
        self._epoch = 0
        self._count = 0
        self._drawn = time.monotonic()
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None  # drawn from the first update on, not over an error

    def step(self, update: Update) -> None:
        """To be called after each update."""
        bar = self._start_epoch(update) if update.epoch != self._epoch else self._bar
        if bar is None:
            return
        self._count += update.count
        now = time.monotonic()
        if now - self._drawn >= self._interval:
            rate, self._count = self._count / (now - self._drawn), 0
            self._drawn = now
            bar.set_postfix_str(self._describe(update, rate), refresh=False)
        bar.update(update.update - bar.n)

    def _describe(self, update: Update, rate: float) -> str:
        loss = update.loss
        shown = [f"loss {loss:.3f}"]
        if self._task.perplexity:
            shown.append(f"perplexity {perplexity(loss):.2f}")
        return ", ".join(
            [*shown, f"gradient norm {float(update.norm):.3g}", f"{rate:,.0f} {self._task.unit}/s"]
        )

    def _start_epoch(self, update: Update) -> tqdm[Any]:
        epochs = self._settings.epochs
        per_epoch = -(-self._task.updates(update.epoch - 1) // self._settings.accumulate)
        bar = self._bar
        if bar is None:
            bar = self._bar = tqdm(
                total=epochs * per_epoch,
                initial=update.update - 1,  # of a run that goes on
                mininterval=self._interval,
                dynamic_ncols=True,
                bar_format=_FORMAT,
                disable=self._quiet,
            )
        else:
            # Epochs differ by an update now and then: taken for equal to this one, they end right.
            bar.total = update.update - 1 + (epochs - update.epoch + 1) * per_epoch
        self._epoch = update.epoch
        bar.set_description(f"epoch {update.epoch}/{epochs}", refresh=False)
        return bar

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
