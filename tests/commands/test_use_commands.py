"""The commands sample and eval on a run that is there."""

from __future__ import annotations

import json
import math

import pytest
from command_line import SMALL, TEXT, call, refused

from fusedrnn import lm
from fusedrnn.lm import load_checkpoint

pytestmark = pytest.mark.usefixtures("text_folder")


def test_sampling_goes_on_from_the_prompt(trained, capsys):
    code, out, err = call(capsys, "sample", "run", "--prompt", "the t", "--length", 30)
    assert (code, err) == (0, "")
    assert out.startswith("the t")
    assert len(out) == 36  # and the line end
    flags = ["sample", "run/checkpoint.safetensors", "--prompt", "the t", "--length", 30]
    assert call(capsys, *flags)[1] == out
    assert call(capsys, *flags, "--seed", 1)[1] != out
    greedy = [call(capsys, *flags, "--temperature", 0, "--seed", seed)[1] for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    assert len(call(capsys, "sample", "run", "--length", 7)[1]) == 8


def test_a_prompt_with_unknown_characters(trained, capsys):
    line = refused(capsys, "sample", "run", "--prompt", "the Time 2")
    assert line.endswith("not in the vocabulary: 'T', '2'")


@pytest.mark.parametrize("command", [("sample",), ("eval",)])
def test_checkpoints_that_are_none(capsys, tmp_path, command):
    rest = ["text.txt"] if command == ("eval",) else []
    message = "expected a checkpoint, got no such file"
    assert message in refused(capsys, *command, "none", *rest)
    (tmp_path / "empty").mkdir()
    assert message in refused(capsys, *command, "empty", *rest)
    assert "truncated or foreign file" in refused(capsys, *command, "text.txt", *rest)


def test_sampling_flags_that_cannot_be(capsys):
    for flag, value in [("--length", "-1"), ("--temperature", "-1"), ("--temperature", "warm")]:
        assert f"got '{value}'" in refused(capsys, "sample", "run", flag, value, code=2)


def test_evaluation_of_a_text(trained, capsys):
    code, out, _ = call(capsys, "eval", "run", "text.txt", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert result["bits_per_token"] == pytest.approx(math.log2(result["perplexity"]))
    assert (result["tokens"], result["unknown_tokens"]) == (2560, 0)
    code, out, _ = call(capsys, "eval", "run", "text.txt")
    assert f"perplexity {result['perplexity']:.4f}" in out
    assert "unknown" not in out
    checkpoint = load_checkpoint("run")
    for batch in (1, 3):
        loss = lm.evaluate(checkpoint.model, checkpoint.vocab.encode(TEXT), batch=batch)
        _, out, _ = call(capsys, "eval", "run", "text.txt", "--batch", batch, "--json")
        assert json.loads(out)["loss"] == loss


def test_evaluation_says_how_much_was_unknown(trained, capsys, tmp_path):
    (tmp_path / "other.txt").write_text("THE time 123")
    code, out, _ = call(capsys, "eval", "run", "other.txt")
    assert code == 0
    assert "6 of them are unknown to the model" in out


def test_evaluation_of_what_was_not_left_out(trained, capsys, tmp_path):
    """The loss is of the kept tokens alone: no bits of the characters of a text that has others."""
    (tmp_path / "other.txt").write_text("the time" + "Z" * 92)
    results = {}
    for unknown in ("skip", "unk"):
        _, out, _ = call(capsys, "eval", "run", "other.txt", "--unknown", unknown, "--json")
        results[unknown] = json.loads(out)
    assert (results["skip"]["tokens"], results["skip"]["unknown_tokens"]) == (8, 92)
    assert not {"bits_per_character", "bits_per_word"} & set(results["skip"])
    of_all = results["unk"]
    assert of_all["bits_per_character"] == pytest.approx(of_all["bits_per_token"])
    _, out, _ = call(capsys, "eval", "run", "other.txt", "--unknown", "skip")
    assert "per character" not in out
    assert "92 more are unknown to the model and were left out" in out


def test_a_prompt_that_is_not_utf8(text_folder, capsys):
    pytest.importorskip("tokenizers")
    flags = ["--tokens", "bpe", "--bpe-size", 300, "--valid-fraction", 0, "--out", "run"]
    assert call(capsys, "train", "text.txt", *SMALL, *flags)[0] == 0
    line = refused(capsys, "sample", "run", "--prompt", "a\udcff")
    assert "UTF-8" in line
    assert line.endswith("got '\\udcff' at position 1")


def test_evaluation_refuses(trained, capsys, tmp_path):
    (tmp_path / "one.txt").write_text("t")
    assert "at least 2 tokens" in refused(capsys, "eval", "run", "one.txt")
    assert "No such file" in refused(capsys, "eval", "run", "none.txt")
