"""Two problems that only a memory solves: adding and copying (Hochreiter & Schmidhuber 1997).

Sequences are drawn anew for every batch, so there is nothing to overfit. ``T`` is how long something
must be remembered, ``B`` the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusedrnn import init
from fusedrnn.tasks.label.batches import epoch_generator
from fusedrnn.tasks.label.model import SequenceLabeller
from fusedrnn.train.task import Step, Task

SYMBOLS, SHOWN = 8, 10
"""Copying: how many different symbols there are, and how many are shown."""

_HELD_OUT = 2**40  # an epoch that no training reaches


def adding(steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The adding problem: the sum of the two marked numbers of a sequence.

    Args:
        steps: T, at least 2: one mark is in each half.

    Returns:
        features float32 ``[T, B, 2]`` (a number even in [0, 1), and the mark 1 or 0), sums ``[B]``.
    """
    half, rows = steps // 2, torch.arange(batch)
    first = torch.randint(half, (batch,), generator=generator)
    second = torch.randint(half, steps, (batch,), generator=generator)
    values = torch.rand(steps, batch, generator=generator)
    marks = torch.zeros(steps, batch)
    marks[first, rows] = marks[second, rows] = 1.0
    return torch.stack([values, marks], -1), values[first, rows] + values[second, rows]


def copying(steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Copy memory: ten symbols, T blanks with a signal at the end of them, and the symbols again.

    Returns:
        ids int64 ``[T + 20, B]`` (0 blank, 1 to 8 symbols, 9 the signal to begin), and targets of
        the same shape: blanks, and in the last ten steps the symbols.
    """
    symbols = torch.randint(1, SYMBOLS + 1, (SHOWN, batch), generator=generator)
    ids = torch.zeros(steps + 2 * SHOWN, batch, dtype=torch.int64)
    targets = ids.clone()
    ids[:SHOWN] = symbols
    ids[steps + SHOWN - 1] = SYMBOLS + 1
    targets[-SHOWN:] = symbols
    return ids, targets


def adding_floor() -> float:
    """Mean squared error of always answering 1: the variance of a sum of two numbers, 1/6."""
    return 1 / 6


def copying_floor(steps: int) -> float:
    """Cross-entropy of knowing when, but not what: 10 ln 8 / (T + 20) nats per step."""
    return SHOWN * math.log(SYMBOLS) / (steps + 2 * SHOWN)


class MemoryTask(Task):
    """One of the two problems, for the training loop.

    Args:
        problem: ``"adding"`` or ``"copying"``.
        steps: T.
        cell, hidden: the model, see `SequenceLabeller`; one layer.
        initialisation, longest: see `fusedrnn.init.initialise`.
        batch: B.
        updates: batches of an "epoch", after which there is an evaluation.
        seed: of everything random.
        held_out: sequences to evaluate on, drawn once.

    Raises:
        ValueError: another problem, fewer than 2 steps, and what model or initialisation refuse.
    """

    kind: ClassVar[str] = "memory"
    unit: ClassVar[str] = "sequences"

    def __init__(
        self,
        problem: str,
        steps: int,
        cell: str = "gru",
        hidden: int = 64,
        *,
        initialisation: str = "default",
        longest: float | None = None,
        batch: int = 64,
        updates: int = 100,
        seed: int = 0,
        held_out: int = 1000,
    ) -> None:
        if problem not in ("adding", "copying"):
            raise ValueError(f"problem: expected adding or copying, got {problem!r}")
        if steps < 2:
            raise ValueError(f"steps: expected at least 2, got {steps!r}")
        torch.manual_seed(seed)
        adds = problem == "adding"
        inputs: dict[str, Any] = (
            {"kind": "features", "size": 2}
            if adds
            else {"kind": "tokens", "tokens": SYMBOLS + 2, "embedding": 0}
        )
        outputs, pool = (1, "last") if adds else (SYMBOLS + 1, None)
        self.model = SequenceLabeller(inputs, outputs, pool, cell, hidden)
        init.initialise(self.model, initialisation, longest=longest)
        self._draw = adding if adds else copying
        self._steps, self._batch, self._updates, self._seed = steps, batch, updates, seed
        self._valid = self._draw(steps, held_out, epoch_generator(seed, _HELD_OUT))
        self.floor = adding_floor() if adds else copying_floor(steps)
        self._about = {"problem": problem, "steps": steps}

    def updates(self, epoch: int) -> int:
        return self._updates

    def batches(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        device = self._device
        for number in range(skip, self._updates):
            generator = epoch_generator(self._seed, epoch, 1 + number)
            inputs, targets = self._draw(self._steps, self._batch, generator)
            yield inputs.to(device), targets.to(device)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], carried: Any = None) -> Step:
        inputs, targets = batch
        logits = model(inputs)
        if targets.is_floating_point():
            loss = F.mse_loss(logits.squeeze(-1), targets)
        else:
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        rows = inputs.shape[1]
        return Step(loss, loss.detach() * rows, rows)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """``valid_loss``: mean squared error (adding), or nats per step (copying)."""
        inputs, targets = self._valid
        total = 0.0
        for begin in range(0, inputs.shape[1], 250):
            rows = slice(begin, begin + 250)
            part = targets[rows] if targets.dim() == 1 else targets[:, rows]
            batch = inputs[:, rows].to(self._device), part.to(self._device)
            total += self.loss(self.model, batch).total.item()
        return {"valid_loss": total / inputs.shape[1]}

    def describe(self) -> dict[str, Any]:
        return {"model": self.model.config, **self._about}

    def fingerprint(self) -> dict[str, Any]:
        sizes = {"batch": self._batch, "updates": self._updates, "seed": self._seed}
        return {**self._about, **sizes}

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
