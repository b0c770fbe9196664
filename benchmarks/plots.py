"""Plots that a person reads at a glance: bars to the right of the line win, red ones to the left lose.

Needs matplotlib; :func:`missing` says whether it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIN, LOSE, INK = "#0b7a75", "#c0392b", "#222222"
MARKS = {
    "torch.nn": ("D", "#5b6770"), "torch.compile": ("s", "#7b4fa3"),
    "ONNX Runtime": ("^", "#d9822b"), "JAX scan": ("o", "#2f6fb0"),
}  # fmt: skip
OTHER_MARK = ("v", "#8a8a3c")


def missing() -> str | None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        return f"plots are left out: {error}"
    return None


@dataclass
class Panel:
    """One group of bars: ``bars[label]`` is the value, ``marks[series][label]`` others' values."""

    title: str
    bars: Mapping[str, float]
    marks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    goals: Mapping[str, float] = field(default_factory=dict)


def ratios(path: Path, title: str, panels: Sequence[Panel], reference: str, subtitle: str) -> None:
    """How many times faster than ``reference``, on a logarithmic axis that starts at 1."""
    figure, axes, marks = _frame(title, subtitle, panels)
    values = [v for p in panels for d in (p.bars, *p.marks.values()) for v in d.values()]
    low, high = min([0.8, *values]), max([2.0, *values])
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_xscale("log")
        axis.set_xlim(low * 0.8, high * 2.2)
        rows = range(len(panel.bars))
        for row, value in zip(rows, panel.bars.values(), strict=True):
            color = WIN if value >= 1 else LOSE
            axis.barh(row, value - 1, left=1, height=0.62, color=color, zorder=2)
            others = [m[label] for label in [list(panel.bars)[row]] for m in panel.marks.values()
                      if label in m]  # fmt: skip
            axis.annotate(_short(value) + "x", (max([value, 1.0, *others]), row), (7, 0),
                          textcoords="offset points", va="center", color=color, fontsize=9,
                          fontweight="bold")  # fmt: skip
        axis.axvline(1, color=INK, linewidth=1.2, zorder=3)
        _marks(axis, panel, marks)
        ticks = [
            t
            for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
            if low * 0.8 <= t <= high * 1.5
        ]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
        axis.set_xlabel(f"times as fast as {reference}")
    _finish(figure, path, marks, f"right of the line: faster than {reference}")


def fractions(path: Path, title: str, panels: Sequence[Panel], subtitle: str) -> None:
    """Fractions of a whole, with a tick where a goal is."""
    figure, axes, marks = _frame(title, subtitle, panels)
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_xlim(0, 1.2)
        for row, (label, value) in enumerate(panel.bars.items()):
            goal = panel.goals.get(label)
            color = LOSE if goal is not None and value < goal else WIN
            axis.barh(row, value, height=0.62, color=color, zorder=2)
            axis.annotate(f"{100 * value:.0f} %", (1, row), (6, 0), va="center",
                          textcoords="offset points", color=color, fontsize=9,
                          fontweight="bold")  # fmt: skip
            if goal is not None:
                axis.plot(
                    [goal, goal], [row - 0.42, row + 0.42], color=INK, linewidth=1.6, zorder=5
                )
        axis.axvline(1, color=INK, linewidth=1.2)
        _marks(axis, panel, marks)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "peak"])
    _finish(figure, path, marks, "black tick: goal; red bar: goal missed")


def _frame(title: str, subtitle: str, panels: Sequence[Panel]) -> tuple[Any, Any, dict[str, Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = max(len(p.bars) for p in panels)
    width = 4.2 * len(panels) + 2.4
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(width, 0.36 * rows + 2.3), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    figure.suptitle(f"{title}\n", fontsize=14, fontweight="bold", color=INK)
    figure.text(0.5, 0.955 - 0.01, subtitle, ha="center", va="top", fontsize=9.5, color="#555555")
    for axis, panel in zip(axes[0], panels, strict=True):
        axis.set_title(panel.title, fontsize=12, color=INK)
        axis.set_yticks(range(len(panel.bars)), list(panel.bars), fontsize=9)
        axis.set_ylim(rows - 0.4, -0.6)
        axis.grid(axis="x", color="#e4e8ea", zorder=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
    names = dict.fromkeys(name for p in panels for name in p.marks)
    return figure, axes[0], {name: MARKS.get(name, OTHER_MARK) for name in names}


def _marks(axis: Any, panel: Panel, styles: Mapping[str, Any]) -> None:
    labels = list(panel.bars)
    for name, values in panel.marks.items():
        marker, color = styles[name]
        points = [(v, labels.index(label)) for label, v in values.items()]
        axis.scatter([p[0] for p in points], [p[1] for p in points], marker=marker, color=color,
                     edgecolors="white", linewidths=0.6, s=38, zorder=6)  # fmt: skip


def _finish(figure: Any, path: Path, styles: Mapping[str, Any], note: str) -> None:
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=WIN, label=f"fusedrnn ({note})")]
    handles += [
        Line2D([], [], linestyle="", marker=m, color=c, markersize=7, label=name)
        for name, (m, c) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
                  fontsize=9)  # fmt: skip
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 20 else f"{value:.0f}"
