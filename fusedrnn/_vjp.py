"""The gradients of a layer as a function of everything they depend on, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusedrnn import _packed, reference

_Tensors = tuple[Tensor, ...]


class LayerVjp:
    """``(cotangents, primals) -> gradients of the primals``, by way of :mod:`fusedrnn.reference`.

    The primals are those of ``x`` (if floating and its gradient is wanted), ``h0``, ``c0`` that are
    given, and the weights, in this order. The rest is constant. It can be differentiated and
    transformed again without limit, because it is made of :mod:`torch.func` and plain torch.
    """

    def __init__(
        self,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        weights: Sequence[Tensor],
        lengths: Tensor | None,
        resets: Tensor | None,
        cell: str,
        directions: int,
        need_dx: bool,
    ) -> None:
        self._x = x
        self._given = (need_dx, h0 is not None, c0 is not None)
        self._options = (lengths, resets, cell, directions)
        data = [t for t, given in zip((x, h0, c0), self._given, strict=True) if given]
        self.primals: _Tensors = (*[t for t in data if t is not None], *weights)

    def named(self, values: Sequence[Any]) -> tuple[Any, Any, Any, list[Any]]:
        """What belongs to ``x``, ``h0``, ``c0`` (None where not a primal) and the weights."""
        rest = list(values)
        x, h0, c0 = (rest.pop(0) if given else None for given in self._given)
        return x, h0, c0, rest

    def layer(self, *primals: Tensor) -> _Tensors:
        """``y, h_n`` and, for a cell with one, ``c_n``."""
        x, h0, c0, weights = self.named(primals)
        lengths, resets, cell, directions = self._options
        x = self._x if x is None else x
        y, h_n, c_n = reference.layer(x, h0, c0, weights, lengths, resets, cell, directions)
        return (y, h_n) if c_n is None else (y, h_n, c_n)

    def cotangents(self, *grads: Tensor | None) -> _Tensors:
        """The gradients of the outputs, with zeros for the absent ones."""
        _, _, _, weights = self.named(self.primals)
        lengths, _, cell, directions = self._options
        rows: tuple[int, ...] = tuple(self._x.shape[:2])
        batch = rows[-1]
        if lengths is not None and _packed.is_packed(self._x, lengths):
            rows, batch = rows[:1], lengths.shape[0]
        hidden, state = weights[0].shape[0] // reference.CELLS[cell].gates, weights[1].shape[1]
        shapes = [
            (*rows, directions * state),
            (directions, batch, state),
            (directions, batch, hidden),
        ]
        count = 3 if reference.CELLS[cell].has_c else 2
        return tuple(
            weights[0].new_zeros(shape) if g is None else g
            for g, shape in zip(grads[:count], shapes[:count], strict=True)
        )

    def seeds(self, values: _Tensors, grads: Sequence[Tensor | None]) -> _Tensors:
        """Gradients of ``(dx, dh0, dc0, *dweights)`` as of ``values``, zeros for absent ones.

        What was not wanted, and was of shape ``[0]``, counts as absent.
        """
        chosen = [g for g, given in zip(grads[:3], self._given, strict=True) if given]
        return tuple(
            torch.zeros_like(v) if g is None or g.shape != v.shape else g
            for v, g in zip(values, [*chosen, *grads[3:]], strict=True)
        )

    def __call__(self, cotangents: _Tensors, primals: _Tensors) -> _Tensors:
        pullback = torch.func.vjp(self.layer, *primals)[1]
        return tuple(pullback(cotangents))
