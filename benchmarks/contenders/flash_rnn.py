"""FlashRNN (Pöppel, Beck, Hochreiter 2024; PyPI ``flashrnn``, written for release 1.0.8), on a GPU.

It runs the recurrence alone, and compiles its kernels for each shape when they are first called.
The input projection is ours: one product before it, as for everybody. The biases are one here, and
so are theirs; the GRU's gates are n, r, z for what comes from h and r, z, n for what comes from x,
with a bias for each of n(h), r, z, n(x).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.contenders import Call, Problem, Unsupported

NAME = "FlashRNN"
FUNCTIONS = {"rnn": "elman", "lstm": "lstm", "gru": "gru"}
BACKENDS = ("cuda_fused", "cuda")
"""In the order in which they are tried: the fused one does not compile for every size."""


def missing() -> str | None:
    try:
        import flashrnn  # noqa: F401
    except Exception as error:  # it looks for a compiler and for Triton when it is imported
        return f"not importable: {type(error).__name__}: {error}"
    return None


def biases(cell: str, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """[gates, H] of FlashRNN from torch.nn's two vectors."""
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    x, h = b_ih.view(gates, -1), b_hh.view(gates, -1)
    if cell != "gru":
        return x + h
    return torch.stack([h[2], x[0] + h[0], x[1] + h[1], x[2]])


def recurrent(cell: str, w_hh: Tensor) -> Tensor:
    """[gates, H, H] of FlashRNN from torch.nn's W_hh."""
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    w = w_hh.view(gates, -1, w_hh.shape[1])
    return w[[2, 0, 1]] if cell == "gru" else w


def build(problem: Problem, backends: tuple[str, ...] = BACKENDS) -> Call:
    case = problem.case
    if case.ragged or case.layers > 1 or case.directions > 1:
        raise Unsupported("only one layer, one direction, no lengths")
    failures = []
    for backend in backends:
        call = _build(problem, backend)
        try:
            call()
        except Exception as error:  # whatever its compiler or its kernels say
            failures.append(f"{backend}: {type(error).__name__}: {error}")
            continue
        return call
    raise Unsupported("its kernels do not build or run: " + "; ".join(failures))


def _build(problem: Problem, backend: str) -> Call:
    import flashrnn

    case = problem.case
    config: Any = flashrnn.FlashRNNConfig(
        backend=backend, function=FUNCTIONS[case.cell], dtype=case.dtype, num_heads=1,
        head_dim=case.hidden, batch_size=case.batch, input_shape="TBGHD", output_shape="STBHD",
    )  # fmt: skip
    x = problem.x.clone().requires_grad_(problem.training)
    w_ih, w_hh, b_ih, b_hh = problem.module.parameters()

    def rearranged() -> tuple[Tensor, Tensor]:
        return recurrent(case.cell, w_hh)[:, None], biases(case.cell, b_ih, b_hh)[:, None]

    def layer(r: Tensor, b: Tensor) -> Tensor:
        projected = linear(x, w_ih).view(case.steps, case.batch, -1, 1, case.hidden)
        states, _ = flashrnn.flashrnn(projected, r, b, config=config)
        return states[0, :, :, 0]

    with torch.no_grad():
        once = rearranged()

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [layer(*once)]

    def training() -> list[Tensor]:
        y = layer(*rearranged())
        return [y, *torch.autograd.grad(y, [x, w_ih, w_hh, b_ih, b_hh], problem.dy)[:2]]

    return training if problem.training else forward
