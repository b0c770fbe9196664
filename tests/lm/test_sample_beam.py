"""Beam search against brute force over all continuations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from fusedrnn.lm import LanguageModel, beam_search, generate, score
from fusedrnn.text import TextError

PROMPT = torch.tensor([0, 2])


def model_of(vocab, cell="gru"):
    torch.manual_seed(vocab)
    model = LanguageModel(vocab, cell, hidden=8).double()
    with torch.no_grad():
        model.head.weight *= 8
    return model


def logprob(model, tokens):
    return float(score(model, torch.cat([PROMPT, torch.tensor(tokens)]))[len(PROMPT) - 1 :].sum())


def all_continuations(model, vocab, length, end, alpha):
    """Every continuation that may be returned, best first: (score, tokens)."""
    found = {}
    for tokens in itertools.product(range(vocab), repeat=length):
        ends = [place for place, token in enumerate(tokens) if token in end]
        cut = tokens[: ends[0] + 1] if ends else tokens
        if cut not in found:
            found[cut] = logprob(model, cut) / ((5 + len(cut)) / 6) ** alpha
    return sorted(((value, tokens) for tokens, value in found.items()), reverse=True)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize(("vocab", "length"), [(3, 4), (5, 3)])
@pytest.mark.parametrize("end", [None, 1, (2, 0), ()])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_wide_beam_is_brute_force(cell, vocab, length, end, alpha):
    model = model_of(vocab, cell)
    ends = () if end is None else (end,) if end == 1 else end
    expected = all_continuations(model, vocab, length, ends, alpha)
    got = beam_search(model, PROMPT, length, beams=vocab**length, length_penalty=alpha, end=end)
    assert [tuple(each.tokens.tolist()) for each in got] == [tokens for _, tokens in expected]
    for each, (value, tokens) in zip(got, expected, strict=True):
        assert each.score == pytest.approx(value, abs=1e-9)
        assert each.logprob == pytest.approx(logprob(model, tokens), abs=1e-9)


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_a_narrow_beam_keeps_the_likeliest_of_each_step(beams):
    vocab, length, model = 5, 5, model_of(5)
    kept = [((), 0.0)]
    for _ in range(length):
        grown = [
            ((*tokens, v), logprob(model, (*tokens, v))) for tokens, _ in kept for v in range(vocab)
        ]
        kept = sorted(grown, key=lambda each: -each[1])[:beams]
    got = beam_search(model, PROMPT, length, beams=beams)
    assert [tuple(each.tokens.tolist()) for each in got] == [tokens for tokens, _ in kept]


def test_one_beam_is_greedy():
    model = model_of(7)
    greedy = generate(model, PROMPT, 9, temperature=0)
    assert torch.equal(beam_search(model, PROMPT, 9, beams=1)[0].tokens, greedy)


def test_the_length_penalty_favours_the_long():
    model = model_of(5)
    lengths = [
        len(beam_search(model, PROMPT, 6, beams=30, end=1, length_penalty=alpha)[0].tokens)
        for alpha in (0.0, 8.0)
    ]
    assert lengths[0] < lengths[1]


def test_a_search_that_is_decided_stops_early():
    model = model_of(4)
    with torch.no_grad():
        model.head.bias[1] = 50.0
    calls = []
    model.rnn.register_forward_hook(lambda *_: calls.append(1))
    found = beam_search(model, PROMPT, 100, beams=1, end=1)
    assert found[0].tokens.tolist() == [1]
    assert len(calls) == 1


def test_banned_tokens_are_never_taken():
    found = beam_search(model_of(4), PROMPT, 3, beams=200, banned=(0, 3))
    assert len(found) == 2**3
    assert all(set(each.tokens.tolist()) <= {1, 2} for each in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "length and beams: expected 1 or more, got 3 and 0"),
        ({"length_penalty": -1.0}, "length_penalty: expected .* got -1.0"),
        ({"length_penalty": math.nan}, "length_penalty: expected .* got nan"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(TextError, match=message):
        beam_search(model_of(3), PROMPT, 3, **options)
    with pytest.raises(TextError, match="prompt: expected at least one token"):
        beam_search(model_of(3), PROMPT[:0], 3)


def test_a_model_that_diverged():
    model = model_of(3)
    with torch.no_grad():
        model.head.bias[0] = math.nan
    with pytest.raises(TextError, match="logits: expected finite numbers"):
        beam_search(model, PROMPT, 3)


@pytest.mark.parametrize("end", [torch.tensor(1), np.int64(1), [1]], ids=repr)
def test_an_end_is_a_whole_number_of_any_kind_or_several(end):
    expected = beam_search(model_of(4), PROMPT, 5, beams=3, end=1)
    got = beam_search(model_of(4), PROMPT, 5, beams=3, end=end)
    assert [each.tokens.tolist() for each in got] == [each.tokens.tolist() for each in expected]
