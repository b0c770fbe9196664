"""Log-probabilities of given texts."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fusedrnn.lm import LanguageModel, score, score_text
from fusedrnn.text import CharTokenizer, TextError, UnknownTokenError, Vocab

VOCAB = Vocab("aaabbbbccd")


def model_of(cell="lstm"):
    torch.manual_seed(0)
    return LanguageModel(len(VOCAB), cell, hidden=8).double()


@pytest.mark.parametrize("length", [2, 256, 257, 600])
def test_entry_t_is_that_of_token_t_plus_1(length):
    ids = torch.randint(0, len(VOCAB), (length,))
    logits, _ = model_of()(ids[:-1].unsqueeze(1))
    expected = -F.cross_entropy(logits[:, 0], ids[1:], reduction="none")
    torch.testing.assert_close(score(model_of(), ids), expected.detach())


def test_the_probabilities_of_all_texts_sum_to_1():
    model, v = model_of("gru"), len(VOCAB)
    texts = torch.cartesian_prod(torch.tensor([2]), *[torch.arange(v)] * 3).t()
    assert float(score(model, texts).sum(0).exp().sum()) == pytest.approx(1.0)


def test_rows_of_different_lengths():
    ids, lengths = torch.randint(0, len(VOCAB), (7, 3)), torch.tensor([7, 1, 4])
    got = score(model_of(), ids, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(got[length - 1 :, row], torch.zeros(7 - length, dtype=torch.float64))
        if length > 1:
            torch.testing.assert_close(got[: length - 1, row], score(model_of(), ids[:length, row]))


def test_a_text():
    found = score_text(model_of(), CharTokenizer(), VOCAB, "abba")
    assert found.tokens == ["a", "b", "b", "a"]
    assert len(found.logprobs) == 3
    assert found.total == pytest.approx(sum(found.logprobs))
    assert found.perplexity == pytest.approx(math.exp(-found.total / 3))


def test_unknown_characters_follow_the_policy():
    def found(unknown):
        return score_text(model_of(), CharTokenizer(), VOCAB, "a!b", unknown=unknown).tokens

    with pytest.raises(UnknownTokenError, match="'!'"):
        found("error")
    assert found("unk") == ["a", "<unk>", "b"]
    assert found("skip") == ["a", "b"]
    with pytest.raises(TextError, match="unknown: expected one of error, unk, skip, got 'x'"):
        found("x")


def test_bad_arguments():
    with pytest.raises(TextError, match="expected at least two tokens"):
        score(model_of(), torch.tensor([1]))
    with pytest.raises(TextError, match="expected at least two tokens"):
        score_text(model_of(), CharTokenizer(), VOCAB, "a")
    with pytest.raises(TextError, match="lengths: expected 2 numbers from 1 to 3"):
        score(model_of(), torch.ones(3, 2, dtype=torch.int64), lengths=torch.tensor([0, 3]))


def test_the_model_is_left_as_it_was():
    model = model_of()
    score(model, torch.tensor([1, 2]))
    assert model.training
