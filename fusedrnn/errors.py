"""The error that the user can mend, and how its message says where."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something given (a file, a flag, a setting) that cannot serve.

    The message is one line that says what was expected and what came; the `fusedrnn` command
    prints it and exits with 1. Subclasses also derive from ValueError or RuntimeError.
    """


def at(path: str | Path, line: int, column: int | str | None = None) -> str:
    """The place in a file that a message begins with: ``sales.csv, line 7, column 'price'``.

    Args:
        line: counted from 1.
        column: counted from 1, or its name; None for the whole line.
    """
    return f"{path}, line {line}" + ("" if column is None else f", column {column!r}")
