"""Codecs: sentences to indices and back, marks, unknown tokens, descriptions."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedrnn.errors import UserError
from fusedrnn.tasks.translate.codec import END, TOKENS, UNKNOWN, Codec, CodecError

SENTENCES = ["Go.", "Va\u202f!", "j'ai perdu .", "I am home, Tom!", "go on"]


def _codec(tokens, **options):
    if tokens == "bpe":
        pytest.importorskip("tokenizers")
    return Codec.build(SENTENCES, tokens, **options)


@pytest.mark.parametrize("tokens", TOKENS)
def test_known_sentences_come_back(tokens):
    codec = _codec(tokens)
    for sentence in SENTENCES:
        indices = codec.encode(sentence)
        assert indices[-1] == END
        assert min(indices[:-1]) > END
        assert codec.decode(indices[:-1]) == codec.text(sentence)
        assert codec.unknown(sentence) == []


def test_the_form_that_is_judged():
    assert _codec("word").text("Va\u202f !  Tom.") == "va ! tom ."
    assert _codec("bpe").text("Va\u202f!") == "va !"
    assert _codec("char").text("Va\u202f!") == "Va\u202f!"


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_description_survives_json(tokens):
    codec = _codec(tokens)
    again = Codec.from_description(json.loads(json.dumps(codec.describe())))
    assert again.describe() == codec.describe()
    for sentence in [*SENTENCES, "something else"]:
        assert again.encode(sentence) == codec.encode(sentence)


def test_unknown_tokens_and_marks_in_the_text():
    codec = _codec("word")
    assert codec.encode("go <eos> there") == [codec.vocab.index("go"), UNKNOWN, UNKNOWN, END]
    assert codec.unknown("go <eos> there") == ["<eos>", "there"]
    rare = _codec("word", min_freq=2)
    assert rare.unknown("go tom .") == ["tom"]


def test_long_sentences_are_cut():
    codec = _codec("word")
    whole = codec.encode("go on j'ai perdu .")
    assert codec.encode("go on j'ai perdu .", 3) == whole[:3]
    assert codec.encode("go on j'ai perdu .", 6) == whole


def test_pieces_grow_with_their_number():
    few, many = _codec("bpe", size=258), _codec("bpe", size=300)
    assert len(few) <= 258 + 4
    assert len(few) < len(many)
    assert len(few.encode("j'ai perdu .")) > len(many.encode("j'ai perdu ."))
    assert many.unknown("déjà vu") == []  # no such words or letters, but their bytes
    assert many.decode(many.encode("déjà vu")[:-1]) == "déjà vu"


def test_pieces_are_all_known_whatever_the_least_frequency():
    codec = Codec.build(["go on .", "go home ."], "bpe", min_freq=2, size=300)
    assert codec.unknown("zzz déjà vu") == []


@pytest.mark.parametrize("tokens", TOKENS)
def test_tokens_are_shown_as_text(tokens):
    codec = _codec(tokens)
    labels = codec.labels(codec.encode("go"))
    assert "".join(labels) == "go<eos>"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_any_text_can_be_read(sentence):
    for tokens in ("word", "char"):
        codec = _codec(tokens)
        indices = codec.encode(sentence)
        assert indices[-1] == END
        assert all(i == UNKNOWN or END < i < len(codec) for i in indices[:-1])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"tokens": "word"},
        {"tokens": "runes", "vocab": {}},
        {"tokens": "bpe", "vocab": {}},
        {"tokens": "bpe", "bpe": {"name": "char", "filter": "none"}, "vocab": {}},
    ],
    ids=str,
)
def test_other_descriptions_are_refused(data):
    with pytest.raises(ValueError, match="expected"):
        Codec.from_description(data)


def test_a_vocabulary_without_the_marks_is_refused():
    data = _codec("char").describe()
    data["vocab"] |= {"reserved": 0}
    with pytest.raises(CodecError, match="reserved"):
        Codec.from_description(data)


def test_without_tokenizers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'fusedrnn\[bpe\]'"):
        Codec.build(SENTENCES, "bpe")
