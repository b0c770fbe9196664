"""RNNCell, LSTMCell and GRUCell: one step, as the cells of :mod:`torch.nn`.

They run on the same kernels as the layers, with T = 1, and have the same derivatives. ``B`` batch,
``I`` input size, ``H`` hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusedrnn import _checks, functional

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _Cell(nn.RNNCellBase):
    """What the three share: shapes in and out, and one call of the layer."""

    def _step(
        self, input: Tensor, h: Tensor | None, c: Tensor | None, cell: str
    ) -> tuple[Tensor, Tensor]:
        """``h' [B, H]`` and ``c' [B, H]`` (for LSTM), or ``[H]`` for unbatched input."""
        ids = _checks.is_ids(input)
        batched = self._is_batched(input, 1 if ids else 2, "token ids" if ids else "input")
        for name, state in (("hidden", h), ("cell state", c)):
            if state is not None:
                self._is_batched(state, 2, name)
        x = input[None] if batched else input[None, None]
        h0, c0 = (None if s is None else s[None] if batched else s[None, None] for s in (h, c))
        weights = [self.weight_ih, self.weight_hh]
        if self.bias_ih is not None and self.bias_hh is not None:
            weights += [self.bias_ih, self.bias_hh]
        x = self._check(x, h0, c0, weights[0])
        _, h_n, c_n = functional.layer(x, h0, c0, weights, None, None, cell, 1)
        if batched:
            return h_n[0], c_n[0] if c_n.dim() == 3 else c_n
        return h_n[0, 0], c_n[0, 0] if c_n.dim() == 3 else c_n

    def _is_batched(self, t: Tensor, dims: int, what: str) -> bool:
        if t.dim() not in (dims - 1, dims):
            raise ValueError(
                f"{type(self).__name__}: Expected {what} to be {dims - 1}D or {dims}D, "
                f"got {t.dim()}D instead"
            )
        return t.dim() == dims

    def _check(self, x: Tensor, h0: Tensor | None, c0: Tensor | None, weight: Tensor) -> Tensor:
        """RuntimeError, as torch.nn's cells have it, before any kernel runs."""
        if _checks.is_ids(x):
            x = _checks.ids(x, self.input_size)
        elif x.shape[2] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: expected {self.input_size}, got {x.shape[2]}"
            )
        elif x.dtype != weight.dtype and not _checks.autocasting(x):
            raise RuntimeError(
                f"expected input of the weights' dtype {weight.dtype}, got {x.dtype}"
            )
        for name, s in (("hx", h0), ("cx", c0)):
            if s is not None:
                _checks.state(s, (1, x.shape[1], self.hidden_size), weight, name)
        if x.device != weight.device:
            raise RuntimeError(f"expected input on the weights' {weight.device}, got {x.device}")
        return x


class RNNCell(_Cell):
    """One step of an Elman network, as :class:`torch.nn.RNNCell`.

    ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or ReLU in place of tanh.

    Args:
        input_size, hidden_size: ``I`` and ``H``.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        device, dtype: of the parameters.
    """

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]  # noqa: RUF012
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=1, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """``input [B, I]`` or ``[I]``, or token ids ``[B]`` or ``[]``; ``hx [B, H]`` or ``[H]``.

        Returns the next state, shaped as ``hx``; None means zeros. ValueError for a wrong number of
        dimensions; RuntimeError for sizes, dtypes and devices that do not fit, and for an unknown
        nonlinearity.
        """
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"expected nonlinearity 'tanh' or 'relu', got {self.nonlinearity!r}")
        return self._step(input, hx, None, f"elman_{self.nonlinearity}")[0]


class LSTMCell(_Cell):
    """One step of an LSTM, as :class:`torch.nn.LSTMCell`.

    Args:
        input_size, hidden_size, bias, device, dtype: as in :class:`RNNCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=4, device=device, dtype=dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """``input`` as in :meth:`RNNCell.forward`, ``hx`` a pair ``(h, c)``, each ``[B, H]`` or ``[H]``.

        Returns the next ``(h, c)``. Errors as :meth:`RNNCell.forward`.
        """
        h, c = (None, None) if hx is None else hx
        return self._step(input, h, c, "lstm")


class GRUCell(_Cell):
    """One step of a GRU, as :class:`torch.nn.GRUCell`.

    Args:
        input_size, hidden_size, bias, device, dtype: as in :class:`RNNCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=3, device=device, dtype=dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """As :meth:`RNNCell.forward`."""
        return self._step(input, hx, None, "gru")[0]
