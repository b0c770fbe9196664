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

from fusedrnn import _packed

#: One step: ``W_ih x + b_ih`` ``[B, G*H]``, the state ``(h [B, P],)`` or ``(h, c [B, H])``, ``w_hh``
#: and ``b_hh``, to the next state, with ``h [B, H]`` before any projection.
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, Tensor, "Tensor | None"], State]


class Cell(NamedTuple):
    """What the Python side knows of a cell."""

    gates: int
    has_c: bool
    step: Step


def _elman_tanh(xp: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    """Elman, "Finding structure in time", Cognitive Science 14 (1990)."""
    return (torch.tanh(xp + linear(state[0], w_hh, b_hh)),)


def _elman_relu(xp: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    """As above, with the rectifier of Le, Jaitly and Hinton, arXiv:1504.00941."""
    return (torch.relu(xp + linear(state[0], w_hh, b_hh)),)


def _lstm(xp: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    """Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000)."""
    h, c = state
    i, f, g, o = (xp + linear(h, w_hh, b_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(xp: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    """Cho et al., arXiv:1406.1078, with the reset gate applied after the recurrent product."""
    (h,) = state
    x_r, x_z, x_n = xp.chunk(3, -1)
    h_r, h_z, h_n = linear(h, w_hh, b_hh).chunk(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return (n + z * (h - n),)


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
        x: ``[T, B, I]`` floating, or token ids ``[T, B]`` of an integer dtype in ``[0, I)``. Or
            packed data, ``[N, I]`` or ids ``[N]``, with lengths that do not increase: ``N`` stands
            for ``T, B`` in ``y`` too.
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
    if lengths is not None and _packed.is_packed(x, lengths):
        sizes = _packed.sizes(lengths)
        padded = _packed.pad(x, sizes, lengths.shape[0])
        y, h_n, c_n = layer(padded, h0, c0, weights, lengths, resets, cell, directions)
        return _packed.pack(y, sizes), h_n, c_n
    dtype, info = weights[0].dtype, CELLS[cell]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    per = len(weights) // directions
    valid = None
    if lengths is not None:
        valid = torch.arange(x.shape[0], device=x.device)[:, None] < lengths
    initial = (h0, c0) if info.has_c else (h0,)
    ys, states = [], []
    with torch.autocast(x.device.type, enabled=False):
        floats = x.to(compute) if x.is_floating_point() else x
        for d in range(directions):
            own = [w.to(compute) for w in weights[d * per : (d + 1) * per]]
            start = [None if s is None else s[d].to(compute) for s in initial]
            y, state = _direction(floats, start, own, valid, resets, info, reverse=d == 1)
            ys.append(y)
            states.append(state)
        last = [torch.stack(s).to(dtype) for s in zip(*states, strict=True)]
        return torch.cat(ys, -1).to(dtype), last[0], last[1] if info.has_c else None


def _direction(
    x: Tensor,
    start: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    valid: Tensor | None,
    resets: Tensor | None,
    cell: Cell,
    reverse: bool,
) -> tuple[Tensor, State]:
    """One direction: ``y [T, B, P]`` and the last state, each part ``[B, P or H]``."""
    biased, projects = len(weights) >= 4, len(weights) in (3, 5)
    w_ih, w_hh = weights[0], weights[1]
    b_ih, b_hh = (weights[2], weights[3]) if biased else (None, None)
    xp = _project_input(x, w_ih, b_ih, valid)
    sizes = (w_hh.shape[1], w_ih.shape[0] // cell.gates)
    state: State = tuple(
        xp.new_zeros(xp.shape[1], size) if s is None else s
        for s, size in zip(start, sizes, strict=False)
    )
    steps = x.shape[0]
    ys: list[Tensor] = []
    for t in reversed(range(steps)) if reverse else range(steps):
        boundary = _boundary(resets, valid, t, steps, reverse)
        if boundary is not None:
            state = tuple(torch.where(boundary, 0.0, s) for s in state)
        new = cell.step(xp[t], state, w_hh, b_hh)
        if projects:
            new = (linear(new[0], weights[-1]), *new[1:])
        if valid is None:
            ys.append(new[0])
            state = new
        else:
            alive = valid[t][:, None]
            ys.append(torch.where(alive, new[0], 0.0))
            state = tuple(torch.where(alive, n, s) for n, s in zip(new, state, strict=True))
    return torch.stack(ys[::-1] if reverse else ys), state


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
