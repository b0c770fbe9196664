"""Stop strings of beams: which tokens end a hypothesis, and what beams do not go with."""

from __future__ import annotations

import itertools

import pytest
import torch

from fusedrnn.lm import LanguageModel, beam_search, sample_text, sample_texts
from fusedrnn.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    TextError,
    Vocab,
    WordTokenizer,
)

LENGTH, BEAMS = 6, 3
CHARS = (CharTokenizer(), Vocab("abcd"))


def model_of(vocab, seed):
    torch.manual_seed(seed)
    model = LanguageModel(len(vocab), "gru", hidden=8).double()
    with torch.no_grad():
        model.head.weight *= 8
    return model


def searched(model, tokenizer, vocab, prompt, ends, stop):
    """The text that `beam_search` finds with these tokens as ends, before the first stop string."""
    ids = vocab.encode(tokenizer.tokenize_prompt(prompt))
    end = tuple(vocab.index(token) for token in ends)
    best = beam_search(model, ids, LENGTH, beams=BEAMS, end=end, banned=(0,))[0]
    text = tokenizer.join(vocab.decode(torch.cat([ids, best.tokens])))
    found = [text.find(string, len(prompt)) for string in stop]
    return text[: min((place for place in found if place >= 0), default=len(text))]


def assert_ends(tokenizer, vocab, prompt, stop, ends, fewer):
    """That ``stop`` makes hypotheses end at the tokens ``ends``, which shows: in some model the
    tokens ``fewer`` would give another text."""
    shown = False
    for seed in range(20):
        model = model_of(vocab, seed)
        expected = searched(model, tokenizer, vocab, prompt, ends, stop)
        got = sample_text(model, tokenizer, vocab, prompt, LENGTH, beams=BEAMS, stop=stop)
        assert got == expected
        shown = shown or expected != searched(model, tokenizer, vocab, prompt, fewer, stop)
    assert shown


@pytest.mark.parametrize("stop", list(itertools.permutations(["c", "ab", "d"])))
def test_every_stop_string_that_is_a_token_ends_a_hypothesis(stop):
    first = next(string for string in stop if len(string) == 1)
    assert_ends(*CHARS, "ab", stop, ends="cd", fewer=first)


def test_the_order_of_stop_strings_changes_nothing():
    for seed in range(20):
        args = (model_of(CHARS[1], seed), *CHARS, ["ab", "d"], LENGTH)
        one, other = (
            sample_texts(*args, beams=BEAMS, stop=stop) for stop in (["c", "d"], ["d", "c"])
        )
        assert one == other


def test_a_line_end_of_words_is_a_stop_string():
    words = (WordTokenizer(line_end="<eos>"), Vocab(["a", "b", "<eos>", "c"]))
    assert_ends(*words, "a b", ["\n"], ends=["<eos>"], fewer=[])
    # the name of the token is no text that could come
    assert_ends(*words, "a b", ["<eos>"], ends=[], fewer=["<eos>"])


def test_a_line_end_of_subwords_is_a_stop_string():
    pytest.importorskip("tokenizers")
    text = "the time\nthe machine\n" * 9
    tokenizer = BPETokenizer(size=260).trained([text])
    vocab = Vocab(tokenizer.tokenize(text))
    assert "\u010a" in vocab  # how the vocabulary spells it
    assert_ends(tokenizer, vocab, "the", ["\n"], ends=["\u010a"], fewer=[])


def test_a_byte_is_no_character_of_two():
    tokenizer = ByteTokenizer()
    vocab = Vocab.fixed(tokenizer.entries(), {})
    model = model_of(vocab, 0)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()[vocab.index("\xe9")] = 9.0
    args = (model, tokenizer, vocab, "a", 4)
    assert sample_text(*args, beams=BEAMS, stop=["\xe9"]) == "a" + 4 * "\ufffd"
    assert sample_text(*args, temperature=0, stop=["\xe9"]) == "a" + 4 * "\ufffd"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.5}, "temperature=0.5"),
        ({"top_k": 3}, "top_k=3"),
        ({"top_p": 0.5}, "top_p=0.5"),
        ({"repetition_penalty": 2.0}, "repetition_penalty=2.0"),
        ({"no_repeat_ngram": 2, "seed": 7}, "no_repeat_ngram=2, seed=7"),
    ],
    ids=str,
)
def test_beams_go_with_no_rule_of_draws(options, named):
    args = (model_of(CHARS[1], 0), *CHARS, "ab", LENGTH)
    with pytest.raises(TextError, match=f"^beams: expected no rules of draws .* got {named}$"):
        sample_text(*args, beams=2, **options)


def test_without_a_prompt_the_first_token_before_beams_is_drawn():
    args = (model_of(CHARS[1], 0), *CHARS, "", 1)
    drawn = {sample_text(*args, beams=2, seed=seed) for seed in range(60)}
    assert drawn == set("abcd")
    assert sample_text(*args, beams=2, temperature=0.0, seed=3) == "a"
    with pytest.raises(TextError, match=r"^beams: .* got top_k=3$"):
        sample_text(*args, beams=2, seed=3, top_k=3)


def test_a_length_penalty_is_for_beams():
    args = (model_of(CHARS[1], 0), *CHARS, "ab", LENGTH)
    with pytest.raises(TextError, match=r"^length_penalty: expected beams .* got 0.5 alone$"):
        sample_text(*args, length_penalty=0.5)
