"""Every kernel once, on small shapes: what compute-sanitizer watches. Prints the plan of each.

``python3 benchmarks/gpu_small.py`` runs the plan's choice; FUSEDRNN_CUDA_FAMILY forces a family; it
is an error where no shape would take that.
"""

from __future__ import annotations

import os
import sys

import torch

from fusedrnn import cuda_plan, functional, reference

Shape = tuple[int, int, int, int]
Call = tuple[str, torch.dtype, Shape, bool, int]
SHAPES: list[Shape] = [  # T, B, I, H
    (3, 3, 5, 16),
    (4, 9, 8, 128),
    (3, 5, 8, 256),
]
LARGE: list[Shape] = [  # in bfloat16 alone: a sanitizer takes its time
    (3, 5, 8, 384),  # clusters of 12 blocks
    (3, 5, 8, 512),  # and of 16
    (3, 9, 8, 1024),  # weights that no cluster can hold
]


def calls(dtypes: list[torch.dtype]) -> list[Call]:
    """What is run: cell, dtype, shape, whether token ids go in, and P of a projection or 0."""
    return [
        (cell, dtype, shape, i == 0, 6 if cell == "lstm" and i == 0 else 0)
        for cell in reference.CELLS for dtype in dtypes
        for i, shape in enumerate(SHAPES + LARGE * (dtype == torch.bfloat16))
    ]  # fmt: skip


def planned(call: Call, device: str | int = "cuda") -> tuple[str, str]:
    """The families that would run the call forward and backward."""
    cell, dtype, shape, _, proj = call
    plans = cuda_plan(cell, *shape, dtype=dtype, directions=2, proj_size=proj, device=device)
    return plans["forward"]["family"], plans["backward"]["family"]


def plan_all(wanted: list[Call], device: str | int = "cuda") -> None:
    """Prints the plan of every call; SystemExit where none takes the family that is asked for."""
    seen = set()
    for call in wanted:
        forward, backward = planned(call, device)
        print(*call[:3], f"proj {call[4]}: forward {forward}, backward {backward}")
        seen |= {forward, backward}
    family = os.environ.get("FUSEDRNN_CUDA_FAMILY")
    if family and family not in seen:
        raise SystemExit(f"FUSEDRNN_CUDA_FAMILY={family}: no call here is planned for it")


def run(call: Call) -> None:
    cell, dtype, shape, ids, proj = call
    steps, batch, inputs, hidden = shape
    info, state = reference.CELLS[cell], proj or hidden
    rows = info.gates * hidden
    sizes = [
        (rows, inputs),
        (rows, state),
        (rows,),
        (rows,),
        *([(proj, hidden)] if proj else []),
    ] * 2
    weights = [(torch.randn(s, device="cuda") * 0.1).to(dtype).requires_grad_() for s in sizes]
    if ids:
        x = torch.randint(0, inputs, (steps, batch), device="cuda")
    else:
        x = torch.randn(steps, batch, inputs, device="cuda").to(dtype).requires_grad_()
    h0 = torch.randn(2, batch, state, device="cuda").to(dtype).requires_grad_()
    c0 = (
        torch.randn(2, batch, hidden, device="cuda").to(dtype).requires_grad_()
        if info.has_c
        else None
    )
    lengths = torch.arange(batch, device="cuda") % (steps + 1)
    resets = torch.rand(steps, batch, device="cuda") < 0.3
    for options in ((None, None), (lengths, resets)):
        y, h, c = functional.layer(x, h0, c0, weights, *options, cell, 2)
        total = y.float().sum() + h.float().sum() + (c.float().sum() if info.has_c else 0)
        total.backward()
        if not bool(torch.isfinite(total)):
            raise AssertionError(f"{cell} {dtype} {shape}: not finite")


def main() -> None:
    torch.manual_seed(0)
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
    wanted = calls([getattr(torch, a) for a in sys.argv[1:]] or kinds)
    plan_all(wanted)
    for call in wanted:
        run(call)
    torch.cuda.synchronize()
    print(f"{len(wanted)} layers ran forward and backward")


if __name__ == "__main__":
    main()
