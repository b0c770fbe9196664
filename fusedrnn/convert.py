"""Swapping the recurrent layers of a model for ours, and back, with the same parameters."""

from __future__ import annotations

from typing import TypeVar, cast

from torch import nn

from fusedrnn.cells import GRUCell, LSTMCell, RNNCell
from fusedrnn.layers import GRU, LSTM, RNN

__all__ = ["from_torch", "to_torch"]

_PAIRS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.RNN, RNN),
    (nn.LSTM, LSTM),
    (nn.GRU, GRU),
    (nn.RNNCell, RNNCell),
    (nn.LSTMCell, LSTMCell),
    (nn.GRUCell, GRUCell),
)

M = TypeVar("M", bound=nn.Module)


def from_torch(module: M) -> M:
    """Swaps every ``nn.RNN``, ``LSTM``, ``GRU`` and their cells inside ``module`` for ours.

    Containers of any depth are changed in place; a module that stands in several places stays one
    module. The new layers hold the same ``Parameter`` objects (an optimizer goes on working) and
    keep hooks, training mode, dtype, device and ``requires_grad``. No random numbers are drawn.

    Only these classes themselves are swapped. A subclass may have a forward of its own and is left
    as it is; that includes a layer under ``torch.nn.utils.parametrize``, which gives it a class of
    its own: convert first, then parametrize. Modules that a model keeps outside of its registered
    children (a plain list, say) are not seen.

    Args:
        module: a model, or a recurrent layer.

    Returns:
        ``module`` itself, or, if it is a recurrent layer, the new one.
    """
    return _swap(module, dict(_PAIRS))


def to_torch(module: M) -> M:
    """The way back: every one of our layers and cells inside ``module`` becomes torch.nn's.

    As :func:`from_torch` in every respect. What torch.nn does not have (``lengths=``, ``resets=``,
    token ids, ``step``) is lost.
    """
    return _swap(module, {ours: theirs for theirs, ours in _PAIRS})


def _swap(module: M, classes: dict[type[nn.Module], type[nn.Module]]) -> M:
    """``module`` with every registered descendant of a class in ``classes`` replaced."""
    done: dict[nn.Module, nn.Module] = {}

    def replacement(old: nn.Module) -> nn.Module:
        if old not in done and type(old) in classes:
            done[old] = _convert(old, classes[type(old)])
        return done.get(old, old)

    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is not None:
                parent._modules[name] = replacement(child)
    return cast(M, replacement(module))


def _convert(old: nn.Module, new_class: type[nn.Module]) -> nn.Module:
    """A module of ``new_class`` with everything ``old`` has.

    The two families keep the same attributes, so this is all there is to it, and it leaves nothing
    out that a user or torch may have put there. Tables of hooks are shared, so that the handles that
    remove hooks still do; the tables of parameters are copied, so that the old module stays whole.
    """
    new = new_class.__new__(new_class)
    state = dict(old.__dict__)
    for name in ("_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs"):
        if name in state:
            state[name] = state[name].copy()
    new.__dict__.update(state)
    return new
