"""Greedy and beam search against every sentence that there is, and against a plain beam search."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fusedrnn.tasks.translate.model import EncoderDecoder
from fusedrnn.tasks.translate.search import Marks, beam_search, greedy, length_penalty

V, W = 6, 5
START, END, BANNED = 0, 1, 2
MARKS = Marks(START, END, (BANNED,))
FREE = [3, 4]
LONGEST = 4
EVERY = 1 + 2 + 4 + 8 + 16  # beginnings of at most LONGEST tokens
MODELS = [
    {"attention": "none", "cell": "lstm"},
    {"attention": "dot", "cell": "gru"},
    {"attention": "additive", "cell": "gru", "feed": "before"},
    {"attention": "bilinear", "cell": "elman", "bidirectional": True},
]


def _model(seed=0, **options):
    torch.manual_seed(seed)
    model = EncoderDecoder(V, W, hidden=6, embedding=4, **options).double().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # decided enough to differ from one beginning to another
    return model


def _sources(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (4, 5), generator=generator), torch.tensor([4, 2, 1, 3, 4])


def _log_probability(model, source, length, tokens):
    """Of the whole sentence, from one teacher-forced pass."""
    inputs = torch.tensor([START, *tokens[:-1]]).unsqueeze(1)
    with torch.no_grad():
        logits = model(
            source[:length].unsqueeze(1), length[None], inputs, torch.tensor([len(inputs)])
        )
    rows = logits.log_softmax(-1)
    return sum(rows[t, token].item() for t, token in enumerate(tokens))


def _every_sentence():
    """All that end within LONGEST tokens, and all that do not."""
    for length in range(LONGEST + 1):
        for tokens in itertools.product(FREE, repeat=length):
            yield (*tokens, END) if length < LONGEST else tokens


def _by_brute_force(model, source, length, penalty):
    """Every sentence with its score, best first."""
    scored = []
    for tokens in _every_sentence():
        value = _log_probability(model, source, length, tokens)
        scored.append((value / ((5 + len(tokens)) / 6) ** penalty, value, tokens))
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_a_beam_wide_enough_finds_the_best_sentence_there_is(options, penalty):
    model = _model(**options)
    source, lengths = _sources()
    found = beam_search(model, source, lengths, MARKS, LONGEST, width=EVERY, penalty=penalty)
    for row, hypotheses in enumerate(found):
        expected = _by_brute_force(model, source[:, row], lengths[row], penalty)
        assert len(hypotheses) == len(expected)
        for ours, (score, value, tokens) in zip(hypotheses, expected, strict=True):
            assert ours.score == pytest.approx(score)
            assert ours.log_probability == pytest.approx(value)
            assert ours.tokens == [token for token in tokens if token != END]
            assert ours.ended == (tokens[-1] == END)


def _plain_beam(model, source, length, width, penalty):
    """Beam search on lists, every probability from its own pass over the whole beginning."""
    beginnings, aside = [(0.0, ())], []
    for step in range(1, LONGEST + 1):
        ranked = sorted(
            (
                (_log_probability(model, source, length, (*tokens, token)), (*tokens, token))
                for _, tokens in beginnings
                for token in [END, *FREE]
            ),
            reverse=True,
        )
        for value, tokens in ranked[:width]:
            if tokens[-1] == END and len(aside) < width:
                aside.append((value / length_penalty(step, penalty), tokens[:-1]))
        beginnings = [(v, tokens) for v, tokens in ranked if tokens[-1] != END][:width]
        if len(aside) == width:
            break
    if len(aside) < width:
        aside += [(v / length_penalty(LONGEST, penalty), tokens) for v, tokens in beginnings]
    return sorted(aside, reverse=True)[:width]


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("options", MODELS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_width_is_the_plain_search(options, width, seed):
    model = _model(seed, **options)
    source, lengths = _sources(seed)
    found = beam_search(model, source, lengths, MARKS, LONGEST, width=width, penalty=1.0)
    for row, hypotheses in enumerate(found):
        expected = _plain_beam(model, source[:, row], lengths[row], width, 1.0)
        assert [h.tokens for h in hypotheses] == [list(tokens) for _, tokens in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected])


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_greedy_takes_the_likeliest_token_and_is_a_beam_of_one(options):
    for seed in range(4):
        model = _model(seed, **options)
        source, lengths = _sources(seed)
        ours = greedy(model, source, lengths, MARKS, LONGEST)
        beams = beam_search(model, source, lengths, MARKS, LONGEST, width=1)
        for row, (one, (other,)) in enumerate(zip(ours, beams, strict=True)):
            assert one.tokens == other.tokens
            assert one.ended == other.ended
            assert one.log_probability == pytest.approx(other.log_probability)
            tokens = []
            while len(tokens) < LONGEST and END not in tokens:
                values = {
                    token: _log_probability(model, source[:, row], lengths[row], (*tokens, token))
                    for token in [END, *FREE]
                }
                tokens.append(max(values, key=values.get))
            assert one.tokens == [token for token in tokens if token != END]


def test_a_wider_beam_beats_greedy_somewhere_and_is_never_worse_when_it_sees_all():
    gains = 0
    for seed in range(10):
        model = _model(seed, attention="dot")
        source, lengths = _sources(seed)
        one = greedy(model, source, lengths, MARKS, LONGEST)
        all_ = beam_search(model, source, lengths, MARKS, LONGEST, width=EVERY, penalty=0.0)
        for g, (best, *_) in zip(one, all_, strict=True):
            assert best.log_probability >= g.log_probability - 1e-12
            gains += best.log_probability > g.log_probability + 1e-9
    assert gains > 0


def test_the_penalty_of_the_paper():
    assert length_penalty(1, 0.7) == 1.0
    assert length_penalty(7, 1.0) == 2.0
    assert length_penalty(9, 0.0) == 1.0
    assert length_penalty(19, 0.5) == math.sqrt(4)


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"penalty": -1.0}, {"penalty": math.nan}, {"penalty": math.inf}],
    ids=str,
)
def test_searches_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        beam_search(_model(), *_sources(), MARKS, LONGEST, **options)
    with pytest.raises(ValueError, match="expected"):
        beam_search(_model(), *_sources(), MARKS, 0)
