"""Who takes part in a comparison.

A contender is a module of this package with a ``NAME``, a function ``missing()`` that says why it
cannot take part on this machine (None if it can), and ``build(problem)``, which returns a callable
without arguments or raises :class:`Unsupported`. One call is one forward (returns ``[y]``) or one
forward and backward (returns ``[y, dx, dw_ih of the first layer]``) as torch tensors, NumPy or JAX
arrays; it returns when the work is done, or on a GPU when it is enqueued. Time that a user pays
once (building, compiling, moving weights) is spent in ``build`` or in the first call.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.grid import Case

Call = Callable[[], "list[Any]"]
ALL = ("fused", "torch_nn", "torch_loop", "onnx_runtime", "jax_scan")
ON_GPU = ("fused", "torch_nn", "torch_loop", "flash_rnn")
NN = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Unsupported(Exception):
    """The contender has no way to do this case."""


class Problem:
    """A case with its data: one seed gives every contender the same parameters and inputs."""

    def __init__(self, case: Case, threads: int, device: str = "cpu") -> None:
        self.case, self.threads = case, threads
        torch.manual_seed(0)
        self.module = NN[case.cell](
            case.inputs, case.hidden, case.layers, bidirectional=case.directions == 2
        )
        self.x = torch.randn(case.steps, case.batch, case.inputs)
        self.dy = torch.randn(case.steps, case.batch, case.directions * case.hidden)
        self.lengths = torch.tensor(case.lengths) if case.ragged else None
        if (
            self.lengths is not None
        ):  # what padding holds must not matter; zeros keep a check simple
            valid = torch.arange(case.steps)[:, None] < self.lengths
            self.x *= valid[..., None]
            self.dy *= valid[..., None]
        dtype = getattr(torch, case.dtype)
        self.module = self.module.to(device, dtype)
        self.x, self.dy = self.x.to(device, dtype), self.dy.to(device, dtype)

    @property
    def training(self) -> bool:
        return self.case.kind == "training"

    @cached_property
    def expected(self) -> list[Tensor]:
        """What the call must return up to rounding: torch.nn's results, in float32."""
        case = self.case
        module = NN[case.cell](
            case.inputs, case.hidden, case.layers, bidirectional=case.directions == 2
        )
        module.to(self.x.device).load_state_dict(self.module.state_dict())
        x = self.x.float().clone().requires_grad_(self.training)
        if self.lengths is None:
            y = module(x)[0]
        else:
            packed = nn.utils.rnn.pack_padded_sequence(x, self.lengths, enforce_sorted=False)
            y = nn.utils.rnn.pad_packed_sequence(module(packed)[0])[0]
        if not self.training:
            return [y.detach()]
        return [y.detach(), *torch.autograd.grad(y, [x, module.weight_ih_l0], self.dy.float())]


TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
"""Largest relative error (2-norm) with which a contender is timed: enough to catch a wrong formula.

The tests have far tighter ones.
"""


def load(name: str) -> ModuleType:
    """The contender's module."""
    return importlib.import_module(f"benchmarks.contenders.{name}")


def error(got: list[Any], expected: list[Tensor]) -> float:
    """Largest relative error (2-norm) of the arrays of a call; infinite where one is not finite."""
    if len(got) != len(expected):
        raise ValueError(f"expected {len(expected)} arrays from a contender, got {len(got)}")
    errors = []
    for a, b in zip(got, expected, strict=True):
        a = a.detach() if isinstance(a, Tensor) else torch.from_dlpack(a)
        if a.shape != b.shape:
            raise ValueError(f"expected shape {tuple(b.shape)} from a contender, got {a.shape}")
        errors.append(float((a.double() - b).norm() / b.norm()))
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
