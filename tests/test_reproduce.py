"""The record of reproduced runs: rows are kept, replaced, and shown."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from benchmarks.reproduce import __main__ as command
from benchmarks.reproduce import record as records


def test_a_row_of_the_same_name_is_replaced_in_its_place():
    record = {}
    for name, ours in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        records.merge(record, "table", {"name": name, "ours": ours})
    assert record["tables"]["table"] == [{"name": "a", "ours": 3.0}, {"name": "b", "ours": 2.0}]


@pytest.mark.parametrize("row", [{"ours": 1}, {"name": "a"}, {"name": "a", "ours": 1, "floors": 2}])
def test_a_row_that_no_table_can_show_is_refused(row):
    record = {}
    with pytest.raises(ValueError, match=r"expected name, ours"):
        records.merge(record, "table", row)
    assert record == {}


def test_the_page_shows_used_columns_numbers_and_commands():
    record = {}
    records.merge(record, "t", {"name": "a|b", "ours": 0.123456, "speed": 12345.6, "command": "x"})
    records.merge(record, "t", {"name": "c", "ours": "none", "floor": 2})
    page = records.page(record, {"t": "Title", "empty": "Nothing"}, "a machine")
    assert "## Title" in page
    assert "Nothing" not in page
    assert "| run | ours | floor | speed |" in page
    assert "| a\\|b | 0.1235 |  | 12,346 |" in page
    assert "| c | none | 2 |  |" in page
    assert "# a|b\nx\n" in page
    assert "asked |" not in page


def test_a_failed_row_loses_no_other(tmp_path, monkeypatch, capsys):
    def fail():
        raise RuntimeError("no data")

    table = [("first", lambda: {"ours": 1}), ("second", fail), ("third", lambda: {"ours": 3})]
    monkeypatch.setattr(command, "RECORD", tmp_path / "r.json")
    monkeypatch.setattr(
        command.importlib, "import_module", lambda name: SimpleNamespace(TABLE=table)
    )
    record = {}
    assert command._make(record, "label", "") == 1
    assert "failed: no data" in capsys.readouterr().err
    kept = json.loads((tmp_path / "r.json").read_text())
    assert [row["name"] for row in kept["tables"]["label"]] == ["first", "third"]
    assert command._make(record, "label", "third") == 0


def test_every_committed_row_is_of_a_table_that_exists():
    record = records.load(command.RECORD)
    for table, rows in record.get("tables", {}).items():
        assert table in command.TITLES
        fresh = {}
        for row in rows:
            records.merge(fresh, table, row)
