"""Times fusedrnn and torch.nn (cuDNN) side by side on the GPU, point by point, in one process.

Times are medians of CUDA-event timings after a warm-up, over inputs that rotate through four sets.
"forward" runs without gradients, "train" is forward and backward with gradients of input and weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gpu_grid
import torch
from gpu_grid import Point
from torch import Tensor, nn

import fusedrnn

TORCH_DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "tf32": torch.float32,
}
SETS = 4


def set_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def build(module: Any, point: Point, dtype: torch.dtype) -> nn.Module:
    name = {"lstm": "LSTM", "gru": "GRU", "elman_tanh": "RNN"}[point.cell]
    torch.manual_seed(0)
    model: nn.Module = getattr(module, name)(
        point.H, point.H, point.layers, bidirectional=point.directions == 2
    )
    return model.to("cuda", dtype)


def median_ms(run: Callable[[int], object], seconds: float) -> float:
    """Median time of run(i) on the device, in milliseconds; at least 5 runs, then until the time is up."""
    for i in range(2):
        run(i)
    torch.cuda.synchronize()
    start = time.perf_counter()
    run(0)
    torch.cuda.synchronize()
    guess = time.perf_counter() - start
    count = max(5, min(100, int(seconds / max(guess, 1e-5))))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for i in range(count):
        run(i)
        marks[i + 1].record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(marks))


def runs_of(
    model: nn.Module, point: Point, inputs: list[Tensor], **options: Tensor
) -> dict[str, Any]:
    """Functions of a counter that run the model forward, and forward and backward."""
    ys = [model(x, **options)[0] for x in inputs[:1]]
    seed = torch.randn_like(ys[0])
    wanted = list(model.parameters())

    def forward(i: int) -> None:
        with torch.no_grad():
            model(inputs[i % SETS], **options)

    def train(i: int) -> None:
        x = inputs[i % SETS]
        y = model(x, **options)[0]
        torch.autograd.grad(y, [x, *wanted], seed)

    return {"forward": forward, "train": train}


def measure(point: Point, dtype: str, seconds: float) -> dict[str, Any]:
    """One row of results: milliseconds of both, and how far apart their outputs are."""
    set_tf32(dtype == "tf32")
    kind = TORCH_DTYPES[dtype]
    inputs = [
        torch.randn(point.T, point.B, point.H, device="cuda").to(kind).requires_grad_()
        for _ in range(SETS)
    ]
    options = {}
    if point.resets >= 0:
        options["resets"] = torch.rand(point.T, point.B, device="cuda") < point.resets
    ours, theirs = build(fusedrnn, point, kind), build(nn, point, kind)
    row: dict[str, Any] = {**point.as_dict(), "dtype": dtype}
    with torch.no_grad():
        a, b = ours(inputs[0])[0].float(), theirs(inputs[0])[0].float()
    row["difference"] = float((a - b).abs().max() / b.abs().max())
    mine, peer = runs_of(ours, point, inputs, **options), runs_of(theirs, point, inputs)
    for mode in ("forward", "train"):
        row[f"{mode}_ms"] = median_ms(mine[mode], seconds)
        row[f"{mode}_cudnn_ms"] = median_ms(peer[mode], seconds)
    return row


def bench(
    points: Iterable[Point], dtypes: Iterable[str], seconds: float, budget: float
) -> dict[str, Any]:
    """Measures point by point until the budget (seconds) is spent; says what was left out."""
    start = time.monotonic()
    rows, left_out = [], []
    for point in points:
        for dtype in dtypes:
            if time.monotonic() - start > budget:
                left_out.append(f"{point.label()} {dtype}")
                continue
            try:
                rows.append(measure(point, dtype, seconds))
            except (RuntimeError, torch.OutOfMemoryError) as e:
                rows.append({**point.as_dict(), "dtype": dtype, "error": str(e)[:500]})
                continue
            r = rows[-1]
            print(
                f"{point.label():60s} {dtype}  "
                f"forward {r['forward_ms']:9.3f} ms ({r['forward_cudnn_ms'] / r['forward_ms']:5.2f}x)  "
                f"train {r['train_ms']:9.3f} ms ({r['train_cudnn_ms'] / r['train_ms']:5.2f}x)  "
                f"difference {r['difference']:.1e}",
                flush=True,
            )
    return {"rows": rows, "left_out": left_out, "seconds": time.monotonic() - start}


def facts() -> dict[str, Any]:
    p = torch.cuda.get_device_properties(0)
    return {
        "gpu": p.name,
        "multiprocessors": p.multi_processor_count,
        "memory_gib": round(p.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "fusedrnn": fusedrnn.__version__,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "family": os.environ.get("FUSEDRNN_CUDA_FAMILY", "the plan's choice"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for bench.json")
    parser.add_argument("--short", action="store_true", help="a quarter of the grid")
    parser.add_argument(
        "--dtypes", nargs="+", choices=gpu_grid.DTYPES, default=list(gpu_grid.DTYPES)
    )
    parser.add_argument("--seconds", type=float, default=0.1, help="of measuring per number")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds for everything")
    args = parser.parse_args()
    points = gpu_grid.short() if args.short else gpu_grid.full()
    result = {"facts": facts(), **bench(points, args.dtypes, args.seconds, args.budget)}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    import gpu_report

    gpu_report.write(args.out)


if __name__ == "__main__":
    main()
