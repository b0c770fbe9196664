"""What `fusedrnn forecast` refuses, and how it says so."""

from __future__ import annotations

import os

import pytest
from command_line import call, refused
from forecast_files import train, write_files

from fusedrnn.tasks.forecast import Forecaster
from fusedrnn.train import CheckpointError


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "expected a file to train on, or a run to forecast with, got neither"),
        (["plain.csv"], "expected --target, the column to forecast, got none"),
        (["none.csv", "--target", "sales"], "none.csv: expected a file to train on"),
        (["plain.csv", "--target", "price"], "plain.csv, line 1: expected one column 'price'"),
        (["sales.csv", "--target", "sales"], "line 146, column 'sales': expected a finite number, got an empty"),
        (["plain.csv", "--target", "month"], "line 2, column 'month': expected a finite number, got '2010-01'"),
        (["plain.csv", "--target", "sales", "--time", "sales"], "column 'sales': expected one use"),
        (["plain.csv", "--target", "sales", "--horizon", "200"], "at least 200 steps, the horizon, in the test part"),
        (["plain.csv", "--target", "sales", "--horizon", "200"], "line 145, column 'sales', where the longest"),
        (["plain.csv", "--target", "sales", "--lags", "200"], "the lags and what is forecast from them, in"),
        (["plain.csv", "--target", "sales", "--season", "130"], "expected 130 steps before the test part"),
        (["plain.csv", "--target", "sales", "--calendar", "month"], "expected a column of dates"),
        (["plain.csv", "--target", "sales", "--quantiles", "0.1,0.9"], "with 0.5 in their middle"),
        (["plain.csv", "--target", "sales", "--test-fraction", "0.95"], "together below 1"),
        (["plain.csv", "--from", "none"], "none: expected a checkpoint, got no such file"),
        (["plain.csv", "--target", "sales", "--resume"], "expected the folder of a run with --out"),
        (["."], "expected a checkpoint, got no such file"),
        (["runs/none"], "runs/none: expected a file to train on or the folder of a run, got none"),
        (["plain.csv", "--target", "sales", "--json"], "--json: expected a run whose forecasts to print"),
        (["plain.csv", "--target", "sales", "--time-format", "%Y"], "--time-format: expected --time"),
        (["plain.csv", "--target", "sales", "--model", "mlp", "--cell", "gru"], "--cell: expected a recurrent --model"),
        (["plain.csv", "--target", "sales", "--model", "linear", "--hidden=32"], "--hidden: expected hidden units"),
    ],
)  # fmt: skip
def test_what_cannot_be_forecast(capsys, flags, message):
    assert message in refused(capsys, "forecast", *flags)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--lags", "0", "expected a whole number of at least 1, got '0'"),
        ("--horizon", "x", "expected a whole number of at least 1, got 'x'"),
        ("--quantiles", "0.1,2", "expected a finite number from 0 to 1, got '2'"),
        ("--model", "tree", "invalid choice: 'tree'"),
        ("--strategy", "both", "invalid choice: 'both'"),
        ("--test-fraction", "1", "expected a finite number from 0 below 1, got '1'"),
    ],
)
def test_flags_that_cannot_be(capsys, flag, value, message):
    code, _, err = call(capsys, "forecast", "plain.csv", "--target", "sales", flag, value)
    assert code == 2
    assert message in err.strip().splitlines()[-1]


def test_a_forecast_has_no_samples(capsys):
    code, _, err = train(capsys, "--samples", 2)
    assert code == 1
    assert "--samples: expected a task with something to show, got a forecast" in err
    assert not os.path.exists("run")


def test_a_run_keeps_its_own_settings(capsys):
    train(capsys)
    for flags in (["--horizon", "9"], ["--horizon=4"], ["--hor", "9"], ["--time-f", "%Y"]):
        message = refused(capsys, "forecast", "run", *flags)
        assert "the run run has its own; expected no other flags than --seed, --device" in message
    assert "--lags: the run" in refused(
        capsys, "forecast", "plain.csv", "--from", "run", "--lags", "6"
    )
    assert "--from: expected a file" in refused(capsys, "forecast", "run", "--from", "run")
    flags = ["--seed", "1", "--device=cpu", "--time-format", "%Y-%m", "--delimiter", ","]
    assert call(capsys, "forecast", "plain.csv", "--from", "run", *flags)[0] == 0


def test_a_checkpoint_of_another_kind(capsys, tmp_path):
    (tmp_path / "text.txt").write_text("the time traveller " * 60)
    flags = ["--hidden", "4", "--batch", "2", "--steps", "8", "--epochs", "1", "--out", "lm"]
    assert call(capsys, "train", "text.txt", *flags)[0] == 0
    assert "checkpoint of kind 'forecast', got one of 'language model'" in refused(
        capsys, "forecast", "lm"
    )
    with pytest.raises(CheckpointError):
        Forecaster.load("plain.csv")
