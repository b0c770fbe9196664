"""Streaming steps past the dispatcher, for the tests of them: cases, and two ways to carry one out."""

from __future__ import annotations

import torch

import fusedrnn
from fusedrnn import _C, _ops

LAYERS = {
    "elman_tanh": fusedrnn.RNN,
    "elman_relu": lambda *sizes, **options: fusedrnn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": fusedrnn.LSTM,
    "gru": fusedrnn.GRU,
}


def case(cell="gru", batch=1, layers=1, dtype=torch.float32, ids=False, given=True, **options):
    """A layer, its input and a state."""
    torch.manual_seed(0)
    layer = LAYERS[cell](5, 19, num_layers=layers, **options).to(dtype)
    x = torch.randint(0, 5, (batch,)) if ids else torch.randn(batch, 5, dtype=dtype)
    if not given:
        return layer, x, None
    h = torch.randn(layers, batch, 19, dtype=dtype)
    return layer, x, (h, torch.randn_like(h)) if cell == "lstm" else h


def taken(cell, layer, x, state):
    """What the native side gives, None where it declines."""
    return _C.stream_step(vars(layer), {layer.mode: _ops.CELLS[cell].number}, x, state)


def flat(result):
    y, state = result
    return [y, *(state if isinstance(state, tuple) else (state,))]


def by_the_op(cell, layer, x, state):
    h, c = state if cell == "lstm" and state is not None else (state, None)
    with torch.no_grad():
        y, h, c = _ops.layer_step(x, h, c, list(layer.parameters()), cell, layer.num_layers)
    return [y, h] if c is None else [y, h, c]
