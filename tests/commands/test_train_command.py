"""The command train, as its user meets it: what it prints and what it leaves."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from command_line import SMALL, TEXT, call, refused

from fusedrnn import lm, text
from fusedrnn.lm import load_checkpoint

FILES = [
    "best.safetensors",
    "checkpoint.safetensors",
    "config.json",
    "metrics.jsonl",
    "perplexity.png",
]

pytestmark = pytest.mark.usefixtures("text_folder")


def test_a_run_leaves_its_files_and_says_what_came_out(trained):
    assert sorted(os.listdir("run")) == FILES
    with open("run/metrics.jsonl") as file:
        epochs = [json.loads(line) for line in file]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    for epoch in epochs:
        assert epoch["perplexity"] == pytest.approx(math.exp(epoch["loss"]))
        assert epoch["tokens_per_s"] > 0
        assert epoch["valid_perplexity"] > 1
    with open("run/config.json") as file:
        config = json.load(file)
    assert (config["cell"], config["lr"], config["hidden"]) == ("lstm", 0.006, 12)
    assert f"perplexity {epochs[-1]['perplexity']:.3f} in training" in trained
    assert "tokens/s" in trained
    assert "2,560 characters, 128 of them held out" in trained
    assert trained.count("--- sample at temperature") == 2
    for name in FILES:
        assert f"run/{name}" in trained
    assert load_checkpoint("run").info["epochs"] == 2


def test_progress_is_shown_on_standard_error(capsys):
    _, _, err = call(capsys, "train", "text.txt", *SMALL, "--out", "run")
    assert "epoch 2/2: 100%" in err


def test_same_seed_same_losses_and_same_sample(capsys):
    def run(out, seed):
        flags = [*SMALL, "--layers", 2, "--dropout", 0.3, "--out", out, "--seed", seed]
        _, printed, _ = call(capsys, "train", "text.txt", *flags)
        with open(f"{out}/metrics.jsonl") as file:
            losses = [(e["loss"], e["valid_loss"]) for e in map(json.loads, file)]
        samples = printed[printed.index("--- sample") : printed.index("\nwritten")]
        _, later, _ = call(capsys, "sample", out, "--prompt", "the ", "--seed", 5)
        return losses, samples, later

    assert run("a", 1) == run("b", 1)
    assert run("c", 2) != run("d", 1)


def test_every_flag_reaches_the_run(capsys):
    flags = {
        "cell": "gru",
        "hidden": 10,
        "layers": 2,
        "embedding": 5,
        "tokens": "word",
        "filter": "letters",
        "max-tokens": 400,
        "min-freq": 28,
        "batch": 3,
        "steps": 6,
        "order": "random",
        "optimizer": "sgd",
        "lr": 0.5,
        "clip": 0.25,
        "dropout": 0.1,
        "epochs": 1,
        "valid-fraction": 0.1,
        "device": "cpu",
        "seed": 4,
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    code, out, _ = call(capsys, "train", "text.txt", *arguments, "--out", "run")
    assert code == 0
    with open("run/config.json") as file:
        config = json.load(file)
    assert {name: config[name.replace("-", "_")] for name in flags} == flags
    checkpoint = load_checkpoint("run")
    assert checkpoint.model.config == {
        "vocab_size": len(checkpoint.vocab),
        "cell": "gru",
        "hidden": 10,
        "layers": 2,
        "embedding": 5,
        "dropout": 0.1,
        "tied": False,
        "variational": False,
    }
    assert checkpoint.tokenizer.describe() == {"name": "word", "filter": "letters"}
    assert sum(checkpoint.vocab.counts) == 360
    assert checkpoint.vocab.counts[0] == 4 * 27  # 9 of the 13 words are there 28 times
    assert "400 words, 40 of them held out" in out


def test_a_run_is_what_the_library_gives(capsys):
    flags = [*SMALL, "--order", "random", "--seed", "3", "--optimizer", "sgd", "--clip", "0.5"]
    call(capsys, "train", "text.txt", *flags, "--out", "run")
    with open("run/metrics.jsonl") as file:
        losses = [(e["loss"], e["valid_loss"]) for e in map(json.loads, file)]

    corpus = text.build_corpus(TEXT, text.CharTokenizer(), valid_fraction=0.05)
    torch.manual_seed(3)
    model = lm.LanguageModel(len(corpus.vocab), "lstm", hidden=12)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)
    settings = {"epochs": 2, "batch": 4, "steps": 8, "order": "random", "clip": 0.5, "seed": 3}
    epochs = lm.train(model, optimizer, corpus.train, valid_ids=corpus.valid, **settings)
    assert losses == [(epoch.loss, epoch.valid_loss) for epoch in epochs]


def test_every_flag_of_training_changes_the_losses(capsys):
    changes = [
        ["--cell", "gru"],
        ["--hidden", "13"],
        ["--layers", "2"],
        ["--embedding", "6"],
        ["--dropout", "0.5"],
        ["--batch", "5"],
        ["--steps", "9"],
        ["--order", "random"],
        ["--optimizer", "adamw"],
        ["--lr", "0.01"],
        ["--clip", "0.1"],
        ["--seed", "1"],
    ]
    losses = set()
    for flags in [[], *changes]:
        call(capsys, "train", "text.txt", *SMALL, *flags, "--out", "run", "--overwrite")
        with open("run/metrics.jsonl") as file:
            losses.add(json.loads(file.readlines()[-1])["loss"])
    assert len(losses) == 1 + len(changes)


def test_without_a_text_the_one_that_python_carries_is_used(capsys):
    code, out, _ = call(capsys, "train", *SMALL, "--max-tokens", 3000, "--valid-fraction", 0)
    assert code == 0
    assert "pydoc_data.topics" in out
    assert "3,000 characters, 0 of them held out" in out
    assert sorted(os.listdir("runs/python-docs-lstm")) == FILES[1:]
    code, out, _ = call(capsys, "train", *SMALL, "--max-tokens", 3000)
    assert "run: runs/python-docs-lstm-2" in out
    assert sorted(os.listdir("runs")) == ["python-docs-lstm", "python-docs-lstm-2"]


def test_a_run_is_not_lost_by_accident(trained, capsys):
    before = {name: os.stat(f"run/{name}").st_mtime_ns for name in FILES}
    line = refused(capsys, "train", "text.txt", *SMALL, "--out", "run")
    assert "expected a folder without a run, got one with checkpoint.safetensors" in line
    assert {name: os.stat(f"run/{name}").st_mtime_ns for name in FILES} == before
    (open("run/notes.txt", "w")).close()
    code, _, _ = call(
        capsys, "train", "text.txt", *SMALL, "--epochs", 1, "--out", "run", "--overwrite"
    )
    assert code == 0
    assert sorted(os.listdir("run")) == sorted([*FILES, "notes.txt"])
    assert load_checkpoint("run").info["epochs"] == 1


def test_a_text_too_short_for_the_floors_is_trained_on_without_them(capsys, tmp_path):
    (tmp_path / "two.txt").write_text("ab")
    flags = ["--hidden", 4, "--batch", 1, "--steps", 1, "--epochs", 1, "--valid-fraction", 0]
    code, out, err = call(capsys, "train", "two.txt", *flags, "--out", "run")
    assert code == 0
    assert [line for line in err.splitlines() if line.startswith("no floors: expected at least 3")]
    assert "floors" not in out
    assert load_checkpoint("run").info["epochs"] == 1


def test_held_out_text_too_short_to_evaluate_is_noted(capsys, tmp_path):
    (tmp_path / "one.txt").write_text("t")
    flags = [*SMALL, "--epochs", 1, "--valid", "one.txt", "--out", "run"]
    code, _, err = call(capsys, "train", "text.txt", *flags)
    assert code == 0
    assert "no held-out loss: expected at least 2 tokens held out, got 1" in err.splitlines()
    with open("run/metrics.jsonl") as file:
        assert "valid_loss" not in json.loads(file.readline())


def test_the_report_spreads_no_loss_over_what_was_left_out(capsys):
    flags = [*SMALL, "--epochs", 1, "--min-freq", 100, "--unknown", "skip", "--out", "run"]
    assert call(capsys, "train", "text.txt", *flags)[0] == 0
    with open("run/config.json") as file:
        held_out = json.load(file)["about"]["held_out"]
    assert held_out["skipped"] > 0
    assert (held_out["characters"], held_out["words"]) == (0, 0)


def test_ctrl_c_keeps_the_model():
    # A shell hands SIGINT down as ignored to what it runs in the background, and these tests may be that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fusedrnn.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    flags = [*SMALL, "--epochs", "1000000", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", "text.txt", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (os.path.exists("run/metrics.jsonl") and os.path.getsize("run/metrics.jsonl")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "interrupted in epoch" in out
    assert "Traceback" not in err
    assert load_checkpoint("run").info["epochs"] >= 1
