"""Linear heads above the layers, and their loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as _module

from fusedrnn._cross_entropy import checked_labels, linear_cross_entropy

_OWN_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
_GLOBAL_HOOKS = (
    _module._global_forward_hooks,
    _module._global_forward_pre_hooks,
    _module._global_backward_hooks,
    _module._global_backward_pre_hooks,
)


def is_called_as_it_is(module: nn.Module) -> bool:
    """Whether a call of the module does what its class says and no more: no hooks, no ``forward`` of
    this one object, no parametrization."""
    return not (
        any(getattr(module, name) for name in _OWN_HOOKS)
        or any(_GLOBAL_HOOKS)
        or "forward" in vars(module)
        or hasattr(module, "parametrizations")
    )


def head_loss(head: nn.Module, input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The cross entropy of the scores that ``head`` gives, for classes ``target`` or -100.

    In one pass where the head is a plain linear layer that nobody watches or has changed. Raises as
    `linear_cross_entropy`.
    """
    if type(head) is nn.Linear and is_called_as_it_is(head):
        return linear_cross_entropy(
            input, head.weight, target, linear_bias=head.bias, reduction=reduction
        )
    labels = checked_labels(input, target, reduction)
    scores: Tensor = head(input)
    return F.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction=reduction)
