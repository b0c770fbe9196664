"""Perplexity, the floors, and the file of metrics."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fusedrnn.lm import MetricsFile, ngram_floor, perplexity, perplexity_of, read_metrics
from fusedrnn.text import CharTokenizer, TextError, Vocab, read_text


def test_perplexity_of_a_half_a_quarter_and_an_eighth_is_4():
    assert perplexity_of([0.5, 0.25, 0.125]) == pytest.approx(4.0, rel=1e-15)


def test_perplexity_of_certainty_of_impossibility_and_of_a_uniform_model():
    assert perplexity_of([1.0, 1.0]) == 1.0
    assert perplexity_of([0.5, 0.0]) == math.inf
    assert perplexity_of([1 / 28] * 100) == pytest.approx(28.0)
    assert perplexity(math.log(28)) == pytest.approx(28.0)
    assert perplexity(1e4) == math.inf


@pytest.mark.parametrize("probabilities", [[], [1.5], [0.5, -0.1], [math.nan]])
def test_numbers_that_are_no_probabilities(probabilities):
    with pytest.raises(ValueError, match="expected at least one probability"):
        perplexity_of(probabilities)


def test_floors_of_small_texts():
    assert ngram_floor(torch.tensor([0, 1, 2, 3]), 1) == pytest.approx(4.0)
    assert ngram_floor(torch.tensor([0, 1, 0, 1, 0, 1]), 2) == pytest.approx(1.0)
    # After 0 come 1 and 2 equally often, after 1 and 2 always 0: 4 certain of 8, 4 of 2 choices.
    bigrams = torch.tensor([0, 1, 0, 2, 0, 1, 0, 2, 0])
    assert ngram_floor(bigrams, 2) == pytest.approx(2**0.5)
    assert ngram_floor(bigrams, 3) == pytest.approx(1.0)  # two tokens decide the next


def test_floors_of_the_time_machine(data_file):
    tokens = CharTokenizer("letters").tokenize(read_text(data_file("timemachine.txt")))
    ids = Vocab(tokens).encode(tokens[:10_000])
    assert ngram_floor(ids, 1) == pytest.approx(17.4, abs=0.05)
    assert ngram_floor(ids, 2) == pytest.approx(9.87, abs=0.005)


@pytest.mark.parametrize(("length", "n"), [(3, 0), (3, 4), (0, 1)])
def test_floors_need_enough_tokens(length, n):
    with pytest.raises(TextError, match=f"got {n} and {length}"):
        ngram_floor(torch.zeros(length, dtype=torch.int64), n)


def test_metrics_are_there_line_by_line_while_the_run_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path) as metrics:
        metrics.write({"epoch": 1, "perplexity": 2.5})
        assert list(read_metrics(path)) == [{"epoch": 1, "perplexity": 2.5}]
        metrics.write({"epoch": 2, "perplexity": 2.0})
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


def test_metrics_hold_json_alone(tmp_path):
    with MetricsFile(tmp_path / "m") as metrics, pytest.raises(ValueError, match="JSON"):
        metrics.write({"perplexity": math.nan})
