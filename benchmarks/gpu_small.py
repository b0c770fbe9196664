"""Every kernel once, on small shapes: what compute-sanitizer watches. Prints what it ran.

``python3 benchmarks/gpu_small.py`` runs the plan's choice; FUSEDRNN_CUDA_FAMILY forces a family.
"""

from __future__ import annotations

import sys

import torch

from fusedrnn import functional, reference

SHAPES = [  # T, B, I, H
    (3, 3, 5, 16),
    (4, 9, 8, 128),
    (3, 5, 8, 256),
]


def run(
    cell: str, dtype: torch.dtype, shape: tuple[int, int, int, int], ids: bool, proj: int
) -> None:
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
    kinds = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    wanted = [getattr(torch, a) for a in sys.argv[1:]] or kinds
    count = 0
    for cell in reference.CELLS:
        for dtype in wanted:
            for i, shape in enumerate(SHAPES):
                run(cell, dtype, shape, ids=i == 0, proj=6 if cell == "lstm" and i == 0 else 0)
                count += 1
    torch.cuda.synchronize()
    print(f"{count} layers ran forward and backward")


if __name__ == "__main__":
    main()
