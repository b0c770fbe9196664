"""Checks of arguments before any kernel runs. Each message says what was expected and what came.

Values (token ids, lengths) are looked at in eager mode on the CPU, where that is cheap; on a GPU they
are asserted on the device, which does not make the host wait. Under ``torch.compile`` and
:mod:`torch.func` the native code checks them instead, where it runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fusedrnn import reference

_IDS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def constructor(
    input_size: int, hidden_size: int, bias: bool, batch_first: bool, recompute: bool
) -> None:
    """What ``nn.RNNBase`` checks of these in its newer versions: TypeError and ValueError."""
    for name, flag in (("bias", bias), ("batch_first", batch_first), ("recompute", recompute)):
        if not isinstance(flag, bool):
            raise TypeError(f"expected {name} to be a bool, got {type(flag).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"expected {name} to be an int, got {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"expected {name} > 0, got {size}")


def is_ids(x: Tensor) -> bool:
    """Whether ``x`` holds token ids: any integer dtype that converts to int64 without loss."""
    return x.dtype in _IDS


def ids(x: Tensor, count: int) -> Tensor:
    """Token ids as int64. IndexError unless every one is in ``[0, count)``."""
    x = x.to(torch.int64)
    if _values_readable(x) and not _within(x, count - 1, "token ids out of range"):
        low, high = torch.aminmax(x)
        raise IndexError(
            f"expected token ids in [0, {count}), got ids from {int(low)} to {int(high)}"
        )
    return x


def lengths(lengths: Tensor, steps: int, batch: int, device: torch.device) -> Tensor:
    """``lengths`` as int64 ``[B]`` on ``device``. ValueError unless all are in ``[0, steps]``.

    The copy to a GPU does not wait; the one back to the CPU must.
    """
    if not isinstance(lengths, Tensor) or not is_ids(lengths):
        raise ValueError(
            f"expected lengths to be an integer tensor [{batch}], got {_kind(lengths)}"
        )
    if lengths.shape != (batch,):
        raise ValueError(f"expected lengths of shape [{batch}], got {list(lengths.shape)}")
    if _values_readable(lengths) and not _within(lengths, steps, "lengths out of range"):
        raise ValueError(f"expected lengths in [0, {steps}], got {lengths.tolist()}")
    return lengths.to(device=device, dtype=torch.int64, non_blocking=device.type != "cpu")


def resets(
    resets: Tensor, steps: int, batch: int, device: torch.device, batch_first: bool = False
) -> Tensor:
    """``resets`` as bool ``[T, B]`` on ``device``. ValueError for another dtype or shape."""
    wanted = (batch, steps) if batch_first else (steps, batch)
    if not isinstance(resets, Tensor) or resets.dtype != torch.bool:
        raise ValueError(f"expected resets to be a bool tensor, got {_kind(resets)}")
    if resets.shape != wanted:
        raise ValueError(f"expected resets of shape {list(wanted)}, got {list(resets.shape)}")
    resets = resets.transpose(0, 1) if batch_first else resets
    return resets.to(device=device, non_blocking=device.type != "cpu")


def unbatched(value: Tensor, dims: int, name: str) -> Tensor:
    """``lengths`` or ``resets`` for unbatched input, with the batch dimension added at the end."""
    if not isinstance(value, Tensor) or value.dim() != dims:
        raise ValueError(
            f"expected a {dims}-D tensor {name} for unbatched input, got {_kind(value)}"
        )
    return value.unsqueeze(-1)


def state_dims(
    h0: Tensor | None, c0: Tensor | None, batched: bool
) -> tuple[Tensor | None, Tensor | None]:
    """States as ``[L*D, B, ...]``. RuntimeError unless they are batched exactly if the input is."""
    for state in (h0, c0):
        if state is not None and state.dim() != (3 if batched else 2):
            what = (
                "batched input, hx should be 3-D"
                if batched
                else "unbatched input, hx should be 2-D"
            )
            raise RuntimeError(f"For {what}, but got {state.dim()}-D tensor")
    if batched:
        return h0, c0
    return None if h0 is None else h0.unsqueeze(1), None if c0 is None else c0.unsqueeze(1)


def packed_dims(data: Tensor) -> None:
    """RuntimeError unless the data of a PackedSequence is ``[N, I]``, or ``[N]`` of token ids."""
    wanted = 1 if is_ids(data) else 2
    if data.dim() != wanted:
        raise RuntimeError(f"packed input must have {wanted} dimensions, got {data.dim()}")


def state(state: Tensor, shape: tuple[int, ...], weight: Tensor, name: str) -> None:
    """RuntimeError unless an initial state has this shape and lives as the weights do."""
    if state.shape != shape:
        raise RuntimeError(f"Expected hidden {name} size {shape}, got {list(state.shape)}")
    if state.device != weight.device:
        raise RuntimeError(f"expected {name} on {weight.device}, got it on {state.device}")
    if state.dtype != weight.dtype and not autocasting(state):
        raise RuntimeError(
            f"expected {name} of the weights' dtype {weight.dtype}, got {state.dtype}"
        )


def layer_input(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """A layer's input, time first; token ids come back as int64."""
    if not weights:
        raise ValueError("expected weights, got an empty list")
    if is_ids(x):
        if x.dim() != 2:
            raise ValueError(f"expected token ids [T, B], got {x.dim()}-D {x.dtype} tensor")
        x = ids(x, weights[0].shape[-1])
    else:
        if x.dim() != 3:
            raise ValueError(f"expected input [T, B, I], got {x.dim()}-D tensor")
        same_dtype(x, weights[0], "input")
    if x.shape[0] == 0:
        raise RuntimeError(f"expected at least one time step, got input of shape {list(x.shape)}")
    return x


def layer_weights(weights: Sequence[Tensor], directions: int, cell: str) -> None:
    """Number, shapes, dtype and device of a layer's weights."""
    if directions not in (1, 2):
        raise ValueError(f"expected 1 or 2 directions, got {directions}")
    info = reference.CELLS[cell]
    counts = (2, 3, 4, 5) if info.has_c else (2, 4)
    per, rest = divmod(len(weights), directions)
    if rest or per not in counts:
        raise ValueError(
            f"expected {' or '.join(map(str, counts))} weights for each of {directions} "
            f"direction(s) of {cell}, got {len(weights)} in all"
        )
    if weights[0].dim() != 2 or weights[1].dim() != 2 or weights[0].shape[0] % info.gates:
        shapes = [list(w.shape) for w in weights[:2]]
        raise RuntimeError(
            f"expected w_ih [{info.gates}*H, I], w_hh [{info.gates}*H, P], got {shapes}"
        )
    rows, inputs = weights[0].shape
    hidden = rows // info.gates
    state = weights[1].shape[1] if per in (3, 5) else hidden
    biases = [("b_ih", (rows,)), ("b_hh", (rows,))] if per >= 4 else []
    projection = [("w_hr", (state, hidden))] if per in (3, 5) else []
    wanted = [("w_ih", (rows, inputs)), ("w_hh", (rows, state)), *biases, *projection] * directions
    for w, (name, shape) in zip(weights, wanted, strict=True):
        if w.shape != shape:
            raise RuntimeError(f"expected {name} of shape {list(shape)}, got {list(w.shape)}")
        if w.dtype != weights[0].dtype or w.device != weights[0].device:
            raise RuntimeError(
                f"expected weights of one dtype on one device, got {weights[0].dtype} on "
                f"{weights[0].device} and {w.dtype} on {w.device} ({name})"
            )


def layer_state(
    x: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    directions: int,
    cell: str,
) -> None:
    """The input's last dimension and device, and the initial states, against the weights."""
    rows, inputs = weights[0].shape
    if x.is_floating_point() and x.shape[2] != inputs:
        raise RuntimeError(f"expected input of {inputs} features, got {x.shape[2]}")
    if x.device != weights[0].device:
        raise RuntimeError(f"expected input on {weights[0].device}, got it on {x.device}")
    batch, hidden = x.shape[1], rows // reference.CELLS[cell].gates
    if h0 is not None:
        state(h0, (directions, batch, weights[1].shape[1]), weights[0], "h0")
    if c0 is not None:
        state(c0, (directions, batch, hidden), weights[0], "c0")


def same_dtype(x: Tensor, weight: Tensor, name: str) -> None:
    """ValueError if ``x`` has another dtype than the weights, unless autocast will cast it."""
    if x.dtype != weight.dtype and not (x.is_floating_point() and autocasting(x)):
        raise ValueError(f"expected {name} of the weights' dtype {weight.dtype}, got {x.dtype}")


def autocasting(x: Tensor) -> bool:
    """Whether autocast is enabled for the device of ``x``."""
    kind = x.device.type
    return kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)


def plain_cpu(x: Tensor) -> bool:
    """Whether ``x`` is on the CPU and neither compiler, transform nor autocast sees the call."""
    return (
        not torch.compiler.is_compiling()
        and x.is_cpu
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def _values_readable(t: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and t.device.type in ("cpu", "cuda")
        and not torch._C._are_functorch_transforms_active()
        and t.numel() > 0
    )


def _within(t: Tensor, high: int, message: str) -> bool:
    """Whether all values are in ``[0, high]``; on a GPU the device is left to find out."""
    low, top = torch.aminmax(t)
    if t.device.type == "cuda":
        torch._assert_async((low >= 0) & (top <= high), f"fusedrnn: {message}")
        return True
    return int(low) >= 0 and int(top) <= high


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} tensor of shape {list(value.shape)}"
    return type(value).__name__
