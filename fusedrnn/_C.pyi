"""Facts about the native build and the text encoder (csrc/python/module.cpp)."""

from collections.abc import Callable, Sequence
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
    mean: list[float]

class CudaDevice(TypedDict):
    arch: int
    sms: int
    smem_block: int
    smem_sm: int
    regs_sm: int
    threads_sm: int
    max_cluster: int
    cooperative: bool

class CudaPlan(TypedDict):
    family: str
    cluster: int
    blocks: int
    threads: int
    shared_memory: int
    tile_batch: int
    tile_units: int
    workspace: int
    step_us: float
    why: str

class CudaPlans(TypedDict):
    forward: CudaPlan
    backward: CudaPlan

cuda_build: str

def isa() -> str: ...
def available_isas() -> list[str]: ...
def cells() -> list[CellFacts]: ...
def cuda_device(arch: int) -> CudaDevice: ...
def cuda_plan(
    cell: int,
    dtype: str,
    steps: int,
    batch: int,
    input: int,
    hidden: int,
    projection: int,
    directions: int,
    device: CudaDevice,
) -> CudaPlans: ...
def largest_cluster(arch: int) -> int: ...
def fma_peak(threads: int, seconds: float, isa: str = "") -> FmaPeak: ...
def line_exchange(seconds: float) -> float: ...
def torch_setup(
    exchange: Any,
    tensor: type,
    parameter: type,
    watchers: tuple[Callable[[], object], ...],
    forward_ad: dict[str, Any],
    empty: Any,
    float32: Any,
    float64: Any,
    cpu: Any,
) -> bool: ...
def stream_step(attributes: dict[str, Any], numbers: dict[str, int], x: Any, state: Any) -> Any:
    """``(y, state)`` of one step, or None where :func:`fusedrnn._ops.layer_step` must take it.

    That is whenever one of the watchers says so, or anything is less plain than dense tensors of
    float32 or float64 (or token ids in int64) on the CPU, of the right shapes, of few rows, and so
    small that other Python threads need not run meanwhile.

    Args:
        attributes: of the module. Of more than one direction, it is not taken.
        numbers: of the cells, by ``mode`` of the module.
        x, state: as ``step`` of the layers takes them, but batched.
    """

def direct_forward(
    cell: int,
    directions: int,
    save: bool,
    x: Any,
    h0: Any,
    c0: Any,
    lengths: Any,
    resets: Any,
    weights: list[Any],
) -> tuple[Any, Any, Any, Any, Any, Any] | None:
    """What :func:`fusedrnn._ops.layer_forward` returns, None for what of it backward has no use for.

    Or None where the op must do it: as :func:`stream_step`, and for a layer that projects.
    """

def direct_backward(
    cell: int,
    directions: int,
    needs: tuple[bool, ...],
    saved: tuple[Any, ...],
    dy: Any,
    dh_n: Any,
    dc_n: Any,
) -> tuple[Any, ...] | None:
    """The gradients that ``Layer.backward`` returns, or None where the op must make them.

    Args:
        needs, saved: ``ctx.needs_input_grad`` and ``ctx.saved_tensors`` of ``Layer``.
    """

class Encoder:
    waiting: bool
    resumable: bool
    tokens_read: int
    tokens_unknown: int
    characters_read: int
    words_read: int
    def __init__(
        self,
        unit: str,
        tokens: Sequence[str | bytes],
        *,
        letters: bool = False,
        errors: str = "error",
        unknown: str = "unk",
        line_end: str = "",
        learn: bool = False,
        width: int = 4,
    ) -> None: ...
    def feed(self, data: bytes | bytearray | memoryview, limit: int = ...) -> bytes: ...
    def finish(self, limit: int = ...) -> bytes: ...
    def begin_inside(self, position: int) -> None: ...
    def tokens(self) -> list[str]: ...
    def unknown(self) -> list[str]: ...
    def invalid(self) -> tuple[int, int] | None: ...
