"""Facts about the native build (csrc/python/module.cpp)."""

from collections.abc import Callable
from typing import Any, TypedDict

class CellFacts(TypedDict):
    name: str
    gates: int
    slots: int
    has_c: bool

class FmaPeak(TypedDict):
    isa: str
    gflops: list[float]
    fastest: list[float]

cuda_build: str

def isa() -> str: ...
def available_isas() -> list[str]: ...
def cells() -> list[CellFacts]: ...
def fma_peak(threads: int, seconds: float, isa: str = "") -> FmaPeak: ...
def stream_setup(
    exchange: Any,
    tensor: type,
    parameter: type,
    watchers: tuple[Callable[[], object], ...],
    empty: Any,
    empty_like: Any,
    float32: Any,
    float64: Any,
    cpu: Any,
) -> bool: ...
def stream_step(
    cell: int, layers: int, parameters: dict[str, Any], names: list[str], x: Any, state: Any
) -> Any:
    """``(y, state)`` of one step, or None where :func:`fusedrnn._ops.layer_step` must take it.

    That is whenever one of the watchers says so, or anything is less plain than dense tensors of
    float32 or float64 (or token ids in int64) on the CPU, of the right shapes, of few rows, and so
    small that no second thread helps.

    Args:
        cell: its number.
        parameters, names: of the module: the names are those of the weights, layer after layer.
        x, state: as ``step`` of the layers takes them, but batched.
    """
