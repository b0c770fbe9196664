"""What several test files share: layers to run, and what they must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fusedrnn import functional, reference
from fusedrnn.tolerances import check

CELLS = tuple(reference.CELLS)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def weights_of(
    cell: str,
    inputs: int,
    hidden: int,
    directions: int = 1,
    bias: bool = True,
    proj: int = 0,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """Weights of one layer that require gradients; uniform, and small enough not to saturate."""
    rows, state = reference.CELLS[cell].gates * hidden, proj or hidden
    shapes: list[tuple[int, ...]] = [(rows, inputs), (rows, state)]
    shapes += [(rows,), (rows,)] if bias else []
    shapes += [(proj, hidden)] if proj else []
    return [
        ((torch.rand(s, dtype=torch.float64) * 2 - 1) * max(hidden, inputs) ** -0.5)
        .to(dtype)
        .requires_grad_()
        for _ in range(directions)
        for s in shapes
    ]


def states_of(
    cell: str, batch: int, hidden: int, directions: int = 1, proj: int = 0, dtype=torch.float64
) -> tuple[Tensor, Tensor | None]:
    """Random h0 and, for cells with one, c0, that require gradients."""
    h0 = torch.randn(directions, batch, proj or hidden, dtype=torch.float64).to(dtype)
    c0 = torch.randn(directions, batch, hidden, dtype=torch.float64).to(dtype)
    return h0.requires_grad_(), c0.requires_grad_() if reference.CELLS[cell].has_c else None


def random_options(steps: int, batch: int) -> tuple[Tensor, Tensor]:
    """lengths and resets with every interesting value: 0, T, a reset at 0 and past the end."""
    lengths = torch.randint(0, steps + 1, (batch,))
    if batch > 1:
        lengths[0], lengths[1] = steps, 0
    return lengths, torch.rand(steps, batch) < 0.3


def run_reference(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """reference.layer with the outputs of functional.layer."""
    y, h_n, c_n = reference.layer(*args)
    return y, h_n, y.new_empty(0) if c_n is None else c_n


def as_double(t: Tensor | None) -> Tensor | None:
    """A float64 leaf of the same values; other dtypes and None pass."""
    if t is None or not t.is_floating_point():
        return t
    return t.detach().double().requires_grad_(t.requires_grad)


def results(
    layer: Callable[..., Sequence[Tensor]], args: Sequence[Any], cotangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of ``layer(*args)`` (x, h0, c0, weights, ...), and gradients of all that require one."""
    x, h0, c0, weights, *_ = args
    outputs = [t for t in layer(*args) if t.dim() > 1]
    inputs = [t for t in (x, h0, c0, *weights) if t is not None and t.requires_grad]
    seeds = [g.to(t.dtype) for t, g in zip(outputs, cotangents, strict=False)]
    return outputs, list(torch.autograd.grad(outputs, inputs, seeds))


def assert_like_reference(args: Sequence[Any], what: str = "") -> None:
    """functional.layer(*args) against the float64 reference: outputs, states, every gradient."""
    x, h0, c0, weights, *rest = args
    exact = (as_double(x), as_double(h0), as_double(c0), [as_double(w) for w in weights], *rest)
    steps, batch = x.shape[:2]
    cell, directions = rest[2], rest[3]
    state, hidden = weights[1].shape[1], weights[0].shape[0] // reference.CELLS[cell].gates
    dtype = weights[0].dtype
    sizes = ((steps, batch, directions * state), *((directions, batch, n) for n in (state, hidden)))
    seeds = [torch.randn(s, dtype=torch.float64).to(dtype) for s in sizes]
    outputs, gradients = results(functional.layer, args, seeds)
    wanted, wanted_gradients = results(run_reference, exact, seeds)
    for i, (a, b) in enumerate(zip(outputs, wanted, strict=True)):
        assert a.dtype == dtype
        check(a, b, dtype, f"{what} output {i}")
    if cell == "elman_relu" and not torch.equal(outputs[0] > 0, wanted[0] > 0):
        return  # rounding took a unit across the kink of ReLU: its gradient is another one
    for i, (a, b) in enumerate(zip(gradients, wanted_gradients, strict=True)):
        check(a, b, dtype, f"{what} gradient {i}", gradient=True)


def strided(t: Tensor) -> Tensor:
    """The same values, not contiguous: every second element of a larger tensor, dimensions mixed."""
    wide = torch.empty([2 * n for n in reversed(t.shape)], dtype=t.dtype)
    view = wide[tuple(slice(0, None, 2) for _ in t.shape)].permute(*reversed(range(t.dim())))
    view.copy_(t.detach())
    return view.requires_grad_(t.requires_grad)
