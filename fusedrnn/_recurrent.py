"""What RNN, LSTM and GRU share: arguments as torch.nn takes them, and the stack of layers.

Letters: ``T`` steps, ``B`` batch, ``I`` input size, ``H`` hidden size, ``P`` size of the output
state (``H``, or ``proj_size``), ``L`` layers, ``D`` directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from fusedrnn import _C, _checks, _ops, _packed, functional

_CELLS = {"RNN_TANH": "elman_tanh", "RNN_RELU": "elman_relu", "LSTM": "lstm", "GRU": "gru"}
_NUMBERS = {mode: _ops.CELLS[cell].number for mode, cell in _CELLS.items()}


class Recurrent(nn.RNNBase):
    """What the three share: checks, and a stack of calls to :func:`fusedrnn.functional.layer`."""

    recompute: bool = False  # an instance that does not ask for it has torch.nn's attributes alone

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
        recompute: bool = False,
    ) -> None:
        _checks.constructor(input_size, hidden_size, bias, batch_first, recompute)
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip
        if recompute:
            self.recompute = True

    def extra_repr(self) -> str:
        """As torch.nn writes it, and ``recompute`` where it is on."""
        return super().extra_repr() + (", recompute=True" if self.recompute else "")

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
            RuntimeError: for a wrong input size, state or device, and T = 0. Also where memory runs
                out inside a layer's op, on CUDA too: not ``torch.OutOfMemoryError`` there.
            TypeError: for ``hx`` of a wrong Python type.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, lengths, resets)
        batched = self._is_batched(input)
        h0, c0 = self._split(hx)
        if hx is not None:
            h0, c0 = _checks.state_dims(h0, c0, batched)
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
        # Dynamo alone must be asked here, and each call is a hundredth of a small step: other tracers have modes, which
        # the native side sees.
        if not is_dynamo_compiling():
            done = _C.stream_step(self.__dict__, _NUMBERS, x_t, state)
            if done is not None:
                return done  # type: ignore[no-any-return]
        if self.bidirectional:
            raise RuntimeError(
                "expected a layer of one direction for step(), got bidirectional=True"
            )
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # a context manager costs as much as the rest of this
        try:
            # torch.jit's tracer knows no result that may be absent, as c is, and would go on after its error.
            if _checks.plain_cpu(x_t) and not torch._C._is_tracing():
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
        weights, data, sizes = self._weights(), packed.data, packed.batch_sizes
        batch = int(sizes[0])
        # The CPU kernels take the data as they are.
        whole = data.is_cpu and not torch.compiler.is_compiling()
        x = data if whole else _packed.pad(data, sizes, batch)
        x = self._check(x, h0, c0, weights[0][0], batch)
        lengths = _packed.lengths(sizes).to(x.device, non_blocking=True)
        y, h_n, c_n = self._stack(x, h0, c0, weights, lengths, None)
        y = y if whole else _packed.pack(y, sizes)
        if packed.unsorted_indices is not None:
            h_n = h_n.index_select(1, packed.unsorted_indices)
            c_n = None if c_n is None else c_n.index_select(1, packed.unsorted_indices)
        return packed._replace(data=y), self._join(h_n, c_n)

    def _is_batched(self, x: Tensor) -> bool:
        """By the number of dimensions; token ids have one less. ValueError for any other number."""
        ids, dims = _checks.is_ids(x), x.dim()
        if dims in ((1, 2) if ids else (2, 3)):
            return dims == (2 if ids else 3)
        what = "token ids to be 1D or 2D" if ids else "input to be 2D or 3D"
        raise ValueError(f"{type(self).__name__}: Expected {what}, got {dims}D tensor instead")

    def _check(
        self,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        weight: Tensor,
        batch: int | None = None,
    ) -> Tensor:
        """Time-first, batched input and states against the layer; token ids come back as int64.

        Packed data come with the size of their batch.
        """
        shape = x.shape
        batch = shape[1] if batch is None else batch
        if _checks.is_ids(x):
            x = _checks.ids(x, self.input_size)
        else:
            _checks.same_dtype(x, weight, "input")
            if shape[-1] != self.input_size:
                raise RuntimeError(
                    f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                    f"got {shape[-1]}"
                )
        count = self.num_layers * (2 if self.bidirectional else 1)
        if h0 is not None:
            size = self.proj_size or self.hidden_size
            _checks.state(h0, (count, batch, size), weight, "h_0")
        if c0 is not None:
            _checks.state(c0, (count, batch, self.hidden_size), weight, "c_0")
        if shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0, got 0")
        if x.device != weight.device:
            raise RuntimeError(f"expected input on the weights' {weight.device}, got {x.device}")
        return x

    def _weights(self) -> list[list[Tensor]]:
        """The weights of each layer, all its directions; whatever stands in for a parameter too."""
        own: dict[str, Any] = self._parameters
        names = self._flat_weights_names
        flat: list[Tensor] = [own[n] if n in own else getattr(self, n) for n in names]
        if self.num_layers == 1:
            return [flat]
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
        options = (lengths, resets, cell, d, self.recompute)
        if self.num_layers == 1:
            y, h_n, c_n = functional.layer(x, h0, c0, weights[0], *options)
            return y, h_n, c_n if has_c else None
        p = self.dropout if drop and self.training else 0.0
        last_h, last_c = [], []
        for i, own in enumerate(weights):
            if i and p > 0:
                x = dropout(x, p, training=True)
            h = None if h0 is None else h0[i * d : (i + 1) * d]
            c = None if c0 is None else c0[i * d : (i + 1) * d]
            x, h_n, c_n = functional.layer(x, h, c, own, *options)
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
