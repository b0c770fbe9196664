"""The ways past torch's dispatcher, which costs as much as a small call: a layer and a streaming step.

The native side reads tensors through the table of C functions that torch publishes for DLPack
(``csrc/python/direct_layer.cpp``, ``stream_step.cpp``). Nobody but the caller sees such a call, so it
is taken only where nobody else looks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from fusedrnn import _C

#: Functions that say whether autocast, a tracer, a mode, a transform or the profiler is at work.
_WATCHERS = (
    torch._C._is_any_autocast_enabled,
    torch._C._is_tracing,
    torch._C._len_torch_dispatch_stack,
    torch._C._len_torch_function_stack,
    torch._C._are_functorch_transforms_active,
    torch._C._autograd._profiler_enabled,
)


def _set_up() -> bool:
    exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    return exchange is not None and _C.torch_setup(
        exchange, Tensor, nn.Parameter, _WATCHERS, vars(forward_ad),
        torch.empty, torch.float32, torch.float64, torch.device("cpu"),
    )  # fmt: skip


#: Whether this torch publishes the table; where it does not, the native side declines every call.
READY = _set_up()


def possible() -> bool:
    """Whether a direct call may be tried: no compiler is at work. The native side asks after the rest."""
    return READY and not is_compiling()
