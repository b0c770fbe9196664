"""Recurrent layers as functions: :func:`elman`, :func:`lstm`, :func:`gru`; and the loss of a head on
top of them, :func:`linear_cross_entropy`.

One call is one layer, all its directions, the whole sequence, time first. Derivatives of every kind
are right: eager and double backward, ``torch.compile``, ``torch.export`` and :mod:`torch.func`.
:func:`route` chooses how a call is carried out; the ``torch.autograd.Function`` s are in
``_autograd.py``.

Letters: ``T`` steps, ``B`` batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output state
(``H`` unless projected), ``D`` directions, ``G`` gates (Elman 1, GRU 3, LSTM 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fusedrnn import _C, _autograd, _checks, _direct, _ops, _traced, reference
from fusedrnn._cross_entropy import linear_cross_entropy

__all__ = ["elman", "gru", "linear_cross_entropy", "lstm"]


def elman(
    input: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    directions: int = 1,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    recompute: bool = False,
) -> tuple[Tensor, Tensor]:
    """Elman network: ``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``, or ReLU for tanh.

    Args:
        input: ``[T, B, I]``, or token ids ``[T, B]`` of an integer dtype in ``[0, I)``, which mean
            one-hot rows.
        weights: for each direction ``w_ih [H, I]``, ``w_hh [H, H]``, then, if biased, ``b_ih [H]``,
            ``b_hh [H]``.
        h0: ``[D, B, H]``, or None for zeros.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        directions: 1, or 2 for a second one that runs backward in time.
        lengths: integer ``[B]`` in ``[0, T]``: steps past a row's length leave its state alone and
            output zeros; the second direction starts at the last valid step.
        resets: bool ``[T, B]``: no state and no gradient crosses from step ``t-1`` to ``t`` where
            ``resets[t]`` is set, in either direction; at ``t = 0`` it discards ``h0``.
        recompute: keep nothing for backward but what was given, and run the forward pass again
            there: less memory until then, a third more time, the same bits.

    Returns:
        ``y [T, B, D*H]`` and ``h_n [D, B, H]``, in the dtype of the weights (of autocast, if enabled).

    Raises:
        ValueError: for an unknown nonlinearity, input of a wrong dimension or dtype, or lengths out
            of range.
        IndexError: for token ids out of range.
        RuntimeError: for shapes or devices that do not fit, and T = 0.

    Source: Elman, "Finding structure in time", Cognitive Science 14 (1990), 179-211.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
    y, h_n, _ = _checked(
        input, weights, h0, None, directions, lengths, resets, f"elman_{nonlinearity}", recompute
    )
    return y, h_n


def lstm(
    input: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    *,
    directions: int = 1,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """LSTM with gates in the order i, f, g, o, and optionally a projected output state.

    ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``, ``h_t = sigmoid(o) tanh(c_t)``, and with a
    projection ``h_t = W_hr (sigmoid(o) tanh(c_t))``.

    Args:
        input: ``[T, B, I]``, or token ids ``[T, B]``, as in :func:`elman`.
        weights: for each direction ``w_ih [4*H, I]``, ``w_hh [4*H, P]``, then, if biased,
            ``b_ih [4*H]``, ``b_hh [4*H]``, then, if projected, ``w_hr [P, H]``.
        h0: ``[D, B, P]``, or None for zeros.
        c0: ``[D, B, H]``, or None for zeros.
        directions, lengths, resets, recompute: as in :func:`elman`; a reset drops ``c`` with ``h``.

    Returns:
        ``y [T, B, D*P]``, ``h_n [D, B, P]``, ``c_n [D, B, H]``.

    Raises:
        ValueError, IndexError, RuntimeError: as :func:`elman`.

    Sources: Gers, Schmidhuber, Cummins, "Learning to forget", Neural Computation 12 (2000),
    2451-2471; projection: Sak, Senior, Beaufays, arXiv:1402.1128, equations 1-7.
    """
    return _checked(input, weights, h0, c0, directions, lengths, resets, "lstm", recompute)


def gru(
    input: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None = None,
    *,
    directions: int = 1,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    recompute: bool = False,
) -> tuple[Tensor, Tensor]:
    """GRU with gates in the order r, z, n and ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``.

    ``h_t = (1 - z) n + z h_{t-1}``.

    Args:
        input: ``[T, B, I]``, or token ids ``[T, B]``, as in :func:`elman`.
        weights: for each direction ``w_ih [3*H, I]``, ``w_hh [3*H, H]``, then, if biased,
            ``b_ih [3*H]``, ``b_hh [3*H]``.
        h0: ``[D, B, H]``, or None for zeros.
        directions, lengths, resets, recompute: as in :func:`elman`.

    Returns:
        ``y [T, B, D*H]`` and ``h_n [D, B, H]``.

    Raises:
        ValueError, IndexError, RuntimeError: as :func:`elman`.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder",
    arXiv:1406.1078, in the variant that torch.nn computes.
    """
    y, h_n, _ = _checked(input, weights, h0, None, directions, lengths, resets, "gru", recompute)
    return y, h_n


def _checked(
    x: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    directions: int,
    lengths: Tensor | None,
    resets: Tensor | None,
    cell: str,
    recompute: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole check of a call from outside, then the layer."""
    weights = list(weights)
    x = _checks.layer_input(x, weights)
    _checks.layer_weights(weights, directions, cell)
    _checks.layer_state(x, weights, h0, c0, directions, cell)
    if lengths is not None:
        lengths = _checks.lengths(lengths, x.shape[0], x.shape[1], x.device)
    if resets is not None:
        resets = _checks.resets(resets, x.shape[0], x.shape[1], x.device)
    return layer(x, h0, c0, weights, lengths, resets, cell, directions, recompute)


def layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    cell: str,
    directions: int,
    recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """For arguments that were checked: the direct way where nobody watches, :func:`route` elsewhere.

    Under autocast, for every cell alike, the floating tensors are cast to autocast's dtype, and that
    is the dtype of the outputs. float64 is left alone, as torch's own autocast leaves it.
    """
    if _direct.possible():
        record = torch.is_grad_enabled() and _any_requires_grad(x, h0, c0, weights)
        number, save = _ops.CELLS[cell].number, record and _ops.saves(x, recompute)
        data = (x, h0, c0, lengths, resets)
        done = _C.direct_forward(number, directions, save, *data, weights)
        if done is not None:
            if record:
                return _autograd.record(done, data, weights, cell, directions, recompute)
            return done[:3]
    if torch._C._is_any_autocast_enabled():  # the name of a device costs more than the other checks
        kind = x.device.type
        if kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            x = _autocast(x, dtype)
            h0 = None if h0 is None else _autocast(h0, dtype)
            c0 = None if c0 is None else _autocast(c0, dtype)
            weights = [_autocast(w, dtype) for w in weights]
    tf32 = x.is_cuda and weights[0].dtype == torch.float32 and _tf32_allowed()
    if torch.compiler.is_compiling() and not _transformed():
        return _op(x, h0, c0, weights, lengths, resets, cell, directions, tf32, recompute)
    return route(x, h0, c0, weights, lengths, resets, cell, directions, tf32, recompute)


def route(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    cell: str,
    directions: int,
    tf32: bool,
    recompute: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``y, h_n, c_n`` by the way that fits who is watching: autograd, a transform, or nobody.

    ``c_n`` of a cell without a cell state is of shape ``[0]``.
    """
    transformed = _transformed()
    if forward_ad._current_level >= 0 or (transformed and torch.compiler.is_compiling()):
        # Plain torch has every derivative: in forward mode, and where a compiler traces through a
        # transform, which for an autograd Function gives gradients of zero and no error.
        y, h_n, c_n = reference.layer(x, h0, c0, weights, lengths, resets, cell, directions)
        return y, h_n, y.new_empty(0) if c_n is None else c_n
    if transformed:
        save = torch.is_grad_enabled()
        y, h_n, c_n, *_ = _autograd.TransformLayer.apply(  # type: ignore[no-untyped-call]
            x, h0, c0, lengths, resets, cell, directions, tf32, recompute, save, *weights
        )
        return y, h_n, c_n
    if torch.is_grad_enabled() and _any_requires_grad(x, h0, c0, weights):
        out: tuple[Tensor, Tensor, Tensor] = _autograd.Layer.apply(  # type: ignore[no-untyped-call]
            x, h0, c0, lengths, resets, (cell, directions, tf32, recompute, None), *weights
        )
        return out
    return _ops.layer_forward(
        x, h0, c0, weights, lengths, resets, cell, directions, False, tf32
    )[:3]  # fmt: skip


_op = _traced.define(route)


def _transformed() -> bool:
    """Whether forward mode or a transform of :mod:`torch.func` is at work."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _any_requires_grad(
    x: Tensor, h0: Tensor | None, c0: Tensor | None, weights: list[Tensor]
) -> bool:
    if x.requires_grad:
        return True
    for w in weights:
        if w.requires_grad:
            return True
    return (h0 is not None and h0.requires_grad) or (c0 is not None and c0.requires_grad)


def _autocast(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _tf32_allowed() -> bool:
    """What torch was told for its own recurrent layers. A compiled graph keeps the answer."""
    precision: str = getattr(torch.backends.cudnn.rnn, "fp32_precision")  # noqa: B009 untyped
    return precision == "tf32"
