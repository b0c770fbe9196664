"""What a command does with its examples before there is a model: checks, splits, named data."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from fusedrnn.errors import at
from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.tasks.label.files import Example, read_labelled
from fusedrnn.tasks.label.readers import Reader
from fusedrnn.tasks.label.sentences import Sentence

Item = TypeVar("Item")

NAMED = ("digits",)
"""Labelled data that a name stands for where no file is called so."""


def split(
    items: Sequence[Item], fraction: float, seed: int | None
) -> tuple[list[Item], list[Item]]:
    """A training and a held-out part.

    Args:
        fraction: share that is held out, in [0, 1); rounded up.
        seed: draws the held-out part at random; None takes the end.

    Raises:
        LabelError: nothing left to train on.
    """
    held = -int(-len(items) * fraction // 1)
    if held >= len(items):
        raise LabelError(f"expected at least {2 if fraction else 1} examples, got {len(items)}")
    order = list(range(len(items)))
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(items), generator=generator).tolist()
    cut = len(items) - held
    return [items[i] for i in sorted(order[:cut])], [items[i] for i in sorted(order[cut:])]


def label_names(labels: Iterable[str], path: str | Path) -> list[str]:
    """The classes in alphabetical order. Raises LabelError for fewer than two."""
    names = sorted(set(labels))
    if len(names) < 2:
        raise LabelError(f"{path}: expected at least two different labels, got {names}")
    return names


def is_named(path: str) -> bool:
    """Whether this is one of `NAMED`, and not a file."""
    return path in NAMED and not Path(path).exists()


def read_examples(path: str) -> list[Example]:
    """The examples of a file, or of one of `NAMED`. Raises as `read_labelled`."""
    return digits() if is_named(path) else read_labelled(path)


def digits() -> list[Example]:
    """1,797 handwritten digits, 8 x 8 pixels of 0 to 16 row by row, as scikit-learn ships them.

    Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI repository (1998).

    Raises:
        LabelError: without scikit-learn (``pip install 'fusedrnn[label]'``).
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")  # which brings no types
    except ImportError as error:
        raise LabelError("digits: needs scikit-learn (pip install 'fusedrnn[label]')") from error
    data = datasets.load_digits()
    rows = zip(data.data.astype(int).tolist(), data.target.tolist(), strict=True)
    return [
        Example(" ".join(map(str, pixels)), str(digit), line)
        for line, (pixels, digit) in enumerate(rows, 1)
    ]


def check_texts(path: str | Path, examples: Iterable[Example], reader: Reader) -> None:
    """LabelError, with the place, for the first text that the reader cannot read."""
    for example in examples:
        try:
            reader.encode(example.text)
        except LabelError as error:
            column = 2 if example.label else None
            raise LabelError(f"{at(path, example.line, column)}: {error}") from error


def check_labels(path: str | Path, items: Iterable[Any], labels: Sequence[str]) -> None:
    """LabelError, with the place, for the first label that is not one of ``labels``.

    Args:
        items: `Example` or `Sentence`.
    """
    known = set(labels)
    for item in items:
        places = [(item.label, item.line, 1)] if isinstance(item, Example) else _places(item)
        for label, line, column in places:
            if label not in known:
                shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
                raise LabelError(
                    f"{at(path, line, column)}: expected one of {shown}, got {label!r}"
                )


def _places(sentence: Sentence) -> Iterable[tuple[str, int, int]]:
    columns = [sentence.column] * len(sentence.tags)
    return zip(sentence.tags, sentence.lines, columns, strict=True)
