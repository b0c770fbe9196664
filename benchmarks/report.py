"""Tables for a terminal and for Markdown, and the folder of results that they end in.

A results folder holds ``results.json`` (everything, raw samples too), ``README.md`` (what a person
reads) and the plots. The CPU and the GPU record both use it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of ready-made strings under a title. The first column is left-aligned, the rest right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: expected {len(self.columns)} cells, got {list(row)}"
                )

    def text(self) -> str:
        """For a terminal: aligned, two spaces between columns."""
        lines = [list(self.columns), *map(list, self.rows)]
        widths = [max(len(line[c]) for line in lines) for c in range(len(self.columns))]

        def aligned(line: Sequence[str]) -> str:
            cells = [line[0].ljust(widths[0])]
            cells += [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
            return "  ".join(cells).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        body = [self.title, rule, aligned(lines[0]), rule, *map(aligned, lines[1:])]
        return "\n".join([*body, *([self.note] if self.note else [])])

    def markdown(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

        align = line([":---"] + ["---:"] * (len(self.columns) - 1))
        body = [f"### {self.title}", "", line(self.columns), align, *map(line, self.rows)]
        return "\n".join([*body, *(["", self.note] if self.note else []), ""])


@dataclass
class Report:
    """What goes into one results folder."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)  # file name: what it shows
    tables: list[Table] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        parts = [self.title, *self.paragraphs, *(table.text() for table in self.tables)]
        return "\n\n".join(parts)

    def markdown(self) -> str:
        figures = [f"![{caption}]({name})\n" for name, caption in self.figures.items()]
        tables = [table.markdown() for table in self.tables]
        parts = [f"# {self.title}\n", *(f"{p}\n" for p in self.paragraphs), *figures, *tables]
        return "\n".join(parts)

    def write(self, folder: Path) -> None:
        """Writes ``results.json`` and ``README.md``; each file appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "results.json", self.data)
        replace_file(folder / "README.md", self.markdown())


def write_json(path: Path, data: Any) -> None:
    """JSON with six significant digits; one line for a list of numbers; nan and inf become null."""
    replace_file(path, _encode(data, "") + "\n")


def replace_file(path: Path, text: str) -> None:
    """Writes beside the file and renames, so that an interrupted run leaves the old one."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _encode(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, float):
        return json.dumps(float(f"{value:.6g}")) if math.isfinite(value) else "null"
    if isinstance(value, Mapping):
        items = [f"{inner}{json.dumps(str(k))}: {_encode(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}" if items else "{}"
    if isinstance(value, (list, tuple)):
        if all(isinstance(v, (int, float, str)) for v in value):
            return "[" + ", ".join(_encode(v, inner) for v in value) + "]"
        return "[\n" + ",\n".join(inner + _encode(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value)


def duration(seconds: float) -> str:
    """Three significant digits and the unit that suits: 412 us, 3.25 ms, 1.07 s."""
    for scale, unit in ((1e-6, "us"), (1e-3, "ms")):
        if seconds < 999.5 * scale:
            return f"{significant(seconds / scale)} {unit}"
    return f"{significant(seconds)} s"


def size(count: float) -> str:
    """Bytes with the unit that suits."""
    for scale, unit in ((1, "B"), (2**10, "KiB"), (2**20, "MiB")):
        if count < 1000 * scale:
            return f"{significant(count / scale)} {unit}"
    return f"{significant(count / 2**30)} GiB"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    if not math.isfinite(value):
        return str(value)
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(9, digits))}f}"


def times(ratio: float) -> str:
    """A ratio: 7.82x, 0.94x, 26.1x."""
    return f"{significant(ratio)}x"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
