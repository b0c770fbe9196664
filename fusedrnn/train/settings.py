"""The settings of a run of training: what a person chooses, checked before anything begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from fusedrnn.errors import UserError
from fusedrnn.train.optim import OPTIMIZERS

SCHEDULES = ("constant", "step", "exponential", "cosine", "plateau")

# What may differ when a run goes on: nothing of it changes an update that was already made.
_FREE = ("epochs", "patience", "save_every_s", "keep", "log_every", "samples", "tensorboard")


class SettingsError(UserError, ValueError):
    """A setting that cannot be; the message names it."""


@dataclass(frozen=True)
class Settings:
    """How a task is trained.

    Attributes:
        epochs: passes over the data.
        optimizer: a key of `fusedrnn.train.optim.OPTIMIZERS`.
        lr: learning rate; None for the optimizer's own, see `make_optimizer`.
        weight_decay: of the optimizer.
        schedule: how the learning rate goes on from there, one of `SCHEDULES`, see
            `fusedrnn.train.schedule`.
        warmup: updates over which the learning rate rises from 0 to its value.
        decay: factor of the schedules step, exponential and plateau.
        decay_after: epochs before the first decay of the schedule step; None for ``decay_every``.
        decay_every: epochs from one decay of the schedule step to the next.
        plateau: epochs without improvement that the schedule plateau waits for.
        min_lr: the schedules go no lower.
        clip: largest global norm of the gradients; 0 leaves them as they are.
        clip_value: largest absolute value of an entry of a gradient, applied before the norm; None
            leaves them as they are.
        accumulate: batches whose gradients make one update, by their mean.
        autocast: whether the forward pass runs in bfloat16 where torch's autocast says so.
        patience: epochs without improvement of the held-out loss (the training loss where nothing is
            held out) after which the run ends; None for no end but ``epochs``.
        seed: of everything random; the task takes it too.
        save_every_s: seconds from one checkpoint to the next.
        keep: checkpoints to keep, the best one apart.
        log_every: updates from one line of ``steps.jsonl`` to the next; 0 writes none.
        samples: texts (or what the task shows) written to ``samples.jsonl`` after each epoch.
        tensorboard: whether the numbers of epochs, and of every ``log_every``-th update, are written
            for TensorBoard too.

    Raises:
        SettingsError: a setting out of its range.
    """

    epochs: int
    optimizer: str = "adam"
    lr: float | None = None
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    decay: float = 0.5
    decay_after: int | None = None
    decay_every: int = 1
    plateau: int = 0
    min_lr: float = 0.0
    clip: float = 1.0
    clip_value: float | None = None
    accumulate: int = 1
    autocast: bool = False
    patience: int | None = None
    seed: int = 0
    save_every_s: float = 30.0
    keep: int = 2
    log_every: int = 0
    samples: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", sorted(OPTIMIZERS)), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise SettingsError(f"{name}: expected a whole number >= {least}, got {value!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise SettingsError(f"{name}: expected a finite number >= 0, got {value!r}")

        if self.lr is not None:
            self.check_start(self.lr)

    def check_start(self, lr: float) -> None:
        """Raises SettingsError where a schedule that begins at ``lr`` would have to rise."""
        if self.min_lr > lr:
            raise SettingsError(
                f"min_lr: expected at most the learning rate, {lr:g}, got {self.min_lr:g}"
            )

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """What a run with the settings ``saved`` cannot take over from these, one line each."""
        free = _FREE[1:] if self.schedule == "cosine" else _FREE  # which ends with the last epoch
        found = []
        for field in fields(self):
            # A run of before a setting was there had what is now its default.
            before, now = saved.get(field.name, field.default), getattr(self, field.name)
            if field.name not in free and before != now:
                found.append(f"{field.name}: the run has {before!r}, got {now!r}")
        return found


_WHOLE = {
    "epochs": 1,
    "warmup": 0,
    "decay_after": 1,
    "decay_every": 1,
    "plateau": 0,
    "accumulate": 1,
    "patience": 1,
    "seed": 0,
    "keep": 1,
    "log_every": 0,
    "samples": 0,
}
_NUMBERS = ("lr", "weight_decay", "decay", "min_lr", "clip", "clip_value", "save_every_s")
