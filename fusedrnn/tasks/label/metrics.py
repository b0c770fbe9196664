"""Accuracy, F1 and the table per class, from one matrix of counts; and the floors without a network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def confusion(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """How often class i was taken for class j: int64 ``[K, K]``.

    Args:
        truth, guess: int64 of one shape; entries whose truth is negative (padding) do not count.
        classes: K.
    """
    valid = truth >= 0
    pairs = truth[valid] * classes + guess[valid]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
        labels: names of the K classes.
        matrix: int64 ``[K, K]``, rows the truth, columns the prediction.
        precision, recall, f1: float64 ``[K]``; 0 where nothing was predicted, or nothing there.
    """

    labels: Sequence[str]
    matrix: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor

    @classmethod
    def of(cls, labels: Sequence[str], matrix: Tensor) -> Scores:
        hits = matrix.diagonal().double()
        there, said = matrix.sum(1).double(), matrix.sum(0).double()
        # 2 hits / (there + said) is the harmonic mean of precision and recall.
        f1 = 2 * hits / (there + said).clamp(min=1)
        return cls(labels, matrix, hits / said.clamp(min=1), hits / there.clamp(min=1), f1)

    @property
    def accuracy(self) -> float:
        """Share of right predictions; 0 without any."""
        return (self.matrix.diagonal().sum() / self.matrix.sum().clamp(min=1)).item()

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur, in truth or prediction (as scikit-learn has it)."""
        occur = (self.matrix.sum(0) + self.matrix.sum(1)) > 0
        return self.f1[occur].mean().item() if occur.any() else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """One dict per class: label, precision, recall, f1, support (how many there are)."""
        columns = zip(
            self.labels,
            self.precision.tolist(),
            self.recall.tolist(),
            self.f1.tolist(),
            self.matrix.sum(1).tolist(),
            strict=True,
        )
        names = ("label", "precision", "recall", "f1", "support")
        return [dict(zip(names, row, strict=True)) for row in columns]

    def table(self) -> str:
        """The rows as text, one line each under a heading."""
        width = max(5, *(len(label) for label in self.labels))
        lines = [f"{'label':{width}}  precision  recall     f1  support"]
        lines += [
            f"{row['label']:{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}"
            f"  {row['f1']:5.3f}  {row['support']:7,}"
            for row in self.rows()
        ]
        return "\n".join(lines)


def majority_floor(train: Iterable[str], test: Sequence[str]) -> float:
    """Accuracy of always answering the most frequent label of the training part."""
    most = Counter(train).most_common(1)[0][0]
    return sum(label == most for label in test) / max(1, len(test))


def word_floor(train: Iterable[tuple[str, str]], test: Iterable[tuple[str, str]]) -> float:
    """Accuracy of each word's most frequent tag, and of the most frequent tag for unknown words.

    Args:
        train, test: pairs of a word and its tag. Of equally frequent tags the first seen wins.
    """
    tags: defaultdict[str, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    for word, tag in train:
        tags[word][tag] += 1
        overall[tag] += 1
    most = {word: counts.most_common(1)[0][0] for word, counts in tags.items()}
    default = overall.most_common(1)[0][0]
    right = [most.get(word, default) == tag for word, tag in test]
    return sum(right) / max(1, len(right))
