"""The live line of a run, on standard error."""

from __future__ import annotations

import sys
import time

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
        self._bar = tqdm(
            total=settings.epochs * self._updates(0),
            mininterval=self._interval,
            dynamic_ncols=True,
            bar_format=_FORMAT,
            disable=quiet,
        )

    def step(self, update: Update) -> None:
        """To be called after each update."""
        if update.epoch != self._epoch:
            self._start_epoch(update)
        self._count += update.count
        now = time.monotonic()
        if now - self._drawn >= self._interval:
            rate, self._count = self._count / (now - self._drawn), 0
            self._drawn = now
            self._bar.set_postfix_str(self._describe(update, rate), refresh=False)
        self._bar.update(update.update - self._bar.n)

    def _describe(self, update: Update, rate: float) -> str:
        loss = update.loss
        shown = [f"loss {loss:.3f}"]
        if self._task.perplexity:
            shown.append(f"perplexity {perplexity(loss):.2f}")
        return ", ".join(
            [*shown, f"gradient norm {float(update.norm):.3g}", f"{rate:,.0f} {self._task.unit}/s"]
        )

    def _start_epoch(self, update: Update) -> None:
        epochs, per_epoch = self._settings.epochs, self._updates(update.epoch - 1)
        if self._epoch:
            # Epochs differ by an update now and then: taken for equal to this one, they end right.
            self._bar.total = update.update - 1 + (epochs - update.epoch + 1) * per_epoch
        else:
            self._bar.n = self._bar.initial = update.update - 1  # a run that goes on
        self._epoch = update.epoch
        self._bar.set_description(f"epoch {update.epoch}/{epochs}", refresh=False)

    def _updates(self, epoch: int) -> int:
        return -(-self._task.updates(epoch) // self._settings.accumulate)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()
