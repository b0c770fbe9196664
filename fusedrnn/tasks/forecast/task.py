"""Forecasting as a task of the training loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.networks import Network, SequenceToSequence, build
from fusedrnn.tasks.forecast.prepare import Scaling, ready
from fusedrnn.tasks.forecast.series import Series
from fusedrnn.tasks.forecast.settings import Settings
from fusedrnn.tasks.forecast.split import split
from fusedrnn.tasks.forecast.windows import Batch, Windows
from fusedrnn.train import Step, Task


class ForecastTask(Task):
    """A network, the windows it is trained on and those it is judged by.

    Initial parameters follow `torch.manual_seed`; the order of the windows follows ``seed``.

    Args:
        series: as read.
        batch: windows in a batch; the last one of an epoch may hold fewer.
        seed: of the order of the windows, drawn anew each epoch.

    Attributes:
        series: with the calendar, on their own scale.
        cuts: where the parts of each series begin.
        scaling: fitted on the training parts.
        train_windows, valid_windows: what is learnt from and what tells when to stop.

    Raises:
        SeriesError: too few steps in a part for one window.
    """

    kind: ClassVar[str] = "forecast"
    unit: ClassVar[str] = "windows"
    model: Network

    def __init__(
        self,
        series: Sequence[Series],
        settings: Settings,
        *,
        batch: int = 32,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings, self.batch, self.seed, self.device = settings, batch, seed, device
        self.raw = list(series)
        self.series = [ready(each, settings.calendar, 0) for each in series]
        self.cuts = split(self.series, settings.valid_fraction, settings.test_fraction)
        self.scaling = Scaling.fit(self.series, self.cuts, settings.scale)
        self.scaled = [self.scaling.apply(each) for each in self.series]
        self.train_windows = self.windows("training", settings.steps)
        self.valid_windows = (
            self.windows("validation", settings.steps) if settings.valid_fraction else None
        )
        if settings.test_fraction:
            self.windows("test", settings.horizon)  # found too short now, not after training
        self.model = build(settings.network()).to(device)

    def windows(self, part: str, horizon: int) -> Windows:
        """The windows whose forecast steps all lie in ``part``: "training", "validation" or "test".

        Raises:
            SeriesError: there are none.
        """
        spans = [
            {"training": (0, c.valid), "validation": (c.valid, c.test), "test": (c.test, c.end)}[
                part
            ]
            for c in self.cuts
        ]
        lags = self.settings.lags
        windows = Windows(self.scaled, spans, lags, horizon, self.device)
        if len(windows) == 0:
            need = f"{horizon} steps, the horizon," if part != "training" else (
                f"{lags + horizon} steps, the lags and what is forecast from them,"
            )  # fmt: skip
            raise SeriesError(
                f"{_end_of_longest(self.series)}expected at least {need} in the {part} part of a "
                f"series, got {max(end - begin for begin, end in spans)} in the longest"
            )
        return windows

    def updates(self, epoch: int) -> int:
        return -(-len(self.train_windows) // self.batch)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self.train_windows), generator=generator)
        for index in order.split(self.batch)[skip:]:
            yield self.train_windows.batch(index)

    def loss(self, model: nn.Module, batch: Batch, carried: Any) -> Step:
        """Squared error, or with quantiles their mean quantile loss, on the scale of the network."""
        fed = isinstance(self.model, SequenceToSequence) and self.settings.strategy == "rollout"
        teacher = {"fed": batch.target} if fed else {}
        out = model(batch.past, batch.known, **teacher)
        loss = self._error(out, batch.target)
        count = batch.target.shape[1]
        return Step(loss, loss.detach() * count, count)

    def _error(self, out: Tensor, target: Tensor) -> Tensor:
        error = target.unsqueeze(2) - out
        if not self.settings.levels:
            return error.square().mean()
        levels = torch.tensor(self.settings.levels).to(error)
        return torch.maximum(levels * error, (levels - 1.0) * error).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        if self.valid_windows is None:
            return {}
        training = self.model.training
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64)
        try:
            for index in torch.arange(len(self.valid_windows)).split(1024):
                total += self.loss(self.model, self.valid_windows.batch(index), None).total.cpu()
        finally:
            self.model.train(training)
        return {"valid_loss": total.item() / len(self.valid_windows)}

    def describe(self) -> dict[str, Any]:
        """The settings, the scaling, and the end of each series, from which its future begins."""
        tails = [_tail(each, self.settings.lags) for each in self.raw]
        return {
            "settings": self.settings.to_dict(),
            "scaling": self.scaling.to_dict(),
            "tails": tails,
        }

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for each in self.series:
            for part in (each.target, each.past, each.known):
                digest.update(each.name.encode())
                digest.update(part.tobytes())
        return {
            "data": digest.hexdigest(),
            "settings": self.settings.to_dict(),
            "batch": self.batch,
            "seed": self.seed,
        }


def _end_of_longest(series: Sequence[Series]) -> str:
    """Where the longest series ends, as the beginning of a message."""
    end = max(series, key=len).end
    return f"{end}, where the longest series ends: " if end else ""


def _tail(series: Series, lags: int) -> dict[str, Any]:
    """The last steps of a series, enough for one window, in JSON's own types."""
    begin = max(0, len(series) - max(lags, 2))  # two dates tell the gap to the next one
    times = None if series.times is None else series.times[begin:].astype(str).tolist()
    return {
        "name": series.name,
        "target": series.target[begin:].tolist(),
        "past": series.past[begin:].tolist(),
        "known": series.known[begin:].tolist(),
        "times": times,
    }
