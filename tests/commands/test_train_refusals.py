"""What the command train refuses, and how it ends where training cannot go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import SMALL, call, refused

from fusedrnn import lm
from fusedrnn.lm import load_checkpoint

pytestmark = pytest.mark.usefixtures("text_folder")


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
    line = refused(capsys, "train", "bad.txt", *SMALL, *flags, *out)
    assert _matches(line, message)


def _matches(line, message):
    import re

    return re.search(message, line) is not None or pytest.fail(f"{message!r} is not in {line!r}")


def test_files_that_cannot_be_read(capsys, tmp_path):
    assert "none.txt: No such file or directory" in refused(capsys, "train", "none.txt")
    assert f"{tmp_path}: Is a directory" in refused(capsys, "train", tmp_path)
    assert "expected a folder for the run, got a file" in refused(
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
    code, out, err = call(capsys, "train", "text.txt", flag, value)
    assert code == 2
    assert out == ""
    assert message in err.strip().splitlines()[-1]
    assert os.listdir() == ["text.txt"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-vocab", 1],
        ["--max-vocab", 2, "--special", "<pad>"],
        ["--min-freq", 10**6],
    ],
    ids=str,
)
def test_a_vocabulary_with_nothing_to_draw_is_refused_before_training(capsys, flags):
    line = refused(capsys, "train", "text.txt", *SMALL, *flags, "--out", "run")
    assert "vocabulary: expected a token of the text besides '<unk>', got ['<unk>'" in line


@pytest.mark.parametrize("valid", ["0", "0.2"])
def test_a_loss_without_a_finite_perplexity_is_a_divergence(capsys, valid):
    """exp(loss) overflows long before the loss does."""
    flags = ["--optimizer", "sgd", "--lr", "1e30", "--valid-fraction", valid, "--out", "run"]
    code, _, err = call(capsys, "train", "text.txt", *SMALL, *flags)
    assert code == 1
    assert "expected a finite" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_eval_of_a_model_beyond_measure(capsys, trained):
    checkpoint = load_checkpoint("run")
    with torch.no_grad():
        checkpoint.model.head.bias[0] = 1e6  # of the token that never comes
    lm.save_checkpoint(Path("run/checkpoint.safetensors"), checkpoint)
    assert "finite perplexity, got" in refused(capsys, "eval", "run", "text.txt", "--json")


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
    assert "at most" in refused(capsys, *command, "--seed", str(2**64), code=2)


def test_a_run_that_diverges_says_so_and_keeps_what_it_has(capsys):
    flags = [*SMALL, "--optimizer", "sgd", "--lr", "1e38", "--clip", 0, "--epochs", 5]
    code, _, err = call(capsys, "train", "text.txt", *flags, "--out", "run")
    assert code == 1
    assert "expected a finite loss, got" in err.strip().splitlines()[-1]
    assert "checkpoint.safetensors" not in os.listdir("run")
