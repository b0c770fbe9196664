"""A model with what turns texts into its input and classes into labels: predicts and is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusedrnn.tasks.label.batches import PADDING, Batch, pad_targets, sorted_order
from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.tasks.label.metrics import Scores, confusion
from fusedrnn.tasks.label.model import SequenceLabeller
from fusedrnn.tasks.label.readers import Reader, from_description
from fusedrnn.train import checkpoint

Encoded = tuple[Any, Tensor]
"""An item of the reader, and its class ``[]`` or classes ``[T]``."""

_BATCH = 64


class Labeller:
    """A trained model, ready to label.

    Args:
        model: with one output per label.
        reader: makes its input.
        labels: names of the classes.

    Raises:
        LabelError: another number of labels than outputs, or a label twice.
    """

    def __init__(self, model: SequenceLabeller, reader: Reader, labels: Sequence[str]) -> None:
        self.model, self.reader, self.labels = model, reader, list(labels)
        self._index = {label: i for i, label in enumerate(self.labels)}
        if len(self._index) != model.config["outputs"]:
            raise LabelError(
                f"expected {model.config['outputs']} different labels, got {len(self._index)}"
            )

    # --- save and load ---------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Everything but the parameters, in JSON's own types."""
        return {
            "model": self.model.config,
            "reader": self.reader.describe(),
            "labels": self.labels,
        }

    @classmethod
    def load(cls, path: str | Path, kind: str, device: torch.device | str = "cpu") -> Labeller:
        """The labeller in a checkpoint, or in the folder of a run.

        Args:
            kind: ``ClassifyTask.kind`` or ``TagTask.kind``.

        Raises:
            CheckpointError: no such file, a damaged one, or one of another kind.
        """
        found = checkpoint.read(path, kind)
        try:
            model = SequenceLabeller(**found.about["model"])
            model.load_state_dict(found.model)
            reader = from_description(found.about["reader"])
            return cls(model.to(device).eval(), reader, found.about["labels"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.CheckpointError(
                f"{path}: expected a whole checkpoint, got: {error}"
            ) from error

    # --- predict ---------------------------------------------------------------------------------

    def classify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest label of each text, and its probability.

        Raises:
            LabelError: a text of which the reader reads nothing.
        """
        answers: list[tuple[str, float]] = [("", 0.0)] * len(texts)
        for rows, _, logits in self._logits([self.reader.encode(text) for text in texts]):
            best, classes = logits.softmax(-1).max(-1)
            for row, value, index in zip(rows, best.tolist(), classes.tolist(), strict=True):
                answers[row] = (self.labels[index], value)
        return answers

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The likeliest tag of each word of each sentence.

        Raises:
            LabelError: a sentence without words.
        """
        answers: list[list[str]] = [[] for _ in sentences]
        for rows, lengths, logits in self._logits([self.reader.encode(s) for s in sentences]):
            classes = logits.argmax(-1).t().tolist()
            for row, length, own in zip(rows, lengths, classes, strict=True):
                answers[row] = [self.labels[index] for index in own[:length]]
        return answers

    def score(self, examples: Sequence[Encoded]) -> tuple[float, Scores]:
        """Mean loss per label (nats, all classes weighing the same) and the scores.

        Args:
            examples: as `encode` gives them, at least one.
        """
        classes = len(self.labels)
        matrix = torch.zeros(classes, classes, dtype=torch.int64)
        total = 0.0
        for rows, _, logits in self._logits([item for item, _ in examples]):
            targets = pad_targets([examples[row][1] for row in rows]).flatten()
            logits = logits.flatten(0, -2)
            loss = F.cross_entropy(logits, targets, ignore_index=PADDING, reduction="sum")
            total += loss.item()
            matrix += confusion(targets, logits.argmax(-1), classes)
        return total / int(matrix.sum()), Scores.of(self.labels, matrix)

    # --- data ------------------------------------------------------------------------------------

    def encode(self, pairs: Sequence[tuple[Any, Any]]) -> list[Encoded]:
        """Texts with their labels, or sentences with their tags, ready for batches.

        Raises:
            LabelError: a label that is not known, or a text of which the reader reads nothing.
        """
        return [(self.reader.encode(text), self._classes(label)) for text, label in pairs]

    def batch(self, examples: Sequence[Encoded], generator: torch.Generator | None = None) -> Batch:
        """Examples side by side on the model's device; ``generator`` as in `Reader.batch`."""
        items = [item for item, _ in examples]
        targets = pad_targets([target for _, target in examples])
        lengths = torch.tensor([len(item) for item in items])
        count = int((targets >= 0).sum())
        return Batch(self.reader.batch(items, generator), lengths, targets, count).to(self._device)

    def _classes(self, label: str | Sequence[str]) -> Tensor:
        names = [label] if isinstance(label, str) else label
        unknown = next((name for name in names if name not in self._index), None)
        if unknown is not None:
            raise LabelError(f"expected one of {len(self.labels)} known labels, got {unknown!r}")
        classes = torch.tensor([self._index[name] for name in names])
        return classes[0] if isinstance(label, str) else classes

    def _logits(self, items: Sequence[Any]) -> Iterator[tuple[list[int], list[int], Tensor]]:
        """Batches by length: rows, their lengths, and logits on the CPU in float32, in eval mode."""
        sizes = [len(item) for item in items]
        training = self.model.training
        self.model.eval()
        try:
            for rows in sorted_order(sizes, _BATCH):
                lengths = [sizes[row] for row in rows]
                inputs = self.reader.batch([items[row] for row in rows]).to(self._device)
                with torch.no_grad():
                    logits = self.model(inputs, torch.tensor(lengths, device=self._device))
                yield rows, lengths, logits.float().cpu()
        finally:
            self.model.train(training)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
