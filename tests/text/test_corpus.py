"""Reading, counting and encoding texts; the facts known of The Time Machine."""

from __future__ import annotations

import pytest
import torch

from fusedrnn.text import (
    CharTokenizer,
    TextError,
    Vocab,
    WordTokenizer,
    build_corpus,
    letters_only,
    ngram_counts,
    python_docs_text,
    read_text,
)


@pytest.fixture(scope="module")
def time_machine(data_file):
    return read_text(data_file("timemachine.txt"))


def test_time_machine_lines(time_machine):
    lines = letters_only(time_machine).split("\n")
    assert lines[0] == "the time machine by h g wells"
    assert lines[10].startswith("twinkled and his usually pale face")


def test_time_machine_characters(time_machine):
    tokens = CharTokenizer("letters").tokenize(time_machine)
    assert len(tokens) == 170_580
    assert len(Vocab(tokens)) == 28


def test_time_machine_words(time_machine):
    tokens = WordTokenizer("letters").tokenize(time_machine)
    vocab = Vocab(tokens)
    assert len(tokens) == 32_775
    assert len(vocab) == 4_580
    ten = {
        "the": 2261,
        "i": 1267,
        "and": 1245,
        "of": 1155,
        "a": 816,
        "to": 695,
        "was": 552,
        "in": 541,
        "that": 443,
        "my": 440,
    }
    assert list(zip(vocab, vocab.counts, strict=True))[1:11] == list(ten.items())


def test_time_machine_bigrams_and_trigrams(time_machine):
    tokens = WordTokenizer("letters").tokenize(time_machine)
    assert ngram_counts(tokens, 2).most_common(3) == [
        (("of", "the"), 309),
        (("in", "the"), 169),
        (("i", "had"), 130),
    ]
    assert ngram_counts(tokens, 3).most_common(2) == [
        (("the", "time", "traveller"), 59),
        (("the", "time", "machine"), 30),
    ]


def test_ngram_counts():
    assert ngram_counts("abab", 1) == {("a",): 2, ("b",): 2}
    assert ngram_counts("abab", 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert ngram_counts("ab", 3) == {}
    with pytest.raises(TextError, match="at least 1, got 0"):
        ngram_counts("ab", 0)


def test_the_text_that_python_carries_is_about_465_000_characters():
    assert 300_000 < len(python_docs_text()) < 900_000


def test_reading_drops_the_byte_order_mark_and_unifies_line_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\x00\xc3\xa9")
    assert read_text(path) == "a\nb\nc\n\x00é"


def test_reading_bad_files(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(TextError, match=r"expected UTF-8 text, got the byte 0xe9 at position 3"):
        read_text(path)
    path.write_bytes(b"")
    with pytest.raises(TextError, match="got an empty file"):
        read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)


def test_a_corpus_is_cut_split_and_encoded():
    corpus = build_corpus("aaabbcxyz", CharTokenizer(), max_tokens=8, valid_fraction=0.25)
    assert list(corpus.vocab) == ["<unk>", "a", "b", "c"]  # the training part alone
    assert torch.equal(corpus.train, torch.tensor([1, 1, 1, 2, 2, 3]))
    assert torch.equal(corpus.valid, torch.tensor([0, 0]))


def test_a_corpus_without_a_held_out_part_and_with_rare_tokens():
    corpus = build_corpus("b a b", WordTokenizer(), min_freq=2)
    assert torch.equal(corpus.train, torch.tensor([1, 0, 1]))
    assert len(corpus.valid) == 0


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "expected a text with characters in it, got none"),
        ("123 456", {}, "got none .filter 'letters'"),
        ("abc", {"valid_fraction": 1.0}, "valid_fraction: expected .* got 1.0"),
        ("abc", {"valid_fraction": -0.1}, "valid_fraction: expected .* got -0.1"),
        ("abc", {"valid_fraction": float("nan")}, "valid_fraction: expected .* got nan"),
        ("abc", {"max_tokens": 0}, "max_tokens: expected .* got 0"),
    ],
)
def test_a_corpus_refuses(text, options, message):
    with pytest.raises(TextError, match=message):
        build_corpus(text, CharTokenizer("letters"), **options)
