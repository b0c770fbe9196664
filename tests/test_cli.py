"""The command, as its user meets it: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import fusedrnn
from fusedrnn import cli, lm, text
from fusedrnn.lm import load_checkpoint

TEXT = "the time traveller for so it will be convenient to speak of him\n" * 40
SMALL = ["--hidden", "12", "--batch", "4", "--steps", "8", "--epochs", "2"]
FILES = [
    "best.safetensors",
    "checkpoint.safetensors",
    "config.json",
    "metrics.jsonl",
    "perplexity.png",
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)


def _run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        code = exit.code
    return code, *capsys.readouterr()


def _refused(capsys, *arguments, code=1):
    """The one line that says why, after checking that it is one line, by the command."""
    before = sorted(os.listdir())
    got, out, err = _run(capsys, *arguments)
    assert got == code
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith(f"fusedrnn {arguments[0]}: error: ")
    assert "Traceback" not in err
    if code == 1:
        assert len(err.strip().splitlines()) == 1
    assert sorted(os.listdir()) == before
    return line


@pytest.fixture
def trained(capsys):
    pytest.importorskip("matplotlib")
    code, out, _ = _run(capsys, "train", "text.txt", *SMALL, "--out", "run")
    assert code == 0
    return out


# --- train ---------------------------------------------------------------------------------------


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
    _, _, err = _run(capsys, "train", "text.txt", *SMALL, "--out", "run")
    assert "epoch 2/2: 100%" in err


def test_same_seed_same_losses_and_same_sample(capsys):
    def run(out, seed):
        flags = [*SMALL, "--layers", 2, "--dropout", 0.3, "--out", out, "--seed", seed]
        _, printed, _ = _run(capsys, "train", "text.txt", *flags)
        with open(f"{out}/metrics.jsonl") as file:
            losses = [(e["loss"], e["valid_loss"]) for e in map(json.loads, file)]
        samples = printed[printed.index("--- sample") : printed.index("\nwritten")]
        _, later, _ = _run(capsys, "sample", out, "--prompt", "the ", "--seed", 5)
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
    code, out, _ = _run(capsys, "train", "text.txt", *arguments, "--out", "run")
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
    _run(capsys, "train", "text.txt", *flags, "--out", "run")
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
        _run(capsys, "train", "text.txt", *SMALL, *flags, "--out", "run", "--overwrite")
        with open("run/metrics.jsonl") as file:
            losses.add(json.loads(file.readlines()[-1])["loss"])
    assert len(losses) == 1 + len(changes)


def test_without_a_text_the_one_that_python_carries_is_used(capsys):
    code, out, _ = _run(capsys, "train", *SMALL, "--max-tokens", 3000, "--valid-fraction", 0)
    assert code == 0
    assert "pydoc_data.topics" in out
    assert "3,000 characters, 0 of them held out" in out
    assert sorted(os.listdir("runs/python-docs-lstm")) == FILES[1:]
    code, out, _ = _run(capsys, "train", *SMALL, "--max-tokens", 3000)
    assert "run: runs/python-docs-lstm-2" in out
    assert sorted(os.listdir("runs")) == ["python-docs-lstm", "python-docs-lstm-2"]


def test_a_run_is_not_lost_by_accident(trained, capsys):
    before = {name: os.stat(f"run/{name}").st_mtime_ns for name in FILES}
    line = _refused(capsys, "train", "text.txt", *SMALL, "--out", "run")
    assert "expected a folder without a run, got one with checkpoint.safetensors" in line
    assert {name: os.stat(f"run/{name}").st_mtime_ns for name in FILES} == before
    (open("run/notes.txt", "w")).close()
    code, _, _ = _run(
        capsys, "train", "text.txt", *SMALL, "--epochs", 1, "--out", "run", "--overwrite"
    )
    assert code == 0
    assert sorted(os.listdir("run")) == sorted([*FILES, "notes.txt"])
    assert load_checkpoint("run").info["epochs"] == 1


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (b"", [], "expected a text, got an empty file"),
        (b"caf\xe9", [], "expected UTF-8 text, got the byte 0xe9 at position 3"),
        (b"123 456", ["--filter", "letters"], "expected a text with characters in it, got none"),
        (b"short", [], "expected at least 33 tokens .batch 4 x steps 8.*, got 5"),
    ],
)
@pytest.mark.parametrize("out", [[], ["--out", "run"]])
def test_texts_that_do_not_serve(capsys, tmp_path, content, flags, message, out):
    (tmp_path / "bad.txt").write_bytes(content)
    line = _refused(capsys, "train", "bad.txt", *SMALL, *flags, *out)
    assert _matches(line, message)


def _matches(line, message):
    import re

    return re.search(message, line) is not None or pytest.fail(f"{message!r} is not in {line!r}")


def test_files_that_cannot_be_read(capsys, tmp_path):
    assert "none.txt: No such file or directory" in _refused(capsys, "train", "none.txt")
    assert f"{tmp_path}: Is a directory" in _refused(capsys, "train", tmp_path)
    assert "expected a folder for the run, got a file" in _refused(
        capsys, "train", "text.txt", "--out", "text.txt"
    )


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--hidden", "0", "expected a whole number of at least 1, got '0'"),
        ("--layers", "two", "expected a whole number of at least 1, got 'two'"),
        ("--batch", "-3", "expected a whole number of at least 1, got '-3'"),
        ("--steps", "1.5", "expected a whole number of at least 1, got '1.5'"),
        ("--epochs", "0", "expected a whole number of at least 1, got '0'"),
        ("--max-tokens", "0", "expected a whole number of at least 1, got '0'"),
        ("--embedding", "-1", "expected a whole number of at least 0, got '-1'"),
        ("--seed", "-1", "expected a whole number of at least 0, got '-1'"),
        ("--dropout", "1.1", "expected a finite number from 0 to 1, got '1.1'"),
        ("--valid-fraction", "1", "expected a finite number from 0 below 1, got '1'"),
        ("--lr", "nan", "expected a finite number from 0, got 'nan'"),
        ("--lr", "inf", "expected a finite number from 0, got 'inf'"),
        ("--clip", "-1", "expected a finite number from 0, got '-1'"),
        ("--device", "tpu", "expected cpu or cuda, got 'tpu'"),
        ("--device", "meta", "expected cpu or cuda, got 'meta'"),
        ("--cell", "rnn", "invalid choice: 'rnn'"),
        ("--tokens", "syllable", "invalid choice: 'syllable'"),
        ("--filter", "digits", "invalid choice: 'digits'"),
        ("--order", "sorted", "invalid choice: 'sorted'"),
        ("--optimizer", "lbfgs", "invalid choice: 'lbfgs'"),
        ("--colour", "red", "unrecognized arguments"),
    ],
)
def test_flags_that_cannot_be(capsys, flag, value, message):
    code, out, err = _run(capsys, "train", "text.txt", flag, value)
    assert code == 2
    assert out == ""
    assert message in err.strip().splitlines()[-1]
    assert os.listdir() == ["text.txt"]


@pytest.mark.parametrize("valid", ["0", "0.2"])
def test_a_loss_without_a_finite_perplexity_is_a_divergence(capsys, valid):
    """exp(loss) overflows long before the loss does."""
    flags = ["--optimizer", "sgd", "--lr", "1e30", "--valid-fraction", valid, "--out", "run"]
    code, _, err = _run(capsys, "train", "text.txt", *SMALL, *flags)
    assert code == 1
    assert "expected a finite" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_eval_of_a_model_beyond_measure(capsys, trained):
    checkpoint = load_checkpoint("run")
    with torch.no_grad():
        checkpoint.model.head.bias[0] = 1e6  # of the token that never comes
    lm.save_checkpoint(Path("run/checkpoint.safetensors"), checkpoint)
    assert "finite perplexity, got" in _refused(capsys, "eval", "run", "text.txt", "--json")


def test_an_unknown_instruction_set_is_one_line():
    run = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "info"],
        env={**os.environ, "FUSEDRNN_ISA": "x86-64-v9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("fusedrnn info: error: ")
    assert "x86-64-v9" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", [["train", "text.txt"], ["sample", "run"]])
def test_a_seed_beyond_torchs_generators(capsys, command):
    assert "at most" in _refused(capsys, *command, "--seed", str(2**64), code=2)


def test_a_run_that_diverges_says_so_and_keeps_what_it_has(capsys):
    flags = [*SMALL, "--optimizer", "sgd", "--lr", "1e38", "--clip", 0, "--epochs", 5]
    code, _, err = _run(capsys, "train", "text.txt", *flags, "--out", "run")
    assert code == 1
    assert "expected a finite loss, got" in err.strip().splitlines()[-1]
    assert "checkpoint.safetensors" not in os.listdir("run")


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


# --- sample --------------------------------------------------------------------------------------


def test_sampling_goes_on_from_the_prompt(trained, capsys):
    code, out, err = _run(capsys, "sample", "run", "--prompt", "the t", "--length", 30)
    assert (code, err) == (0, "")
    assert out.startswith("the t")
    assert len(out) == 36  # and the line end
    flags = ["sample", "run/checkpoint.safetensors", "--prompt", "the t", "--length", 30]
    assert _run(capsys, *flags)[1] == out
    assert _run(capsys, *flags, "--seed", 1)[1] != out
    greedy = [_run(capsys, *flags, "--temperature", 0, "--seed", seed)[1] for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    assert len(_run(capsys, "sample", "run", "--length", 7)[1]) == 8


def test_a_prompt_with_unknown_characters(trained, capsys):
    line = _refused(capsys, "sample", "run", "--prompt", "the Time 2")
    assert line.endswith("not in the vocabulary: 'T', '2'")


@pytest.mark.parametrize("command", [("sample",), ("eval",)])
def test_checkpoints_that_are_none(capsys, tmp_path, command):
    rest = ["text.txt"] if command == ("eval",) else []
    message = "expected a checkpoint, got no such file"
    assert message in _refused(capsys, *command, "none", *rest)
    (tmp_path / "empty").mkdir()
    assert message in _refused(capsys, *command, "empty", *rest)
    assert "truncated or foreign file" in _refused(capsys, *command, "text.txt", *rest)


def test_sampling_flags_that_cannot_be(capsys):
    for flag, value in [("--length", "-1"), ("--temperature", "-1"), ("--temperature", "warm")]:
        assert f"got '{value}'" in _refused(capsys, "sample", "run", flag, value, code=2)


# --- eval ----------------------------------------------------------------------------------------


def test_evaluation_of_a_text(trained, capsys):
    code, out, _ = _run(capsys, "eval", "run", "text.txt", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["bits_per_token"] == pytest.approx(math.log2(result["perplexity"]))
    assert (result["tokens"], result["unknown_tokens"]) == (2560, 0)
    code, out, _ = _run(capsys, "eval", "run", "text.txt")
    assert f"perplexity {result['perplexity']:.4f}" in out
    assert "unknown" not in out
    checkpoint = load_checkpoint("run")
    for batch in (1, 3):
        loss = lm.evaluate(checkpoint.model, checkpoint.vocab.encode(TEXT), batch=batch)
        _, out, _ = _run(capsys, "eval", "run", "text.txt", "--batch", batch, "--json")
        assert json.loads(out)["loss"] == loss


def test_evaluation_says_how_much_was_unknown(trained, capsys, tmp_path):
    (tmp_path / "other.txt").write_text("THE time 123")
    code, out, _ = _run(capsys, "eval", "run", "other.txt")
    assert code == 0
    assert "6 of them are unknown to the model" in out


def test_evaluation_refuses(trained, capsys, tmp_path):
    (tmp_path / "one.txt").write_text("t")
    assert "at least 2 tokens" in _refused(capsys, "eval", "run", "one.txt")
    assert "No such file" in _refused(capsys, "eval", "run", "none.txt")


# --- the rest ------------------------------------------------------------------------------------


def test_info(capsys):
    code, out, _ = _run(capsys, "info", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["version"] == fusedrnn.__version__
    assert facts["isa"] in facts["available_isas"]
    assert facts["threads"] >= 1
    assert {"torch", "cuda_build", "cuda_device"} <= facts.keys()
    code, out, _ = _run(capsys, "info")
    assert all(name in out for name in facts)


def test_help_names_every_command_and_flag(capsys):
    code, out, _ = _run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in ("train", "sample", "eval", "info"))
    _, out, _ = _run(capsys, "train", "--help")
    named = "cell hidden layers embedding tokens filter max-tokens batch steps order optimizer lr"
    for flag in f"{named} clip dropout epochs valid-fraction device seed out".split():
        assert f"--{flag}" in out
    assert "(default: None)" not in out


def test_the_command_as_a_module_on_a_narrow_terminal(capsys, tmp_path):
    (tmp_path / "greek.txt").write_text("αβγδ " * 200, encoding="utf-8")
    _run(capsys, "train", "greek.txt", *SMALL, "--out", "run")
    process = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "sample", "run", "--prompt", "αβ"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.startswith(r"\u03b1\u03b2")


def test_no_command_is_an_error(capsys):
    code, _, err = _run(capsys)
    assert code == 2
    assert "required: COMMAND" in err


def test_a_reader_that_leaves_early_is_no_error(trained):
    code = "import sys; from fusedrnn.cli import main; sys.exit(main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-c", code, "sample", "run"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert process.returncode == 1
    assert process.stderr == ""
