"""Sub-words through `tokenizers`."""

from __future__ import annotations

import json

import pytest
import torch

from fusedrnn import lm
from fusedrnn.text import BPETokenizer, TextError, Vocab, build_corpus
from fusedrnn.text.tokenize import from_description

pytest.importorskip("tokenizers")

TEXT = "the cat sat on the mat\nthe dog sat on the log\n\nçà et là 😀\x00" * 20


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer(size=300).trained([TEXT], special=["<end>"])


@pytest.mark.parametrize("text", [TEXT, "", "\n", "a\n\n b", "unseen ∆ text\r\n", "<end>x<unk>"])
def test_any_text_comes_back_and_lines_are_cut_one_by_one(tokenizer, text):
    tokens = tokenizer.tokenize(text)
    assert tokenizer.join(tokens) == text
    lines = text.splitlines(keepends=True) if "\r" not in text else [text]
    assert tokens == [token for line in lines for token in tokenizer.tokenize(line)]
    assert set(tokens) <= set(tokenizer.entries())


def test_special_tokens_are_cut_out_whole(tokenizer):
    assert "<end>" in tokenizer.tokenize("cat<end>mat")
    assert tokenizer.entries()[:2] == ["<unk>", "<end>"]
    assert 258 < len(tokenizer.entries()) <= 300


def test_the_whole_tokenizer_travels_in_a_checkpoint(tmp_path):
    corpus = build_corpus(TEXT, BPETokenizer(size=290), valid_fraction=0.1)
    model = lm.LanguageModel(len(corpus.vocab), hidden=4)
    lm.save_checkpoint(
        tmp_path / "c.safetensors", lm.Checkpoint(model, corpus.tokenizer, corpus.vocab)
    )
    loaded = lm.load_checkpoint(tmp_path / "c.safetensors")
    assert loaded.tokenizer == corpus.tokenizer
    assert loaded.vocab == corpus.vocab
    assert loaded.tokenizer.tokenize(TEXT) == corpus.tokenizer.tokenize(TEXT)
    assert torch.equal(
        loaded.vocab.encode(loaded.tokenizer.tokenize(TEXT))[: len(corpus.train)], corpus.train
    )


def test_a_file_of_the_library(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.describe()["json"])
    assert BPETokenizer.load(path) == tokenizer
    assert from_description(tokenizer.describe()) == tokenizer


def test_a_tokenizer_with_an_unknown_token_of_its_own():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE(unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.train_from_iterator(["ab ab abc"], trainers.BpeTrainer(special_tokens=["[UNK]"]))
    loaded = BPETokenizer(json=inner.to_str())
    assert loaded.entries()[0] == "<unk>"
    assert "<unk>" in loaded.tokenize("ab é")
    assert Vocab.fixed(loaded.entries(), {}).encode(loaded.tokenize("é")).tolist() == [0]
    lossy = Tokenizer(models.BPE())
    lossy.train_from_iterator(["ab"], trainers.BpeTrainer())
    with pytest.raises(TextError, match="leave out what it does not know"):
        BPETokenizer(json=lossy.to_str())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 256}, "expected at least 257 entries, got 256"),
        ({"json": "{"}, "expected a tokenizer of tokenizers as JSON"),
        ({"json": json.dumps({"model": {"type": "BPE"}})}, "expected a tokenizer"),
    ],
)
def test_what_is_no_tokenizer(options, message):
    with pytest.raises(TextError, match=message):
        BPETokenizer(**options)


def test_one_that_is_not_trained_cuts_nothing():
    with pytest.raises(TextError, match="expected a trained tokenizer"):
        BPETokenizer().tokenize("a")


def test_the_letters_filter():
    trained = BPETokenizer("letters", size=280).trained(["The Cat! " * 9])
    assert trained.join(trained.tokenize("A CAT, the.")) == "a cat the"


def test_half_of_a_surrogate_pair_is_named(tokenizer):
    for cut in (tokenizer.tokenize, tokenizer.tokenize_prompt):
        with pytest.raises(TextError, match=r"^expected .*UTF-8 .*, got '\\udcff' at position 1$"):
            cut("a\udcff")
    with pytest.raises(TextError, match=r"got '\\ud800' at position 2$"):
        BPETokenizer(size=300).trained(["ab\ud800"])
    with pytest.raises(TextError, match=r"got '\\ud800' at position 1$"):
        BPETokenizer(size=300).trained(["ab"], special=["<\ud800>"])
