"""How much the recurrent weights alone stretch a gradient in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fusedrnn.layers import GRU, LSTM, RNN

# The gates by the mode of the layer, in the order of their blocks in weight_hh.
GATES = {
    "RNN_TANH": ("state",),
    "RNN_RELU": ("state",),
    "LSTM": ("input", "forget", "candidate", "output"),
    "GRU": ("reset", "update", "candidate"),
}


@dataclass(frozen=True)
class Spectrum:
    """Of one gate's block of ``weight_hh``.

    Attributes:
        layer: counted from 0.
        gate: a name in `GATES`.
        eigenvalue: the largest absolute eigenvalue, the rate in the long run.
        singular: the largest singular value, the most that one step can stretch.
    """

    layer: int
    gate: str
    eigenvalue: float
    singular: float


def spectra(rnn: RNN | LSTM | GRU) -> list[Spectrum]:
    """Of every block ``[H, H]`` of ``weight_hh`` (times the projection, where there is one), layer
    by layer, gate by gate, of the first direction.

    For an Elman network, the gradient by the state k steps before is at most ``singular ** k`` times
    that by the last one, and if the derivative of its nonlinearity were 1 throughout, it would grow
    or fade as ``eigenvalue ** k`` (Pascanu, Mikolov and Bengio, arXiv:1211.5063, section 2.1). In a
    gated cell the ways around the matrix count too, and both are only a mark to read it against.
    """
    found = []
    for layer in range(rnn.num_layers):
        weight: Tensor = getattr(rnn, f"weight_hh_l{layer}").detach().double().cpu()
        project: Tensor | None = getattr(rnn, f"weight_hr_l{layer}", None)
        for gate, block in zip(GATES[rnn.mode], weight.split(rnn.hidden_size), strict=True):
            square = block if project is None else block @ project.detach().double().cpu()
            eigenvalue = float(torch.linalg.eigvals(square).abs().max())
            singular = float(torch.linalg.matrix_norm(square, 2))
            found.append(Spectrum(layer, gate, eigenvalue, singular))
    return found


def main_spectrum(rnn: RNN | LSTM | GRU, layer: int) -> Spectrum:
    """That of the block through which a state enters the next one: the candidate's, or the only."""
    name = "state" if len(GATES[rnn.mode]) == 1 else "candidate"
    return next(each for each in spectra(rnn) if (each.layer, each.gate) == (layer, name))
