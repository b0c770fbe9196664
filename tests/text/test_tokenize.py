"""Tokenizers and the letters filter."""

from __future__ import annotations

import pytest

from fusedrnn.text import (
    ByteTokenizer,
    CharTokenizer,
    TextError,
    WordTokenizer,
    letters_only,
    make_tokenizer,
)
from fusedrnn.text.tokenize import TOKENIZERS, from_description

TEXT = "  The Time-Machine,\tby H. G. Wells [1898]\n\n-- I --\ncafé 2x\n"


PLAIN = [name for name in TOKENIZERS if name != "bpe"]  # which has its own tests


def test_letters_only_cleans_line_by_line():
    assert letters_only(TEXT) == "the time machine by h g wells\n\ni\ncaf x\n"
    assert letters_only("") == ""
    assert letters_only("a\rb") == "a b"


@pytest.mark.parametrize(
    ("name", "filter", "expected"),
    [
        ("char", "none", list(TEXT)),
        ("char", "letters", list("the time machine by h g wellsicaf x")),
        ("word", "none", TEXT.split()),
        ("word", "letters", ["the", "time", "machine", "by", "h", "g", "wells", "i", "caf", "x"]),
    ],
)
def test_tokens(name, filter, expected):
    assert list(make_tokenizer(name, filter).tokenize(TEXT)) == expected


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("filter", ["none", "letters"])
def test_no_text_has_no_tokens(name, filter):
    assert list(make_tokenizer(name, filter).tokenize("")) == []


def test_join_makes_a_text_again():
    assert CharTokenizer().join(CharTokenizer().tokenize(TEXT)) == TEXT
    assert WordTokenizer().join(["the", "time"]) == "the time"
    assert CharTokenizer().join([]) == ""


def test_a_prompt_loses_nothing_but_its_capitals():
    assert list(CharTokenizer("letters").tokenize_prompt("Time? ")) == list("time? ")
    assert list(CharTokenizer().tokenize_prompt("Time? ")) == list("Time? ")
    assert list(WordTokenizer("letters").tokenize_prompt("The Time?")) == ["the", "time?"]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("filter", ["none", "letters"])
def test_a_description_makes_an_equal_tokenizer(name, filter):
    tokenizer = make_tokenizer(name, filter)
    again = from_description(tokenizer.describe())
    assert again == tokenizer
    assert type(again) is type(tokenizer)
    assert again != make_tokenizer(name, "letters" if filter == "none" else "none")


def test_bad_names_are_errors():
    with pytest.raises(TextError, match=r"expected one of byte, char, word.*, got 'syllable'"):
        make_tokenizer("syllable")
    with pytest.raises(TextError, match="expected one of none, letters, got 'digits'"):
        make_tokenizer("char", "digits")


@pytest.mark.parametrize(
    "data", [None, "char", {}, {"name": "char"}, {"name": ["char"], "filter": "none"}]
)
def test_a_bad_description_is_an_error(data):
    with pytest.raises(TextError, match="expected"):
        from_description(data)


def test_a_special_token_of_one_letter_is_no_byte():
    assert ByteTokenizer().join(["a", "\u20ac", "\xe2", "\x82", "\xac"]) == "a\u20ac\u20ac"


def test_bytes_of_half_a_surrogate_pair():
    assert ByteTokenizer().tokenize("a\udcff") == "a\xff"  # Python's name of the byte 0xff
    with pytest.raises(TextError, match=r"^expected .*UTF-8 .*, got '\\ud800' at position 1$"):
        ByteTokenizer().tokenize("a\ud800")
