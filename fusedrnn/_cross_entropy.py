"""The loss of a linear head in one pass: :func:`linear_cross_entropy`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function, forward_ad

from fusedrnn import _ops

_REDUCTIONS = ("mean", "sum")
_MOST_DIMENSIONS = 4  # of an input that the op takes
# Without gradients, a product of fewer rows costs less than to pack the weights for it.
_FEW_ROWS = 8


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """Cross entropy of ``input @ linear_weight.T + linear_bias`` with the classes of ``target``.

    What ``torch.nn.functional.linear_cross_entropy`` computes, a linear layer and then
    ``cross_entropy``. On the CPU, in float32 and float64, the scores of all rows and classes are
    never in memory, of which torch keeps two copies: a block of rows becomes scores, then its share
    of the loss and of all gradients. So the gradients are computed with the loss, where there are
    any, and backward only hands them on; until then they are kept, a tensor of the size of the
    weight for each loss. Elsewhere (CUDA, half types, autocast, ``torch.compile``,
    :mod:`torch.func`, second derivatives) torch's own functions are called.

    Args:
        input: ``[..., H]``, floating. Nothing that is given may be changed in place before backward.
        linear_weight: ``[V, H]``.
        target: ``[...]`` of an integer dtype, each in ``[0, V)`` or ``ignore_index``.
        linear_bias: ``[V]``, or None.
        reduction: ``"mean"`` over the rows that are not ignored (NaN where all are), or ``"sum"``.
        ignore_index: rows of this class count for nothing, whatever they hold; None means -100.

    Returns:
        The loss in nats, a scalar.

    Raises:
        ValueError: an unknown reduction, or a target that is not of an integer dtype.
        IndexError: a class out of range.
        RuntimeError: shapes, dtypes or devices that do not fit.
    """
    labels = checked_labels(input, target, reduction)
    ignored = -100 if ignore_index is None else ignore_index
    if input.dim() > _MOST_DIMENSIONS:
        input, labels = input.flatten(0, -2), labels.flatten()
    given = (input, linear_weight, linear_bias, labels)
    if not _native(*given):
        return _plain(*given, reduction, ignored)
    try:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
            loss: Tensor = _LinearCrossEntropy.apply(*given, reduction, ignored)  # type: ignore[no-untyped-call]
            return loss
        if labels.numel() < _FEW_ROWS:
            return _plain(*given, reduction, ignored)
        mean = reduction == "mean"
        return _ops.linear_cross_entropy(*given, ignored, mean, False, False, False)[0]
    except RuntimeError as error:
        if "expected classes in" in str(error):
            raise IndexError(f"target: {str(error).removeprefix('fusedrnn: ')}") from None
        raise


def checked_labels(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    """``target`` as int64. Raises what :func:`linear_cross_entropy` says of the two and ``reduction``."""
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target: expected an integer dtype, got {target.dtype}")
    if input.dim() < 1:
        raise RuntimeError("input: expected rows of features [..., H], got a scalar")
    if target.shape != input.shape[:-1]:
        raise RuntimeError(
            f"target: expected shape {list(input.shape[:-1])}, one class for each row of the input, "
            f"got {list(target.shape)}"
        )
    return target if target.dtype == torch.int64 else target.long()


class _LinearCrossEntropy(Function):
    """``(x, weight, bias, labels, reduction, ignored) -> loss``, whose gradients are made with it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        reduction: str,
        ignored: int,
    ) -> Tensor:
        loss, *grads = _ops.linear_cross_entropy(
            x, weight, bias, labels, ignored, reduction == "mean", *ctx.needs_input_grad[:3]
        )
        ctx.save_for_backward(x, weight, bias, labels, *grads)
        ctx.settings = (reduction, ignored)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, labels, *grads = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            again = _differentiable((x, weight, bias), needs, labels, ctx.settings, grad)
            return (*again, None, None, None)
        handed = grads if _ends_here(grad) else [g * grad for g in grads]
        return (
            *(g if need else None for g, need in zip(handed, needs, strict=True)),
            None,
            None,
            None,
        )


def _ends_here(grad: Tensor) -> bool:
    """Whether what was kept is the gradient itself, and nobody comes for it again: then it is handed
    out as it is, and may be added to by whoever gets it. The gradient of a loss is 1, mostly; to look
    costs less than a pass over all gradients."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._functorch.is_legacy_batchedtensor(grad)
        and not torch._C._autograd._get_current_graph_task_keep_graph()
        and float(grad) == 1.0
    )


def _differentiable(
    given: tuple[Tensor | None, ...],
    needs: tuple[bool, ...],
    labels: Tensor,
    settings: tuple[str, int],
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradients of what needs them, to be differentiated again."""
    # By names of their own: where one of them comes from another, as with tied weights, the graph
    # behind it counts that already.
    x, weight, bias = (
        t.view_as(t) if t is not None and need else t for t, need in zip(given, needs, strict=True)
    )
    assert x is not None
    assert weight is not None
    loss = _plain(x, weight, bias, labels, *settings)
    wanted = [t for t, need in zip((x, weight, bias), needs, strict=True) if t is not None and need]
    found = iter(torch.autograd.grad(loss, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needs]


def _plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    reduction: str,
    ignored: int,
) -> Tensor:
    """The same by torch's own functions."""
    logits = F.linear(x.reshape(-1, x.shape[-1]), weight, bias)
    return F.cross_entropy(logits, labels.reshape(-1), reduction=reduction, ignore_index=ignored)


def _native(x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> bool:
    """Whether the native op serves: plain tensors on the CPU, and nobody who must see more of it."""
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0:
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    if torch._C._is_any_autocast_enabled() and torch.is_autocast_enabled("cpu"):
        return False
    dtype = x.dtype
    if dtype not in (torch.float32, torch.float64) or not labels.is_cpu:
        return False
    for t in (x, weight, bias):
        if t is not None and not (
            type(t) in (Tensor, nn.Parameter)
            and t.is_cpu
            and t.dtype == dtype
            and t.layout == torch.strided
        ):
            return False
    return True
