"""Corpora from files of any kind and size: the same indices on every way."""

from __future__ import annotations

import gzip
import io
import os
import sys

import pytest
import torch
from corpus_text import TEXT, same

from fusedrnn.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    TextError,
    UnknownTokenError,
    Vocab,
    Windows,
    WordTokenizer,
    build_corpus,
    document_resets,
    encode_texts,
    load_corpus,
    read_text,
    sources,
    store,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "tokenizer",
    [
        ByteTokenizer(),
        ByteTokenizer("letters"),
        CharTokenizer(),
        CharTokenizer("letters"),
        WordTokenizer(),
        WordTokenizer("letters", "<eos>"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"valid_fraction": 0.1},
        {"valid_fraction": 0.3, "min_freq": 3, "special": ["<pad>"]},
        {"max_tokens": 777, "valid_fraction": 0.5, "unknown": "skip"},
        {"max_tokens": 10**9, "max_vocab": 300},
    ],
    ids=str,
)
def test_a_file_gives_what_its_text_gives(tokenizer, options, cached):
    loaded = load_corpus("text.txt", tokenizer, cached=cached, **options)
    built = build_corpus(TEXT, tokenizer, **options)
    same(loaded, built)
    assert loaded.digest == load_corpus("text.txt", tokenizer, cached=not cached, **options).digest
    assert loaded.train_sizes.tokens == len(loaded.train)
    if tokenizer.name == "char":
        assert loaded.train_sizes == built.train_sizes or tokenizer.filter == "letters"
        assert loaded.train_sizes.characters >= len(loaded.train)


def test_a_large_text_is_mapped_and_serves_the_iterators():
    corpus = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.1)
    plain = load_corpus("text.txt", CharTokenizer(), cached=False, valid_fraction=0.1)
    assert (corpus.train.dtype, plain.train.dtype) == (torch.uint8, torch.int64)
    windows = Windows(corpus.train, steps=9)
    assert windows.ids.untyped_storage().data_ptr() == corpus.train.untyped_storage().data_ptr()
    for got, expected in zip(windows[[0, 500]], Windows(plain.train, 9)[[0, 500]], strict=True):
        assert torch.equal(got, expected)
    assert load_corpus("text.txt", WordTokenizer(), cached=True).train.dtype == torch.uint16


def test_a_large_text_is_encoded_once_and_anew_when_it_changes(monkeypatch):
    first = load_corpus("text.txt", CharTokenizer(), cached=True)
    with monkeypatch.context() as patch:
        patch.setattr(store, "encode", None)  # a second encoding would fail
        again = load_corpus("text.txt", CharTokenizer(), cached=True)
    same(first, again)
    with open("text.txt", "a") as file:
        file.write("!")
    changed = load_corpus("text.txt", CharTokenizer(), cached=True)
    assert changed.digest != first.digest
    assert len(changed.train) == len(first.train) + 1


def test_documents_follow_each_other():
    for number, text in enumerate(["one two", "", "two\n", "three one"]):
        with open(f"{number}.txt", "w") as file:
            file.write(text)
    corpus = load_corpus(["[0-9].txt"], WordTokenizer(), cached=True)
    assert corpus.vocab.decode(corpus.train.long()) == ["one", "two", "two", "three", "one"]
    assert corpus.documents.tolist() == [0, 2, 3]
    skipped = load_corpus("[0-9].txt", WordTokenizer(), min_freq=2, unknown="skip")
    assert skipped.vocab.decode(skipped.train) == ["one", "two", "two", "one"]
    assert skipped.documents.tolist() == [0, 2, 3]
    split = load_corpus(["0.txt", "2.txt", "3.txt"], CharTokenizer(), valid_fraction=0.6)
    assert split.documents.tolist() == [0, 7]
    assert split.valid_documents.tolist() == [0, 3]
    assert len(split.train) == 8


def test_resets_mark_where_documents_begin():
    resets = document_resets(torch.tensor([0, 7, 9]), torch.tensor([0, 5, 10]), 5)
    expected = [[True, False, False], [False, False, False], [False, True, False]]
    assert resets[:3].tolist() == expected
    assert resets[3:].tolist() == [[False, False, False], [False, True, False]]
    assert not document_resets(torch.zeros(0, dtype=torch.int64), torch.tensor([0]), 3).any()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_packed_files(suffix):
    data = TEXT.encode()
    if suffix == ".gz":
        pack = gzip.compress
    else:
        zstandard = pytest.importorskip("zstandard")
        pack = zstandard.ZstdCompressor().compress
    with open("text" + suffix, "wb") as file:
        file.write(pack(data[:5000]) + pack(data[5000:]))  # two members
    for cached in (False, True):
        packed = load_corpus("text" + suffix, WordTokenizer(), cached=cached, valid_fraction=0.2)
        same(packed, load_corpus("text.txt", WordTokenizer(), valid_fraction=0.2))
    whole = pack(data)
    for name, content in (("cut", whole[: len(whole) // 2]), ("bad", b"no such " * 10)):
        with open(name + suffix, "wb") as file:
            file.write(content)
        with pytest.raises(TextError, match=r"expected \w+ data.*, got a (truncated|damaged) file"):
            load_corpus(name + suffix, WordTokenizer())


@pytest.mark.parametrize("padding", [1, 5_000, 40_000])
def test_zeros_after_a_gzip_member(padding):
    data, zeros = TEXT.encode(), bytes(padding)
    with open("padded.gz", "wb") as file:
        file.write(gzip.compress(data[:5000]) + zeros + gzip.compress(data[5000:]) + zeros)
    same(load_corpus("padded.gz", CharTokenizer()), load_corpus("text.txt", CharTokenizer()))
    with open("before.gz", "wb") as file:
        file.write(zeros + gzip.compress(data))
    with pytest.raises(TextError, match="expected gzip data, got a damaged file"):
        load_corpus("before.gz", CharTokenizer())


@pytest.mark.parametrize("cached", [False, True])
def test_standard_input(monkeypatch, cached):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    corpus = load_corpus("-", CharTokenizer(), cached=cached, valid_fraction=0.1)
    same(corpus, load_corpus("text.txt", CharTokenizer(), valid_fraction=0.1))


def test_a_long_standard_input_goes_through_a_file(monkeypatch):
    monkeypatch.setattr(sources, "PIECE", 100)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    (source,) = sources.expand(["-"])
    assert not isinstance(source.data, bytes)
    assert b"".join(source.pieces()) == TEXT.encode()
    assert b"".join(source.pieces(77)) == TEXT.encode()[77:]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([], TextError, "expected a text, got none"),
        (["*.none"], TextError, "expected files that match this pattern, got none"),
        (["nothing"], TextError, "expected a file, a pattern, - for .* time-machine"),
        (["none.txt"], FileNotFoundError, "none.txt"),
        ([os.curdir], IsADirectoryError, "Is a directory"),
        (["/dev/zero"], TextError, "expected a file, got a device"),
        (["empty.txt"], TextError, "empty.txt: expected a text, got an empty file"),
    ],
)
def test_texts_that_do_not_serve(texts, error, message):
    open("empty.txt", "w").close()
    with pytest.raises(error, match=message):
        load_corpus(texts, CharTokenizer())


def test_unknown_tokens_where_they_are_an_error():
    with open("new.txt", "w") as file:
        file.write("aaaa9")
    with pytest.raises(UnknownTokenError, match="not in the vocabulary: '9'"):
        load_corpus("new.txt", CharTokenizer(), valid_fraction=0.2, unknown="error")


def test_texts_for_a_vocabulary_that_is_given():
    vocab = Vocab(["the", "cat"])
    encoded = encode_texts(["text.txt", "text.txt"], WordTokenizer(), vocab)
    half = len(encoded.ids) // 2
    assert encoded.documents.tolist() == [0, half]
    assert torch.equal(encoded.ids[:half], vocab.encode(TEXT.split()))
    assert encoded.sizes.unknown == int((encoded.ids == 0).sum())
    assert encoded.sizes.characters == 2 * len(TEXT)
    skipped = encode_texts("text.txt", WordTokenizer(), vocab, unknown="skip")
    assert len(skipped.ids) == half - encoded.sizes.unknown // 2
    assert (encoded.sizes.skipped, encoded.sizes.kept) == (0, encoded.sizes)
    assert skipped.sizes.skipped == skipped.sizes.unknown == encoded.sizes.unknown // 2


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("unknown", ["unk", "skip"])
def test_sizes_say_how_much_was_left_out(cached, unknown):
    options = {"min_freq": 2, "valid_fraction": 0.3, "unknown": unknown}
    loaded = load_corpus("text.txt", WordTokenizer(), cached=cached, **options)
    built = build_corpus(TEXT, WordTokenizer(), **options)
    for corpus in (loaded, built):
        for sizes in (corpus.train_sizes, corpus.valid_sizes):
            assert sizes.unknown > 0
            assert sizes.skipped == (sizes.unknown if unknown == "skip" else 0)
            kept = (0, 0) if unknown == "skip" else (sizes.characters, sizes.words)
            assert (sizes.kept.characters, sizes.kept.words) == kept
            assert sizes.kept.tokens == sizes.tokens


def test_subwords_are_trained_on_the_training_part_alone():
    pytest.importorskip("tokenizers")
    with open("two.txt", "w") as file:
        file.write("abab abab\n" * 90 + "zqzq zqzq\n" * 10)
    for cached in (False, True):
        corpus = load_corpus("two.txt", BPETokenizer(size=300), valid_fraction=0.1, cached=cached)
        assert corpus.tokenizer.is_trained
        assert corpus.tokenizer.join(corpus.vocab.decode(corpus.train.long())) == "abab abab\n" * 90
        assert corpus.tokenizer.join(corpus.vocab.decode(corpus.valid.long())) == "zqzq zqzq\n" * 10
        assert not any("zq" in token for token in corpus.vocab)
        assert (corpus.train_sizes.characters, corpus.valid_sizes.words) == (900, 20)
    with open("one.txt", "w") as file:
        file.write("no line end here")
    with pytest.raises(TextError, match="expected a line end"):
        load_corpus("one.txt", BPETokenizer(size=300), valid_fraction=0.1)


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_subwords_name_the_place_of_a_bad_byte(fraction):
    pytest.importorskip("tokenizers")
    with open("bad.txt", "wb") as file:
        file.write(b"ok\n" * 1500 + b"a\xff\n")
    with pytest.raises(TextError, match="got the byte 0xff at position 4501"):
        load_corpus("bad.txt", BPETokenizer(size=300), valid_fraction=fraction)


def test_reading_a_text_in_another_encoding():
    with open("latin.txt", "wb") as file:
        file.write("é\r\nà".encode("latin-1"))
    assert read_text("latin.txt", "latin-1") == "é\nà"
    assert read_text("latin.txt", errors="replace") == "\ufffd\n\ufffd"
    with pytest.raises(TextError, match="encoding: expected one that Python knows, got 'rot13'"):
        read_text("latin.txt", "rot13")
