"""The derivatives of a layer: three ``torch.autograd.Function`` s around the native ops.

* :class:`Layer` is the eager and the compiled one: the lightest form that autograd knows.
* :class:`TransformLayer` is the same for :mod:`torch.func`, whose transforms need a separate
  ``setup_context``, a ``vmap`` rule and everything that is saved among the outputs.
* :class:`LayerBackward` is backward as a differentiable function of its own: second derivatives are
  those of :mod:`fusedrnn.reference`, to which :func:`torch.func.vjp` is applied twice.

A raw op in a backward that is itself differentiated would give wrong gradients without an error, so
:func:`_backward` asks who is watching, as :func:`fusedrnn.functional.route` does for forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from fusedrnn import _C, _direct, _ops, _packed
from fusedrnn._ops import Forward
from fusedrnn._vjp import LayerVjp
from fusedrnn._vmap import each, fold, unfold
from fusedrnn.reference import CELLS

_Grads = tuple["Tensor | None", ...]
_NOTHING = (None, None, None, None)  # kept where backward runs the forward pass again


class Layer(Function):
    """``(x, h0, c0, lengths, resets, settings, *weights) -> (y, h_n, c_n)``.

    ``settings`` are ``(cell, directions, tf32, recompute, done)``, in one argument because autograd
    takes time for each. ``recompute``: backward runs the forward pass again in place of keeping what
    it leaves. ``done``: the results of the op, if they are there already.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        settings: tuple[str, int, bool, bool, Forward | None],
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        cell, directions, tf32, recompute, done = settings
        own: list[Tensor | None]
        if done is not None:
            y, h_n, c_n, *own = done
        else:
            y, h_n, c_n, *given = _ops.layer_forward(
                x, h0, c0, weights, lengths, resets, cell, directions, _ops.saves(x, recompute), tf32,
                _ops.saves_compact(x, lengths),
            )  # fmt: skip
            # The op has empty vectors for what its cell does not keep, a direct call None: alike when saved,
            # since a checkpoint may run the one and then the other.
            own = [t if t.dim() > 1 else None for t in given]
        kept = _NOTHING if recompute else (y, *own)
        ctx.save_for_backward(x, h0, c0, lengths, resets, *kept, *weights)
        ctx.settings = (cell, directions, tf32)
        ctx.set_materialize_grads(False)
        return y, h_n, c_n

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None) -> _Grads:
        needs, saved, (cell, directions, _) = ctx.needs_input_grad, ctx.saved_tensors, ctx.settings
        if not torch.is_grad_enabled() and _direct.possible():
            number = _ops.CELLS[cell].number
            grads = _C.direct_backward(number, directions, needs, saved, dy, dh_n, dc_n)
            if grads is not None:
                return grads
        need_dx, need_dh0, need_dc0, _, _, _, *need = needs
        dx, dh0, dc0, dweights = _backward(
            saved, ctx.settings, (dy, dh_n, dc_n), need_dx, True in need
        )
        return (
            dx if need_dx else None,
            dh0 if need_dh0 else None,
            dc0 if need_dc0 else None,
            None, None, None,
            *(dweights if True in need else [None] * len(need)),
        )  # fmt: skip


#: ``Layer.apply`` without its look for tensors that outlived a transform of :mod:`torch.func`.
_apply = super(Function, Layer).apply


def record(
    done: Forward,
    data: tuple[Tensor | None, ...],
    weights: list[Tensor],
    cell: str,
    directions: int,
    recompute: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``y, h_n, c_n`` of a direct call, known to autograd.

    Args:
        done: what the call returned. It takes plain tensors alone, so ``_apply`` is right.
        data: ``x, h0, c0, lengths, resets``.
    """
    settings = (cell, directions, False, recompute, done)
    out: tuple[Tensor, Tensor, Tensor] = _apply(*data, settings, *weights)  # type: ignore[no-untyped-call]
    return out


class TransformLayer(Function):
    """``(x, h0, c0, lengths, resets, cell, directions, tf32, recompute, save, *weights)``
    ``-> (y, h_n, c_n, *saved)``.
    """

    @staticmethod
    def forward(
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        cell: str,
        directions: int,
        tf32: bool,
        recompute: bool,
        save: bool,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        save = save and _ops.saves(x, recompute)
        return _ops.layer_forward(x, h0, c0, weights, lengths, resets, cell, directions, save, tf32)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, h0, c0, lengths, resets, cell, directions, tf32, recompute, _, *weights = inputs
        y, _, _, *saved = output
        ctx.mark_non_differentiable(*saved)
        kept = _NOTHING if recompute else (y, *saved)
        ctx.save_for_backward(x, h0, c0, lengths, resets, *kept, *weights)
        ctx.settings = (cell, directions, tf32)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, *_: Any
    ) -> _Grads:
        needs = ctx.needs_input_grad
        need_dw = any(needs[10:])
        saved = ctx.saved_tensors
        dx, dh0, dc0, dweights = _backward(saved, ctx.settings, (dy, dh_n, dc_n), needs[0], need_dw)
        return (
            dx if needs[0] else None,
            dh0 if needs[1] else None,
            dc0 if needs[2] else None,
            None, None, None, None, None, None, None,
            *(dweights if need_dw else [None] * len(needs[10:])),
        )  # fmt: skip

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        """Mapped data is folded into the batch; mapped weights, packed data are one call each."""
        n = info.batch_size
        if any(d is not None for d in in_dims[10:]) or _is_packed(args[0], in_dims[0], args[3]):
            return each(n, in_dims, args, TransformLayer.apply)
        data = fold(n, in_dims, args, (1, 1, 1, 0, 1))
        out = TransformLayer.apply(*data, *args[5:])  # type: ignore[no-untyped-call]
        return unfold(n, out, (1, 1, 1, 2, 2, 2))


class LayerBackward(Function):
    """Backward of a layer, differentiable.

    ``(dy, dh_n, dc_n, x, h0, c0, lengths, resets, y, gates, cells, hidden, cell, directions, tf32,
    need_dx, need_dw, *weights) -> (dx, dh0, dc0, *dweights)``. ``y``, ``gates``, ``cells`` and
    ``hidden`` are functions of the rest, whose gradients account for them; None where they are to
    be computed again.
    """

    @staticmethod
    def forward(
        dy: Tensor | None,
        dh_n: Tensor | None,
        dc_n: Tensor | None,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        y: Tensor | None,
        gates: Tensor | None,
        cells: Tensor | None,
        hidden: Tensor | None,
        cell: str,
        directions: int,
        tf32: bool,
        need_dx: bool,
        need_dw: bool,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        dx, dh0, dc0, dweights = _ops.layer_backward(
            dy, dh_n, dc_n, x, h0, c0, weights, lengths, resets, y, gates, cells, hidden,
            cell, directions, need_dx, need_dw, tf32,
        )  # fmt: skip
        return dx, dh0, dc0, *dweights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        tensors, (cell, directions, _, need_dx, _), weights = (
            inputs[:12],
            inputs[12:17],
            inputs[17:],
        )
        ctx.save_for_backward(*tensors[:8], *weights)
        ctx.settings = (cell, directions, need_dx)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> _Grads:
        dy, dh_n, dc_n, x, h0, c0, lengths, resets, *weights = ctx.saved_tensors
        cell, directions, need_dx = ctx.settings
        first = LayerVjp(x, h0, c0, weights, lengths, resets, cell, directions, need_dx)
        cotangents = first.cotangents(dy, dh_n, dc_n)
        values, pullback = torch.func.vjp(first, cotangents, first.primals)[:2]
        d_cotangents, d_primals = pullback(first.seeds(values, grads))
        d_grads = [
            None if given is None else d
            for given, d in zip((dy, dh_n, dc_n), (*d_cotangents, None), strict=False)
        ]
        dx, dh0, dc0, d_weights = first.named(d_primals)
        return (*d_grads, dx, dh0, dc0, *[None] * 11, *d_weights)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        """Folded into the batch unless gradients of weights are wanted: those are one per mapped call."""
        n, need_dw = info.batch_size, args[16]
        packed = _is_packed(args[3], in_dims[3], args[6])
        if need_dw or packed or any(d is not None for d in in_dims[17:]):
            return each(n, in_dims, args, LayerBackward.apply)
        if _is_compact(*args[9:12]):
            # Nothing can be folded into that; the one call computes it again.
            args = (*args[:8], *_NOTHING, *args[12:])
        data = fold(n, in_dims, args, (1, 1, 1, 1, 1, 1, 0, 1, 1, 2, 2, 2))
        out = LayerBackward.apply(*data, *args[12:])  # type: ignore[no-untyped-call]
        first, dims = unfold(n, out[:3], (1, 1, 1))
        return (*first, *out[3:]), (*dims, *[None] * len(out[3:]))


def _backward(
    saved: tuple[Any, ...],
    settings: tuple[str, int, bool],
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    need_dx: bool,
    need_dw: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Any]:
    """``dx, dh0, dc0, dweights`` by the way that fits who is watching."""
    x, h0, c0, lengths, resets, y, gates, cells, hidden, *weights = saved
    cell, directions, tf32 = settings
    if y is not None:  # a direct call leaves None for what its cell does not have
        gates, cells, hidden = (y.new_empty(0) if t is None else t for t in (gates, cells, hidden))
    need_dx = need_dx and x.is_floating_point()
    dy, dh_n, dc_n = grads
    if not CELLS[cell].has_c:
        dc_n = None  # of the empty tensor that stands for c_n
    if not torch.compiler.is_compiling():
        if forward_ad._current_level >= 0 or _batched_the_old_way(dy, dh_n, dc_n):
            first = LayerVjp(x, h0, c0, weights, lengths, resets, cell, directions, need_dx)
            return first.named(first(first.cotangents(dy, dh_n, dc_n), first.primals))
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            dx, dh0, dc0, *dweights = LayerBackward.apply(  # type: ignore[no-untyped-call]
                dy, dh_n, dc_n, x, h0, c0, lengths, resets, y, gates, cells, hidden,
                cell, directions, tf32, need_dx, need_dw, *weights,
            )  # fmt: skip
            return dx, dh0, dc0, dweights
    return _ops.layer_backward(
        dy, dh_n, dc_n, x, h0, c0, weights, lengths, resets, y, gates, cells, hidden,
        cell, directions, need_dx, need_dw, tf32,
    )  # fmt: skip


def _is_packed(x: Tensor, dim: int | None, lengths: Tensor | None) -> bool:
    """Whether ``x``, of which ``dim`` is mapped, is packed data, whose batch nothing can be folded into."""
    return _packed.is_packed(x if dim is None else x.select(dim, 0), lengths)


def _is_compact(*kept: Tensor | None) -> bool:
    """Whether any of ``gates``, ``cells``, ``hidden`` is compact."""
    return any(t is not None and t.dim() == 3 for t in kept)


def _batched_the_old_way(*grads: Tensor | None) -> bool:
    """Whether ``autograd.grad(is_grads_batched=True)`` is at work, whose vmap knows no functions."""
    batched = torch._C._functorch.is_legacy_batchedtensor
    return any(g is not None and batched(g) for g in grads)
