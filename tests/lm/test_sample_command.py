"""`fusedrnn sample` and `fusedrnn eval`, as their user meets them."""

from __future__ import annotations

import gzip
import io
import json
import math
import signal
import subprocess
import sys

import pytest
import torch

from fusedrnn import cli, lm
from fusedrnn.lm import Checkpoint, LanguageModel, save_checkpoint
from fusedrnn.text import CharTokenizer, Vocab, WordTokenizer

TEXT = "the time traveller for so it will be convenient to speak of him\n"


def _save(folder, tokenizer, vocab):
    torch.manual_seed(0)
    checkpoint = Checkpoint(LanguageModel(len(vocab), "gru", hidden=12), tokenizer, vocab)
    save_checkpoint(folder / "checkpoint.safetensors", checkpoint)
    return checkpoint


@pytest.fixture
def chars(tmp_path, monkeypatch):
    """A model in the folder "."; the texts that it draws are those of the library."""
    monkeypatch.chdir(tmp_path)
    return _save(tmp_path, CharTokenizer(), Vocab(TEXT))


def run(capsys, *arguments, code=0):
    """What the command printed; its error, where it is to fail."""
    got = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert got == code, err
    assert "Traceback" not in err
    return err if code else out


def library(model, prompt="the ", length=40, **options):
    return lm.sample_text(model.model, model.tokenizer, model.vocab, prompt, length, **options)


FLAGS = {
    "--temperature 0.5": {"temperature": 0.5},
    "--top-k 3": {"top_k": 3},
    "--top-p 0.4": {"top_p": 0.4},
    "--repetition-penalty 3": {"repetition_penalty": 3.0},
    "--no-repeat-ngram 1": {"no_repeat_ngram": 1},
    "--stop e --stop t": {"stop": ["e", "t"]},
    "--beams 3 --length-penalty 1": {"beams": 3, "length_penalty": 1.0},
    "--seed 7": {"seed": 7},
}


@pytest.mark.parametrize("flags", FLAGS)
def test_every_flag_reaches_the_draws(chars, capsys, flags):
    arguments = ("sample", ".", "--prompt", "the ", "--length", 40)
    text = run(capsys, *arguments, *flags.split()).removesuffix("\n")
    assert text == library(chars, **FLAGS[flags])
    assert text != run(capsys, *arguments).removesuffix("\n")


def test_a_stream_prints_the_same_text(chars, capsys):
    arguments = ("sample", ".", "--prompt", "the ", "--length", 300, "--stop", "zz")
    assert run(capsys, *arguments, "--stream") == run(capsys, *arguments)


def test_ctrl_c_ends_an_endless_stream(chars):
    # A shell hands SIGINT down as ignored to what it runs in the background, and this may be that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fusedrnn.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "sample", ".", "--stream", "--length", str(10**12)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert len(process.stdout.read(100)) == 100
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err.strip() == b""


def test_several_prompts(chars, capsys):
    arguments = ("sample", ".", "--prompt", "the ", "--prompt", "s", "--length", 9)
    first, second = run(capsys, *arguments).removesuffix("\n").split("\n---\n")
    assert first.startswith("the ")
    assert second.startswith("s")
    lines = [json.loads(line) for line in run(capsys, *arguments, "--json").splitlines()]
    assert lines == [{"prompt": "the ", "text": first}, {"prompt": "s", "text": second}]


def test_unknown_characters_follow_the_policy(chars, capsys):
    arguments = ("sample", ".", "--prompt", "th!e", "--length", 0)
    assert "not in the vocabulary: '!'" in run(capsys, *arguments, code=1)
    assert run(capsys, *arguments, "--unknown", "skip") == "the\n"
    assert run(capsys, *arguments, "--unknown", "unk") == "th<unk>e\n"


def test_the_score_of_a_text(chars, capsys):
    expected = lm.score_text(chars.model, chars.tokenizer, chars.vocab, "the time")
    shown = run(capsys, "sample", ".", "--score", "the time")
    assert f"log-probability {expected.total:.4f} nats" in shown
    found = json.loads(run(capsys, "sample", ".", "--score", "the time", "--json"))
    assert found["tokens"] == list("the time")
    assert found["logprobs"] == pytest.approx(expected.logprobs)
    assert found["perplexity"] == pytest.approx(expected.perplexity)
    assert "'!'" in run(capsys, "sample", ".", "--score", "t!", code=1)


@pytest.mark.parametrize("flags", ["--beams 2", "--json", "--prompt t --prompt h"])
def test_streams_show_one_drawn_text(chars, capsys, flags):
    error = run(capsys, "sample", ".", "--stream", *flags.split(), code=1)
    assert error.startswith("fusedrnn sample: error: --stream: expected one prompt")


RULES = [
    "--temperature 0.5",
    "--top-k 3",
    "--top-p 0.4",
    "--repetition-penalty 3",
    "--no-repeat-ngram 1",
    "--seed 7",
]


@pytest.mark.parametrize("flags", RULES)
def test_beams_refuse_the_rules_of_draws(chars, capsys, flags):
    flag = flags.split()[0]
    arguments = ("sample", ".", "--prompt", "the ", "--beams", 2, *flags.split())
    expected = f"fusedrnn sample: error: {flag}: expected it without --beams, got both\n"
    assert run(capsys, *arguments, code=1) == expected


def test_beams_without_a_prompt_have_a_drawn_first_token(chars, capsys):
    flags = ("--length", 9, "--beams", 2, "--seed", 7, "--temperature", 0.5)
    text = run(capsys, "sample", ".", *flags).removesuffix("\n")
    assert text == library(chars, "", 9, beams=2, seed=7, temperature=0.5)


def test_a_length_penalty_is_for_beams(chars, capsys):
    error = run(capsys, "sample", ".", "--length-penalty", 1, code=1)
    assert error.endswith("error: --length-penalty: expected it with --beams, got none\n")


OF_DRAWING = ["--prompt t", "--length 9", "--stop e", "--stream", "--beams 2", "--length-penalty 1"]


@pytest.mark.parametrize("flags", [*OF_DRAWING, *RULES])
def test_a_score_refuses_what_is_for_drawing(chars, capsys, flags):
    flag = flags.split()[0]
    error = run(capsys, "sample", ".", "--score", "the time", *flags.split(), code=1)
    assert error == f"fusedrnn sample: error: {flag}: expected it without --score, got both\n"


def test_a_score_takes_unknown_characters_by_the_policy(chars, capsys):
    arguments = ("sample", ".", "--score", "t!h", "--device", "cpu", "--json")
    assert json.loads(run(capsys, *arguments, "--unknown", "skip"))["tokens"] == ["t", "h"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--top-p 0", "above 0, at most 1, got '0'"),
        ("--top-p 1.5", "above 0, at most 1, got '1.5'"),
        ("--top-p x", "above 0, at most 1, got 'x'"),
        ("--repetition-penalty 0", "above 0, got '0'"),
        ("--repetition-penalty inf", "above 0, got 'inf'"),
        ("--repetition-penalty nan", "above 0, got 'nan'"),
    ],
)
def test_numbers_that_must_be_above_zero(chars, capsys, flags, expected):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sample", ".", *flags.split()])
    message = f"argument {flags.split()[0]}: expected a finite number {expected}\n"
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize(
    "flags", ["--top-k -1", "--top-p 0", "--top-p 1.5", "--repetition-penalty 0", "--unknown x"]
)
def test_flags_that_cannot_be(chars, capsys, flags):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sample", ".", *flags.split()])
    assert f"argument {flags.split()[0]}: " in capsys.readouterr().err


def test_evaluation_per_character_and_word(chars, capsys, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT * 3)
    found = json.loads(run(capsys, "eval", ".", "text.txt", "--json"))
    bits = found["loss"] / math.log(2)
    assert found["bits_per_token"] == pytest.approx(bits)
    assert found["bits_per_character"] == pytest.approx(bits)
    assert found["bits_per_word"] == pytest.approx(bits * len(TEXT) / len(TEXT.split()))
    shown = run(capsys, "eval", ".", "text.txt")
    assert f"{found['bits_per_word']:.4f} bits per word" in shown


def test_evaluation_of_words(capsys, tmp_path):
    _save(tmp_path, WordTokenizer(), Vocab(TEXT.split()))
    (tmp_path / "text.txt").write_text(TEXT)
    found = json.loads(run(capsys, "eval", tmp_path, tmp_path / "text.txt", "--json"))
    assert found["bits_per_word"] == pytest.approx(found["bits_per_token"])
    words, characters = len(TEXT.split()), len(TEXT)
    assert found["bits_per_character"] * characters == pytest.approx(found["bits_per_word"] * words)


def test_evaluation_of_several_texts(chars, capsys, tmp_path, monkeypatch):
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write(TEXT)
    (tmp_path / "b.txt").write_text(TEXT[5:])
    ids = chars.vocab.encode(list(TEXT + TEXT[5:]))
    begins = torch.tensor([0, len(TEXT)])
    expected = lm.evaluate(chars.model, ids, documents=begins)
    assert expected != lm.evaluate(chars.model, ids)
    found = json.loads(run(capsys, "eval", ".", "a.txt.gz", "b.txt", "--json"))
    assert found["loss"] == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT[5:].encode())))
    assert json.loads(run(capsys, "eval", ".", "a.txt.gz", "-", "--json"))["loss"] == expected


def test_evaluation_of_unknown_tokens_and_other_encodings(chars, capsys, tmp_path):
    (tmp_path / "c.txt").write_bytes(TEXT.encode() + b"\xe9")
    assert "got the byte 0xe9" in run(capsys, "eval", ".", "c.txt", code=1)
    arguments = ("eval", ".", "c.txt", "--encoding", "latin-1")
    assert "'é'" in run(capsys, *arguments, "--unknown", "error", code=1)
    assert "1 of them are unknown" in run(capsys, *arguments)
    assert "1 more are unknown" in run(capsys, *arguments, "--unknown", "skip")
    found = json.loads(run(capsys, *arguments, "--unknown", "skip", "--json"))
    assert (found["tokens"], found["unknown_tokens"]) == (len(TEXT), 1)
    assert found["loss"] == lm.evaluate(chars.model, chars.vocab.encode(list(TEXT)))


def test_evaluation_resets_where_documents_begin(chars, capsys, tmp_path):
    (tmp_path / "d.txt").write_text(TEXT * 2)
    ids, begin = chars.vocab.encode(list(TEXT * 2)), int(chars.vocab.encode(["\n"])[0])
    expected = lm.evaluate(chars.model, ids, separator=begin)
    assert expected != lm.evaluate(chars.model, ids)
    found = run(capsys, "eval", ".", "d.txt", "--separator", "\n", "--json")
    assert json.loads(found)["loss"] == expected
    assert "'Z'" in run(capsys, "eval", ".", "d.txt", "--separator", "Z", code=1)
