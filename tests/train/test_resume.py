"""Going on with a run: exactly, from the newest whole checkpoint, or not at all with a reason."""

from __future__ import annotations

import copy
import json
import os
import signal
from dataclasses import asdict, replace

import pytest
import torch
from runs import Killed, everything_of, folder_of, killed_at, lines_of, settings_of

from fusedrnn.train import (
    CheckpointError,
    ResumeError,
    RunExistsError,
    RunFolder,
    checkpoint,
    distributed,
    train,
)
from fusedrnn.train.loop import alone_in
from fusedrnn.train.metrics import MetricsFile
from fusedrnn.train.state import differences


@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
@pytest.mark.parametrize("moment", [1, 5, 6, 7, 13, 24])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_killed_run_goes_on_to_the_bit(make_task, tmp_path, moment, save_every_s, optimizer):
    options = {"save_every_s": save_every_s, "optimizer": optimizer}
    calm, killed = folder_of(tmp_path / "calm"), folder_of(tmp_path / "killed")
    train(make_task(dropout=0.3), settings_of(**options), calm)
    with pytest.raises(Killed):
        train(make_task(dropout=0.3), settings_of(**options), killed, on_step=killed_at(moment))
    again = folder_of(tmp_path / "killed", resume=True)
    result = train(make_task(dropout=0.3), settings_of(**options), again, resume=True)
    assert everything_of(killed) == everything_of(calm)
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4]


@pytest.mark.parametrize("schedule", ["plateau", "step", "exponential"])
def test_a_run_may_be_made_longer(make_task, tmp_path, schedule):
    def settings(epochs):
        return settings_of(epochs=epochs, schedule=schedule, lr=0.3, optimizer="sgd")

    short, whole = folder_of(tmp_path / "short"), folder_of(tmp_path / "whole")
    train(make_task(), settings(3), short)
    train(make_task(), settings(6), short, resume=True)
    train(make_task(), settings(6), whole)
    assert everything_of(short)[:2] == everything_of(whole)[:2]


def test_a_finished_run_has_nothing_to_go_on_with(make_task, tmp_path):
    folder = folder_of(tmp_path / "run")
    first = train(make_task(), settings_of(), folder)
    before = {path.name: path.read_bytes() for path in folder.files if path.exists()}
    again = train(make_task(), settings_of(), folder, resume=True)
    assert again.history == first.history
    assert {path.name: path.read_bytes() for path in folder.files if path.exists()} == before


def test_the_best_model_is_kept_apart(make_task, tmp_path):
    task, losses = make_task(), [3.0, 1.0, 2.0, 5.0]
    seen = []

    def evaluate():
        seen.append({name: each.clone() for name, each in task.model.state_dict().items()})
        return {"valid_loss": losses[len(seen) - 1]}

    task.evaluate = evaluate
    folder = folder_of(tmp_path / "run")
    train(task, settings_of(), folder)
    best = checkpoint.read(folder.best, "running sums")
    assert (best.info["epochs"], best.info["valid_loss"]) == (2, 1.0)
    assert all(torch.equal(best.model[name], seen[1][name]) for name in seen[1])
    assert not torch.equal(best.model["head.weight"], seen[3]["head.weight"])


# --- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_last_checkpoints_are_kept(make_task, tmp_path, keep):
    folder = folder_of(tmp_path / "run")
    train(make_task(), settings_of(keep=keep), folder)
    names = ["checkpoint.safetensors", *(f"checkpoint.{i}.safetensors" for i in range(1, keep))]
    assert sorted(names) == sorted(path.name for path in folder.path.glob("checkpoint*"))
    updates = [
        checkpoint.read(folder.path / name, "running sums", training=True).training.state[
            "position"
        ]
        for name in names
    ]
    order = [(each["update"], each["epoch"]) for each in updates]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == keep


@pytest.mark.parametrize("length", [0, 7, 300, -1])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(make_task, tmp_path, capsys, length):
    calm, hurt = folder_of(tmp_path / "calm"), folder_of(tmp_path / "hurt")
    train(make_task(), settings_of(), calm)
    with pytest.raises(Killed):
        train(make_task(), settings_of(), hurt, on_step=killed_at(15))
    hurt.checkpoint.write_bytes(hurt.checkpoint.read_bytes()[:length])
    train(make_task(), settings_of(), hurt, resume=True)
    assert "going on from" in capsys.readouterr().err
    assert everything_of(hurt) == everything_of(calm)


def test_a_missing_checkpoint_falls_back_to_the_one_before(make_task, tmp_path, capsys):
    calm, hurt = folder_of(tmp_path / "calm"), folder_of(tmp_path / "hurt")
    train(make_task(), settings_of(keep=3), calm)
    with pytest.raises(Killed):
        train(make_task(), settings_of(keep=3), hurt, on_step=killed_at(15))
    hurt.checkpoint.unlink()
    (hurt.path / "checkpoint.1.safetensors").unlink()
    train(make_task(), settings_of(keep=3), hurt, resume=True)
    error = capsys.readouterr().err
    assert "checkpoint.safetensors: expected the newest checkpoint, got none" in error
    assert "going on from" in error
    assert "checkpoint.2.safetensors" in error
    assert everything_of(hurt) == everything_of(calm)


def test_nothing_but_truncated_checkpoints(make_task, tmp_path):
    folder = folder_of(tmp_path / "run")
    train(make_task(), settings_of(), folder)
    for path in folder.path.glob("checkpoint*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors: .* truncated or foreign"):
        train(make_task(), settings_of(), folder, resume=True)


def test_lines_after_the_checkpoint_and_halves_of_lines_are_cut_off(tmp_path):
    path = tmp_path / "m"
    lines = [json.dumps({"epoch": epoch}) + "\n" for epoch in (1, 2, 3)]
    for end in ('{"epoch": 4', '{"epoch": 4}', "\x00\x00", "[]\n"):
        path.write_text("".join(lines) + end)
        with MetricsFile(path, lambda line: line["epoch"] <= 2) as file:
            assert file.kept == [{"epoch": 1}, {"epoch": 2}]
            file.write({"epoch": 3})
        assert path.read_text() == "".join(lines)


# --- what is not the same run --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ({"batches": 7}, {}, "batches: the run has 6, got 7"),
        ({}, {"lr": 0.02}, "lr: the run has 0.01, got 0.02"),
        ({}, {"optimizer": "adamw"}, "optimizer: the run has 'adam', got 'adamw'"),
        (
            {},
            {"seed": 1, "clip": 2.0},
            "clip: the run has 1.0, got 2.0; seed: the run has 0, got 1",
        ),
        ({"batches": 7}, {"lr": 1.0, "warmup": 1, "decay": 0.1}, "and 1 more differences"),
    ],
)
def test_another_run(make_task, tmp_path, task, settings, message):
    folder = folder_of(tmp_path / "run")
    train(make_task(), settings_of(), folder)
    before = {path.name: path.read_bytes() for path in folder.files if path.exists()}
    with pytest.raises(ResumeError, match=message):
        train(make_task(**task), settings_of(**settings), folder, resume=True)
    assert {path.name: path.read_bytes() for path in folder.files if path.exists()} == before


def test_settings_that_came_later_do_not_part_a_run_from_its_checkpoint():
    saved = {name: value for name, value in asdict(settings_of()).items() if name != "decay"}
    assert settings_of().differences(saved) == []
    assert settings_of(decay=0.9).differences(saved) == ["decay: the run has 0.5, got 0.9"]


def test_differences_name_what_differs():
    saved = {"a": 1, "b": {"c": ["x", "y"], "d": None}}
    assert differences(saved, copy.deepcopy(saved)) == []
    now = {"a": 1, "b": {"c": ["x", "z", "w"]}, "e": 2}
    assert differences(saved, now) == [
        "b.c: the run has 2 entries, got 3",
        "b.c[1]: the run has 'y', got 'z'",
        "e: the run has None, got 2",
    ]


def test_a_checkpoint_that_lacks_a_part_of_the_run(make_task, tmp_path):
    folder = folder_of(tmp_path / "run")
    train(make_task(), settings_of(), folder)
    found = checkpoint.read(folder.checkpoint, "running sums", training=True)
    tensors = {name: t for name, t in found.training.tensors.items() if name != "random.cpu"}
    training = checkpoint.Training(tensors, found.training.state)
    checkpoint.write(folder.checkpoint, replace(found, training=training))
    with pytest.raises(CheckpointError, match=r"expected a whole checkpoint, got.*cpu"):
        train(make_task(), settings_of(), folder, resume=True)
    model = {name: t for name, t in found.model.items() if name != "head.bias"}
    checkpoint.write(folder.checkpoint, replace(found, model=model))
    with pytest.raises(CheckpointError, match=r"expected a whole checkpoint, got.*head.bias"):
        train(make_task(), settings_of(), folder, resume=True)


def test_another_model_or_kind(make_task, tmp_path):
    folder = folder_of(tmp_path / "run")
    train(make_task(), settings_of(), folder)
    task = make_task()
    task.describe = lambda: {"hidden": 7}
    with pytest.raises(ResumeError, match="hidden: the run has 6, got 7"):
        train(task, settings_of(), folder, resume=True)
    other = make_task()
    other.kind = "language model"
    with pytest.raises(
        CheckpointError, match=r"of kind 'language model', got one of 'running sums'"
    ):
        train(other, settings_of(), folder, resume=True)


def test_the_end_of_a_cosine_cannot_move(make_task, tmp_path):
    folder = folder_of(tmp_path / "run")
    train(make_task(), settings_of(schedule="cosine"), folder)
    with pytest.raises(ResumeError, match="epochs: the run has 4, got 5"):
        train(make_task(), settings_of(schedule="cosine", epochs=5), folder, resume=True)


def test_a_folder_that_another_run_is_using(make_task, tmp_path):
    folder = folder_of(tmp_path / "run")
    message = "expected a folder that nobody else trains into"

    def meddle(update):
        if update.update == 10:
            before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
            with pytest.raises(RunExistsError, match=message):
                train(make_task(), settings_of(), RunFolder(folder.path, resume=True), resume=True)
            with pytest.raises(RunExistsError, match=message):
                RunFolder(folder.path, overwrite=True).create({})
            assert before == {file.name: file.read_bytes() for file in folder.path.iterdir()}

    train(make_task(), settings_of(), folder, on_step=meddle)
    train(make_task(), settings_of(epochs=5), RunFolder(folder.path, resume=True), resume=True)
    assert [line["epoch"] for line in lines_of(folder.metrics)] == [1, 2, 3, 4, 5]


def test_a_folder_is_free_once_its_run_is_over_though_a_child_lives_on(tmp_path):
    folder = folder_of(tmp_path / "run")
    with folder.claimed():
        child = os.fork()
        if child == 0:  # it has inherited all that is open
            signal.pause()
    try:
        with RunFolder(folder.path, resume=True).claimed():
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_is_claimed_from_its_making_to_the_end_of_the_run(tmp_path):
    folder = folder_of(tmp_path / "run", overwrite=True)
    with folder.claimed():
        folder.create({"by": "its owner"})
        with pytest.raises(RunExistsError, match="nobody else trains into"):
            RunFolder(folder.path, overwrite=True).create({"by": "another"})
    assert folder.read_config() == {"by": "its owner"}


def refused(folder):
    """What a run that wants to train into a folder in use is told."""
    with (
        pytest.raises(RunExistsError, match="nobody else trains into") as error,
        alone_in(folder),
    ):
        pytest.fail("trained into a folder in use")
    return str(error.value)


def test_the_other_processes_of_a_run_learn_that_its_folder_is_in_use(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(distributed, "from_first", lambda value: told.append(value) or value)
    folder = folder_of(tmp_path / "run")
    with folder.claimed():
        message = refused(RunFolder(folder.path, resume=True))
    assert told == [message]
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "from_first", lambda _: told[0])
    assert refused(folder) == told[0]


def test_of_two_who_begin_one_run_the_second_is_refused(tmp_path):
    first, second = (RunFolder(tmp_path / "run") for _ in range(2))
    first.create({"by": "first"})
    with pytest.raises(RunExistsError, match=r"got one with config.json"):
        second.create({"by": "second"})
    assert json.loads(first.config.read_text()) == {"by": "first"}


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunExistsError, match="expected a run to go on with"):
        RunFolder(tmp_path / "none", resume=True)
