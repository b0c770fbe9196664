"""Texts that nobody would hand in on purpose: a right result or one line that says why not."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusedrnn import cli
from fusedrnn.text import TextError, build_corpus, load_corpus, make_tokenizer
from fusedrnn.text.decode import decode

KINDS = [(tokens, filter) for tokens in ("byte", "char", "word") for filter in ("none", "letters")]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSEDRNN_CACHE", str(tmp_path / "cache"))


def _corpus(capsys, *arguments):
    """Exit code and what was printed; an error is one line by the command."""
    try:
        code = cli.main(["corpus", "--no-plot", "--json", *map(str, arguments)])
    except SystemExit as exit:
        code = exit.code
    out, err = capsys.readouterr()
    if code == 0:
        return json.loads(out)
    assert code in (1, 2)
    assert out == ""
    assert "Traceback" not in err
    if code == 1:
        assert len(err.splitlines()) == 1
        assert err.startswith("fusedrnn corpus: error: ")
    return err


@given(
    st.binary(max_size=300),
    st.sampled_from(KINDS),
    st.sampled_from(["error", "replace", "ignore"]),
    st.sampled_from(["utf-8", "utf-16", "latin-1", "shift_jis", "utf-7"]),
    st.sampled_from([0.0, 0.3]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes(data, kind, errors, encoding, fraction):
    with open("any.txt", "wb") as file:
        file.write(data)
    tokenizer = make_tokenizer(*kind)
    how = {"encoding": encoding, "encoding_errors": errors}
    refusal = None
    try:
        corpus = load_corpus("any.txt", tokenizer, valid_fraction=fraction, **how)
    except TextError as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal
        assert "any.txt: expected" in refusal or "expected a text with" in refusal
        return
    if kind == ("byte", "none"):
        assert (
            "".join(corpus.vocab.decode(corpus.train)).encode("latin-1")
            == data[: len(corpus.train)]
        )
        assert len(corpus.train) + len(corpus.valid) == len(data)
    else:
        text = decode(data, "any.txt", encoding, errors)
        expected = build_corpus(text, tokenizer, valid_fraction=fraction)
        assert corpus.vocab == expected.vocab
        assert corpus.train.tolist() == expected.train.tolist()
        assert corpus.valid.tolist() == expected.valid.tolist()


@pytest.mark.parametrize(
    ("content", "tokens", "expected"),
    [
        (b"", "char", "expected a text, got an empty file"),
        (b"\xef\xbb\xbf", "char", "expected a text with characters in it, got none"),
        (b" \n\t ", "word", "expected a text with words in it, got none"),
        (b"caf\xe9", "char", "expected UTF-8 text, got the byte 0xe9 at position 3"),
        ("text".encode("utf-16"), "char", "which is not; it begins like utf-16"),
        (b"\xff\xfe\x00", "word", "expected UTF-8 text, got the byte 0xff at position 0"),
    ],
)
def test_texts_that_are_refused(capsys, content, tokens, expected):
    with open("bad.txt", "wb") as file:
        file.write(content)
    assert expected in _corpus(capsys, "bad.txt", "--tokens", tokens)


@pytest.mark.parametrize(
    ("content", "tokens", "count", "vocabulary"),
    [
        (b"\x00" * 1000, "char", 1000, 2),
        (b"\x00a\x00b", "word", 1, 2),
        ("e\u0301" * 50, "char", 100, 3),  # a combining accent is a character of its own
        ("e\u0301 \u00e9 " * 50, "word", 100, 3),  # and makes another word
        ("\U0001f468\u200d\U0001f469" * 9, "char", 27, 4),
        ("\u2028\u0085a" * 9, "char", 27, 4),
        (b"\r\r\n\n", "char", 3, 2),
    ],
)
def test_odd_texts_that_are_right(capsys, content, tokens, count, vocabulary):
    with open("odd.txt", "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    facts = _corpus(capsys, "odd.txt", "--tokens", tokens)
    assert (facts["tokens"], facts["vocabulary"]) == (count, vocabulary)


@pytest.mark.parametrize("tokens", ["char", "word"])
def test_one_enormous_line(capsys, tokens):
    with open("line.txt", "wb") as file:
        for _ in range(4):
            file.write(b"abcdefgh" * (1 << 17))
    facts = _corpus(capsys, "line.txt", "--tokens", tokens, "--top", "1")
    assert facts["tokens"] == (1 if tokens == "word" else 4 << 20)


def test_a_million_distinct_words(capsys):
    with open("many.txt", "w") as file:
        file.writelines(f"w{number}\n" for number in range(1_000_000))
    facts = _corpus(capsys, "many.txt", "--tokens", "word", "--top", "1")
    assert (facts["tokens"], facts["vocabulary"]) == (1_000_000, 1_000_001)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", "Is a directory"),
        ("none.txt", "none.txt: No such file or directory"),
        ("nothing-of-this-name", "expected a file, a pattern"),
        ("*.nothing", "expected files that match"),
        ("/dev/zero", "got a device"),
        ("\x00", ""),
        ("a" * 5000, ""),
    ],
)
def test_what_is_no_file(capsys, text, expected):
    assert expected in _corpus(capsys, text)


def test_a_file_that_cannot_be_read(capsys, monkeypatch):
    with open("secret.txt", "w") as file:
        file.write("text")
    os.chmod("secret.txt", 0)
    if os.access("secret.txt", os.R_OK):
        pytest.skip("this user may read every file")
    assert "secret.txt: Permission denied" in _corpus(capsys, "secret.txt")


def test_packed_files_that_are_damaged(capsys):
    whole = gzip.compress(bytes(random.Random(0).randbytes(10_000)))
    for number, content in enumerate((whole[:-5], whole[:100], whole[100:], b"", b"\x1f\x8b")):
        with open(f"{number}.gz", "wb") as file:
            file.write(content)
        assert f"{number}.gz: expected" in _corpus(capsys, f"{number}.gz", "--tokens", "byte")


def test_flags_that_cannot_be(capsys):
    with open("a.txt", "w") as file:
        file.write("text")
    for flags, expected in (
        (("--encoding", "klingon"), "encoding: expected one that Python knows, got 'klingon'"),
        (("--encoding", "rot13"), "encoding: expected one that Python knows, got 'rot13'"),
        (("--line-end", "<eos>"), "--line-end: expected --tokens word, got char"),
        (("--tokens", "word", "--line-end", "a b"), "line_end: expected a token without white"),
        (("--bpe-file", "x.json"), "--bpe-file: expected --tokens bpe, got char"),
        (("--special", "<a>", "--special", "<a>"), "'<a>' more than once"),
        (("--max-vocab", "1", "--special", "<a>"), "max_size: expected at least 2, got 1"),
        (("--valid", "none.txt"), "none.txt: No such file"),
        (("--tokens", "byte", "--max-vocab", "10"), "--max-vocab: expected --tokens char or word"),
        (("--tokens", "byte", "--min-freq", "50"), "--min-freq: expected --tokens char or word"),
        (("--tokens", "bpe", "--max-vocab", "10"), "--max-vocab: expected --tokens char or word"),
        (("--bpe-size", "300"), "--bpe-size: expected --tokens bpe, got char"),
        (
            ("--tokens", "bpe", "--bpe-file", "x.json", "--bpe-size", "300"),
            "--bpe-size: expected no --bpe-file",
        ),
        (("--valid", "a.txt", "--valid-fraction", ".5"), "--valid-fraction: expected no --valid"),
    ):
        assert expected in _corpus(capsys, "a.txt", *flags)


def test_the_cache_cannot_be_written(capsys, monkeypatch):
    with open("a.txt", "w") as file:
        file.write("text")
    monkeypatch.setenv("FUSEDRNN_CACHE", "a.txt")
    monkeypatch.setattr("fusedrnn.text.corpus.IN_MEMORY", 0)
    assert "a.txt" in _corpus(capsys, "a.txt")


def test_standard_input_in_a_pipe():
    done = subprocess.run(
        [sys.executable, "-m", "fusedrnn", "corpus", "-", "--no-plot", "--json"],
        input="naïve\n".encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert json.loads(done.stdout)["tokens"] == 6


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a text, got an empty file"),
        (b"\xff\xff", "expected UTF-8 text"),
        (b"abc", "expected at least"),
        (None, "No such file"),
    ],
)
def test_training_on_them_leaves_nothing_behind(capsys, content, expected):
    if content is not None:
        with open("bad.txt", "wb") as file:
            file.write(content)
    before = sorted(os.listdir())
    assert cli.main(["train", "bad.txt", "--hidden", "4"]) == 1
    _, err = capsys.readouterr()
    assert expected in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before


def test_a_closed_standard_input(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "expected a text, got an empty file" in _corpus(capsys, "-")


def test_going_on_with_another_vocabulary_names_the_entries(capsys):
    with open("a.txt", "w") as file:
        file.write("abc " * 200)
    flags = ["--hidden", "4", "--batch", "2", "--steps", "8", "--epochs", "1", "--out", "run"]
    assert cli.main(["train", "a.txt", *flags]) == 0
    capsys.readouterr()
    with open("a.txt", "w") as file:
        file.write("abd " * 200)
    flags[7] = "2"
    assert cli.main(["train", "a.txt", *flags, "--resume"]) == 1
    _, err = capsys.readouterr()
    assert "run: expected the run's own text, got another vocabulary (5 entries" in err
    assert "entry 3 expected 'c', got 'd'" in err
    assert "Traceback" not in err


def test_going_on_with_another_flag_of_the_text_names_it_first(capsys):
    with open("a.txt", "w") as file:
        file.write("abab " * 100 + "bbb " * 100)
    flags = ["--hidden", "4", "--batch", "2", "--steps", "8", "--epochs", "1", "--out", "run"]
    assert cli.main(["train", "a.txt", *flags, "--valid-fraction", "0.45"]) == 0
    capsys.readouterr()
    again = [*flags, "--valid-fraction", "0", "--resume"]
    assert cli.main(["train", "a.txt", *again]) == 1
    _, err = capsys.readouterr()
    assert "error: run: --valid-fraction expected 0.45, got 0.0; expected the run's own text" in err
    assert "another vocabulary" in err
    assert len(err.splitlines()) == 1
