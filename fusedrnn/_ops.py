"""Loads the native libraries, and wraps the ops they register with types; :mod:`fusedrnn._fakes` has
their fake kernels.

One op call runs one layer, all its directions, over the whole sequence. Shapes: ``T`` steps, ``B``
batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output state (``H`` unless projected),
``D`` directions, ``S`` values saved per unit and step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

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

from fusedrnn import _C  # noqa: E402  the module links to the library loaded above


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
