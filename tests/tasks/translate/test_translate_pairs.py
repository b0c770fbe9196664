"""Files of sentence pairs: what is read, what is refused and where, and how pairs are held out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedrnn.errors import UserError
from fusedrnn.tasks.translate.pairs import PairsError, prepare, read_pairs, split_pairs


def _file(tmp_path, content):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_pairs_are_read_in_order_and_stripped(tmp_path):
    path = _file(tmp_path, "Go.\t Va\u202f! \nI lost.\tJ'ai perdu.\n")
    assert read_pairs(path) == [("Go.", "Va\u202f!"), ("I lost.", "J'ai perdu.")]
    assert read_pairs(path, limit=1) == [("Go.", "Va\u202f!")]
    assert read_pairs(path, swap=True)[1] == ("J'ai perdu.", "I lost.")


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfa\tb\nc\td\n", b"a\tb\r\nc\td\r\n", b"a\tb\nc\td", b"a\tb\tx\nc\td\ty\n"],
    ids=["byte-order mark", "Windows", "no last line end", "a third column"],
)
def test_what_other_programs_write_is_read(tmp_path, content):
    assert read_pairs(_file(tmp_path, content)) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected sentence pairs, got an empty file"),
        ("a\tb\nno tab here\n", ", line 2: expected two columns .* got one: 'no tab here'"),
        ("a\tb\n\nc\td\n", ", line 2: expected two columns .* got an empty line"),
        ("a\tb\nc\t \n", ", line 2, column 2: expected a sentence, got an empty cell"),
        ("\tb\n", ", line 1, column 1: expected a sentence, got an empty cell"),
        ("a\tb\nc\td\te\n", ", line 2: expected 2 columns, as in line 1, got 3"),
        (b"a\tb\nc\td\xff\n", ", line 2, column 2: expected UTF-8 text, got the byte 0xff"),
        (b"\xe9\tb\n", ", line 1, column 1: expected UTF-8 text, got the byte 0xe9"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_column(tmp_path, content, message):
    with pytest.raises(PairsError, match=message) as caught:
        read_pairs(_file(tmp_path, content))
    assert isinstance(caught.value, UserError)
    assert "pairs.tsv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_behind_the_limit_are_not_looked_at(tmp_path):
    assert read_pairs(_file(tmp_path, "a\tb\nbad\n"), limit=1) == [("a", "b")]


@pytest.mark.parametrize(
    ("sentence", "prepared"),
    [
        ("Va\u202f!", "va !"),
        ("Go.", "go ."),
        ("Hé, toi!", "hé , toi !"),
        ("Wait...", "wait . . ."),
        ("!", "!"),
        ("J'ai\xa0perdu .", "j'ai perdu ."),
    ],
)
def test_prepare_is_the_textbooks(sentence, prepared):
    assert prepare(sentence) == prepared


def test_the_books_pairs(data_file):
    pairs = read_pairs(data_file("fra-eng-20k.tsv"))
    assert len(pairs) == 20_000
    first = [tuple(map(prepare, pair)) for pair in pairs[:600]]
    assert first[0] == ("go .", "va !")
    assert ("i lost .", "j'ai perdu .") in first
    assert ("i'm home .", "je suis chez moi .") in first
    assert not any(source == "he's calm ." for source, _ in first)


words = st.sampled_from(["a", "A", "b", "c d", "e."])


@given(st.lists(st.tuples(words, words), min_size=1), st.floats(0, 0.99), st.integers(0, 3))
def test_no_held_out_source_is_trained_on(pairs, fraction, seed):
    try:
        train, valid = split_pairs(pairs, fraction, seed)
    except PairsError:
        return
    assert sorted(train + valid) == sorted(pairs)
    assert not {prepare(s) for s, _ in train} & {prepare(s) for s, _ in valid}
    assert len(valid) >= fraction * len(pairs)
    largest = max((sum(prepare(s) == prepare(t) for t, _ in valid) for s, _ in valid), default=0)
    assert len(valid) - largest <= fraction * len(pairs)
    assert (train, valid) == split_pairs(pairs, fraction, seed)


def test_nothing_left_to_train_on_is_an_error():
    with pytest.raises(PairsError, match="expected sentences to train on"):
        split_pairs([("a", "b"), ("a", "c")], 0.1)
    with pytest.raises(PairsError, match="valid_fraction"):
        split_pairs([("a", "b")], 1.0)
