"""`python -m benchmarks.peers`: its arguments, its plans, what it leaves. No speed is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmark_records import plan, record, run_of

from benchmarks import contenders, grid, machine, peers, summary, worker
from benchmarks.contenders import fused, torch_nn
from benchmarks.steady import Cores


def test_what_there_was_no_time_for_is_named(tmp_path: Path) -> None:
    found = worker.run(plan(shapes=["1,1,1,1", "2,1,1,1"], questions=["step"], limit=1e-9))
    assert [r["shape"] for r in found["records"]] == ["1,1,1,1"]  # the first is always done
    assert found["skipped"] == ["gru 2,1,1,1 training", "step: gru"]
    text = summary.build([found], tmp_path, "a title").text()
    assert "Left out for lack of time: " in text
    assert "step: gru." in text


def test_who_breaks_off_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = iter([run_of(record())])
    monkeypatch.setattr(peers, "measure", lambda _: next(runs))
    with pytest.raises(StopIteration):
        peers.main(["--threads", "1,2", "--out", str(tmp_path)])
    kept = json.loads((tmp_path / "results.json").read_text())["configurations"]
    assert len(kept) == 1


def test_rates_are_fractions_of_the_highest_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([80.0, 100.0])  # the first was disturbed
    monkeypatch.setattr(machine, "fma_peak", lambda *_: machine.Peak(next(rates), "a test"))
    found = worker.run(plan(shapes=["1,1,1,1", "2,1,1,1"]))
    assert (found["peak_gflops"], len(found["peaks"])) == (100.0, 2)


def test_a_run_tells_how_far_the_cores_were(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(lambda: 1.0, patience=0.0, exchange=lambda: 100.0)
    monkeypatch.setattr(machine, "cores", lambda *_: cores)
    found = worker.run(plan(shapes=["1,1,1,1"]))
    assert set(found["exchanges"]) == {100.0}
    monkeypatch.setattr(machine, "cores", lambda *_: None)
    assert worker.run(plan(shapes=["1,1,1,1"]))["exchanges"] == []


def test_one_command_leaves_a_folder_of_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peers.main([
        "--shapes", "4,3,5,6;6,2,4,5 ragged", "--cells", "gru,lstm", "--contenders", "fused,torch_nn",
        "--questions", "step", "--seconds", "0.01", "--out", str(tmp_path),
    ])  # fmt: skip
    names = {p.name for p in tmp_path.iterdir()}
    assert {"results.json", "README.md"} <= names
    if summary.plots.missing() is None:
        assert sum(name.endswith(".png") for name in names) == 3
    data = json.loads((tmp_path / "results.json").read_text())["configurations"][0]
    assert len(data["records"]) == 2 * 2 * 2 + 2
    assert all({fused.NAME, torch_nn.NAME} <= set(r["samples"]) for r in data["records"])
    assert data["machine"]["versions"]["torch"] == torch.__version__
    printed = capsys.readouterr().out
    for part in (
        "Goals, ",
        "GRU, training",
        "LSTM, forward",
        "6,2,4,5 ragged",
        "Questions",
        "Peak",
    ):
        assert part in printed
        assert part in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cells", "cnn"], "--cells: expected names among rnn, gru, lstm, got 'cnn'"),
        (["--contenders", "fused,numpy"], "--contenders: expected names among"),
        (["--shapes", "1,2,3"], "--shapes: expected a shape like"),
        (["--questions", "why"], "--questions: expected names among"),
        (["--threads", "many"], "--threads: expected all or numbers > 0, got 'many'"),
        (["--isa", "z80"], "invalid choice"),
    ],
)
def test_a_wrong_argument_ends_it_before_it_starts(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        peers.arguments(words)
    assert message in capsys.readouterr().err


def test_the_full_record_has_every_question_one_thread_and_an_older_instruction_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
    monkeypatch.setattr(machine, "isa", lambda: {"available": levels})
    everything, one, older = peers.plans(peers.arguments(["--full"]))
    assert everything["shapes"] is None
    assert everything["contenders"] == list(contenders.ALL)
    assert "train command" in everything["questions"]
    assert (one["threads"], older["isa"]) == (1, "x86-64-v3")
    assert (everything["threads"], older["threads"]) == (0, 0)
    alone, held_alone = peers.plans(peers.arguments(["--full", "--threads", "1"]))
    assert alone == {**everything, "threads": 1}
    assert held_alone == {**older, "threads": 1}
    for less in (levels[:2], levels[:1]):  # it is the best one, or is not there
        monkeypatch.setattr(machine, "isa", lambda less=less: {"available": less})
        assert peers.plans(peers.arguments(["--full"])) == [everything, one]
    (short,) = peers.plans(peers.arguments([]))
    assert short["shapes"] == grid.SHORT_SHAPES
    (held,) = peers.plans(peers.arguments(["--isa", "x86-64-v3"]))
    assert held["contenders"] == ["fused", "torch_nn"]  # not every peer can be held to it
