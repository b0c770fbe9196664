"""Loads the native libraries, and wraps the ops they register with types and fake kernels.

One op call runs one layer, all its directions, over the whole sequence. Shapes: ``T`` steps, ``B``
batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output state (``H`` unless projected),
``D`` directions, ``S`` values saved per unit and step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, library

_FOLDER = Path(__file__).resolve().parent


def _load() -> bool:
    """Loads the libraries; True where the CUDA ops are there too."""
    native = _FOLDER / "libfusedrnn_cpu.so"
    if not native.exists():
        raise ImportError(
            f"fusedrnn: expected the native library at {native}, and it is not there; "
            "build it with `pip install .`"
        )
    torch.ops.load_library(str(native))
    cuda = _FOLDER / "libfusedrnn_cuda.so"
    if not (cuda.exists() and torch.backends.cuda.is_built()):
        return False
    torch.ops.load_library(str(cuda))
    return True


HAS_CUDA_OPS = _load()

from fusedrnn import _C, _packed  # noqa: E402  the module links to the library loaded above


class Cell(NamedTuple):
    """A cell as the native code lists it."""

    number: int
    gates: int
    slots: int
    has_c: bool


CELLS: dict[str, Cell] = {
    c["name"]: Cell(i, c["gates"], c["slots"], c["has_c"]) for i, c in enumerate(_C.cells())
}

Forward = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Backward = tuple[Tensor, Tensor, Tensor, list[Tensor]]

_forward = torch.ops.fusedrnn.layer_forward.default
_backward = torch.ops.fusedrnn.layer_backward.default
_step = torch.ops.fusedrnn.layer_step.default
_linear_cross_entropy = torch.ops.fusedrnn.linear_cross_entropy.default


def layer_forward(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    cell: str,
    directions: int,
    save: bool,
    tf32: bool,
    compact: bool = False,
) -> Forward:
    """One layer over a whole sequence.

    Args:
        x: ``[T, B, I]`` floating, or int64 token ids ``[T, B]``. Or packed data, on the CPU alone:
            the rows of a ragged batch step by step, longest first, ``[N, I]`` or ids ``[N]``, with
            ``lengths`` that do not increase and add up to ``N``; ``N`` then stands for ``T, B`` in
            everything of all steps.
        h0, c0: ``[D, B, P]`` and ``[D, B, H]``, or None for zeros.
        weights: for each direction ``w_ih [G*H, I]``, ``w_hh [G*H, P]``, then ``b_ih``, ``b_hh``
            ``[G*H]`` if biased, then ``w_hr [P, H]`` if projected.
        lengths: int64 ``[B]`` in ``[0, T]``, or None.
        resets: bool ``[T, B]``, or None.
        save: keep what :func:`layer_backward` needs.
        tf32: CUDA float32 products may be rounded to TF32.
        compact: what is saved holds nothing beyond ``lengths``, if they are given and the data is
            not packed (:func:`saves_compact`).

    Returns:
        ``y [T, B, D*P]``, ``h_n [D, B, P]``, ``c_n [D, B, H]``, and, saved for backward, ``gates
        [D, T, B, S*H]``, ``cells [D, T, B, H]``, ``hidden [D, T, B, H]``, which if compact have the
        sum of the lengths in place of ``T, B``. Whatever the cell or the call has no use for is of
        shape ``[0]``.
    """
    return cast(
        Forward,
        _forward(
            x, h0, c0, weights, lengths, resets, CELLS[cell].number, directions, save, tf32, compact
        ),
    )  # fmt: skip


def saves(x: Tensor, recompute: bool) -> bool:
    """Whether a forward pass that has a backward saves for it, whoever keeps what it saves.

    One step does even where nothing is kept: a step that saves nothing has a kernel of its own, with
    other sums, and ``recompute`` promises the same bits.
    """
    return not recompute or x.shape[0] == 1


def saves_compact(x: Tensor, lengths: Tensor | None) -> bool:
    """Whether what is saved should be compact: on the CPU, where the lengths have values to look at.

    A tracer has sizes alone, and what is saved has to be of a size that it knows.
    """
    return lengths is not None and x.device.type == "cpu" and not _traced_now(lengths)


def _traced_now(t: Tensor) -> bool:
    if torch.compiler.is_compiling() or type(t) not in (Tensor, torch.nn.Parameter):
        return True
    return any(torch._C._get_dispatch_mode(key) is not None for key in _TRACERS)


_Mode = torch._C._TorchDispatchModeKey
_TRACERS = (_Mode.FAKE, _Mode.PROXY, _Mode.FUNCTIONAL)


def layer_backward(
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    y: Tensor | None,
    gates: Tensor | None,
    cells: Tensor | None,
    hidden: Tensor | None,
    cell: str,
    directions: int,
    need_dx: bool,
    need_dw: bool,
    tf32: bool,
) -> Backward:
    """Backpropagation through time for :func:`layer_forward`.

    Args:
        dy, dh_n, dc_n: gradients of ``y``, ``h_n`` and ``c_n``, or None for zeros.
        y, gates, cells, hidden: what :func:`layer_forward` returned with ``save=True``; only read.
            None for all four: the forward pass is run again for them.
        need_dx: whether ``dx`` is wanted (never given for token ids).
        need_dw: whether the gradients of the weights are wanted.

    Returns:
        ``dx`` (shape ``[0]`` if not wanted), ``dh0``, ``dc0`` (shape ``[0]`` for cells without a
        cell state) and the gradients of the weights, in their order (each of shape ``[0]`` if not
        wanted).
    """
    return cast(
        Backward,
        _backward(
            dy, dh_n, dc_n, x, h0, c0, weights, lengths, resets, y, gates, cells, hidden,
            CELLS[cell].number, directions, need_dx, need_dw, tf32,
        ),
    )  # fmt: skip


def layer_step(
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weights: Sequence[Tensor],
    cell: str,
    layers: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One streaming step of a stack of layers of one direction, on the CPU alone.

    Autograd does not know this op; nothing is saved.

    Args:
        x: ``[B, I]`` floating, or int64 token ids ``[B]``.
        h, c: the states of all layers, ``[L, B, P]`` and ``[L, B, H]``, or None for zeros.
        weights: those of layer after layer, each as :func:`layer_forward` takes them.

    Returns:
        The output of the last layer ``[B, P]``, and the new states, shaped as ``h`` and ``c``.
    """
    return cast(
        "tuple[Tensor, Tensor, Tensor | None]", _step(x, h, c, weights, CELLS[cell].number, layers)
    )


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    ignored: int,
    mean: bool,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cross entropy of a linear head and its gradients, on the CPU alone.

    Args:
        x, weight, bias: ``[..., H]`` of up to 4 dimensions, ``[V, H]``, ``[V]`` or None, float32 or
            float64.
        labels: int64 ``[...]``, each in ``[0, V)`` or ``ignored``, which counts for nothing.
        mean: whether the loss is a mean over the rows that count, or their sum.
        need_dx, need_dw, need_db: whether the gradients of ``x``, ``weight``, ``bias`` are wanted.

    Returns:
        The loss, a scalar, and its gradients by ``x``, ``weight`` and ``bias``, each of shape ``[0]``
        if not wanted.
    """
    return cast(
        "tuple[Tensor, Tensor, Tensor, Tensor]",
        _linear_cross_entropy(
            x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous(),
            labels.contiguous(), ignored, mean, need_dx, need_dw, need_db,
        ),
    )  # fmt: skip


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
    info = list(CELLS.values())[cell]
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
    info = list(CELLS.values())[cell]
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
    info = list(CELLS.values())[cell]
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
