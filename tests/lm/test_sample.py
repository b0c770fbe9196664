"""Sampling: greedy, temperature, seeds, prompts."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

from fusedrnn.lm import (
    LanguageModel,
    generate,
    sample_text,
    sample_texts,
    score_text,
    stream_text,
)
from fusedrnn.text import CharTokenizer, TextError, UnknownTokenError, Vocab, WordTokenizer


class Fixed(nn.Module):
    """Always the same logits; counts how it was called."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.read = []

    def forward(self, ids, state=None):
        self.read.append((ids.flatten().tolist(), state))
        return self.logits.expand(*ids.shape, -1), len(self.read)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _model(cell="lstm", vocab=7):
    torch.manual_seed(0)
    return LanguageModel(vocab, cell, hidden=12)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("length", [0, 1, 9])
def test_greedy_takes_the_likeliest_given_all_before(cell, length):
    model = _model(cell)
    prompt = torch.tensor([3, 1, 4])
    drawn = generate(model, prompt, length, temperature=0)
    assert drawn.shape == (length,)
    assert drawn.dtype == torch.int64
    text = torch.cat([prompt, drawn])
    logits, _ = model(text.unsqueeze(1))
    assert torch.equal(logits[2:-1, 0].argmax(-1), drawn)


def test_the_prompt_is_read_once_and_the_state_goes_on():
    model = Fixed([0.0, 5.0, 0.0])
    generate(model, torch.tensor([2, 0, 2]), 3, temperature=0)
    assert model.read == [([2, 0, 2], None), ([1], 1), ([1], 2)]


def test_greedy_takes_the_first_of_equals_and_leaves_the_banned_out():
    assert generate(Fixed([1.0, 2.0, 2.0]), torch.tensor([0]), 3, temperature=0).tolist() == [1] * 3
    banned = generate(Fixed([1.0, 2.0, 2.0]), torch.tensor([0]), 3, temperature=0, banned=1)
    assert banned.tolist() == [2] * 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature):
    probabilities = [0.1, 0.2, 0.7]
    model = Fixed([math.log(p) for p in probabilities])
    count = 4000
    drawn = generate(
        model, torch.tensor([0]), count, temperature=temperature, generator=_generator()
    )
    powers = [p ** (1 / temperature) for p in probabilities]
    seen = Counter(drawn.tolist())
    for token, power in enumerate(powers):
        expected = power / sum(powers)
        error = 4 * math.sqrt(expected * (1 - expected) / count)
        assert seen[token] / count == pytest.approx(expected, abs=error)


def test_a_banned_token_is_never_drawn():
    drawn = generate(
        Fixed([9.0, 0.0, 0.0]), torch.tensor([0]), 200, generator=_generator(), banned=0
    )
    assert set(drawn.tolist()) == {1, 2}


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-12])
def test_a_tiny_temperature_is_greedy(temperature):
    drawn = generate(Fixed([500.0, 501.0]), torch.tensor([0]), 9, temperature=temperature)
    assert drawn.tolist() == [1] * 9


def test_same_seed_same_draws():
    prompt = torch.tensor([1])
    one, two, other = (
        generate(_model(), prompt, 60, generator=_generator(seed)).tolist() for seed in (1, 1, 2)
    )
    assert one == two != other


def test_sampling_leaves_the_model_as_it_was():
    model = _model()
    generate(model, torch.tensor([1]), 3)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt: expected at least one token"),
        ([[[1]]], {}, "prompt: expected at least one token, got shape .1, 1, 1."),
        ([1], {"length": -1}, "length: expected 0 or more, got -1"),
        ([1], {"temperature": -0.5}, "temperature: expected .* got -0.5"),
        ([1], {"temperature": math.nan}, "temperature: expected .* got nan"),
        ([1], {"temperature": math.inf}, "temperature: expected .* got inf"),
    ],
)
def test_bad_arguments(prompt, options, message):
    with pytest.raises(TextError, match=message):
        generate(_model(), torch.tensor(prompt, dtype=torch.int64), **{"length": 2, **options})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_diverged(value):
    with pytest.raises(TextError, match="logits: expected finite numbers"):
        generate(Fixed([0.0, value]), torch.tensor([0]), 1)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_penalty_that_makes_a_score_infinite(native, temperature):
    model = _model("gru", 6)
    with torch.no_grad():
        model.head.bias.fill_(1e9)
    options = {"native": native, "temperature": temperature}
    prompt = torch.arange(6)
    with pytest.raises(TextError, match="logits: expected finite numbers"):
        generate(model, prompt, 4, repetition_penalty=1e-300, **options)
    assert len(generate(model, prompt, 4, repetition_penalty=1e-290, **options)) == 4


def test_what_the_model_returns_is_not_written_to():
    model = Fixed([1.0, 2.0]).double()
    generate(model, torch.tensor([0]), 2, banned=1)
    assert model.logits.tolist() == [1.0, 2.0]


# --- text ----------------------------------------------------------------------------------------

VOCAB = Vocab("aaabbbbccd")


def _char_model():
    return _model(vocab=len(VOCAB))


def test_text_begins_with_its_prompt_and_has_the_asked_length():
    text = sample_text(_char_model(), CharTokenizer(), VOCAB, "abba", 50, seed=3)
    assert text.startswith("abba")
    assert len(text) == 54
    assert set(text) <= set("abcd")
    assert text == sample_text(_char_model(), CharTokenizer(), VOCAB, "abba", 50, seed=3)
    assert text != sample_text(_char_model(), CharTokenizer(), VOCAB, "abba", 50, seed=4)
    assert sample_text(_char_model(), CharTokenizer(), VOCAB, "abba", 0) == "abba"


def test_without_a_prompt_the_first_token_follows_the_frequencies():
    firsts = Counter(
        sample_text(_char_model(), CharTokenizer(), VOCAB, length=1, seed=seed)
        for seed in range(600)
    )
    for token, share in zip("abcd", (0.3, 0.4, 0.2, 0.1), strict=True):
        assert firsts[token] / 600 == pytest.approx(share, abs=4 * math.sqrt(0.25 / 600))
    greedy = sample_text(_char_model(), CharTokenizer(), VOCAB, length=5, temperature=0)
    assert greedy[0] == "b"
    assert len(greedy) == 5
    assert sample_text(_char_model(), CharTokenizer(), VOCAB, length=0) == ""


def test_words_are_joined_by_spaces():
    vocab = Vocab(["the", "time", "the", "machine"])
    text = sample_text(_model(vocab=4), WordTokenizer(), vocab, "the time", 6)
    assert len(text.split(" ")) == 8
    assert text.startswith("the time ")


def test_a_prompt_with_unknown_characters_is_refused_by_name():
    with pytest.raises(UnknownTokenError, match="not in the vocabulary: 'x', '!'"):
        sample_text(_char_model(), CharTokenizer(), VOCAB, "axb!x")
    with pytest.raises(UnknownTokenError, match=r"'\?'"):
        sample_text(_char_model(), CharTokenizer("letters"), VOCAB, "AB?")
    assert sample_text(_char_model(), CharTokenizer("letters"), VOCAB, "AB", 0) == "ab"


@pytest.mark.parametrize("prompt", ["", "ab"])
def test_bad_arguments_for_text(prompt):
    for options in ({"length": -1}, {"temperature": -1.0, "length": 0}):
        with pytest.raises(TextError, match=r"expected .* got -1"):
            sample_text(_char_model(), CharTokenizer(), VOCAB, prompt, **options)


def test_a_vocabulary_without_tokens_has_nothing_to_draw():
    with pytest.raises(TextError, match="the unknown token alone"):
        sample_text(_model(vocab=1), CharTokenizer(), Vocab(""))


# --- several prompts, stop strings, streams, beams -----------------------------------------------


def test_prompts_of_different_lengths_side_by_side():
    prompts = ["abba", "d", "", "ccc"]
    texts = sample_texts(_char_model(), CharTokenizer(), VOCAB, prompts, 30, seed=1)
    for prompt, text in zip(prompts, texts, strict=True):
        assert text.startswith(prompt)
        assert len(text) == len(prompt) + 30
    greedy = sample_texts(_char_model(), CharTokenizer(), VOCAB, prompts, 9, temperature=0)
    alone = [
        sample_text(_char_model(), CharTokenizer(), VOCAB, p, 9, temperature=0) for p in prompts
    ]
    assert greedy == alone


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("stop", [["d"], ["ab"], ["bcd", "ca"], ["zz"]])
def test_a_text_ends_before_a_stop_string(stop, native):
    for seed in range(12):
        options = {"seed": seed, "native": native}
        args = (_char_model(), CharTokenizer(), VOCAB, "abc", 60)
        whole, cut = sample_text(*args, **options), sample_text(*args, stop=stop, **options)
        ends = [whole.find(string, 3) for string in stop if whole.find(string, 3) >= 0]
        assert cut == whole[: min(ends, default=len(whole))]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("stop", [[], ["dab"], ["bb", "ccc"]])
@pytest.mark.parametrize("prompt", ["", "ab"])
def test_a_stream_is_the_text_in_pieces(prompt, stop, native):
    for seed in range(5):
        args = (_char_model(), CharTokenizer(), VOCAB, prompt, 80)
        options = {"seed": seed, "stop": stop, "native": native, "top_k": 3}
        pieces = list(stream_text(*args, **options))
        assert all(pieces)
        assert "".join(pieces) == sample_text(*args, **options)
        if not native and not stop:
            assert len(pieces) == (81 if prompt else 80)


def test_words_stream_with_their_spaces():
    vocab = Vocab(["the", "time", "the", "machine"])
    args = (_model(vocab=4), WordTokenizer(), vocab, "the time", 6)
    assert "".join(stream_text(*args)) == sample_text(*args)


def test_unknown_characters_of_a_prompt_follow_the_policy():
    def text(unknown):
        return sample_text(_char_model(), CharTokenizer(), VOCAB, "a!b", 0, unknown=unknown)

    assert text("unk") == "a<unk>b"
    assert text("skip") == "ab"
    with pytest.raises(TextError, match="unknown: expected one of error, unk, skip, got 'x'"):
        text("x")


def test_beams_find_the_likeliest_text():
    model = _char_model().double()
    args = (model, CharTokenizer(), VOCAB, "ab", 4)
    best = sample_text(*args, beams=5**4)
    others = (sample_text(*args, seed=seed) for seed in range(30))
    scores = [score_text(model, CharTokenizer(), VOCAB, text).total for text in (best, *others)]
    assert max(scores) == scores[0]
    assert "c" not in sample_text(*args[:-1], 30, beams=3, stop=["c"])[2:]


def test_stop_strings_and_prompts_have_some_length():
    for prompts, stop in (([], ["a"]), (["a"], [""])):
        with pytest.raises(TextError, match="expected prompts and stop strings of some length"):
            sample_texts(_char_model(), CharTokenizer(), VOCAB, prompts, stop=stop)
