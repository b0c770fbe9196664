"""The cases that contenders are timed on, and how much arithmetic each is.

A case is a cell, a shape and a way to use the layer. ``T`` steps, ``B`` batch, ``I`` input size,
``H`` hidden size, ``L`` layers, ``D`` directions, ``G`` gates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""The cells, by the names of torch.nn, and how many gates each has."""

KINDS = ("training", "forward")
"""Training is forward and backward with all gradients, dx included; forward is without autograd."""


@dataclass(frozen=True)
class Case:
    """One cell on one shape."""

    cell: str
    steps: int
    batch: int
    inputs: int
    hidden: int
    layers: int = 1
    directions: int = 1
    ragged: bool = False
    kind: str = "training"
    dtype: str = "float32"

    @property
    def shape(self) -> str:
        """``T,B,I,H`` and what is unusual: the name that tables and ``--shapes`` use."""
        words = [f"{self.steps},{self.batch},{self.inputs},{self.hidden}"]
        words += [f"{self.layers} layers"] * (self.layers > 1)
        words += ["bidirectional"] * (self.directions == 2) + ["ragged"] * self.ragged
        words += [self.dtype] * (self.dtype != "float32")
        return " ".join(words)

    @property
    def name(self) -> str:
        return f"{self.cell} {self.shape} {self.kind}"

    @property
    def lengths(self) -> list[int] | None:
        """Spread evenly over T/4..T and shuffled by a fixed rule; None unless ragged."""
        if not self.ragged:
            return None
        first, rows = max(1, self.steps // 4), self.batch
        even = [first + round((self.steps - first) * r / max(1, rows - 1)) for r in range(rows)]
        golden = round(rows * 0.618)
        stride = next(s for s in range(max(1, golden), 2 * rows + 2) if math.gcd(s, rows) == 1)
        return [even[r * stride % rows] for r in range(rows)]

    @property
    def valid_steps(self) -> int:
        """Steps times rows that are computed: the sum of the lengths."""
        lengths = self.lengths
        return sum(lengths) if lengths else self.steps * self.batch

    @property
    def flops(self) -> float:
        """Multiplications and additions of the products alone: 2 (I+H) G H a step and row.

        Backward has twice those of forward: one product for dx and dh, one for the weights.
        """
        per_step, inputs = 0, self.inputs
        for _ in range(self.layers):
            per_step += (
                self.directions * 2 * (inputs + self.hidden) * GATES[self.cell] * self.hidden
            )
            inputs = self.directions * self.hidden
        return float((3 if self.kind == "training" else 1) * per_step * self.valid_steps)


def _plain(*shapes: tuple[int, int, int, int]) -> list[Case]:
    return [Case("rnn", *shape) for shape in shapes]


# Small and large, wide and narrow, odd sizes among them; the last two are layers as users stack them.
SHAPES = [
    *_plain(
        (35, 32, 28, 256), (100, 64, 256, 256), (256, 16, 512, 512), (50, 128, 1024, 1024),
        (100, 1, 128, 128), (1000, 1, 64, 64), (35, 32, 28, 512), (300, 20, 800, 800),
        (32, 128, 32, 64), (30, 8, 512, 512), (200, 7, 100, 200), (64, 100, 300, 300),
    ),
    Case("rnn", 100, 32, 256, 256, layers=2, directions=2),
    Case("rnn", 100, 64, 256, 256, ragged=True),
]  # fmt: skip

# A few that show each regime and fit into two minutes.
SHORT_SHAPES = [
    "35,32,28,256", "256,16,512,512", "100,1,128,128", "32,128,32,64", "200,7,100,200",
]  # fmt: skip

# Where slow-to-compile peers are shown: torch.compile takes half a minute for one of these.
COMPILED_SHAPES = ["35,32,28,256", "100,1,128,128"]


def cases(
    shapes: Iterable[str] | None = None,
    cells: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
) -> list[Case]:
    """The chosen cases; None means all of the grid. An unknown name is a ValueError."""
    picked = SHAPES if shapes is None else [parse(text) for text in shapes]
    return [
        replace(shape, cell=cell, kind=kind)
        for shape in picked
        for cell in _known("cells", cells, list(GATES))
        for kind in _known("kinds", kinds, list(KINDS))
    ]


def parse(text: str) -> Case:
    """The inverse of :attr:`Case.shape`, for any shape: ``"8,2,5,7 2 layers bidirectional"``."""
    form = r"(\d+),(\d+),(\d+),(\d+)(?: (\d+) layers)?( bidirectional)?( ragged)?"
    found = re.fullmatch(form, text)
    if found is None:
        raise ValueError(
            f'expected a shape like "100,32,256,256 2 layers bidirectional", got {text!r}'
        )
    steps, batch, inputs, hidden = (int(n) for n in found.groups()[:4])
    if min(steps, batch, inputs, hidden) < 1:
        raise ValueError(f"expected a shape of sizes > 0, got {text!r}")
    layers, both, ragged = int(found[5] or 1), found[6] is not None, found[7] is not None
    return Case("rnn", steps, batch, inputs, hidden, layers, 1 + both, ragged)


def _known(what: str, wanted: Iterable[str] | None, known: list[str]) -> list[str]:
    wanted = known if wanted is None else list(wanted)
    for name in wanted:
        if name not in known:
            raise ValueError(f"expected {what} among {', '.join(known)}, got {name!r}")
    return wanted
