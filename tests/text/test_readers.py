"""The readers against the plain definition: decode, tokenize, look up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusedrnn import _C
from fusedrnn.text import (
    ByteTokenizer,
    CharTokenizer,
    TextError,
    UnknownTokenError,
    Vocab,
    WordTokenizer,
    letters_only,
)
from fusedrnn.text.decode import decode
from fusedrnn.text.plain_readers import NO_LIMIT, width_for
from fusedrnn.text.readers import make_reader

TOKENIZERS = [
    CharTokenizer(),
    CharTokenizer("letters"),
    WordTokenizer(),
    WordTokenizer("letters"),
    WordTokenizer(line_end="<eos>"),
    WordTokenizer("letters", "<eos>"),
    ByteTokenizer("letters"),
]
# Letters, every kind of line end and white space, well-formed and ill-formed sequences of every
# length, and bytes that are neither.
PARTS = [
    b"a", b"B", b"z9", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\x00", b"\x1c", b"-",
    b"\xc3\xa9", b"\xc2\x85", b"\xc2\xa0", b"\xe1\x9a\x80", b"\xe2\x80\x83", b"\xe2\x80\xa9",
    b"\xe2\x81\x9f", b"\xe3\x80\x80", b"\xe3\x81\x82", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf",
    b"\xff", b"\x80", b"\xc3", b"\xe2\x80", b"\xe2", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xf8",
]  # fmt: skip
BYTES = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=16).map(b"".join),
    st.binary(max_size=24),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace")),
)


def _read(reader, data, cuts=(), limit=NO_LIMIT):
    """Indices of one document that comes in pieces cut at ``cuts``."""
    reader.begin("text")
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    ids = []
    for begin, end in itertools.pairwise(borders):
        ids.append(reader.feed(data[begin:end], limit))
    while True:
        before = reader.tokens_read
        ids.append(reader.finish(limit))
        assert reader.tokens_read - before <= limit
        if not reader.waiting:
            return np.concatenate(ids)


@given(
    BYTES,
    st.sampled_from(TOKENIZERS),
    st.sampled_from(["replace", "ignore"]),
    st.lists(st.integers(0, 30), max_size=4),
    st.sampled_from([1, 2, 7, NO_LIMIT]),
)
@example(b"\xef\xbb\xbfa\r\nb", CharTokenizer(), "replace", [1, 2, 5], 1)
@example(b"\r\xff\n", CharTokenizer(), "ignore", [1, 2], NO_LIMIT)
@example(b"a \xc2", WordTokenizer(), "replace", [], NO_LIMIT)
def test_learning_gives_the_tokens_of_the_plain_definition(data, tokenizer, errors, cuts, limit):
    text = decode(data, "text", errors=errors)
    reader = make_reader(tokenizer, tokenizer.entries() or [], learn=True, errors=errors)
    ids = _read(reader, data, cuts, limit)
    tokens = reader.tokens()
    assert [tokens[index] for index in ids] == list(tokenizer.tokenize(text))
    filtered = letters_only(text) if tokenizer.filter == "letters" else text
    in_line = isinstance(tokenizer, (CharTokenizer, ByteTokenizer)) and tokenizer.filter != "none"
    assert reader.characters_read == len(filtered.replace("\n", "") if in_line else filtered)
    assert reader.words_read == len(filtered.split())
    assert reader.tokens_read == len(ids)
    assert reader.resumable


@given(
    BYTES,
    st.sampled_from(TOKENIZERS[:6]),
    st.sampled_from(["unk", "skip", "error"]),
    st.lists(st.sampled_from(["a", "b", "z", " ", "é", "ab", "<eos>", "\n", "😀", "\ud800"])),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_encoding_gives_the_indices_of_the_vocabulary(data, tokenizer, unknown, known, cuts):
    vocab = Vocab(known)
    tokens = tokenizer.tokenize(decode(data, "text", errors="replace"))
    reader = make_reader(tokenizer, list(vocab), unknown=unknown, errors="replace")
    missing = {token for token in tokens if token not in vocab}
    if missing and unknown == "error":
        with pytest.raises(UnknownTokenError) as caught:
            _read(reader, data, cuts)
        assert set(caught.value.tokens) <= missing
        return
    assert _read(reader, data, cuts).tolist() == vocab.encode(tokens, unknown=unknown).tolist()
    assert reader.tokens_read == len(tokens)
    assert reader.tokens_unknown == sum(token not in vocab for token in tokens)


@given(BYTES, st.lists(st.integers(0, 30), max_size=3), st.sampled_from(TOKENIZERS[:2]))
def test_bytes_that_are_not_utf8_are_named_with_their_place(data, cuts, tokenizer):
    reader = make_reader(tokenizer, [], learn=True)
    try:
        decode(data, "text")
        message = None
    except TextError as error:
        message = str(error).split(";")[0]
    if message is None:
        _read(reader, data, cuts)
    else:
        with pytest.raises(TextError) as caught:
            _read(reader, data, cuts)
        assert str(caught.value).split(";")[0] == message


@given(BYTES, st.lists(st.integers(0, 30), max_size=3), st.sampled_from([1, 3, NO_LIMIT]))
def test_bytes_are_themselves(data, cuts, limit):
    entries = ByteTokenizer().entries()
    reader = make_reader(ByteTokenizer(), entries)
    ids = _read(reader, data, cuts, limit)
    assert bytes(ord(entries[index]) for index in ids) == data
    assert reader.words_read == len(data.decode("latin-1").translate(_NO_HIGH_SPACE).split())


_NO_HIGH_SPACE = {0x85: "x", 0xA0: "x"}  # white space in Latin-1, parts of characters here


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.integers(0, 60)),
    st.sampled_from([1, 2, NO_LIMIT]),
    st.booleans(),
)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be", "shift_jis"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS[:3])
def test_other_encodings(tokenizer, encoding, text, cuts, limit, is_cut):
    data = text.encode(encoding, "ignore") + b"\xd8" * is_cut
    expected = tokenizer.tokenize(decode(data, "text", encoding, "replace"))
    reader = make_reader(tokenizer, [], learn=True, encoding=encoding, errors="replace")
    ids = _read(reader, data, cuts, limit)
    assert [reader.tokens()[index] for index in ids] == list(expected)


def test_the_wrong_encoding_is_named_with_what_it_looks_like():
    data = "hé".encode("utf-16")
    message = r"expected UTF-8 text, got the byte 0xff at position 0, which is not; .* utf-16$"
    with pytest.raises(TextError, match=message):
        decode(data, "a.txt")
    with pytest.raises(TextError, match=message):
        _read(make_reader(CharTokenizer(), [], learn=True), data)
    with pytest.raises(TextError, match="got the byte 0xe9 at position 3"):
        _read(make_reader(CharTokenizer(), [], learn=True, encoding="ascii"), b"caf\xe9", [2])


def test_a_word_of_a_megabyte_and_a_million_words():
    reader = make_reader(WordTokenizer(), [], learn=True)
    reader.begin("text")
    for _ in range(1 << 10):
        assert not len(reader.feed(b"x" * 1024))
    assert reader.finish().tolist() == [0]
    assert reader.tokens() == ["x" * (1 << 20)]

    words = [f"w{number}" for number in range(1_000_000)]
    reader = make_reader(WordTokenizer(), [], learn=True)
    ids = _read(reader, " ".join(words).encode())
    assert np.array_equal(ids, np.arange(1_000_000))
    assert reader.tokens() == words


def test_indices_are_of_the_smallest_type():
    assert [width_for(n) for n in (1, 256, 257, 65_536, 65_537)] == [1, 1, 2, 2, 4]
    for size, dtype in ((256, np.uint8), (257, np.uint16), (65_537, np.uint32)):
        tokens = ["<unk>", *(chr(0x4E00 + n) for n in range(1, size))]
        reader = make_reader(CharTokenizer(), tokens)
        ids = _read(reader, tokens[-1].encode("utf-8", "surrogatepass"))
        assert ids.dtype == dtype
        assert ids.tolist()[-1] == size - 1 or "\ud800" <= tokens[-1] <= "\udfff"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "byte"}, "unit: expected one of char, word, got 'byte'"),
        ({"errors": "strict"}, "errors: expected one of error, replace, ignore, got 'strict'"),
        ({"unknown": "drop"}, "unknown: expected one of unk, skip, error, got 'drop'"),
        ({"width": 3}, "width: expected 1, 2 or 4 bytes, got 3"),
        ({"width": 2, "learn": True}, "width: expected 4 where tokens are learnt"),
        ({"width": 1, "tokens": [str(n) for n in range(257)]}, "room for 257 tokens, got 1 bytes"),
    ],
)
def test_the_native_encoder_refuses(options, message):
    settings = {"unit": "char", "tokens": [], **options}
    with pytest.raises(ValueError, match=message):
        _C.Encoder(settings.pop("unit"), settings.pop("tokens"), **settings)


def test_the_native_encoder_passes_over_what_no_text_holds():
    """Tokens in bytes: a sequence past U+10FFFF, a cut one, several characters, nothing."""
    tokens = [b"a", b"\xf7\xbf\xbf\xbf", b"\xe2\x82", b"bc", b"", b"d"]
    encoder = _C.Encoder("char", tokens, width=1)
    assert encoder.feed("ad\U0010ffff".encode()) + encoder.finish() == bytes([0, 5, 0])
