"""The points of the GPU benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Point:
    """One layer stack and one shape. ``I = H`` throughout. ``resets`` is their probability, or -1."""

    cell: str
    T: int
    B: int
    H: int
    layers: int = 1
    directions: int = 1
    resets: float = -1.0
    group: str = ""

    def label(self) -> str:
        extra = f", {self.layers} layers" if self.layers > 1 else ""
        extra += ", bidirectional" if self.directions > 1 else ""
        extra += f", resets {self.resets:g}" if self.resets >= 0 else ""
        return f"{self.cell} T {self.T} B {self.B} H {self.H}{extra}"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


CELLS = ("lstm", "gru", "elman_tanh")
DTYPES = ("bf16", "fp16", "fp32", "tf32")


def full() -> Iterator[Point]:
    """The whole grid, every cell."""
    for cell in CELLS:
        for hidden in (64, 128, 256, 512, 768, 1024):
            yield Point(cell, 1024, 16, hidden, group="hidden size")
        for batch in (2, 8, 32, 64, 128, 256):
            yield Point(cell, 1024, batch, 768, group="batch")
        for steps in (256, 2048):
            yield Point(cell, steps, 16, 768, group="length")
        for batch in (1, 7, 100):
            yield Point(cell, 512, batch, 256, group="odd batch")
        for hidden in (200, 300, 1000, 1536, 2048):
            yield Point(cell, 512, 16, hidden, group="odd hidden size")
        yield Point(cell, 512, 16, 512, layers=2, group="stack")
        yield Point(cell, 512, 16, 512, directions=2, group="stack")
    for steps in (16, 64, 128):
        for p in (0.0, 0.01, 0.1):
            yield Point("lstm", steps, 128, 256, resets=p, group="resets")
        yield Point("lstm", steps, 128, 256, group="resets")
    yield Point("lstm", 65536, 1, 40, group="length")


def short() -> Iterator[Point]:
    """A quarter of the grid that touches every group."""
    for cell in ("lstm", "gru"):
        for hidden in (64, 128, 256, 512, 768, 1024):
            yield Point(cell, 1024, 16, hidden, group="hidden size")
        yield Point(cell, 1024, 64, 768, group="batch")
        yield Point(cell, 512, 1, 256, group="odd batch")
        yield Point(cell, 512, 16, 200, group="odd hidden size")
    yield Point("elman_tanh", 1024, 16, 256, group="hidden size")
    yield Point("lstm", 512, 16, 512, directions=2, group="stack")
    yield Point("lstm", 512, 16, 512, layers=2, group="stack")
    for p in (-1.0, 0.1):
        yield Point("lstm", 128, 128, 256, resets=p, group="resets")
