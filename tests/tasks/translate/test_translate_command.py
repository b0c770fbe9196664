"""`fusedrnn translate`, as its user meets it: training, translating, refusing, going on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from command_line import call, refused

from fusedrnn import cli
from fusedrnn.tasks.translate.addition import addition_pairs
from fusedrnn.tasks.translate.task import load_translator

PAIRS = ["Go.\tVa !", "Run!\tCours !", "I lost.\tJ'ai perdu.", "I'm home.\tJe suis chez moi."]
LEARN = ["--min-freq", 1, "--valid-fraction", 0, "--hidden", 24, "--embedding", 8]
LEARN += ["--dropout", 0, "--lr", 0.03, "--epochs", 50]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_text("\n".join(PAIRS) + "\n", encoding="utf-8")
    sums = [f"{question}\t{answer}" for question, answer in addition_pairs(90, 1)]
    (tmp_path / "sums.tsv").write_text("\n".join(sums))


def _run(capsys, *arguments):
    return call(capsys, "translate", *arguments)


def _refused(capsys, *arguments, code=1):
    return refused(capsys, "translate", *arguments, code=code)


@pytest.fixture
def trained(capsys):
    code, out, err = _run(capsys, "train", "pairs.tsv", *LEARN, "--out", "run")
    assert code == 0, err
    return out


def test_a_run_learns_and_translates(trained, capsys):
    assert "pairs.tsv: 4 to learn from, 0 other sentences held out" in trained
    assert "i'm home . -> je suis chez moi ." in trained
    assert {"checkpoint.safetensors", "config.json", "metrics.jsonl"} <= set(os.listdir("run"))
    code, out, err = _run(capsys, "run", "i lost .", "Go.", "I'M HOME.")
    assert (code, out, err) == (0, "j'ai perdu .\nva !\nje suis chez moi .\n", "")
    assert _run(capsys, "run", "Go.", "--beam", 1)[1] == "va !\n"
    assert _run(capsys, "run/checkpoint.safetensors", "Go.")[1] == "va !\n"


def test_another_process_translates(trained):
    done = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "translate", "run", "Run!"],
        capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "cours !\n", "")


def test_translations_with_their_scores(trained, capsys):
    code, out, _ = _run(capsys, "run", "Go.", "--best", 3)
    assert code == 0
    scores, texts = zip(*(line.split("\t") for line in out.splitlines()), strict=True)
    assert len(set(texts)) == 3
    assert texts[0] == "va !"
    assert list(map(float, scores)) == sorted(map(float, scores), reverse=True)


def test_sentences_come_from_standard_input_too(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Go.\nRun!\n"))
    assert _run(capsys, "run")[1] == "va !\ncours !\n"


def test_unknown_words_are_named(trained, capsys):
    code, _, err = _run(capsys, "run", "go away .")
    assert code == 0
    assert err == "never seen in training, read as <unk>: 'away'\n"


def test_the_attention_is_drawn(trained, capsys):
    pytest.importorskip("matplotlib")
    assert _run(capsys, "run", "Go.", "--plot", "a.png")[0] == 0
    assert os.path.getsize("a.png") > 1000
    assert "expected one sentence to draw" in _refused(capsys, "run", "Go.", "Run!", "--plot", "b")


def test_a_model_is_judged_on_other_pairs(trained, capsys):
    pytest.importorskip("sacrebleu")
    code, out, _ = _run(capsys, "eval", "run", "pairs.tsv", "--json")
    assert code == 0
    scores = json.loads(out)
    assert scores["exact"] == 1.0
    assert scores["bleu"] == pytest.approx(100)
    assert scores["sentences"] == 4
    out = _run(capsys, "eval", "run", "pairs.tsv", "--beam", 1)[1]
    assert out == "4 sentences, greedy: BLEU 100.0, 100.00% exact\n"


def test_the_textbook_s_loss_is_a_tenth(capsys):
    out = _run(capsys, "train", "pairs.tsv", *LEARN, "--max-length", 10, "--epochs", 2)[1]
    per_token = float(out.split("epoch 2: ")[1].split()[0])
    scaled = float(out.split("the 10 steps of a sentence: ")[1].split()[0])
    assert scaled == pytest.approx(per_token / 10, abs=1e-4)


def test_held_out_pairs_are_judged_every_epoch(capsys):
    small = ["--tokens", "char", "--hidden", 8, "--embedding", 4, "--epochs", 2, "--reverse"]
    code, out, _ = _run(capsys, "train", "sums.tsv", *small, "--out", "run")
    assert code == 0
    assert "held out, greedy: " in out
    assert "held out, beam of 5: " in out
    with open("run/metrics.jsonl") as file:
        epochs = [json.loads(line) for line in file]
    assert len(epochs) == 2
    for epoch in epochs:
        assert {"loss", "valid_loss", "valid_exact", "tokens", "tokens_per_s"} <= set(epoch)


def test_a_run_goes_on_where_it_ended(capsys):
    small = ["--tokens", "char", "--hidden", 8, "--embedding", 4, "--teacher-forcing", 0.5]
    _run(capsys, "train", "sums.tsv", *small, "--epochs", 4, "--out", "whole")
    _run(capsys, "train", "sums.tsv", *small, "--epochs", 2, "--out", "parts")
    code, _, err = _run(
        capsys, "train", "sums.tsv", *small, "--epochs", 4, "--out", "parts", "--resume"
    )
    assert code == 0, err
    whole, parts = (load_translator(name).model.state_dict() for name in ("whole", "parts"))
    assert all(whole[name].equal(parts[name]) for name in whole)


def test_sums_are_written(capsys):
    code, out, _ = _run(capsys, "sums", "--digits", 2, "--count", 20)
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert len(lines) == 20
    assert all(eval(question) == int(answer) for question, answer in lines)
    assert "expected from 1 to 100 sums" in _refused(capsys, "sums", "--digits", 1, "--count", 101)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\nc\n", "bad.tsv, line 2: expected two columns"),
        (b"a\tb\n\td\n", "bad.tsv, line 2, column 1: expected a sentence"),
        (b"a\tb\nc\t\xff\n", "bad.tsv, line 2, column 2: expected UTF-8"),
        (b"", "bad.tsv: expected sentence pairs, got an empty file"),
    ],
)
def test_bad_files_are_refused_before_anything_is_made(capsys, tmp_path, content, message):
    (tmp_path / "bad.tsv").write_bytes(content)
    assert message in _refused(capsys, "train", "bad.tsv", "--out", "run")


def test_what_cannot_be_done_is_refused(capsys, trained):
    assert "no such file" in _refused(capsys, "nowhere", "Go.").lower()
    assert "no such file" in _refused(capsys, "train", "none.tsv").lower()
    assert "expected words to translate, got an empty one" in _refused(capsys, "run", "Go.", " ")
    assert "expected a folder without a run" in _refused(
        capsys, "train", "pairs.tsv", "--out", "run"
    )
    assert "expected an even number" in _refused(
        capsys, "train", "pairs.tsv", "--hidden", 7, "--bidirectional"
    )
    assert "expected one of" not in _refused(capsys, "train", "pairs.tsv", "--hidden", 0, code=2)
    assert "the following arguments are required" in _refused(capsys, "train", code=2)
    assert "RUN|WORD" in _refused(capsys, code=2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pieces", 2000], "--pieces: expected it with --tokens bpe alone, got word"),
        (["--tokens", "bpe", "--min-freq=2"], "--min-freq: expected words or characters"),
        (["--attention", "none", "--feed", "after"], "--feed: expected attention"),
        (["--sampling", "linear"], "--sampling: expected --teacher-forcing below 1"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(capsys, flags, message):
    assert message in _refused(capsys, "train", "pairs.tsv", *flags)


def test_a_checkpoint_of_another_kind_is_refused(capsys, tmp_path):
    (tmp_path / "text.txt").write_text("the time traveller\n" * 30)
    small = ["--hidden", "4", "--epochs", "1", "--batch", "4", "--steps", "8", "--out", "lm"]
    assert cli.main(["train", "text.txt", *small]) == 0
    capsys.readouterr()
    message = _refused(capsys, "lm", "Go.")
    assert "expected a checkpoint of kind 'translation', got one of 'language model'" in message


def test_attention_without_attention_cannot_be_drawn(capsys):
    _run(capsys, "train", "pairs.tsv", *LEARN, "--epochs", 1, "--attention", "none", "--out", "run")
    assert "expected a model with attention" in _refused(capsys, "run", "Go.", "--plot", "a.png")
