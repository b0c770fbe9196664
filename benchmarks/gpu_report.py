"""Turns bench.json into tables (Markdown) and plots. ``python3 benchmarks/gpu_report.py FOLDER``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MODES = ("forward", "train")


def ratio(row: Row, mode: str) -> float:
    return float(row[f"{mode}_cudnn_ms"] / row[f"{mode}_ms"])


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def label(row: Row) -> str:
    extra = f", {row['layers']} layers" if row["layers"] > 1 else ""
    extra += ", bidirectional" if row["directions"] > 1 else ""
    extra += f", resets {row['resets']:g}" if row["resets"] >= 0 else ""
    return f"T {row['T']}, B {row['B']}, H {row['H']}{extra}"


def summary(rows: list[Row]) -> list[str]:
    lines = [
        "| cell | dtype | points | forward: mean, least | train: mean, least |",
        "|---|---|---|---|---|",
    ]
    keys = sorted({(r["cell"], r["dtype"]) for r in rows})
    for cell, dtype in [*keys, ("all", "all")]:
        some = [r for r in rows if cell == "all" or (r["cell"], r["dtype"]) == (cell, dtype)]
        cells = [f"{geometric_mean(ratio(r, m) for r in some):.2f}x, {min(ratio(r, m) for r in some):.2f}x"
                 for m in MODES]  # fmt: skip
        lines.append(f"| {cell} | {dtype} | {len(some)} | {cells[0]} | {cells[1]} |")
    return lines


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| shape | dtype | forward ms | us/step | cuDNN ms | ratio | train ms | cuDNN ms | ratio | difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {label(r)} | {r['dtype']} | {r['forward_ms']:.3f} | {1e3 * r['forward_ms'] / r['T']:.2f} "
            f"| {r['forward_cudnn_ms']:.3f} | {ratio(r, 'forward'):.2f} | {r['train_ms']:.3f} "
            f"| {r['train_cudnn_ms']:.3f} | {ratio(r, 'train'):.2f} | {r['difference']:.1e} |"
        )
    return lines


def markdown(result: dict[str, Any]) -> str:
    rows = [r for r in result["rows"] if "error" not in r]
    lines = [f"# fusedrnn and torch.nn (cuDNN) on {result['facts']['gpu']}", ""]
    lines += [f"* {k}: {v}" for k, v in result["facts"].items()]
    lines += [
        "",
        "Ratios are cuDNN's time over ours: above 1 we are faster. Means are geometric. `difference` is the",
        "largest difference of the two outputs, relative to the largest output.",
        "Rows with resets compare ours with resets against torch.nn without them, which has none.",
        "",
        *summary(rows),
    ]
    for cell in sorted({r["cell"] for r in rows}):
        lines += ["", f"## {cell}", "", *table([r for r in rows if r["cell"] == cell])]
    failed = [r for r in result["rows"] if "error" in r]
    if failed:
        lines += ["", "## Failed", ""] + [
            f"* {r['cell']} {label(r)} {r['dtype']}: {r['error']}" for r in failed
        ]
    if result["left_out"]:
        lines += ["", "## Left out, for lack of time", ""] + [f"* {p}" for p in result["left_out"]]
    return "\n".join(lines) + "\n"


def plots(result: dict[str, Any], folder: Path) -> None:
    """Time per step over hidden size, one picture per cell; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [r for r in result["rows"] if "error" not in r and r["group"] == "hidden size"]
    for cell in sorted({r["cell"] for r in rows}):
        figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
        for axis, mode in zip(axes, MODES, strict=True):
            for i, dtype in enumerate(sorted({r["dtype"] for r in rows})):
                some = sorted(
                    (r["H"], 1e3 * r[f"{mode}_ms"] / r["T"], 1e3 * r[f"{mode}_cudnn_ms"] / r["T"])
                    for r in rows if r["cell"] == cell and r["dtype"] == dtype
                )  # fmt: skip
                if not some:
                    continue
                h, ours, theirs = zip(*some, strict=True)
                axis.plot(h, ours, "-o", color=f"C{i}", label=f"fusedrnn {dtype}")
                axis.plot(h, theirs, "--x", color=f"C{i}", label=f"cuDNN {dtype}")
            axis.set(
                xlabel="hidden size", ylabel="microseconds per step", yscale="log", xscale="log"
            )
            axis.set_title(f"{cell}, {mode}, B 16")
            axis.grid(True, which="both", alpha=0.3)
        axes[1].legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(folder / f"{cell}.png", dpi=110)
        plt.close(figure)


def write(folder: Path) -> None:
    result = json.loads((folder / "bench.json").read_text())
    (folder / "bench.md").write_text(markdown(result))
    plots(result, folder)
    rows = [r for r in result["rows"] if "error" not in r]
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
