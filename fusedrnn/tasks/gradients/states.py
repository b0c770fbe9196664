"""The gradient of a loss with respect to every state on the way.

The layers run a whole sequence in one native call, which keeps the gradients of the states inside to
itself. Called one step at a time instead, each state is a tensor of its own between two calls, and
autograd gives the derivative by it from the same native backward, exactly: no perturbation is
injected, and nothing is approximated. T calls take longer than one; nothing else is lost.

Letters: ``T`` steps, ``B`` batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output state,
``L`` layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fusedrnn import functional
from fusedrnn._recurrent import _CELLS
from fusedrnn.layers import GRU, LSTM, RNN
from fusedrnn.tasks.gradients.errors import GradientError

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StateGradients:
    """What `state_gradients` found; all without history.

    Attributes:
        loss: the scalar that was differentiated.
        h: ``[T + 1, L, B, P]``, the gradient by the output state after t steps (0: the initial one).
        c: ``[T + 1, L, B, H]``, by the cell state; None for cells without one.
        parameters: by the parameters of the layer, by their names.
    """

    loss: Tensor
    h: Tensor
    c: Tensor | None
    parameters: dict[str, Tensor]

    def norms(self) -> Tensor:
        """Euclidean norms of ``h``, float64 ``[T + 1, L, B]``."""
        norms: Tensor = self.h.double().norm(dim=3)
        return norms

    def cell_norms(self) -> Tensor | None:
        """Euclidean norms of ``c``, float64 ``[T + 1, L, B]``."""
        return None if self.c is None else self.c.double().norm(dim=3)


def state_gradients(
    rnn: RNN | LSTM | GRU,
    inputs: Tensor,
    loss: Loss,
    hx: tuple[Tensor, Tensor | None] | None = None,
    *,
    factors: Sequence[float] | None = None,
) -> StateGradients:
    """Differentiates ``loss(outputs)`` by every state of a recurrent layer.

    A gradient is the whole one, over all ways from the state to the loss: through the next step,
    through the layer above, and through the output itself. The two parts of an LSTM's state count as
    independent of each other: the gradient by ``c`` is taken with ``h`` held, and the other way
    round, as the backward of a layer does for ``h_0`` and ``c_0``.

    Args:
        rnn: one direction, any layers; without the dropout between them.
        inputs: ``[T, B, I]``, or token ids ``[T, B]``, time first whatever ``rnn.batch_first`` is.
        loss: from the outputs of the last layer ``[T, B, P]`` to a scalar.
        hx: the initial ``h [L, B, P]`` and, for LSTM, ``c [L, B, H]``; None for zeros.
        factors: ``T + 1`` numbers. The gradient that comes back from step ``t + 1`` into the state
            after ``t`` steps is multiplied by ``factors[t]``: 1 leaves it, 0 cuts it (see
            `truncation`). None for ones.

    Raises:
        GradientError: not a layer of this package, a layer of two directions, inputs or factors of
            a wrong size.
    """
    _check(rnn, inputs, factors)
    steps, batch, layers = inputs.shape[0], inputs.shape[1], rnn.num_layers
    states = [_initial(rnn, batch, hx, layer) for layer in range(layers)]
    weights, cell = rnn._weights(), _CELLS[rnn.mode]
    met, outputs = [[state] for state in states], []
    with torch.enable_grad():
        for t in range(steps):
            below = inputs[t : t + 1]
            factor = 1.0 if factors is None else factors[t]
            for layer in range(layers):
                h, c = (_scaled(part, factor) for part in states[layer])
                call = (below, h, c, weights[layer], None, None, cell, 1)
                _, h, c = functional.layer(*call)
                # h_n and the output are the same numbers; as one tensor, what comes through the
                # output, to the loss or to the layer above, counts for the state as well.
                states[layer] = (h, c if rnn.mode == "LSTM" else None)
                met[layer].append(states[layer])
                below = h
            outputs.append(below)
        value = loss(torch.cat(outputs))
    return _differentiate(value, rnn, met)


def _check(rnn: RNN | LSTM | GRU, inputs: Tensor, factors: Sequence[float] | None) -> None:
    if not isinstance(rnn, RNN | LSTM | GRU):
        raise GradientError(f"expected a fusedrnn RNN, LSTM or GRU, got {type(rnn).__name__}")
    if rnn.bidirectional:
        raise GradientError("expected a layer of one direction, got bidirectional=True")
    ids = not inputs.is_floating_point()
    if inputs.dim() != (2 if ids else 3) or inputs.shape[0] == 0:
        raise GradientError(
            f"expected inputs [T, B, {rnn.input_size}] or token ids [T, B], T above 0, "
            f"got {list(inputs.shape)}"
        )
    if not ids and inputs.shape[2] != rnn.input_size:
        raise GradientError(f"expected inputs of size {rnn.input_size}, got {inputs.shape[2]}")
    if factors is not None and len(factors) != inputs.shape[0] + 1:
        raise GradientError(
            f"expected {inputs.shape[0] + 1} factors, one for each state, got {len(factors)}"
        )


_State = tuple[Tensor, Tensor | None]


def _initial(
    rnn: RNN | LSTM | GRU, batch: int, hx: tuple[Tensor, Tensor | None] | None, layer: int
) -> _State:
    """The state ``[1, B, P]``, ``[1, B, H]`` that a layer begins with, to be differentiated by."""
    weight = rnn._weights()[0][0]
    sizes = (rnn.proj_size or rnn.hidden_size, rnn.hidden_size)
    parts: list[Tensor | None] = []
    for size, given in zip(sizes, hx or (None, None), strict=True):
        part = weight.new_zeros(1, batch, size) if given is None else given[layer : layer + 1]
        parts.append(part.detach().clone().requires_grad_())
    h, c = parts
    assert h is not None
    return h, c if rnn.mode == "LSTM" else None


def _scaled(part: Tensor | None, factor: float) -> Tensor | None:
    """The same values, with the gradient that comes back multiplied."""
    if part is None or factor == 1.0:
        return part
    if factor == 0.0:
        return part.detach()
    return part * factor + (part * (1.0 - factor)).detach()


def _differentiate(
    value: Tensor, rnn: RNN | LSTM | GRU, met: Sequence[Sequence[_State]]
) -> StateGradients:
    every = [state for layer in met for state in layer]
    hs, cs = [h for h, _ in every], [c for _, c in every if c is not None]
    named = {name: p for name, p in rnn.named_parameters() if p.requires_grad}
    wanted = [*hs, *cs, *named.values()]
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    whole = [torch.zeros_like(w) if f is None else f for w, f in zip(wanted, found, strict=True)]
    h, c = whole[: len(hs)], whole[len(hs) : len(hs) + len(cs)]
    return StateGradients(
        value.detach(),
        _stacked(h, len(met)),
        _stacked(c, len(met)) if c else None,
        dict(zip(named, whole[len(hs) + len(cs) :], strict=True)),
    )


def _stacked(parts: Sequence[Tensor], layers: int) -> Tensor:
    """``L * (T + 1)`` tensors ``[1, B, size]`` to ``[T + 1, L, B, size]``."""
    whole: Tensor = torch.cat(list(parts)).unflatten(0, (layers, -1)).transpose(0, 1)
    return whole
