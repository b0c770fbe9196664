"""A checkpoint's tokenizer against another."""

from __future__ import annotations

import pytest

from fusedrnn.text import (
    BPETokenizer,
    CharTokenizer,
    MismatchError,
    Vocab,
    WordTokenizer,
    check_same,
)


def test_equal_ones_pass_however_often_the_text_has_each_entry():
    check_same(CharTokenizer(), Vocab("aab"), CharTokenizer(), Vocab("aaab"))


def test_entries_that_differ_are_named():
    with pytest.raises(MismatchError) as caught:
        check_same(CharTokenizer(), Vocab("aaabbc"), CharTokenizer("letters"), Vocab("aaaccbd"))
    message = str(caught.value)
    assert message.startswith("another tokenizer (")
    assert "4 entries expected, 5 got" in message
    assert "filter expected 'none', got 'letters'" in message
    assert "entry 2 expected 'b', got 'c'; entry 3 expected 'c', got 'b'" in message
    assert "entry 4 expected none, got 'd'" in message
    assert caught.value.indices == [2, 3, 4]


def test_the_same_tokenizer_with_other_entries_is_another_vocabulary():
    with pytest.raises(MismatchError, match=r"^another vocabulary \(3 .*\): entry 1 expected 'a'"):
        check_same(CharTokenizer(), Vocab("ab"), CharTokenizer(), Vocab("ba"))


def test_many_entries_that_differ_are_counted():
    with pytest.raises(MismatchError, match=r"; 5 more entries differ$"):
        check_same(WordTokenizer(), Vocab("abcdefghij"), WordTokenizer(), Vocab("klmnopqrst"))


def test_subword_tokenizers_are_compared_whole():
    pytest.importorskip("tokenizers")
    one, other = (BPETokenizer(size=300).trained([text]) for text in ("abab " * 9, "cdcd " * 9))
    vocab = Vocab.fixed(one.entries(), {})
    check_same(one, vocab, one, vocab)
    with pytest.raises(MismatchError, match=r"json expected .*\.\.\. \([\d,]+ characters\)"):
        check_same(one, vocab, other, Vocab.fixed(other.entries(), {}))
