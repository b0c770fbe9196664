"""The ops' fake kernels: the shapes and dtypes of the results, for torch.compile, torch.export and meta tensors.

Shapes are named as in :mod:`fusedrnn._ops`.
"""

from __future__ import annotations

import torch
from torch import Tensor, library

from fusedrnn import _ops, _packed
from fusedrnn._ops import Backward, Forward


def _accumulation_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _batch_and_rows(x: Tensor, lengths: Tensor | None) -> tuple[int, tuple[int, ...]]:
    """``B``, and ``(T, B)`` or, for packed data, ``(N,)``."""
    if lengths is not None and _packed.is_packed(x, lengths):
        return lengths.shape[0], (x.shape[0],)
    return x.shape[1], (x.shape[0], x.shape[1])


@library.register_fake("fusedrnn::layer_forward")  # type: ignore[untyped-decorator]
def _fake_forward(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    cell: int,
    directions: int,
    save: bool,
    tf32: bool,
    compact: bool = False,
) -> Forward:
    if compact and save and lengths is not None and not _packed.is_packed(x, lengths):
        raise RuntimeError("expected no compact layout, whose size is not known to a tracer")
    info = list(_ops.CELLS.values())[cell]
    batch, rows = _batch_and_rows(x, lengths)
    w_ih, w_hh = weights[0], weights[1]
    hidden_size, state_size = w_ih.shape[0] // info.gates, w_hh.shape[1]
    projects = len(weights) // directions in (3, 5)
    accumulate = _accumulation_type(w_ih.dtype)
    gates_type = accumulate if x.device.type == "cpu" else w_ih.dtype

    def make(wanted: bool, *shape: int, dtype: torch.dtype) -> Tensor:
        return w_ih.new_empty(shape if wanted else (0,), dtype=dtype)

    saved = (directions, *rows)
    return (
        make(True, *rows, directions * state_size, dtype=w_ih.dtype),
        make(True, directions, batch, state_size, dtype=w_ih.dtype),
        make(info.has_c, directions, batch, hidden_size, dtype=w_ih.dtype),
        make(save and info.slots > 0, *saved, info.slots * hidden_size, dtype=gates_type),
        make(save and info.has_c, *saved, hidden_size, dtype=accumulate),
        make(save and projects, *saved, hidden_size, dtype=accumulate),
    )


@library.register_fake("fusedrnn::layer_backward")  # type: ignore[untyped-decorator]
def _fake_backward(
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    y: Tensor | None,
    gates: Tensor | None,
    cells: Tensor | None,
    hidden: Tensor | None,
    cell: int,
    directions: int,
    need_dx: bool,
    need_dw: bool,
    tf32: bool,
) -> Backward:
    info = list(_ops.CELLS.values())[cell]
    (batch, _), ids = _batch_and_rows(x, lengths), not x.dtype.is_floating_point
    w_ih, w_hh = weights[0], weights[1]
    hidden_size, state_size = w_ih.shape[0] // info.gates, w_hh.shape[1]
    return (
        w_ih.new_empty(x.shape if need_dx and not ids else (0,)),
        w_ih.new_empty((directions, batch, state_size)),
        w_ih.new_empty((directions, batch, hidden_size) if info.has_c else (0,)),
        [w.new_empty(w.shape if need_dw else (0,)) for w in weights],
    )


@library.register_fake("fusedrnn::layer_step")  # type: ignore[untyped-decorator]
def _fake_step(
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weights: list[Tensor],
    cell: int,
    layers: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    for t in (h, c, *weights):
        if t is not None and t.device != x.device:  # with one on meta, this is the kernel that runs
            raise RuntimeError(f"expected all tensors on {x.device}, got one on {t.device}")
    info = list(_ops.CELLS.values())[cell]
    w_ih, w_hh = weights[0], weights[1]
    batch, state_size = x.shape[0], w_hh.shape[1]
    hidden_size = w_ih.shape[0] // info.gates
    return (
        w_ih.new_empty((batch, state_size)),
        w_ih.new_empty((layers, batch, state_size)),
        w_ih.new_empty((layers, batch, hidden_size)) if info.has_c else None,
    )


@library.register_fake("fusedrnn::linear_cross_entropy")  # type: ignore[untyped-decorator]
def _fake_linear_cross_entropy(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    ignored: int,
    mean: bool,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        x.new_empty(()),
        x.new_empty(x.shape if need_dx else (0,)),
        x.new_empty(w.shape if need_dw else (0,)),
        x.new_empty((w.shape[0],) if need_db and bias is not None else (0,)),
    )
