"""The flags of training: each reaches its setting, and a run that was broken off says how to go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

from fusedrnn import cli
from fusedrnn.commands import training_flags
from fusedrnn.train import RunFolder, Settings
from fusedrnn.train.progress import Progress

TEXT = "the time traveller for so it will be convenient to speak of him\n" * 40
FLAGS = ["train", "text.txt", "--hidden", "12", "--batch", "4", "--steps", "8", "--epochs", "3"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)


def _settings(*words):
    return training_flags.settings_of(cli.parse(["train", *words]))


def test_every_setting_has_its_flag():
    flags = {
        "epochs": 7,
        "optimizer": "sgd",
        "lr": 0.25,
        "weight_decay": 0.5,
        "schedule": "step",
        "warmup": 3,
        "decay": 0.125,
        "decay_after": 4,
        "decay_every": 2,
        "plateau": 5,
        "min_lr": 0.0625,
        "clip": 2.0,
        "clip_value": 3.0,
        "accumulate": 6,
        "patience": 8,
        "seed": 9,
        "save_every": 10.0,
        "keep": 11,
        "log_every": 12,
        "samples": 13,
    }
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    got = asdict(_settings(*words, "--autocast", "--tensorboard"))
    flags["save_every_s"] = flags.pop("save_every")
    assert got == {**flags, "autocast": True, "tensorboard": True}
    assert set(got) == set(asdict(Settings(epochs=1)))


def test_without_flags_the_settings_are_the_librarys():
    assert asdict(_settings()) == asdict(Settings(epochs=10, lr=0.006))


def _lines(run):
    timed = ("seconds", "tokens_per_s")
    lines = Path(run, "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


@pytest.mark.parametrize("out", [[], ["--out", "a run"]])
def test_a_run_that_was_broken_off_says_how_to_go_on(monkeypatch, capsys, out):
    assert cli.main([*FLAGS, "--out", "calm"]) == 0
    step = Progress.step

    def press(self, update):
        step(self, update)
        if update.update == 100:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", press)
        assert cli.main([*FLAGS, *out]) == 130
    printed = capsys.readouterr().out
    run = out[1] if out else "runs/text-lstm"
    assert "interrupted in epoch 2; the run is saved, go on with:" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("fusedrnn train")]
    assert cli.main(shlex.split(line)[1:]) == 0
    assert _lines(run) == _lines("calm")


@pytest.mark.parametrize("out", [[], ["--out", "a run"]])
def test_the_command_that_goes_on_reads_as_it_was_written(out):
    """After -- nothing is a flag."""
    words = ["train", *out, "--hidden", "12", "--", "text.txt"]
    args = cli.parse([*words[:1], "--overw", *words[1:]])  # argparse takes the beginning of a flag
    again = shlex.split(training_flags._again(args, RunFolder("a run", overwrite=True)))
    assert "--overw" not in again
    args = cli.parse(again[1:])
    assert (args.resume, args.out, args.text) == (True, "a run", ["text.txt"])


def test_a_run_that_went_on_says_what_makes_it_again():
    assert cli.main([*FLAGS, "--out", "run"]) == 0
    before = json.loads(Path("run/config.json").read_text())
    longer = ["--epochs", "4"]
    assert cli.main([*FLAGS, *longer, "--out", "run", "--resume", "--lr", "0.5"]) == 1
    assert json.loads(Path("run/config.json").read_text()) == before
    assert cli.main([*FLAGS, *longer, "--out", "run", "--resume"]) == 0
    after = json.loads(Path("run/config.json").read_text())
    assert (before["epochs"], after["epochs"]) == (3, 4)
    assert shlex.split(after["about"]["command"]) == ["fusedrnn", *FLAGS, *longer, "--out", "run"]
    assert after["about"]["started"] == before["about"]["started"]
    assert after["resume"] is False
    assert cli.main([*FLAGS, "--epochs", "1", "--out", "run", "--resume"]) == 0  # nothing to do
    assert json.loads(Path("run/config.json").read_text()) == after


@pytest.mark.parametrize("config", ['{"half', "[]", '{"about": 3}'])
def test_a_run_goes_on_without_its_configuration(config):
    assert cli.main([*FLAGS, "--out", "run"]) == 0
    Path("run/config.json").write_text(config)
    assert cli.main([*FLAGS, "--epochs", "4", "--out", "run", "--resume"]) == 0
    assert json.loads(Path("run/config.json").read_text())["epochs"] == 4
    assert len(_lines("run")) == 4


def test_what_differs_is_named(capsys):
    assert cli.main([*FLAGS, "--out", "run"]) == 0
    capsys.readouterr()
    for change, message in [
        (["--lr", "0.5"], "lr: the run has 0.006, got 0.5"),
        (["--hidden", "13"], "model.hidden: the run has 12, got 13"),
        (["--batch", "5"], "batch: the run has 4, got 5"),
        (["--seed", "1"], "seed: the run has 0, got 1"),
    ]:
        assert cli.main([*FLAGS, *change, "--out", "run", "--resume"]) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert message in error[0]
    line = TEXT[:63]
    for changed, message in [
        (TEXT.replace("time", "tide"), "run: expected the run's own text, got another vocabulary"),
        (TEXT[:640] + line[::-1] + TEXT[640 + 63 :], "text: the run has"),
    ]:
        Path("text.txt").write_text(changed)
        assert cli.main([*FLAGS, "--out", "run", "--resume"]) == 1
        assert message in capsys.readouterr().err


def test_resuming_needs_a_run(capsys):
    assert cli.main([*FLAGS, "--resume"]) == 1
    assert "--resume: expected the folder of a run with --out" in capsys.readouterr().err
    assert cli.main([*FLAGS, "--resume", "--out", "none"]) == 1
    assert "none: expected a run to go on with" in capsys.readouterr().err
    assert not Path("none").exists()


def test_every_flag_of_the_language_model_changes_the_losses(capsys):
    wide = ["--layers", "2", "--embedding", "12", "--dropout", "0.5"]
    changes = [
        [],
        ["--init-uniform", "0.3"],
        ["--same-start"],
        ["--truncation", "random", "--cut", "0.4"],
        ["--truncation", "full"],
        ["--loss", "sum"],
        ["--separator", "\n"],
        wide,
        [*wide, "--variational"],
        [*wide, "--tied"],
    ]
    losses = set()
    for flags in changes:
        code = cli.main([*FLAGS, "--epochs", "2", *flags, "--out", "run", "--overwrite"])
        assert code == 0, capsys.readouterr().err
        losses.add(_lines("run")[-1]["loss"])
    assert len(losses) == len(changes)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tied"], "tied: expected an embedding as large as the hidden state, 12, got 0"),
        (["--truncation", "random", "--cut", "0"], "cut: expected a probability above 0"),
        (["--truncation", "full", "--order", "random"], "truncation: expected 'fixed' in random"),
        (["--same-start", "--order", "random"], "same_start: expected sequential order"),
        (["--separator", "%"], "not in the vocabulary: '%'"),
    ],
)
def test_flags_that_cannot_be_together(capsys, flags, message):
    assert cli.main([*FLAGS, *flags, "--out", "run"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not Path("run").exists()
