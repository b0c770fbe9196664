"""Initialisations that the literature uses for recurrent layers.

Each function changes parameters of one layer in place and returns the layer, in all its layers and
directions: ours, torch.nn's, and the cells of both. `initialise` does it by name to every recurrent
layer of a model. Parameters that a function does not name keep their values::

    rnn = fusedrnn.init.chrono_(fusedrnn.LSTM(8, 128), longest=200)
    fusedrnn.init.initialise(model, "orthogonal")

``H`` hidden size, ``P`` size of the state that enters ``weight_hh`` (``H`` unless projected), ``G``
gates. Gates stand in blocks of ``H`` rows: LSTM i, f, g, o; GRU r, z, n. Values are drawn on the CPU
in float64 and then copied, so one seed gives the same ones on every device and in every dtype.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["NAMES", "chrono_", "forget_gate_bias_", "identity_", "initialise", "orthogonal_"]

NAMES = ("default", "orthogonal", "identity", "chrono", "forget-gate")

Rnn = TypeVar("Rnn", bound="nn.RNNBase | nn.RNNCellBase")

# By the number of gates: the block of the gate that keeps the state (f, z), and of the one that lets
# the input in, where it is a gate of its own (i).
_KEEP = {4: 1, 3: 1}
_ADMIT = {4: 0}


def orthogonal_(rnn: Rnn, gain: float = 1.0, generator: torch.Generator | None = None) -> Rnn:
    """Recurrent weights of each gate orthogonal: their powers neither grow nor fade.

    Each block ``[H, P]`` of ``weight_hh [G*H, P]`` becomes ``gain`` times a matrix drawn evenly
    from those with orthonormal columns.

    Args:
        rnn: a layer or cell, any kind.
        gain: the singular values of every block; above 0.
        generator: on the CPU; None for torch's own.

    Raises:
        TypeError: not a recurrent layer or cell.
        ValueError: gain not above 0; parameters that are computed from others (weight_norm), or
            without values (meta).

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks", arXiv:1312.6120.
    """
    if not gain > 0 or math.isinf(gain):
        raise ValueError(f"gain: expected a number above 0, got {gain!r}")
    with torch.no_grad():
        for weight in _each(rnn, "weight_hh"):
            for block in weight.split(rnn.hidden_size):
                values = torch.empty(block.shape, dtype=torch.float64)
                nn.init.orthogonal_(values, gain, generator=generator)
                block.copy_(values)
    return rnn


def identity_(
    rnn: Rnn,
    scale: float = 1.0,
    input_std: float = 0.001,
    generator: torch.Generator | None = None,
) -> Rnn:
    """The IRNN: an Elman network with ReLU that begins by adding up its input.

    ``weight_hh`` becomes ``scale`` times the identity, biases 0, ``weight_ih`` normal around 0.

    Args:
        rnn: an Elman layer or cell with ``nonlinearity="relu"``.
        scale: 1 remembers, below 1 forgets a share at each step; above 0.
        input_std: standard deviation of ``weight_ih``; 0.001 in the paper.
        generator: on the CPU; None for torch's own.

    Raises:
        TypeError: not a recurrent layer or cell.
        ValueError: another cell or nonlinearity, numbers out of range; otherwise as `orthogonal_`.

    Source: Le, Jaitly, Hinton, "A simple way to initialize recurrent networks of rectified linear
    units", arXiv:1504.00941.
    """
    for name, value in (("scale", scale), ("input_std", input_std)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    if _gates(rnn) != 1 or getattr(rnn, "nonlinearity", None) != "relu":
        raise ValueError(f"expected an RNN with nonlinearity='relu', got {_name(rnn)}")
    recurrent, inputs = _each(rnn, "weight_hh"), _each(rnn, "weight_ih")
    biases = _each(rnn, "bias_ih") + _each(rnn, "bias_hh") if rnn.bias else []
    with torch.no_grad():
        for weight in recurrent:
            weight.copy_(scale * torch.eye(rnn.hidden_size))
        for weight in inputs:
            values = torch.empty(weight.shape, dtype=torch.float64)
            weight.copy_(values.normal_(0.0, input_std, generator=generator))
        for bias in biases:
            bias.zero_()
    return rnn


def chrono_(rnn: Rnn, longest: float, generator: torch.Generator | None = None) -> Rnn:
    """Gate biases for dependencies of up to ``longest`` steps, spread over the units.

    Each unit keeps its state for about ``u`` steps, ``u`` even in [1, longest - 1]: the forget gate
    of an LSTM gets the bias log u and its input gate -log u; the update gate of a GRU, which keeps
    the state in torch.nn's convention, log u. These are the sums of ``bias_ih`` and ``bias_hh``.

    Args:
        rnn: an LSTM or GRU, layer or cell, with biases.
        longest: steps of the longest dependency, at least 2.
        generator: on the CPU; None for torch's own.

    Raises:
        TypeError: not a recurrent layer or cell.
        ValueError: a cell without gates or biases, longest below 2; otherwise as `orthogonal_`.

    Source: Tallec, Ollivier, "Can recurrent neural networks warp time?", arXiv:1804.11188,
    section 2.
    """
    if not 2 <= longest < math.inf:
        raise ValueError(f"longest: expected at least 2 steps, got {longest!r}")
    gates = _gated(rnn)
    hidden = rnn.hidden_size
    with torch.no_grad():
        for ours, theirs in zip(_each(rnn, "bias_ih"), _each(rnn, "bias_hh"), strict=True):
            steps = torch.empty(hidden, dtype=torch.float64)
            bias = steps.uniform_(1.0, longest - 1.0, generator=generator).log()
            _set(ours, theirs, _KEEP[gates], bias)
            if gates in _ADMIT:
                _set(ours, theirs, _ADMIT[gates], -bias)
    return rnn


def forget_gate_bias_(rnn: Rnn, value: float = 1.0) -> Rnn:
    """Biases of the gate that keeps the state: f of an LSTM, z (torch.nn's convention) of a GRU.

    The sum of ``bias_ih`` and ``bias_hh`` becomes ``value`` in that gate's block.

    Args:
        rnn: an LSTM or GRU, layer or cell, with biases.
        value: 1 or 2 in the paper; the gate begins about ``sigmoid(value)`` open.

    Raises:
        TypeError: not a recurrent layer or cell.
        ValueError: a cell without gates or biases, a value not finite; otherwise as `orthogonal_`.

    Source: Jozefowicz, Zaremba, Sutskever, "An empirical exploration of recurrent network
    architectures", ICML 2015, after Gers et al. (2000).
    """
    if not math.isfinite(value):
        raise ValueError(f"value: expected a finite number, got {value!r}")
    gates = _gated(rnn)
    bias = torch.full((rnn.hidden_size,), value, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(_each(rnn, "bias_ih"), _each(rnn, "bias_hh"), strict=True):
            _set(ours, theirs, _KEEP[gates], bias)
    return rnn


def initialise(
    module: nn.Module,
    name: str,
    *,
    longest: float | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Initialises every recurrent layer and cell in ``module`` (itself or inside) by name.

    Args:
        name: one of `NAMES`: ``"default"`` leaves everything as it is, the others are
            `orthogonal_`, `identity_`, `chrono_` and `forget_gate_bias_` with their defaults.
        longest: steps of the longest dependency, for ``"chrono"`` alone.
        generator: on the CPU; None for torch's own.

    Raises:
        ValueError: an unknown name, no recurrent layer, chrono without ``longest``; and what the
            function itself refuses. Then nothing, or only the layers before, are changed.
    """
    if name not in NAMES:
        raise ValueError(f"initialisation: expected one of {', '.join(NAMES)}, got {name!r}")
    if name == "default":
        return
    if name == "chrono" and longest is None:
        raise ValueError("chrono: expected the steps of the longest dependency, got None")
    kinds = (nn.RNNBase, nn.RNNCellBase)
    layers = [each for each in module.modules() if isinstance(each, kinds)]
    if not layers:
        raise ValueError(f"expected a model with a recurrent layer, got {type(module).__name__}")
    for rnn in layers:
        if name == "orthogonal":
            orthogonal_(rnn, generator=generator)
        elif name == "identity":
            identity_(rnn, generator=generator)
        elif name == "chrono" and longest is not None:
            chrono_(rnn, longest, generator)
        else:
            forget_gate_bias_(rnn)


def _name(rnn: nn.Module) -> str:
    nonlinearity = getattr(rnn, "nonlinearity", None)
    return type(rnn).__name__ + (f" with nonlinearity={nonlinearity!r}" if nonlinearity else "")


def _gates(rnn: nn.RNNBase | nn.RNNCellBase) -> int:
    """1 (Elman), 3 (GRU) or 4 (LSTM), from the shape of the recurrent weights."""
    if not isinstance(rnn, (nn.RNNBase, nn.RNNCellBase)):
        raise TypeError(f"expected a recurrent layer or cell, got {type(rnn).__name__}")
    return _each(rnn, "weight_hh")[0].shape[0] // rnn.hidden_size


def _gated(rnn: nn.RNNBase | nn.RNNCellBase) -> int:
    """The number of gates of a layer that has some, and biases; ValueError for any other."""
    gates = _gates(rnn)
    if gates not in _KEEP:
        raise ValueError(f"expected an LSTM or a GRU, got {_name(rnn)}")
    if not rnn.bias:
        raise ValueError(f"expected a layer with biases, got {_name(rnn)} with bias=False")
    return gates


def _each(rnn: nn.RNNBase | nn.RNNCellBase, kind: str) -> list[Tensor]:
    """The parameter ``kind`` of every layer and direction, in torch.nn's order."""
    if not isinstance(rnn, (nn.RNNBase, nn.RNNCellBase)):
        raise TypeError(f"expected a recurrent layer or cell, got {type(rnn).__name__}")
    names = [kind]
    if isinstance(rnn, nn.RNNBase):
        ends = ("", "_reverse") if rnn.bidirectional else ("",)
        names = [f"{kind}_l{layer}{end}" for layer in range(rnn.num_layers) for end in ends]
    own = dict(rnn.named_parameters(recurse=False))
    for name in names:
        if name not in own:
            raise ValueError(f"{name}: expected a parameter, got one that is computed from others")
        if own[name].is_meta:
            raise ValueError(f"{name}: expected a parameter with values, got one on meta")
    return [own[name] for name in names]


def _set(ours: Tensor, theirs: Tensor, block: int, bias: Tensor) -> None:
    """The sum of two biases ``[G*H]`` in one gate's block becomes ``bias [H]``."""
    size = len(bias)
    ours[block * size : (block + 1) * size].copy_(bias)
    theirs[block * size : (block + 1) * size].zero_()
