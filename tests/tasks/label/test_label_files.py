"""Files of labelled texts and of tagged sentences: what is read, and what is refused and where."""

from __future__ import annotations

import pytest

from fusedrnn.tasks.label import LabelError
from fusedrnn.tasks.label.data import check_labels, check_texts, label_names, read_examples, split
from fusedrnn.tasks.label.files import Example, read_labelled, read_texts
from fusedrnn.tasks.label.readers import NumberReader, TextReader
from fusedrnn.tasks.label.sentences import read_sentences
from fusedrnn.text import TextError

WORD = "{}\t{}\tx\t{}\t{}\t_\t0\troot\t_\t_\n"


def _file(tmp_path, content, name="data.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _conllu(tmp_path, *sentences):
    """Sentences of lines; a pair stands for the word line of an id and a form, tagged X and x."""
    blocks = [
        "".join(
            WORD.format(*line, "X", "x") if isinstance(line, tuple) else line + "\n"
            for line in lines
        )
        for lines in sentences
    ]
    return _file(tmp_path, "\n".join(blocks) + "\n", "data.conllu")


# --- label<TAB>text ------------------------------------------------------------------------------


def test_labelled_texts(tmp_path):
    content = "\ufeffpos\tgood \u2028 film\r\n neg \tbad\nnel\tn\u0085n"
    assert read_labelled(_file(tmp_path, content)) == [
        Example("good \u2028 film", "pos", 1),
        Example("bad", "neg", 2),
        Example("n\u0085n", "nel", 3),
    ]
    assert read_texts(_file(tmp_path, "one\ntwo\tx\n")) == [
        Example("one", "", 1),
        Example("two\tx", "", 2),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tx\nb x\n", "line 2: expected 2 columns, label<TAB>text, got 1"),
        ("a\tx\ty\n", "line 1: expected 2 columns, label<TAB>text, got 3"),
        ("a\tx\n\nb\ty\n", "line 2: expected 2 columns, label<TAB>text, got 1"),
        ("a\tx\n \ty\n", "line 2, column 1: expected a label, got nothing"),
        ("a\tx\nb\t  \n", "line 2, column 2: expected a text, got nothing"),
    ],
)
def test_bad_labelled_texts(tmp_path, content, message):
    path = _file(tmp_path, content)
    with pytest.raises(LabelError, match=message) as caught:
        read_labelled(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_no_texts(tmp_path):
    with pytest.raises(TextError, match="empty file"):
        read_labelled(_file(tmp_path, ""))
    with pytest.raises(TextError, match="0xff at position 2"):
        read_labelled(_file(tmp_path, b"a\t\xff\n"))
    with pytest.raises(LabelError, match="line 2: expected a text, got an empty line"):
        read_texts(_file(tmp_path, "a\n\nb\n"))


def test_places_of_texts_and_labels_that_do_not_serve():
    examples = [Example("1 2", "a", 1), Example("3 nan", "b", 2)]
    with pytest.raises(LabelError, match=r"f, line 2, column 2: .*got 'nan' as number 2"):
        check_texts("f", examples, NumberReader(0.0, 1.0))
    with pytest.raises(LabelError, match="f, line 2, column 1: expected one of a, c, got 'b'"):
        check_labels("f", examples, ["a", "c"])
    reader = TextReader.learn(["abc"], "word", "letters")
    with pytest.raises(LabelError, match="f, line 4: expected a text with words in it, got none"):
        check_texts("f", [Example("123", "", 4)], reader)
    with pytest.raises(LabelError, match=r"f: expected at least two different labels, got \['a'\]"):
        label_names(["a", "a"], "f")


def test_splits():
    train, held = split(range(10), 0.25, None)
    assert (train, held) == (list(range(7)), [7, 8, 9])
    train, held = split(range(10), 0.25, 5)
    assert sorted(train + held) == list(range(10))
    assert len(held) == 3
    assert (train, held) == split(range(10), 0.25, 5)
    assert (train, held) != split(range(10), 0.25, 6)
    assert split(range(3), 0.0, 1) == ([0, 1, 2], [])
    with pytest.raises(LabelError, match="expected at least 2 examples, got 1"):
        split(range(1), 0.5, None)


def test_digits_by_name(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    examples = read_examples("digits")
    assert len(examples) == 1797
    assert {len(example.text.split()) for example in examples} == {64}
    assert {example.label for example in examples} == set("0123456789")
    (tmp_path / "digits").write_text("a\tb\n")
    assert read_examples("digits") == [Example("b", "a", 1)]


# --- sentences -----------------------------------------------------------------------------------


def test_two_columns(tmp_path):
    sentences = read_sentences(_file(tmp_path, "the\tDT\ncat\tNN\n\nso\tRB\n\n"))
    assert [(each.words, each.tags, each.lines) for each in sentences] == [
        (("the", "cat"), ("DT", "NN"), (1, 2)),
        (("so",), ("RB",), (4,)),
    ]
    words = read_sentences(_file(tmp_path, "the\ncat\tNN\n"), tagged=False)
    assert [(each.words, each.tags) for each in words] == [(("the", "cat"), ())]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tX\nb\n", "line 2: expected 2 columns, word<TAB>tag, got 1"),
        ("a\tX\tY\n", "line 1: expected 2 columns, word<TAB>tag, got 3"),
        ("a\tX\n\n\nb\tY\n", "line 3: expected a sentence, got a blank line"),
        ("\na\tX\n", "line 1: expected a sentence, got a blank line"),
        ("a\tX\n\tY\n", "line 2, column 1: expected a word, got nothing"),
        ("a\tX\nb\t \n", "line 2, column 2: expected a tag, got nothing"),
        ("\n\n", "expected sentences, got blank lines"),
    ],
)
def test_bad_two_columns(tmp_path, content, message):
    with pytest.raises(LabelError, match=message):
        read_sentences(_file(tmp_path, content))


def test_conllu_skips_multiword_tokens_and_empty_nodes(tmp_path):
    path = _conllu(
        tmp_path,
        [
            "# text = vámonos al mar",
            ("0.1", "e"),
            ("1-2", "vámonos"),
            ("1", "vamos"),
            ("2", "nos"),
            ("2.1", "e"),
            ("2.2", "e"),
            ("3-4", "al"),
            ("3", "a"),
            ("4", "el"),
            ("5", "mar"),
        ],
        [("1", "sí")],
    )
    one, two = read_sentences(path)
    assert one.words == ("vamos", "nos", "a", "el", "mar")
    assert one.lines == (4, 5, 9, 10, 11)
    assert (one.tags[0], one.column) == ("X", 4)
    assert (two.words, two.lines) == (("sí",), (13,))
    assert read_sentences(path, tag="xpos")[0].tags[0] == "x"
    assert read_sentences(path, tagged=False)[0].tags == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([("1", "a"), ("3", "b")], r"line 2, column 1: expected the id 2, 2-N .*, got '3'"),
        ([("2", "a")], "line 1, column 1: expected the id 1, .* got '2'"),
        ([("1", "a"), ("1", "b")], "line 2, column 1: .* got '1'"),
        ([("01", "a")], "line 1, column 1: .* got '01'"),
        ([("x", "a")], "line 1, column 1: .* got 'x'"),
        ([("1-1", "a"), ("1", "a")], "line 1, column 1: .* got '1-1'"),
        ([("2-3", "a"), ("1", "a")], "line 1, column 1: .* got '2-3'"),
        ([("1-3", "a"), ("1", "a"), ("2-3", "b")], "line 3, column 1: .* got '2-3'"),
        ([("1-3", "a"), ("1", "a"), ("2", "b")], "line 3, column 1: expected the word 3 that"),
        ([("1", "a"), ("2.1", "b")], "line 2, column 1: .* got '2.1'"),
        ([("1", "a"), ("1.2", "b")], "line 2, column 1: .* got '1.2'"),
        (["# only a comment"], "line 1: expected a sentence with words, got none"),
        ([("0.1", "a")], "line 1: expected a sentence with words, got none"),
        ([("1", "a"), "# late"], "line 2: expected a word, got a comment after words"),
        (["1\ta\ta"], "line 1: expected 10 columns, got 3"),
        ([("1", " ")], "line 1, column 2: expected a word, got nothing"),
        ([WORD.format(1, "a", "_", "x")[:-1]], "line 1, column 4: expected a tag, got '_'"),
        ([WORD.format(1, "a", "", "x")[:-1]], "line 1, column 4: expected a tag, got nothing"),
    ],
)
def test_bad_conllu(tmp_path, lines, message):
    with pytest.raises(LabelError, match=message):
        read_sentences(_conllu(tmp_path, lines))


def test_untagged_conllu_can_be_tagged(tmp_path):
    path = _conllu(tmp_path, [WORD.format(1, "a", "_", "_")[:-1]])
    assert read_sentences(path, tagged=False)[0].words == ("a",)


def test_formats(tmp_path):
    path = _file(tmp_path, "a\tX\n", "data.conllu")
    assert read_sentences(path, "columns")[0].words == ("a",)
    with pytest.raises(LabelError, match="expected 10 columns, got 2"):
        read_sentences(path)
    with pytest.raises(LabelError, match="format: expected one of auto, conllu, columns, got 'x'"):
        read_sentences(path, "x")
    with pytest.raises(LabelError, match="tag: expected one of upos, xpos, got 'x'"):
        read_sentences(path, tag="x")


def test_the_development_part_of_ewt(data_file):
    sentences = read_sentences(data_file("en_ewt-ud-dev.conllu"))
    assert len(sentences) == 2001
    assert sum(len(each.words) for each in sentences) == 25_147
    assert len({tag for each in sentences for tag in each.tags}) == 17


def test_places_of_unknown_tags(tmp_path):
    sentences = read_sentences(_conllu(tmp_path, ["# c", ("1", "a")], [("1", "b")]))
    with pytest.raises(LabelError, match="f, line 2, column 4: expected one of Y, Z, got 'X'"):
        check_labels("f", sentences, ["Y", "Z"])
