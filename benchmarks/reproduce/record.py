"""The record of reproduced runs: a JSON file, and the page made from it.

A row is one run: what it is, what it reached, what was asked or published, and the floor to read it
against (what a model without memory, or no model at all, reaches). Rows are merged by table and
name, so that a run of some rows leaves the others as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("name", "ours", "floor", "asked", "published", "seconds", "speed", "command")
"""``name`` and ``ours`` are required; a table shows the columns that any of its rows has."""


def merge(record: dict[str, Any], table: str, row: Mapping[str, Any]) -> None:
    """Puts a row into the record, in the place of the row of that name or at the end.

    Raises:
        ValueError: a row without name or result, or with a column that no table has.
    """
    unknown = row.keys() - set(COLUMNS)
    if unknown or not row.get("name") or "ours" not in row:
        raise ValueError(
            f"row of {table}: expected name, ours and others of {COLUMNS}, got {dict(row)}"
        )
    rows = record.setdefault("tables", {}).setdefault(table, [])
    for index, old in enumerate(rows):
        if old["name"] == row["name"]:
            rows[index] = dict(row)
            return
    rows.append(dict(row))


def page(record: Mapping[str, Any], titles: Mapping[str, str], machine: str) -> str:
    """The page: one table per entry of ``titles`` that has rows, commands below each."""
    parts = [
        "# Reproduced\n\nRuns from the literature and from textbooks, made here by `make reproduce`"
        f", beside what was published or asked and\nbeside the floor that shows what the number is "
        f"worth. Measured on {machine}.\n"
    ]
    for table, title in titles.items():
        rows = record.get("tables", {}).get(table, [])
        if rows:
            parts.append(f"## {title}\n\n" + _table(rows) + _commands(rows))
    return "\n".join(parts)


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    used = [
        name
        for name in COLUMNS
        if name != "command" and any(row.get(name) not in (None, "") for row in rows)
    ]
    heads = ["run" if name == "name" else name for name in used]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in used) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _commands(rows: Iterable[Mapping[str, Any]]) -> str:
    lines = [f"# {row['name']}\n{row['command']}" for row in rows if row.get("command")]
    return "\n```sh\n" + "\n".join(lines) + "\n```\n" if lines else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "\\|")


def load(path: Path) -> dict[str, Any]:
    """The record in a file; an empty one where there is no file yet."""
    if not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def save(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
