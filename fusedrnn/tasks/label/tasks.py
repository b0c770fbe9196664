"""The two tasks for the training loop: classification and tagging.

They differ in the reader, in whether the model pools, and in the floor; all else is `LabelTask`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusedrnn.tasks.label.batches import PADDING, Batch, epoch_generator, epoch_order
from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.tasks.label.labeller import Labeller
from fusedrnn.tasks.label.metrics import Scores
from fusedrnn.tasks.label.model import SequenceLabeller
from fusedrnn.tasks.label.readers import Reader
from fusedrnn.train.task import Step, Task

CLASS_WEIGHTS = ("none", "balanced")


class LabelTask(Task):
    """Data, model and metric of classification and tagging.

    Args:
        model: with as many outputs as there are labels.
        reader: makes the model's input.
        labels: names of the classes.
        train, valid: pairs of a text and its label, or of a sentence's words and their tags;
            ``valid`` may be empty.
        batch: examples of a batch.
        weights: class weights of the loss, ``[K]``, float; None for equal ones.
        seed: of order and chance in the batches.

    Raises:
        LabelError: no example to train on, or a label that is not in ``labels``.
    """

    def __init__(
        self,
        model: SequenceLabeller,
        reader: Reader,
        labels: Sequence[str],
        train: Sequence[tuple[Any, Any]],
        valid: Sequence[tuple[Any, Any]] = (),
        *,
        batch: int = 32,
        weights: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        if not train:
            raise LabelError("expected examples to train on, got none")
        self.model = model
        self.labeller = Labeller(model, reader, labels)
        self.batch, self.seed = batch, seed
        self._train, self._valid = self.labeller.encode(train), self.labeller.encode(valid)
        self._lengths = [len(item) for item, _ in self._train]
        self._weights = weights
        content = json.dumps([list(train), list(valid), list(labels)], default=list)
        self._hash = hashlib.sha256(content.encode()).hexdigest()

    def updates(self, epoch: int) -> int:
        return -(-len(self._train) // self.batch)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        order = epoch_order(self._lengths, self.batch, self.seed, epoch)
        for number, rows in enumerate(order[skip:], skip):
            chance = epoch_generator(self.seed, epoch, 1 + number)
            yield self.labeller.batch([self._train[i] for i in rows], chance)

    def loss(self, model: nn.Module, batch: Batch, carried: Any = None) -> Step:
        logits = model(batch.inputs, batch.lengths).flatten(0, -2)
        targets = batch.targets.flatten()
        weights = None if self._weights is None else self._weights.to(logits.device)
        loss = F.cross_entropy(logits, targets, weight=weights, ignore_index=PADDING)
        return Step(loss, loss.detach() * batch.count, batch.count)

    def evaluate(self) -> dict[str, float]:
        """``valid_loss`` (unweighted, per label), ``valid_accuracy`` and ``valid_macro_f1``."""
        if not self._valid:
            return {}
        loss, scores = self.score()
        return {
            "valid_loss": loss,
            "valid_accuracy": scores.accuracy,
            "valid_macro_f1": scores.macro_f1,
        }

    def score(self) -> tuple[float, Scores]:
        """Mean loss per label and scores on the held-out part, which must not be empty."""
        return self.labeller.score(self._valid)

    def describe(self) -> dict[str, Any]:
        return self.labeller.describe()

    def fingerprint(self) -> dict[str, Any]:
        weights = None if self._weights is None else self._weights.tolist()
        return {"data": self._hash, "batch": self.batch, "seed": self.seed, "weights": weights}


class ClassifyTask(LabelTask):
    """One label per sequence: a model that pools."""

    kind: ClassVar[str] = "classifier"
    unit: ClassVar[str] = "sequences"


class TagTask(LabelTask):
    """One label per word: a model without a pool."""

    kind: ClassVar[str] = "tagger"
    unit: ClassVar[str] = "words"


def class_weights(how: str, train: Sequence[Any], labels: Sequence[str]) -> Tensor | None:
    """Weights of the classes in the loss.

    Args:
        how: ``"none"``, or ``"balanced"``: n / (K n_k), so that every class weighs as much as any
            other; a class that the training part lacks gets 1.
        train: the labels of the training part, in any nesting of sequences.

    Raises:
        LabelError: another name.
    """
    if how not in CLASS_WEIGHTS:
        raise LabelError(f"class weights: expected one of {', '.join(CLASS_WEIGHTS)}, got {how!r}")
    if how == "none":
        return None
    counts = Counter(
        each for label in train for each in ([label] if isinstance(label, str) else label)
    )
    total = counts.total()
    return torch.tensor(
        [total / (len(labels) * counts[label]) if counts[label] else 1.0 for label in labels]
    )
