"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_file() -> Callable[[str], Path]:
    """Finds a file of real text by name, or skips the test.

    The files stand in the folder that $FUSEDRNN_DATA names, else in shared/data beside the
    repository; the project does not contain them.
    """
    folder = Path(os.environ.get("FUSEDRNN_DATA") or _ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"needs {name}, which is not in {folder} ($FUSEDRNN_DATA names another)")
        return path

    return find
