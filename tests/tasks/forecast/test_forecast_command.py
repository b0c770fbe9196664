"""`fusedrnn forecast` as its user meets it: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from command_line import call, refused
from forecast_files import SMALL, train, write_files

from fusedrnn.tasks.forecast import Columns, Forecaster, ForecastTask, Settings, read_csv


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)


def test_a_run_prints_errors_beside_the_floors_and_leaves_its_files(capsys):
    pytest.importorskip("matplotlib")
    code, out, err = train(capsys)
    assert code == 0
    assert "epoch 2/2: 100%" in err
    assert "144 steps: 100 to train on, 15 to validate, 29 to test" in out
    assert "test part, 26 origins" in out
    for word in ("MAE", "RMSE", "MASE", "persistence", "season of 12", "AR(6)", "network"):
        assert word in out
    files = {
        "best.safetensors", "checkpoint.safetensors", "config.json", "errors.json", "forecast.png",
        "forecasts.csv", "loss.png", "metrics.jsonl",
    }  # fmt: skip
    assert files <= set(os.listdir("run"))
    with open("run/metrics.jsonl") as file:
        epochs = [json.loads(line) for line in file]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    assert all(epoch["valid_loss"] > 0 for epoch in epochs)
    with open("run/errors.json") as file:
        errors = json.load(file)
    assert errors["origins"] == 26
    assert len(errors["network"]["rmse"]) == 4
    pixels = pytest.importorskip("matplotlib.image").imread("run/forecast.png")
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 1000


def test_the_errors_are_those_of_the_best_network(capsys):
    train(capsys, "--epochs", 6, "--lr", 0.3)
    forecaster = Forecaster.load("run")
    task = ForecastTask(read_csv("plain.csv", forecaster.settings.columns), forecaster.settings)
    task.model.load_state_dict(forecaster.network.state_dict())
    from fusedrnn.tasks.forecast import judge

    with open("run/errors.json") as file:
        errors = json.load(file)
    assert judge(task).errors()["network"]["mae"] == pytest.approx(errors["network"]["mae"])
    with open("run/metrics.jsonl") as file:
        losses = [json.loads(line)["valid_loss"] for line in file]
    assert min(losses) < losses[-1]  # so that the best network is not the last one
    assert task.evaluate()["valid_loss"] == pytest.approx(min(losses), rel=1e-5)


def test_a_new_process_forecasts_what_training_did(capsys):
    train(capsys, "--quantiles", "0.1,0.5,0.9", "--strategy", "direct")
    with open("run/forecasts.csv") as file:
        written = file.read()
    done = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "forecast", "run"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == written
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [row["time"] for row in rows] == ["2022-01-01", "2022-02-01", "2022-03-01", "2022-04-01"]
    for row in rows:
        assert float(row["quantile 0.1"]) <= float(row["forecast"]) <= float(row["quantile 0.9"])
        assert row["forecast"] == row["quantile 0.5"]
    _, again, _ = call(capsys, "forecast", "plain.csv", "--from", "run")
    assert again == written
    _, text, _ = call(capsys, "forecast", "run", "--json")
    assert json.loads(text)[0]["forecast"] == pytest.approx(
        [float(r["forecast"]) for r in rows], rel=1e-5
    )


def test_a_run_forecasts_newer_values_of_its_series(capsys):
    train(capsys)
    with open("plain.csv") as file:
        lines = file.readlines()
    with open("newer.csv", "w") as file:
        file.writelines([lines[0], *lines[-20:], "2022-01,3.5\n"])
    code, out, _ = call(capsys, "forecast", "newer.csv", "--from", "run")
    assert code == 0
    assert out.splitlines()[1].startswith("plain,2022-02-01,")
    (forecast,) = Forecaster.load("run").forecast()
    assert float(out.splitlines()[1].split(",")[2]) != pytest.approx(forecast.point[1])
    assert "at least 6 values, the lags" in refused(
        capsys, "forecast", _short(lines), "--from", "run"
    )


def _short(lines):
    with open("short.csv", "w") as file:
        file.writelines(lines[:5])
    return "short.csv"


@pytest.mark.parametrize("flags", [[], ["--strategy", "direct", "--model", "seq2seq"]])
def test_covariates_of_every_kind(capsys, flags):
    every = ["--covariates", "rain", "--known", "price", "--calendar", "month,yearday", *flags]
    file = "sales.csv"
    assert "line 146, column 'rain'" not in train(capsys, *every, file=file)[1]
    forecaster = Forecaster.load("run")
    assert forecaster.network.features == 1 + 1 + 1 + 4
    (forecast,) = forecaster.forecast()
    assert forecast.times.astype("datetime64[M]").astype(str).tolist()[-1] == "2022-04"
    code, out, _ = train(capsys, "--known", "price", "--horizon", 7, file=file, out="far")
    assert code == 0
    assert "no forecast after the end: series 'sales': expected covariates known ahead for 7" in out


def test_many_series_in_one_network(capsys):
    with open("plain.csv") as file:
        lines = [line.strip() for line in file]
    with open("shops.csv", "w") as file:
        file.write("shop," + lines[0] + "\n")
        for line in lines[1:]:
            month, value = line.split(",")
            file.write(f"near,{line}\nfar,{month},{1000 + 100 * float(value)}\n")
    code, out, _ = train(capsys, "--series", "shop", "--ar", 3, file="shops.csv")
    assert code == 0
    assert "2 series, 288 steps" in out
    assert "after the end of near" in out
    near, far = Forecaster.load("run").forecast()
    assert (near.name, far.name) == ("near", "far")
    assert abs(near.point).max() < 100 < far.point.max()
    with open("other.csv", "w") as file:
        file.write("shop,month,sales\n" + "".join(f"new,{y},1\n" for y in range(2000, 2010)))
    assert "that was trained on (near, far), got 'new'" in refused(
        capsys, "forecast", "other.csv", "--from", "run"
    )


def test_a_run_that_is_over_stays_so_and_another_ones_settings_are_refused(capsys, tmp_path):
    train(capsys, out="whole")
    before = (tmp_path / "whole/metrics.jsonl").read_text()
    code, out, _ = train(capsys, "--resume", out="whole")
    assert code == 0
    assert "network" in out
    assert (tmp_path / "whole/metrics.jsonl").read_text() == before
    code, _, err = train(capsys, "--lags", 7, "--resume", out="whole")
    assert code == 1
    assert err.count("settings.lags: the run has 6, got 7") == 1
    assert "Traceback" not in err


@pytest.fixture
def heeds_ctrl_c():
    """Whoever starts the tests in the background of a shell has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_saves_and_resume_ends_as_if_nothing_had_been(
    capsys, monkeypatch, tmp_path, heeds_ctrl_c
):
    train(capsys, "--epochs", 3, "--dropout", 0.2, out="whole")
    loss, count = ForecastTask.loss, itertools.count()

    def interrupted(self, *args):
        if next(count) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, *args)

    monkeypatch.setattr(ForecastTask, "loss", interrupted)
    code, out, _ = train(capsys, "--epochs", 3, "--dropout", 0.2, out="half")
    assert code == 130
    assert "--resume" in out
    monkeypatch.setattr(ForecastTask, "loss", loss)
    code, _, _ = train(capsys, "--epochs", 3, "--dropout", 0.2, "--resume", out="half")
    assert code == 0
    assert (tmp_path / "half/forecasts.csv").read_text() == (
        tmp_path / "whole/forecasts.csv"
    ).read_text()
    assert (tmp_path / "half/errors.json").read_text() == (
        tmp_path / "whole/errors.json"
    ).read_text()


def test_training_reads_no_value_of_the_test_part(capsys):
    with open("plain.csv") as file:
        lines = file.readlines()
    with open("other.csv", "w") as file:
        file.writelines(lines[:116])
        file.writelines(f"{line.split(',')[0]},1e6\n" for line in lines[116:])
    train(capsys, out="a")
    train(capsys, out="b", file="other.csv")
    tensors = [Forecaster.load(run).network.state_dict() for run in "ab"]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.mark.parametrize("name", ["sine", "sunspots"])
def test_examples_are_written(capsys, name):
    if name == "sunspots":
        pytest.importorskip("statsmodels")
    code, out, _ = call(capsys, "forecast", "--example", name)
    assert (code, out) == (0, f"written: {name}.csv\n")
    column = {"sine": "value", "sunspots": "sunspots"}[name]
    assert len(read_csv(f"{name}.csv", Columns(column))[0]) >= 1000


def test_settings_of_the_command_reach_the_run(capsys):
    flags = [
        "--model",
        "rnn",
        "--cell",
        "lstm",
        "--layers",
        "2",
        "--dropout",
        "0.1",
        "--residual",
        "--scale",
        "none",
        "--seed",
        "3",
    ]
    train(capsys, *flags, "--valid-fraction", 0.2, "--test-fraction", 0.3)
    assert Forecaster.load("run").settings == Settings(
        columns=Columns("sales", "month"), lags=6, horizon=4, season=12, scale="none",
        valid_fraction=0.2, test_fraction=0.3, cell="lstm", hidden=6, layers=2, dropout=0.1, residual=True,
    )  # fmt: skip


def test_a_series_that_repeats_itself_has_no_mase(capsys):
    with open("flat.csv", "w") as file:
        file.write("sales\n" + "3\n" * 120)
    code, _, _ = call(capsys, "forecast", "flat.csv", "--target", "sales", *SMALL, "--out", "flat")
    assert code == 0
    with open("flat/errors.json") as file:
        errors = json.load(file, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert errors["network"]["mase"] == [None] * 4
    assert errors["persistence"]["mae"] == [0.0] * 4


def test_without_test_and_validation_part_all_is_trained_on(capsys, tmp_path):
    text = (tmp_path / "plain.csv").read_text()
    (tmp_path / "tabs.tsv").write_text(text.replace(",", "\t"))
    flags = ["--test-fraction", 0, "--valid-fraction", 0, "--delimiter", r"\t"]
    code, out, _ = train(capsys, *flags, file="tabs.tsv")
    assert code == 0
    assert "144 steps: 144 to train on, 0 to validate, 0 to test" in out
    assert "test part" not in out
    assert "after the end: " in out
    assert (tmp_path / "run/forecasts.csv").exists()
    assert not (tmp_path / "run/errors.json").exists()
