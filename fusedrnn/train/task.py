"""What a task brings to the training loop: its data, its model and its metric.

The loop (`fusedrnn.train.trainer`) knows nothing of texts or series: it asks a task for batches, hands
each to `Task.loss`, differentiates what comes back, and asks for `Task.evaluate` after an epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from fusedrnn.errors import UserError


@dataclass(frozen=True)
class Step:
    """What one batch gave.

    Attributes:
        loss: scalar with its history, the mean that is differentiated.
        total: the loss to report, summed over ``count`` things; a scalar without history.
        count: how many of the task's units (tokens, sentences, windows) the batch holds.
        carried: what the next batch of the epoch begins from (a recurrent state): a tensor without
            history, nested tuples of such, or None.
    """

    loss: Tensor
    total: Tensor
    count: int
    carried: Any = None


class Task(ABC):
    """Data, model and metric of one kind of training.

    Attributes:
        kind: what a checkpoint of it is called; a checkpoint of another kind is refused.
        unit: what `Step.count` counts, in the plural.
        perplexity: whether the loss is in nats per unit, so that its exponential is shown too.
        batch_dim: the dimension of every tensor in `Step.carried` that runs over the rows of the
            batch; 1 for the states of the layers, ``[layers, B, hidden]``.
        model: holds all parameters that are trained and saved.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    perplexity: ClassVar[bool] = False
    batch_dim: ClassVar[int] = 1
    model: nn.Module

    @abstractmethod
    def updates(self, epoch: int) -> int:
        """The number of batches of an epoch (counted from 0)."""

    @abstractmethod
    def batches(self, epoch: int, skip: int = 0) -> Iterator[Any]:
        """The batches of an epoch from number ``skip`` on.

        They depend on nothing but the task's own settings and the epoch, so that a run that was
        broken off goes on with the batch that would have come.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, carried: Any) -> Step:
        """The loss of a batch.

        Args:
            model: ``self.model``, or a wrapper of it that is called in the same way.
            batch: as `batches` gave it.
            carried: `Step.carried` of the batch before; None for the first of an epoch.
        """

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out data, without gradients; nothing where none is held out.

        ``"valid_loss"``, smaller being better, is what the best checkpoint, early stopping and the
        halving of the learning rate on a plateau go by.
        """
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """All that rebuilds the model and its vocabularies for prediction, in JSON's own types."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a broken-off run to go on: a hash of the data and the settings
        that shape the batches, in JSON's own types."""

    def share(self, rank: int, world: int) -> None:
        """Takes process ``rank`` of ``world``: from now on `batches` gives this process its rows of
        each batch, as many as every other process gets.

        Raises:
            UserError: a task that one process alone can train, or a batch that cannot be shared.
        """
        if world > 1:
            raise UserError(f"{self.kind}: expected one process, got {world}")

    def samples(self, count: int) -> list[str]:
        """What the model gives now, ``count`` lines or texts to look at; nothing by default.

        Draws come from a generator of the task's own, so that looking changes nothing.
        """
        return []

    def state(self) -> dict[str, Tensor]:
        """Random states and the like that the batches or the loss depend on besides settings, epoch
        and torch's own generators; `load_state` takes them back."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""
        return
