"""Layer calls on the GPU, made on the CPU with the helpers of tests/oracle.py and moved there."""

from __future__ import annotations

from typing import Any

import torch
from oracle import (
    as_double,
    assert_like_reference,
    random_options,
    results,
    run_reference,
    states_of,
    weights_of,
)
from torch import Tensor

from fusedrnn import functional
from fusedrnn.tolerances import check


def to_gpu(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.detach().cuda().requires_grad_(t.requires_grad)


def call(
    cell: str,
    steps: int,
    batch: int,
    inputs: int,
    hidden: int,
    dtype: torch.dtype,
    *,
    directions: int = 1,
    bias: bool = True,
    proj: int = 0,
    state: bool = True,
    lengths: bool = False,
    resets: bool = False,
    ids: bool = False,
    seed: int = 0,
) -> tuple[Any, ...]:
    """The arguments of functional.layer, on the GPU, random, requiring gradients."""
    torch.manual_seed(seed)
    w = weights_of(cell, inputs, hidden, directions, bias, proj, dtype)
    if ids:
        x = torch.randint(0, inputs, (steps, batch))
    else:
        x = torch.randn(steps, batch, inputs).to(dtype).requires_grad_()
    h0, c0 = states_of(cell, batch, hidden, directions, proj, dtype) if state else (None, None)
    n, r = random_options(steps, batch)
    return (
        to_gpu(x),
        to_gpu(h0),
        to_gpu(c0),
        [to_gpu(t) for t in w],
        to_gpu(n) if lengths else None,
        to_gpu(r) if resets else None,
        cell,
        directions,
    )


def assert_right(args: tuple[Any, ...], what: str = "") -> None:
    """The call against the float64 reference on the GPU: outputs, states and every gradient."""
    if args[6] == "elman_relu" and args[3][0].dtype in (torch.bfloat16, torch.float16):
        _assert_relu_right(args, what)
        return
    # The reference draws its cotangents on the default device.
    with torch.device("cuda"):
        assert_like_reference(args, what)


def _assert_relu_right(args: tuple[Any, ...], what: str) -> None:
    """In half precision a unit near the kink may fall on its other side, and its gradient then differs
    as a whole. So gradients are judged by their direction."""
    x, h0, c0, weights, *rest = args
    exact = (as_double(x), as_double(h0), as_double(c0), [as_double(w) for w in weights], *rest)
    wanted = [t for t in run_reference(*exact) if t.dim() > 1]
    seeds = [torch.randn_like(t).to(weights[0].dtype) for t in wanted]
    outputs, gradients = results(functional.layer, args, seeds)
    wanted, wanted_gradients = results(run_reference, exact, seeds)
    for i, (a, b) in enumerate(zip(outputs, wanted, strict=True)):
        check(a, b, weights[0].dtype, f"{what} output {i}")
    for i, (a, b) in enumerate(zip(gradients, wanted_gradients, strict=True)):
        away = (a.double() - b).norm() / b.norm().clamp(min=1e-3)
        assert away < 0.3, f"{what} gradient {i}: {away:g} away from the reference"
