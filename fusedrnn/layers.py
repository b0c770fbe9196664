"""RNN, LSTM and GRU: drop-in replacements for the layers of :mod:`torch.nn`.

Constructor, parameters, ``state_dict``, errors and results are those of torch.nn. Beyond it, forward
takes ``lengths=``, ``resets=`` and token ids, and ``step`` runs one streaming step.

They derive from ``nn.RNNBase`` and not from ``nn.LSTM``: ``torch.compile`` refuses to trace the
latter and everything derived from it. TorchScript, which torch has deprecated, cannot
script or trace them (``torch.jit``); ``torch.export`` and ``torch.compile`` do.

Letters: ``T`` steps, ``B`` batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output
state (``H``, or ``proj_size``), ``L`` layers, ``D`` directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusedrnn._recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent):
    """Elman network, as :class:`torch.nn.RNN`.

    ``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``, or ReLU in place of tanh.

    Args:
        input_size: ``I``, features of the input, > 0.
        hidden_size: ``H``, features of the state, > 0.
        num_layers: layers on top of each other, > 0.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first: whether batched input and output are ``[B, T, ...]``; states never are.
        dropout: probability, in [0, 1], of dropping an output between layers, in training.
        bidirectional: whether a second direction runs backward in time.
        device, dtype: of the parameters: float64, float32, bfloat16 or float16.
        recompute: keep nothing for backward but the input of each layer and run its forward pass
            again there: less memory until then, a third more time, the same bits. The output may
            then also be changed in place. An attribute, which can be set at any time.

    Raises:
        ValueError, TypeError: as :class:`torch.nn.RNN` for the same arguments.

    Source: Elman, "Finding structure in time", Cognitive Science 14 (1990), 179-211.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        recompute: bool = False,
        **unknown: Any,
    ) -> None:
        _refuse(unknown, "RNN")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, device=device, dtype=dtype, recompute=recompute,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(Recurrent):
    """Long short-term memory, as :class:`torch.nn.LSTM`; gates in the order i, f, g, o.

    ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``, ``h_t = sigmoid(o) tanh(c_t)``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype, recompute: as in :class:`RNN`.
        proj_size: ``P``: if > 0, the output state is ``W_hr h_t`` of this size, < ``H``.

    Raises:
        ValueError, TypeError: as :class:`torch.nn.LSTM` for the same arguments.

    Sources: Gers, Schmidhuber, Cummins, "Learning to forget", Neural Computation 12 (2000),
    2451-2471; projection: Sak, Senior, Beaufays, arXiv:1402.1128.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        recompute: bool = False,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device=device, dtype=dtype, recompute=recompute,
        )  # fmt: skip

    def _split(self, hx: Any) -> tuple[Tensor | None, Tensor | None]:
        if hx is None:
            return None, None
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            count = f" of {len(hx)}" if isinstance(hx, (tuple, list)) else ""
            raise TypeError(f"expected hx to be a pair (h_0, c_0), got {type(hx).__name__}{count}")
        return hx[0], hx[1]

    def _join(self, h_n: Tensor, c_n: Tensor | None) -> Any:
        return h_n, c_n


class GRU(Recurrent):
    """Gated recurrent unit, as :class:`torch.nn.GRU`; gates in the order r, z, n.

    ``h_t = (1 - z) n + z h_{t-1}`` with ``n = tanh(W_in x + b_in + r (W_hn h_{t-1} + b_hn))``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype, recompute: as in :class:`RNN`.

    Raises:
        ValueError, TypeError: as :class:`torch.nn.GRU` for the same arguments.

    Source: Cho et al., arXiv:1406.1078, in the variant that torch.nn computes.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        recompute: bool = False,
        **unknown: Any,
    ) -> None:
        _refuse(unknown, "GRU")
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype, recompute=recompute,
        )  # fmt: skip


def _refuse(unknown: dict[str, Any], name: str) -> None:
    """The errors for keywords that RNN and GRU do not have."""
    if "proj_size" in unknown:
        raise ValueError(f"proj_size argument is only supported for LSTM, not {name}")
    if unknown:
        raise TypeError(f"{name} got unexpected keyword arguments {sorted(unknown)}")
