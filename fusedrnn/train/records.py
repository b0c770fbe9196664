"""What a run writes while it goes on, besides its checkpoints."""

from __future__ import annotations

from typing import Any

from fusedrnn.train import distributed
from fusedrnn.train.folder import RunFolder
from fusedrnn.train.metrics import MetricsFile, perplexity
from fusedrnn.train.settings import Settings
from fusedrnn.train.state import Position
from fusedrnn.train.task import Task
from fusedrnn.train.watch import Sums, Update


class Records:
    """``metrics.jsonl``, ``steps.jsonl``, ``samples.jsonl`` and TensorBoard's files of a run, in
    process 0 alone.

    A run that goes on finds in them what it had written up to its checkpoint: later lines, which it
    will write again, are cut off.

    Attributes:
        history: the epochs that are over.
    """

    def __init__(self, folder: RunFolder | None, settings: Settings, position: Position) -> None:
        self.history: list[dict[str, Any]] = []
        self._every, self._samples = settings.log_every, settings.samples
        self._metrics = self._steps = self._texts = self._board = None
        if folder is None or distributed.rank():
            return
        epoch, update = position.epoch, position.update
        if settings.tensorboard:
            from fusedrnn.train.tensorboard import Board

            self._board = Board(folder.tensorboard, update)
        self._metrics = MetricsFile(folder.metrics, lambda line: line.get("epoch", 0) <= epoch)
        self.history = self._metrics.kept
        if self._every:
            self._steps = MetricsFile(folder.steps, lambda line: line.get("update", 0) <= update)
        if self._samples:
            self._texts = MetricsFile(folder.samples, lambda line: line.get("epoch", 0) <= epoch)

    def update(self, update: Update) -> None:
        """To be told of each update."""
        if not self._every or update.update % self._every:
            return
        values = {"loss": update.loss, "grad_norm": float(update.norm), "lr": update.rate}
        if self._steps is not None:
            self._steps.write({"epoch": update.epoch, "update": update.update, **values})
        if self._board is not None:
            self._board.write("update", values, update.update)

    def epoch(self, record: dict[str, Any], task: Task) -> None:
        """To be told of each epoch that is over."""
        if self._metrics is None:
            return
        self._metrics.write(record)
        if self._texts is not None:
            for text in task.samples(self._samples):
                self._texts.write({"epoch": record["epoch"], "text": text})
        if self._board is not None:
            self._board.write("epoch", record, record["epoch"])

    def sync(self) -> None:
        """Makes what was written survive a power cut."""
        for file in (self._metrics, self._steps, self._texts):
            if file is not None:
                file.sync()

    def close(self) -> None:
        for file in (self._metrics, self._steps, self._texts, self._board):
            if file is not None:
                file.close()


def epoch_record(task: Task, position: Position, own: Sums) -> dict[str, Any]:
    """The entry of an epoch that is over, without what `Task.evaluate` adds.

    Args:
        own: the sums of this process; the norms are those of all.
    """
    total, count = distributed.summed([own.total, float(own.count)])
    loss = total / count
    shown = {"perplexity": perplexity(loss)} if task.perplexity else {}
    return {
        "epoch": position.epoch + 1,
        "loss": loss,
        **shown,
        task.unit: int(count),
        "seconds": own.seconds,
        f"{task.unit}_per_s": count / own.seconds,
        "grad_norm": own.norm / own.updates,
        "largest_grad_norm": own.largest_norm,
        "lr": position.rate,
    }
