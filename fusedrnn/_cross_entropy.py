"""The loss of a linear head in one pass: :func:`linear_cross_entropy`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function, forward_ad

from fusedrnn import _ops

_REDUCTIONS = ("mean", "sum")


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Cross entropy of ``input @ linear_weight.T + linear_bias`` with the classes of ``target``.

    What ``torch.nn.functional.linear_cross_entropy`` computes, a linear layer and then
    ``cross_entropy``. On the CPU, in float32 and float64, the scores of all rows and classes are
    never in memory, of which torch keeps two copies: a block of rows becomes scores, then its share
    of the loss and of all gradients. So the gradients are computed with the loss, where there are
    any, and backward only hands them on. Elsewhere (CUDA, half types, autocast, ``torch.compile``,
    :mod:`torch.func`, second derivatives) torch's own functions are called.

    Args:
        input: ``[..., H]``, floating.
        linear_weight: ``[V, H]``.
        target: ``[...]`` of an integer dtype, each in ``[0, V)`` or ``ignore_index``.
        linear_bias: ``[V]``, or None.
        reduction: ``"mean"`` over the rows that are not ignored (NaN where all are), or ``"sum"``.
        ignore_index: rows of this class count for nothing.

    Returns:
        The loss in nats, a scalar.

    Raises:
        ValueError: an unknown reduction, or a target that is not of an integer dtype.
        IndexError: a class out of range.
        RuntimeError: shapes, dtypes or devices that do not fit.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target: expected an integer dtype, got {target.dtype}")
    if input.dim() < 1 or target.shape != input.shape[:-1]:
        raise RuntimeError(
            f"target: expected shape {list(input.shape[:-1])}, one class for each row of the input, "
            f"got {list(target.shape)}"
        )
    labels = target if target.dtype == torch.int64 else target.long()
    if input.dim() > 4:
        input, labels = input.flatten(0, -2), labels.flatten()
    if not _native(input, linear_weight, linear_bias, labels):
        return _plain(input, linear_weight, linear_bias, labels, reduction, ignore_index)
    try:
        loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            input, linear_weight, linear_bias, labels, reduction, ignore_index
        )
    except RuntimeError as error:
        if "expected labels in" in str(error):
            raise IndexError(f"target: {str(error).removeprefix('fusedrnn: ')}") from None
        raise
    return loss


def head_loss(head: nn.Module, input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The cross entropy of the scores that ``head`` gives, for classes ``target`` or -100.

    In one pass where the head is a plain linear layer that nobody watches or has changed.
    """
    if type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks):
        return linear_cross_entropy(
            input, head.weight, target, linear_bias=head.bias, reduction=reduction
        )
    scores: Tensor = head(input)
    return F.cross_entropy(scores.flatten(0, -2), target.flatten(), reduction=reduction)


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
        need_dx, need_dw, need_db = ctx.needs_input_grad[:3]
        loss, *grads = _ops.linear_cross_entropy(
            x, weight, bias, labels, ignored, reduction == "mean", need_dx, need_dw or need_db
        )
        ctx.save_for_backward(x, weight, bias, labels, *grads)
        ctx.settings = (reduction, ignored)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, labels, *grads = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # to be differentiated again
            wanted = [t for t, need in zip((x, weight, bias), needs, strict=True) if need]
            loss = _plain(x, weight, bias, labels, *ctx.settings)
            again = iter(torch.autograd.grad(loss, wanted, grad, create_graph=True))
            return (*(next(again) if need else None for need in needs), None, None, None)
        # The gradient of a loss is 1, mostly: then what was kept is handed out, and may be added to by
        # whoever gets it, unless another backward comes for it.
        as_they_are = (
            not torch._C._autograd._get_current_graph_task_keep_graph()
            and not torch._C._functorch.is_legacy_batchedtensor(grad)
            and float(grad) == 1.0
        )
        return (
            *(
                None if not need else g if as_they_are else g * grad
                for g, need in zip(grads, needs, strict=True)
            ),
            None, None, None,
        )  # fmt: skip


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
    if torch._C._are_functorch_transforms_active() or torch.is_autocast_enabled("cpu"):
        return False
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        x.dtype in (torch.float32, torch.float64)
        and labels.device.type == "cpu"
        and all(
            type(t) in (Tensor, nn.Parameter) and t.device.type == "cpu" and t.dtype == x.dtype
            for t in tensors
        )
    )
