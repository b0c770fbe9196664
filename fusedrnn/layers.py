"""RNN, LSTM and GRU: drop-in replacements for the layers of :mod:`torch.nn`.

Constructor, parameters, ``state_dict``, errors and results are those of torch.nn. Beyond it, forward
takes ``lengths=``, ``resets=`` and token ids, and ``step`` runs one streaming step.

They derive from ``nn.RNNBase`` and not from ``nn.LSTM``: ``torch.compile`` refuses to trace the
latter and everything derived from it. They cannot be scripted (``torch.jit.script``).

Letters: ``T`` steps, ``B`` batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output
state (``H``, or ``proj_size``), ``L`` layers, ``D`` directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from fusedrnn import _checks, _ops, _packed, functional

__all__ = ["GRU", "LSTM", "RNN"]

_CELLS = {"RNN_TANH": "elman_tanh", "RNN_RELU": "elman_relu", "LSTM": "lstm", "GRU": "gru"}


class _Recurrent(nn.RNNBase):
    """What the three share: checks, and a stack of calls to :func:`fusedrnn.functional.layer`."""

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _checks.constructor(input_size, hidden_size, bias, batch_first)
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Runs the layers over whole sequences.

        Args:
            input: ``[T, B, I]`` (``[B, T, I]`` if ``batch_first``), unbatched ``[T, I]``, or a
                PackedSequence. Or token ids, which mean one-hot rows: an integer tensor with the
                last dimension left out, values in ``[0, I)``.
            hx: the initial state, or None for zeros: ``h_0 [L*D, B, P]`` for RNN and GRU,
                ``(h_0 [L*D, B, P], c_0 [L*D, B, H])`` for LSTM; without ``B`` if unbatched.
            lengths: integer ``[B]`` in ``[0, T]``, on any device; unbatched, a single number. Steps
                past a row's length leave its state alone and output zeros; the reverse direction
                starts at the last valid step.
            resets: bool ``[T, B]`` (``[B, T]`` if ``batch_first``, ``[T]`` if unbatched). Neither
                state nor gradient crosses from step ``t-1`` to ``t`` where set, in either
                direction, as if the sequence had been cut there; at ``t = 0`` it discards ``hx``
                of direction 0.

        Returns:
            The output of the last layer, ``[T, B, D*P]``, laid out as the input, and the state after
            each row's last valid step, shaped as ``hx``.

        Raises:
            ValueError: for input of a wrong dimension or dtype, and wrong ``lengths`` or ``resets``.
            IndexError: for token ids out of range.
            RuntimeError: for a wrong input size, state or device, and T = 0.
            TypeError: for ``hx`` of a wrong Python type.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, lengths, resets)
        batched = self._is_batched(input)
        h0, c0 = _checks.state_dims(*self._split(hx), batched)
        swap = self.batch_first and batched
        x = input.transpose(0, 1) if swap else input if batched else input.unsqueeze(1)
        weights = self._weights()
        x = self._check(x, h0, c0, weights[0][0])
        if lengths is not None:
            lengths = lengths if batched else _checks.unbatched(lengths, 0, "lengths")
            lengths = _checks.lengths(lengths, x.shape[0], x.shape[1], x.device)
        if resets is not None:
            resets = resets if batched else _checks.unbatched(resets, 1, "resets")
            resets = _checks.resets(resets, x.shape[0], x.shape[1], x.device, swap)
        y, h_n, c_n = self._stack(x, h0, c0, weights, lengths, resets)
        if not batched:
            return y.squeeze(1), self._join(h_n.squeeze(1), None if c_n is None else c_n.squeeze(1))
        return y.transpose(0, 1) if swap else y, self._join(h_n, c_n)

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One streaming step, without autograd and without dropout.

        Args:
            x_t: the input of this step, ``[B, I]`` or unbatched ``[I]``; or token ids, ``[B]`` or a
                single one.
            state: what the step before returned, shaped as ``hx`` of forward; None for zeros.

        Returns:
            The output ``[B, P]`` and the new state.

        Raises:
            RuntimeError: for bidirectional layers, which need the future; otherwise as forward.
        """
        if self.bidirectional:
            raise RuntimeError(
                "expected a layer of one direction for step(), got bidirectional=True"
            )
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # a context manager costs as much as the rest of this
        try:
            if _checks.plain_cpu(x_t):
                try:
                    return self._native_step(x_t, state)
                except RuntimeError:
                    pass  # the op refused the arguments: take the way that says what forward says
            return self._general_step(x_t, state)
        finally:
            torch._C._set_grad_enabled(before)

    def _native_step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """All layers in one call, which checks its arguments itself and is not traced."""
        h, c = self._split(state)
        own: dict[str, Any] = self._parameters
        weights = [own[n] if n in own else getattr(self, n) for n in self._flat_weights_names]
        y, h, c = _ops.layer_step(x_t, h, c, weights, _CELLS[self.mode], self.num_layers)
        return y, self._join(h, c)

    def _general_step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        batched = self._is_batched(x_t.unsqueeze(0))
        h0, c0 = _checks.state_dims(*self._split(state), batched)
        weights = self._weights()
        x = x_t.unsqueeze(0) if batched else x_t[None, None]
        x = self._check(x, h0, c0, weights[0][0])
        y, h_n, c_n = self._stack(x, h0, c0, weights, None, None, drop=False)
        if not batched:
            return y[0, 0], self._join(h_n.squeeze(1), None if c_n is None else c_n.squeeze(1))
        return y[0], self._join(h_n, c_n)

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels take the parameters as they are. Here for torch.nn's callers."""

    def _forward_packed(
        self, packed: PackedSequence, hx: Any, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[PackedSequence, Any]:
        if lengths is not None or resets is not None:
            raise ValueError(
                "expected neither lengths nor resets with a PackedSequence, which has its own "
                "lengths; pass the padded tensor instead"
            )
        _checks.packed_dims(packed.data)
        h0, c0 = self._split(hx)
        if packed.sorted_indices is not None:
            h0 = None if h0 is None else h0.index_select(1, packed.sorted_indices)
            c0 = None if c0 is None else c0.index_select(1, packed.sorted_indices)
        weights = self._weights()
        x, valid, steps = _packed.unpack(packed)
        x = self._check(x, h0, c0, weights[0][0])
        y, h_n, c_n = self._stack(x, h0, c0, weights, valid, None)
        if packed.unsorted_indices is not None:
            h_n = h_n.index_select(1, packed.unsorted_indices)
            c_n = None if c_n is None else c_n.index_select(1, packed.unsorted_indices)
        return _packed.repack(y, steps, packed), self._join(h_n, c_n)

    def _is_batched(self, x: Tensor) -> bool:
        """By the number of dimensions; token ids have one less. ValueError for any other number."""
        ids = _checks.is_ids(x)
        if x.dim() in ((1, 2) if ids else (2, 3)):
            return x.dim() == (2 if ids else 3)
        what = "token ids to be 1D or 2D" if ids else "input to be 2D or 3D"
        raise ValueError(f"{type(self).__name__}: Expected {what}, got {x.dim()}D tensor instead")

    def _check(self, x: Tensor, h0: Tensor | None, c0: Tensor | None, weight: Tensor) -> Tensor:
        """Time-first, batched input and states against the layer; token ids come back as int64."""
        if _checks.is_ids(x):
            x = _checks.ids(x, self.input_size)
        else:
            _checks.same_dtype(x, weight, "input")
            if x.shape[2] != self.input_size:
                raise RuntimeError(
                    f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                    f"got {x.shape[2]}"
                )
        count = self.num_layers * (2 if self.bidirectional else 1)
        batch = x.shape[1]
        if h0 is not None:
            _checks.state(h0, (count, batch, self.proj_size or self.hidden_size), weight, "h_0")
        if c0 is not None:
            _checks.state(c0, (count, batch, self.hidden_size), weight, "c_0")
        if x.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0, got 0")
        if x.device != weight.device:
            raise RuntimeError(f"expected input on the weights' {weight.device}, got {x.device}")
        return x

    def _weights(self) -> list[list[Tensor]]:
        """The weights of each layer, all its directions; whatever stands in for a parameter too."""
        own: dict[str, Any] = self._parameters
        names = self._flat_weights_names
        flat: list[Tensor] = [own[n] if n in own else getattr(self, n) for n in names]
        per = len(names) // self.num_layers
        return [flat[i : i + per] for i in range(0, len(flat), per)]

    def _stack(
        self,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        weights: list[list[Tensor]],
        lengths: Tensor | None,
        resets: Tensor | None,
        drop: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Layer upon layer, dropout between: ``y [T, B, D*P]``, ``h_n`` and, for LSTM, ``c_n``."""
        cell = _CELLS[self.mode]
        has_c = _ops.CELLS[cell].has_c
        d = 2 if self.bidirectional else 1
        if self.num_layers == 1:
            y, h_n, c_n = functional.layer(x, h0, c0, weights[0], lengths, resets, cell, d)
            return y, h_n, c_n if has_c else None
        p = self.dropout if drop and self.training else 0.0
        last_h, last_c = [], []
        for i, own in enumerate(weights):
            if i and p > 0:
                x = dropout(x, p, training=True)
            h = None if h0 is None else h0[i * d : (i + 1) * d]
            c = None if c0 is None else c0[i * d : (i + 1) * d]
            x, h_n, c_n = functional.layer(x, h, c, own, lengths, resets, cell, d)
            last_h.append(h_n)
            last_c.append(c_n)
        return x, torch.cat(last_h), torch.cat(last_c) if has_c else None

    def _split(self, hx: Any) -> tuple[Tensor | None, Tensor | None]:
        """``hx`` as the user gave it to ``h_0, c_0``."""
        if hx is not None and not isinstance(hx, Tensor):
            raise TypeError(f"expected hx to be a tensor, got {type(hx).__name__}")
        return hx, None

    def _join(self, h_n: Tensor, c_n: Tensor | None) -> Any:
        """The other way."""
        return h_n


class RNN(_Recurrent):
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
        **unknown: Any,
    ) -> None:
        _refuse(unknown, "RNN")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(_Recurrent):
    """Long short-term memory, as :class:`torch.nn.LSTM`; gates in the order i, f, g, o.

    ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``, ``h_t = sigmoid(o) tanh(c_t)``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype: as in :class:`RNN`.
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
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device=device, dtype=dtype,
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


class GRU(_Recurrent):
    """Gated recurrent unit, as :class:`torch.nn.GRU`; gates in the order r, z, n.

    ``h_t = (1 - z) n + z h_{t-1}`` with ``n = tanh(W_in x + b_in + r (W_hn h_{t-1} + b_hn))``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype: as in :class:`RNN`.

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
        **unknown: Any,
    ) -> None:
        _refuse(unknown, "GRU")
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip


def _refuse(unknown: dict[str, Any], name: str) -> None:
    """The errors for keywords that RNN and GRU do not have."""
    if "proj_size" in unknown:
        raise ValueError(f"proj_size argument is only supported for LSTM, not {name}")
    if unknown:
        raise TypeError(f"{name} got unexpected keyword arguments {sorted(unknown)}")
