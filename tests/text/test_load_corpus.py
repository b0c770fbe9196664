"""Corpora from files of any kind and size: the same indices on every way, and after a kill."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

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
    passes,
    read_text,
    sources,
    store,
)

LINES = [f"line {n}: the {['cat', 'dog', 'Élan', 'a b'][n % 4]} and {n * n}\n" for n in range(400)]
TEXT = "".join(LINES)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSEDRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "PIECE", 1000)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")


def _same(one, other):
    assert one.vocab == other.vocab
    assert one.tokenizer == other.tokenizer
    assert one.train.tolist() == other.train.tolist()
    assert one.valid.tolist() == other.valid.tolist()


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
    _same(loaded, built)
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
    _same(first, again)
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
        _same(packed, load_corpus("text.txt", WordTokenizer(), valid_fraction=0.2))
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
    _same(load_corpus("padded.gz", CharTokenizer()), load_corpus("text.txt", CharTokenizer()))
    with open("before.gz", "wb") as file:
        file.write(zeros + gzip.compress(data))
    with pytest.raises(TextError, match="expected gzip data, got a damaged file"):
        load_corpus("before.gz", CharTokenizer())


@pytest.mark.parametrize("cached", [False, True])
def test_standard_input(monkeypatch, cached):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    corpus = load_corpus("-", CharTokenizer(), cached=cached, valid_fraction=0.1)
    _same(corpus, load_corpus("text.txt", CharTokenizer(), valid_fraction=0.1))


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


@pytest.mark.parametrize("tokenizer", [CharTokenizer("letters"), WordTokenizer()], ids=repr)
def test_broken_off_at_any_save_and_gone_on_with(monkeypatch, tokenizer):
    """Every pass is killed at its first save, its second, ...; at last one comes through."""
    expected = load_corpus("text.txt", tokenizer, cached=False, valid_fraction=0.2)
    monkeypatch.setattr(store, "SAVE_EVERY_S", 0.0)
    real = store.write_json

    class Killed(BaseException):
        pass

    for attempt in range(1, 100):  # a pass that began anew every time would never end
        left = [attempt % 3 + 1]

        def write(path, value, left=left):
            real(path, value)
            left[0] -= path.name in ("counting.json", "encoding.json")
            if not left[0]:
                if path.name == "encoding.json":  # what was written after the state was saved
                    with open(path.with_name("ids.bin"), "ab") as file:
                        file.write(b"more")
                raise Killed

        monkeypatch.setattr(store, "write_json", write)
        try:
            corpus = load_corpus("text.txt", tokenizer, cached=True, valid_fraction=0.2)
            break
        except Killed:
            continue
    assert 5 < attempt < 99
    _same(corpus, expected)
    assert corpus.train_sizes == expected.train_sizes
    assert sorted(os.listdir(next((store.cache_folder() / "corpora").iterdir()))) == [
        "about.json",
        "ids.bin",
        "lock",
    ]


_NOTES = ["prepared.json", "counting.json", "counted.json", "encoding.json", "about.json"]
_ABOUT_OF_OLD = {"sizes": {"tokens": 4}, "width": 1}


@pytest.mark.parametrize("name", _NOTES)
@pytest.mark.parametrize("shape", [{}, [], None, 3, "text", [[]], {"vocab": {}}, _ABOUT_OF_OLD])
def test_notes_of_another_shape_count_as_none(name, shape):
    expected = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2)
    (folder,) = (store.cache_folder() / "corpora").iterdir()
    if name != "about.json":
        (folder / "about.json").unlink()
    (folder / name).write_text(json.dumps(shape))
    again = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2)
    _same(again, expected)
    assert again.train_sizes == expected.train_sizes


def test_a_corpus_that_is_made_anew_leaves_what_was_mapped_as_it_is():
    mapped = load_corpus("text.txt", CharTokenizer(), cached=True)
    before = mapped.train.clone()
    (folder,) = (store.cache_folder() / "corpora").iterdir()
    about = json.loads((folder / "about.json").read_text())
    del about["sizes"]["skipped"]  # as notes of before have it
    (folder / "about.json").write_text(json.dumps(about))
    file = (folder / "ids.bin").stat().st_ino
    _same(load_corpus("text.txt", CharTokenizer(), cached=True), mapped)
    assert (folder / "ids.bin").stat().st_ino != file
    assert torch.equal(mapped.train, before)


@pytest.mark.parametrize("missing", ["stamp", "sha256", "size"])
def test_a_hash_that_lacks_something_is_made_anew(missing):
    expected = load_corpus("text.txt", CharTokenizer(), cached=True)
    (note,) = (store.cache_folder() / "hashes").iterdir()
    whole = json.loads(note.read_text())
    note.write_text(json.dumps({name: whole[name] for name in whole if name != missing}))
    assert load_corpus("text.txt", CharTokenizer(), cached=True).digest == expected.digest
    assert json.loads(note.read_text()) == whole


@pytest.mark.parametrize("field", ["width", "train", "sizes", "documents", "vocab", "tokenizer"])
def test_a_whole_corpus_with_a_damaged_field_is_made_anew(field):
    expected = load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2)
    (folder,) = (store.cache_folder() / "corpora").iterdir()
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, field: ["damaged"]}))
    _same(load_corpus("text.txt", CharTokenizer(), cached=True, valid_fraction=0.2), expected)


def test_killed_by_the_system_and_gone_on_with(tmp_path):
    with open("big.txt", "w") as file:
        file.writelines(f"{TEXT}{n}\n" for n in range(300))
    code = (
        "from fusedrnn.text import *; from fusedrnn.text import store; store.SAVE_EVERY_S = 0.01\n"
        "load_corpus('big.txt', WordTokenizer(), cached=True, valid_fraction=0.1)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    for delay in (0.0, 0.02, 0.05):
        child = subprocess.Popen([sys.executable, "-c", code], env=environment)
        folder = tmp_path / "cache" / "corpora"
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if list(folder.glob("*/*ing.json")):
                time.sleep(delay)
                child.send_signal(signal.SIGKILL)
                kills += child.wait() == -signal.SIGKILL
            time.sleep(0.002)
    assert kills
    corpus = load_corpus("big.txt", WordTokenizer(), cached=True, valid_fraction=0.1)
    _same(corpus, load_corpus("big.txt", WordTokenizer(), cached=False, valid_fraction=0.1))


def test_a_text_that_changes_between_the_passes_is_an_error(monkeypatch):
    real = passes.count

    def count(*arguments, **options):
        state = real(*arguments, **options)
        with open("text.txt", "a") as file:
            file.write("more")
        return state

    monkeypatch.setattr("fusedrnn.text.corpus.count", count)
    with pytest.raises(TextError, match="the text changed while it was read"):
        load_corpus("text.txt", CharTokenizer())


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
