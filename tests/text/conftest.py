"""A folder with a text and a cache of its own."""

from __future__ import annotations

import pytest
from corpus_text import TEXT

from fusedrnn.text import sources


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSEDRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "PIECE", 1000)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
