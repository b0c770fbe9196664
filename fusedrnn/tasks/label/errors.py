"""The error of this task; its message names the file, line and column where there is one."""

from __future__ import annotations

from pathlib import Path

from fusedrnn.errors import UserError


class LabelError(UserError, ValueError):
    """A file, text or label that cannot be used as asked."""


def at(path: str | Path, line: int, column: int | None = None) -> str:
    """The place a message begins with; lines and columns count from 1."""
    return f"{path}: line {line}" + (f", column {column}" if column else "")
