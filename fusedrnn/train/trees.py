"""Nested tuples, lists and dicts of tensors, taken apart for a file and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor


def flatten(tree: Any) -> tuple[Any, list[Tensor]]:
    """The shape of a tree, in JSON's own types, and its tensors in order.

    Raises TypeError for a leaf that is neither a tensor nor None.
    """
    tensors: list[Tensor] = []

    def walk(node: Any) -> Any:
        if node is None:
            return None
        if isinstance(node, Tensor):
            tensors.append(node)
            return "tensor"
        if isinstance(node, dict):
            return {"dict": [[key, walk(value)] for key, value in node.items()]}
        if isinstance(node, (tuple, list)):
            return {type(node).__name__: [walk(value) for value in node]}
        raise TypeError(f"expected tensors, nested or None, got {type(node).__name__}")

    return walk(tree), tensors


def unflatten(shape: Any, tensors: Sequence[Tensor]) -> Any:
    """The tree that `flatten` took apart."""
    return _build(shape, iter(tensors))


def _build(shape: Any, tensors: Iterator[Tensor]) -> Any:
    if shape is None:
        return None
    if shape == "tensor":
        return next(tensors)
    ((kind, parts),) = shape.items()
    if kind == "dict":
        return {key: _build(part, tensors) for key, part in parts}
    values = [_build(part, tensors) for part in parts]
    return tuple(values) if kind == "tuple" else values


def transform(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tree with every tensor changed."""
    shape, tensors = flatten(tree)
    return unflatten(shape, [change(each) for each in tensors])
