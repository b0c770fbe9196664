"""A streaming step without torch's dispatcher, which would cost as much as the step itself.

The native side reads tensors through the table of C functions that torch publishes for DLPack
(``csrc/python/stream_step.cpp``). Nobody but the caller sees such a step, so it is taken only where
nobody else looks: :func:`unwatched`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from fusedrnn import _C


def _set_up() -> bool:
    exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    return exchange is not None and _C.stream_setup(
        exchange, Tensor, nn.Parameter, torch.empty, torch.float32, torch.float64,
        torch.device("cpu"),
    )  # fmt: skip


#: Whether this torch publishes the table; False sends every step to the op.
READY = _set_up()


def unwatched() -> bool:
    """Whether no compiler, tracer, mode, transform, forward derivative or autocast is at work."""
    return (
        READY
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and torch._C._get_tracing_state() is None
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )
