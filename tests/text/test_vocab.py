"""Vocabulary: indices, order, counts, saving and loading."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fusedrnn.text import TextError, UnknownTokenError, Vocab

# Any string of code points, with lone surrogates, NUL and line ends among them.
TOKENS = st.lists(st.text(st.characters(), max_size=3), max_size=40)


def test_unknown_comes_first_then_reserved_then_by_frequency_then_as_first_seen():
    vocab = Vocab(["c", "b", "a", "b", "c", "d", "d", "d"], reserved=["<pad>", "a"])
    assert list(vocab) == ["<unk>", "<pad>", "a", "d", "c", "b"]
    assert vocab.counts == [0, 0, 1, 3, 2, 2]
    assert vocab.reserved == ["<pad>", "a"]


def test_min_freq_leaves_rare_tokens_out_and_counts_them_as_unknown():
    vocab = Vocab("aaabbc", min_freq=2, reserved=["z"])
    assert list(vocab) == ["<unk>", "z", "a", "b"]
    assert vocab.counts == [1, 0, 3, 2]


def test_the_unknown_token_in_a_text_is_not_a_second_entry():
    vocab = Vocab(["<unk>", "a", "<unk>"])
    assert list(vocab) == ["<unk>", "a"]
    assert vocab.counts == [2, 1]


def test_look_ups():
    vocab = Vocab("aab")
    assert len(vocab) == 3
    assert "a" in vocab
    assert "x" not in vocab
    assert [vocab.index(token) for token in "abx"] == [1, 2, 0]
    assert vocab.token(2) == "b"
    assert torch.equal(vocab.encode("baxa"), torch.tensor([2, 1, 0, 1]))
    assert vocab.encode([]).dtype == torch.int64
    assert vocab.decode(torch.tensor([2, 0])) == ["b", "<unk>"]
    assert vocab.decode([1]) == ["a"]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range_is_an_error(index):
    with pytest.raises(IndexError, match=f"expected 0 to 2, got {index}"):
        Vocab("ab").token(index)


def test_unknown_tokens_are_named_where_they_are_an_error():
    with pytest.raises(UnknownTokenError, match=r"not in the vocabulary: 'x', '\\n'$") as caught:
        Vocab("ab").encode("axb\nx", unknown="error")
    assert caught.value.tokens == ["x", "\n"]
    with pytest.raises(UnknownTokenError, match="'9' and 14 more"):
        Vocab("ab").encode("0123456789cdefghijklmnop", unknown="error")
    with pytest.raises(TextError, match="expected one of error, unk, skip, got 'drop'"):
        Vocab("ab").encode("a", unknown="drop")


def test_unknown_tokens_are_left_out_where_that_is_asked():
    assert torch.equal(Vocab("aab").encode("axbx", unknown="skip"), torch.tensor([1, 2]))


def test_counts_make_the_vocabulary_that_the_text_makes():
    assert Vocab.from_counts({"b": 1, "a": 2}, reserved=["z"]) == Vocab("baa", reserved=["z"])


def test_a_largest_size_keeps_the_most_frequent():
    vocab = Vocab("aaabbc", max_size=4, reserved=["z"])
    assert list(vocab) == ["<unk>", "z", "a", "b"]
    assert vocab.counts == [1, 0, 3, 2]
    with pytest.raises(TextError, match="max_size: expected at least 2, got 1"):
        Vocab("ab", max_size=1, reserved=["z"])


def test_fixed_entries_keep_their_order():
    vocab = Vocab.fixed(["<unk>", "a", "b", "c"], {"c": 2, "b": 1, "x": 4})
    assert list(vocab) == ["<unk>", "a", "b", "c"]
    assert vocab.counts == [4, 0, 1, 2]
    with pytest.raises(TextError, match="'<unk>' first"):
        Vocab.fixed(["a"], {})


def test_an_extended_vocabulary_keeps_its_indices():
    vocab = Vocab("aab", reserved=["z"])
    more = vocab.extended(["new", "er"])
    assert list(more) == [*vocab, "new", "er"]
    assert more.counts == [*vocab.counts, 0, 0]
    assert more.reserved == ["z"]
    assert Vocab.from_dict(more.to_dict()) == more
    for tokens in (["a"], ["x", "x"], ["<unk>"]):
        with pytest.raises(TextError, match="more than once"):
            vocab.extended(tokens)


def test_bad_arguments():
    with pytest.raises(TextError, match=r"min_freq: expected .* got 0"):
        Vocab("a", min_freq=0)
    with pytest.raises(TextError, match="'p' more than once"):
        Vocab("a", reserved=["p", "p"])
    with pytest.raises(TextError, match="'<unk>' more than once"):
        Vocab("a", reserved=["<unk>"])


@given(TOKENS, st.integers(1, 3))
def test_every_entry_has_its_own_index_and_order_follows_the_rule(tokens, min_freq):
    vocab = Vocab(tokens, min_freq=min_freq)
    assert [vocab.index(token) for token in vocab] == list(range(len(vocab)))
    assert sum(vocab.counts) == len(tokens)
    seen = Counter(tokens)
    expected = [t for t in dict.fromkeys(tokens) if seen[t] >= min_freq and t != "<unk>"]
    expected.sort(key=lambda token: -seen[token])
    assert list(vocab)[1:] == expected


@given(TOKENS, st.sets(st.text(max_size=2)))
@example(tokens=["\ud800", "\x00", "\n", '"', "é", "😀"], reserved={"\udfff"})
def test_saving_and_loading_is_exact(tmp_path_factory, tokens, reserved):
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    vocab = Vocab(tokens, reserved=sorted(reserved - {"<unk>"}))
    vocab.save(path)
    loaded = Vocab.load(path)
    assert loaded == vocab
    assert list(loaded) == list(vocab)
    assert (loaded.counts, loaded.reserved) == (vocab.counts, vocab.reserved)


def _changed(**changes):
    return json.dumps({**Vocab("aab").to_dict(), **changes})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1, 2]",
        "{}",
        "é",
        _changed(format="another"),
        _changed(version=2),
        _changed(tokens=None),
        _changed(tokens=["<unk>", "a", 3]),
        _changed(tokens=["a", "<unk>", "b"]),
        _changed(tokens=["<unk>", "a", "a"]),
        _changed(tokens=[], counts=[]),
        _changed(counts=[1, 2]),
        _changed(counts=[0, -1, 1]),
        _changed(counts=[0, True, 1]),
        _changed(reserved=3),
        _changed(reserved="a"),
    ],
)
def test_a_foreign_or_damaged_file_is_an_error(tmp_path, content):
    path = tmp_path / "vocab.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TextError, match="expected"):
        Vocab.load(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Vocab.load(tmp_path / "none.json")


def test_a_vocabulary_is_not_equal_to_another():
    assert Vocab("aab") != Vocab("abb")
    assert Vocab("ab") != "ab"
