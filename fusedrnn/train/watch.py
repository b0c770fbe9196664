"""What the updates gave: read without waiting for a device at each of them, and finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fusedrnn.errors import UserError

_WAITING = 64


class DivergedError(UserError, RuntimeError):
    """The loss or the gradient became infinite or not a number."""


@dataclass(slots=True)
class Update:
    """One update of the parameters.

    Attributes:
        epoch, update: its epoch and its number in the run, both from 1.
        total: the loss summed over ``count`` of the task's units, a scalar on the model's device.
        norm: global norm of the gradients before clipping, likewise.
        rate: the learning rate.
    """

    epoch: int
    update: int
    total: Tensor
    count: int
    norm: Tensor
    rate: float

    @property
    def loss(self) -> float:
        """The mean loss. Reading it waits for the device."""
        return float(self.total) / self.count


@dataclass
class Sums:
    """An epoch so far, in numbers that a checkpoint can hold."""

    total: float = 0.0
    count: int = 0
    updates: int = 0
    norm: float = 0.0
    largest_norm: float = 0.0
    seconds: float = 0.0


class Watch:
    """Sums up the updates of an epoch.

    On the CPU each is read at once, before the parameters change; on another device many together,
    because reading waits for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = Sums()
        self._limit = 1 if device.type == "cpu" else _WAITING
        self._waiting: list[Update] = []

    def add(self, update: Update) -> None:
        """Raises DivergedError, perhaps for an update before this one."""
        self._waiting.append(update)
        if len(self._waiting) >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Reads what waits to be read. Raises DivergedError."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            values = [float(waiting[0].total), float(waiting[0].norm)]
        else:
            scalars = [each.double() for one in waiting for each in (one.total, one.norm)]
            values = torch.stack(scalars).tolist() if scalars else []
        sums = self.sums
        for one, total, norm in zip(waiting, values[::2], values[1::2], strict=True):
            if not (math.isfinite(total) and math.isfinite(norm)):
                raise _diverged(one, total / one.count, norm)
            sums.total += total
            sums.count += one.count
            sums.updates += 1
            sums.norm += norm
            sums.largest_norm = max(sums.largest_norm, norm)


def _diverged(update: Update, loss: float, norm: float) -> DivergedError:
    what = ("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)
    return DivergedError(
        f"epoch {update.epoch}, update {update.update}: expected a finite {what[0]}, got {what[1]} "
        f"(loss {loss:.6g}, gradient norm {norm:.6g}, learning rate {update.rate:.6g}); a smaller "
        "learning rate or clip may help"
    )


def check_record(record: dict[str, float]) -> None:
    """DivergedError unless every number of an epoch can be written down."""
    for name, value in record.items():
        if not math.isfinite(value):
            kind = "a finite " + name.replace("_", " ")
            raise DivergedError(
                f"epoch {record['epoch']}: expected {kind}, got {value} (loss {record['loss']:.6g}, "
                f"gradient norm {record['grad_norm']:.6g}); a smaller learning rate or clip may help"
            )
