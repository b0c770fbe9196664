"""A folder of a test's own with a text in it, and a run of the command trained on that."""

from __future__ import annotations

import pytest
from command_line import SMALL, TEXT, call


@pytest.fixture
def text_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)


@pytest.fixture
def trained(text_folder, capsys):
    pytest.importorskip("matplotlib")
    code, out, _ = call(capsys, "train", "text.txt", *SMALL, "--out", "run")
    assert code == 0
    return out
