"""`fusedrnn gradients`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from command_line import call

from fusedrnn import cli
from fusedrnn.tasks.gradients.errors import GradientError
from fusedrnn.tasks.gradients.plot import plot_studies
from fusedrnn.tasks.gradients.probe import Sample, load_pair
from fusedrnn.tasks.gradients.spectrum import main_spectrum
from fusedrnn.tasks.gradients.states import state_gradients
from fusedrnn.tasks.gradients.study import passes, study

TEXT = "the time traveller for so it will be convenient to speak of him\n" * 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs by name, all in one folder, made once."""
    folder = tmp_path_factory.mktemp("runs")
    before = os.getcwd()
    os.chdir(folder)
    try:
        (folder / "text.txt").write_text(TEXT)
        small = ["--batch", "2", "--steps", "8", "--epochs", "1", "--hidden", "6"]
        for cell in ("elman", "lstm"):
            flags = [*small, "--cell", cell, "--out", cell, "--layers", "2", "--embedding", "3"]
            assert cli.main(["train", "text.txt", *flags]) == 0
        values = np.sin(np.arange(80.0))
        (folder / "sine.csv").write_text("value\n" + "".join(f"{v}\n" for v in values))
        for model in ("rnn", "mlp"):
            flags = ["--target", "value", "--lags", "9", "--epochs", "1", "--model", model]
            assert cli.main(["forecast", "sine.csv", *flags, "--hidden", "5", "--out", model]) == 0
        yield folder
    finally:
        os.chdir(before)


def _run(capsys, *arguments):
    return call(capsys, "gradients", *arguments)


def test_cells_side_by_side(runs, capsys):
    pytest.importorskip("matplotlib")
    flags = ["--steps", 16, "--batch", 3, "--every", 4, "--draws", 3, "--out", "shown"]
    code, out, err = _run(capsys, "elman", "lstm", *flags)
    assert code == 0
    assert "12/12" in err
    for word in ("elman: elman", "lstm: lstm", "before training", "by the cell",
                 "cut every 4 steps", "random cuts, mean of 3", "largest eigenvalue"):  # fmt: skip
        assert word in out
    with open("shown/gradients.json") as file:
        elman, lstm = json.load(file)
    assert len(elman["after"]["h"]) == 17
    assert elman["after"]["c"] is None
    assert len(lstm["before"]["c"]) == 17
    pixels = pytest.importorskip("matplotlib.image").imread("shown/gradients.png")
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 1000
    code, out, _ = _run(capsys, "elman", *flags, "--json")
    assert json.loads(out)[0]["cell"] == "elman"


@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_what_is_differentiated_is_the_loss_of_the_last_prediction(runs, name):
    from fusedrnn import lm

    pair = load_pair(runs / name, Sample(str(runs / "text.txt"), 10, 4))
    model = lm.load_checkpoint(runs / name).model.eval()
    checkpoint = lm.load_checkpoint(runs / name)
    ids = checkpoint.vocab.encode(checkpoint.tokenizer.tokenize(TEXT))
    rows = torch.stack([ids[s : s + 11] for s in torch.linspace(0, len(ids) - 11, 4).long()], dim=1)
    logits, _ = model(rows[:-1])
    expected = torch.nn.functional.cross_entropy(logits[-1], rows[-1], reduction="sum")
    found = state_gradients(pair.after.rnn, pair.after.inputs, pair.after.loss)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    before = state_gradients(pair.before.rnn, pair.before.inputs, pair.before.loss)
    assert before.loss.item() != pytest.approx(expected.item(), rel=1e-5)
    again = load_pair(runs / name, Sample(str(runs / "text.txt"), 10, 4)).before.rnn
    assert torch.equal(again.weight_hh_l0, pair.before.rnn.weight_hh_l0)


def test_a_forecast_is_differentiated_too(runs, capsys):
    code, out, _ = _run(capsys, "rnn", "--draws", 2)
    assert code == 0
    assert "rnn: gru" in out
    with open("rnn/gradients.json") as file:
        assert len(json.load(file)[0]["after"]["h"]) == 10  # the lags bound the steps


def test_a_file_is_read_as_the_run_read_it(runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("days.tsv", "w") as file:
        file.write("day\tvalue\n")
        file.writelines(f"{day:02d}.01.2020\t{day % 5}\n" for day in range(1, 31))
    flags = ["--time", "day", "--time-format", "%d.%m.%Y", "--delimiter", r"\t", "--lags", "3"]
    flags += ["--target", "value", "--epochs", "1", "--hidden", "3", "--out", "days"]
    assert cli.main(["forecast", "days.tsv", *flags]) == 0
    assert _run(capsys, "days", "--draws", 1)[0] == 0


def test_the_study_is_what_the_states_say(runs):
    pair = load_pair(runs / "lstm", Sample(str(runs / "text.txt"), 12, 3))
    ticks = []
    found = study(pair, every=5, cut=0.5, draws=40, on_pass=lambda: ticks.append(1))
    assert len(ticks) == passes(40)
    full = state_gradients(pair.after.rnn, pair.after.inputs, pair.after.loss)
    assert found.after.h == pytest.approx(full.norms()[:, 1].mean(dim=1).flip(0).tolist())
    assert found.after.c == pytest.approx(full.cell_norms()[:, 1].mean(dim=1).flip(0).tolist())
    cut = found.truncated
    assert cut.full == found.after.h
    assert cut.fixed[:5] == pytest.approx(cut.full[:5])
    assert cut.fixed[5:] == [0.0] * 8
    assert [each[:5] for each in cut.single] == [pytest.approx(cut.full[:5])] * 5
    assert 0 < cut.mean_error < cut.one_draw_error
    assert cut.mean_of_draws[5] == pytest.approx(cut.full[5], rel=0.7)
    assert study(pair, every=50, cut=0.5, draws=1).truncated.fixed_error == 0.0


def test_a_picture_needs_matplotlib(runs, monkeypatch):
    import sys

    from fusedrnn.train.plot import PlotUnavailableError

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotUnavailableError, match="pip install"):
        plot_studies(runs / "no.png", [])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["none"], "none: expected the folder of a run, got no config.json in it"),
        (["mlp"], "mlp: expected a forecast by --model rnn, got mlp"),
        (["elman", "--steps", "9999"], "expected at least 10000 tokens for 9999 steps, got 512"),
        (["elman", "--data", "none.txt"], "none.txt: No such file or directory"),
        (["rnn", "--data", "none.csv"], "expected --data, the file of series .*, got none.csv"),
        (["elman", "--init", "chrono"], "expected .*LSTM"),
        (["elman", "--cut", "1"], "--cut: expected a probability above 0 and below 1, got 1"),
    ],
)
def test_refusals(runs, capsys, flags, message):
    import re

    code, out, err = _run(capsys, *flags)
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err)


def test_a_series_too_short(runs):
    (runs / "few.csv").write_text("value\n1\n2\n")
    with pytest.raises(GradientError, match="expected more than 9 steps, got no window"):
        load_pair(runs / "rnn", Sample(str(runs / "few.csv"), 5, 2))


def test_fresh_parameters_begin_as_asked(runs):
    pair = load_pair(runs / "elman", Sample(str(runs / "text.txt"), 10, 4, init="orthogonal"))
    spectrum = main_spectrum(pair.before.rnn, 0)
    assert (spectrum.eigenvalue, spectrum.singular) == pytest.approx((1.0, 1.0), rel=1e-5)
