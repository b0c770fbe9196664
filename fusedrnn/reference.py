"""Every cell in plain torch, one step at a time.

This is what the kernels are held against in the tests, and what carries derivatives that the kernels
do not have (second and higher ones, forward mode). It is slow, but it is made of differentiable
torch operations only, without control flow on values: it can be differentiated any number of times
and runs under every :mod:`torch.func` transform.

Letters: ``T`` steps, ``B`` batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output state
(``H`` unless the cell projects), ``D`` directions, ``G`` gates.

To add a cell, write its step and add a line to :data:`CELLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

#: One step: (``W_ih x + b_ih`` ``[B, G*H]``, ``h [B, P]``, ``c [B, H]`` or None, ``w_hh``, ``b_hh``)
#: to (``h [B, H]`` before any projection, ``c``).
Step = Callable[
    [Tensor, Tensor, "Tensor | None", Tensor, "Tensor | None"], "tuple[Tensor, Tensor | None]"
]


class Cell(NamedTuple):
    """What the Python side knows of a cell."""

    gates: int
    has_c: bool
    step: Step


def _elman_tanh(
    xp: Tensor, h: Tensor, c: Tensor | None, w_hh: Tensor, b_hh: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Elman, "Finding structure in time", Cognitive Science 14 (1990)."""
    return torch.tanh(xp + linear(h, w_hh, b_hh)), None


def _elman_relu(
    xp: Tensor, h: Tensor, c: Tensor | None, w_hh: Tensor, b_hh: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """As above, with the rectifier of Le, Jaitly and Hinton, arXiv:1504.00941."""
    return torch.relu(xp + linear(h, w_hh, b_hh)), None


def _lstm(
    xp: Tensor, h: Tensor, c: Tensor | None, w_hh: Tensor, b_hh: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000)."""
    i, f, g, o = (xp + linear(h, w_hh, b_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(
    xp: Tensor, h: Tensor, c: Tensor | None, w_hh: Tensor, b_hh: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Cho et al., arXiv:1406.1078, with the reset gate applied after the recurrent product."""
    x_r, x_z, x_n = xp.chunk(3, -1)
    h_r, h_z, h_n = linear(h, w_hh, b_hh).chunk(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return n + z * (h - n), None


#: The cells by the names that the native code gives them.
CELLS: dict[str, Cell] = {
    "elman_tanh": Cell(gates=1, has_c=False, step=_elman_tanh),
    "elman_relu": Cell(gates=1, has_c=False, step=_elman_relu),
    "lstm": Cell(gates=4, has_c=True, step=_lstm),
    "gru": Cell(gates=3, has_c=False, step=_gru),
}


def layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    cell: str = "lstm",
    directions: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One layer, all its directions, over the whole sequence.

    Args:
        x: ``[T, B, I]`` floating, or token ids ``[T, B]`` of an integer dtype in ``[0, I)``.
        h0: ``[D, B, P]`` or None for zeros.
        c0: ``[D, B, H]`` or None for zeros; only for cells with a cell state.
        weights: for each direction ``w_ih [G*H, I]``, ``w_hh [G*H, P]``, then ``b_ih``, ``b_hh``
            ``[G*H]`` if biased, then ``w_hr [P, H]`` if projected.
        lengths: integer ``[B]`` in ``[0, T]``. Steps past a row's length leave its state alone and
            output zeros; direction 1 starts at the last valid step.
        resets: bool ``[T, B]``. A boundary between steps ``t-1`` and ``t``: no state and no gradient
            crosses it, in either direction. At ``t = 0`` it discards ``h0`` and ``c0`` of
            direction 0. Entries past a row's length do not count.
        cell: a key of :data:`CELLS`.
        directions: 1 or 2.

    Returns:
        ``y [T, B, D*P]``, ``h_n [D, B, P]`` and ``c_n [D, B, H]`` (None for cells without it), in the
        dtype of the weights; half precision is computed in float32 and rounded once at the end.
    """
    dtype = weights[0].dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    per = len(weights) // directions
    steps = x.shape[0]
    valid = None if lengths is None else _steps_like(x, steps)[:, None] < lengths
    outs = []
    with torch.autocast(x.device.type, enabled=False):
        floats = x.to(compute) if x.is_floating_point() else x
        for d in range(directions):
            own = [w.to(compute) for w in weights[d * per : (d + 1) * per]]
            h = None if h0 is None else h0[d].to(compute)
            c = None if c0 is None else c0[d].to(compute)
            outs.append(_direction(floats, h, c, own, valid, resets, CELLS[cell], reverse=d == 1))
        y = torch.cat([o[0] for o in outs], -1).to(dtype)
        h_n = torch.stack([o[1] for o in outs]).to(dtype)
        if not CELLS[cell].has_c:
            return y, h_n, None
        return y, h_n, torch.stack([o[2] for o in outs if o[2] is not None]).to(dtype)


def _steps_like(x: Tensor, steps: int) -> Tensor:
    return torch.arange(steps, device=x.device)


def _direction(
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weights: Sequence[Tensor],
    valid: Tensor | None,
    resets: Tensor | None,
    cell: Cell,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One direction: ``y [T, B, P]``, the last state ``[B, P]`` and the last cell state ``[B, H]``."""
    biased, projects = len(weights) >= 4, len(weights) in (3, 5)
    w_ih, w_hh = weights[0], weights[1]
    b_ih, b_hh = (weights[2], weights[3]) if biased else (None, None)
    hidden_size = w_ih.shape[0] // cell.gates
    xp = _project_input(x, w_ih, b_ih, valid)
    if h is None:
        h = xp.new_zeros(xp.shape[1], w_hh.shape[1])
    if c is None and cell.has_c:
        c = xp.new_zeros(xp.shape[1], hidden_size)

    steps = x.shape[0]
    ys: list[Tensor] = []
    for t in reversed(range(steps)) if reverse else range(steps):
        boundary = _boundary(resets, valid, t, steps, reverse)
        if boundary is not None:
            h = torch.where(boundary, 0.0, h)
            c = None if c is None else torch.where(boundary, 0.0, c)
        new_h, new_c = cell.step(xp[t], h, c, w_hh, b_hh)
        if projects:
            new_h = linear(new_h, weights[-1])
        if valid is None:
            h, c = new_h, new_c
            ys.append(h)
        else:
            alive = valid[t][:, None]
            ys.append(torch.where(alive, new_h, 0.0))
            h = torch.where(alive, new_h, h)
            c = None if c is None or new_c is None else torch.where(alive, new_c, c)
    return torch.stack(ys[::-1] if reverse else ys), h, c


def _project_input(x: Tensor, w_ih: Tensor, b_ih: Tensor | None, valid: Tensor | None) -> Tensor:
    """``W_ih x + b_ih`` of all steps, ``[T, B, G*H]``; token ids gather columns of ``W_ih``."""
    if not x.is_floating_point():
        xp = embedding(x.long(), w_ih.t())
        return xp if b_ih is None else xp + b_ih
    if valid is not None:  # padding may hold anything, NaN too, and must not reach dW
        x = torch.where(valid[:, :, None], x, 0.0)
    return linear(x, w_ih, b_ih)


def _boundary(
    resets: Tensor | None, valid: Tensor | None, t: int, steps: int, reverse: bool
) -> Tensor | None:
    """``[B, 1]``: where the state that enters step ``t`` is dropped, or None for nowhere."""
    edge = t + 1 if reverse else t
    if resets is None or edge == steps:
        return None
    mask = resets[edge] if valid is None else resets[edge] & valid[edge]
    return mask[:, None]
