"""The report that a person reads; it hides nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from benchmark_records import record, run_of

from benchmarks import report, summary


def test_a_question_that_nobody_could_answer_is_in_the_table() -> None:
    nobody = record(group="recompute", samples={}, left_out={"fusedrnn": "failed: E: no"})
    text = summary.question_table("title", [nobody]).text()
    assert "left out" in text
    assert "failed: E: no" in text


def test_a_losing_point_is_in_the_table_like_any_other() -> None:
    losing = record(samples={"fusedrnn": [4e-3] * 3, "torch.nn": [2e-3] * 3})
    text = summary.grid_table(run_of(losing), "title", [losing]).text()
    assert "0.500x" in text
    assert "MISSED" in summary.goal_table(run_of(losing)).text()


def test_tables_align_and_escape() -> None:
    table = report.Table("T", ["name", "value"], [["a|b", "1"], ["c", "1000"]], "note")
    assert table.text().splitlines() == [
        "T", "-----------", "name  value", "-----------", "a|b       1", "c      1000", "note",
    ]  # fmt: skip
    assert "| a\\|b | 1 |" in table.markdown()
    with pytest.raises(ValueError, match="expected 2 cells"):
        report.Table("T", ["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (412e-6, "412 us"),
        (3.25e-3, "3.25 ms"),
        (1.0712, "1.07 s"),
        (12.0, "12.0 s"),
        (5e-8, "0.0500 us"),
    ],
)
def test_durations_have_three_digits(value: float, text: str) -> None:
    assert report.duration(value) == text


def test_json_is_written_whole_and_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    data = {"a": [1.23456789, 2], "b": {"c": math.nan, "d": None, "e": []}, "f": [{"g": True}]}
    report.write_json(file, data)
    assert json.loads(file.read_text()) == {
        "a": [1.23457, 2], "b": {"c": None, "d": None, "e": []}, "f": [{"g": True}],
    }  # fmt: skip
    with pytest.raises(TypeError):
        report.write_json(file, {"a": object()})
    assert json.loads(file.read_text())["f"] == [{"g": True}]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
