"""The op ``fusedrnn::layer``, which stands for a layer in a compiled or an exported program.

A tracer records ops. An autograd Function it either cannot record (``torch.export``: a program that
held the native op would run but not train) or only with care (``torch.compile``). This op it takes
as it is, and the op holds no code of its own: wherever the program is executed, traced further or
differentiated, it dissolves into what the router chooses there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, library

Outputs = tuple[Tensor, Tensor, Tensor]

_library = library.Library("fusedrnn", "FRAGMENT")
_library.define(
    "layer(Tensor x, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? lengths, Tensor? resets, "
    "str cell, int directions, bool tf32, bool recompute) -> (Tensor y, Tensor h_n, Tensor c_n)"
)


def define(route: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """The op, with ``route`` as what it dissolves into."""
    _library.impl("layer", route, "CompositeImplicitAutograd")
    op: Callable[..., Outputs] = torch.ops.fusedrnn.layer.default
    return op
