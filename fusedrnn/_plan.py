"""The plan of a call on a GPU: which kernels would run, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fusedrnn import _C

if TYPE_CHECKING:
    from fusedrnn._C import CudaDevice, CudaPlans

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_NAMES = [facts["name"] for facts in _C.cells()]


def cuda_plan(
    cell: str,
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    directions: int = 1,
    proj_size: int = 0,
    device: int | str | torch.device = 90,
) -> CudaPlans:
    """How one layer would run on a GPU. Runs nothing, and needs no GPU.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"elman_tanh"`` or ``"elman_relu"``.
        steps, batch, input_size, hidden_size: T, B, I and H of the call.
        proj_size: P, 0 without projection.
        device: a CUDA device of this machine, or the compute capability of one that the plan knows:
            80 (A100), 90 (H100, H200) or 100 (B200).

    Returns:
        ``{"forward": plan, "backward": plan}``. A plan has ``family`` (``"step"``, ``"block"``,
        ``"cluster"``, ``"fma"`` or ``"grid"``), the launch of a persistent kernel (``cluster``
        blocks of a cluster, ``blocks`` in all for a direction, ``threads`` of a block, bytes of
        ``shared_memory`` of a block, the rows ``tile_batch`` and units ``tile_units`` that a block
        or cluster owns, bytes of ``workspace``; all 0 for the step family), ``step_us``, the
        predicted microseconds of a step, and ``why`` in one sentence. The environment variable
        ``FUSEDRNN_CUDA_FAMILY`` forces a family, as it does for the call itself.

    Raises:
        ValueError: an unknown cell, dtype or device, or a size that cannot be.
    """
    if cell not in _NAMES:
        raise ValueError(f"cell: expected one of {', '.join(_NAMES)}, got {cell!r}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: expected a floating type of torch's, got {dtype}")
    if directions not in (1, 2):
        raise ValueError(f"directions: expected 1 or 2, got {directions}")
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "steps": steps}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected 1 or more, got {size}")
    if batch < 0 or not 0 <= proj_size < hidden_size:
        raise ValueError(
            "expected a batch of 0 or more and a proj_size from 0 to below hidden_size, "
            f"got {batch} and {proj_size}"
        )
    return _C.cuda_plan(
        _NAMES.index(cell),
        str(dtype).removeprefix("torch."),
        steps,
        batch,
        input_size,
        hidden_size,
        proj_size,
        directions,
        _facts(device),
    )


def _facts(device: int | str | torch.device) -> CudaDevice:
    if isinstance(device, int):
        return _C.cuda_device(device)
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(
            f"device: expected a CUDA device of this machine, or 80, 90, 100: {device}"
        )
    has: Any = torch.cuda.get_device_properties(device)  # torch describes fewer than it has
    arch = has.major * 10 + has.minor
    return {
        "arch": arch,
        "sms": has.multi_processor_count,
        "smem_block": has.shared_memory_per_block_optin,
        "smem_sm": has.shared_memory_per_multiprocessor,
        "regs_sm": has.regs_per_multiprocessor,
        "threads_sm": has.max_threads_per_multi_processor,
        "max_cluster": _C.largest_cluster(arch),
        "cooperative": True,
    }
