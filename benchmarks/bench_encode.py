"""Text to indices: megabytes a second on one core, of the native encoder and of plain Python.

    pytest benchmarks/bench_encode.py --benchmark-enable

The goals are 200 MB/s for characters and 50 MB/s for words; ``extra_info`` holds the rate reached.
The text is English that every Python carries, five megabytes of it, or the file in $FUSEDRNN_TEXT.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fusedrnn.text import CharTokenizer, Tokenizer, Vocab, WordTokenizer, python_docs_text
from fusedrnn.text.decode import decode
from fusedrnn.text.readers import make_reader

GOALS = {"char": 200.0, "word": 50.0}
TOKENIZERS = [CharTokenizer(), WordTokenizer(), CharTokenizer("letters"), WordTokenizer("letters")]
PIECE = 1 << 20


@pytest.fixture(scope="module")
def data() -> bytes:
    named = os.environ.get("FUSEDRNN_TEXT")
    text = Path(named).read_bytes() if named else python_docs_text().encode()
    return text * max(1, 5_000_000 // len(text))


def _encode(tokenizer: Tokenizer, tokens: list[str], learn: bool, data: bytes) -> int:
    reader = make_reader(tokenizer, tokens, learn=learn)
    reader.begin("text")
    for begin in range(0, len(data), PIECE):
        reader.feed(data[begin : begin + PIECE])
    reader.finish()
    return reader.tokens_read


@pytest.mark.parametrize("learn", [False, True], ids=["encode", "count"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda t: f"{t.name}-{t.filter}")
def test_native(benchmark: Any, data: bytes, tokenizer: Tokenizer, learn: bool) -> None:
    vocab = Vocab(tokenizer.tokenize(decode(data, "text")))
    tokens = [] if learn else list(vocab)
    assert benchmark(_encode, tokenizer, tokens, learn, data) == sum(vocab.counts)
    _note(benchmark, data, GOALS[tokenizer.name])


@pytest.mark.parametrize("tokenizer", TOKENIZERS[:2], ids=lambda t: t.name)
def test_plain(benchmark: Any, data: bytes, tokenizer: Tokenizer) -> None:
    vocab = Vocab(tokenizer.tokenize(decode(data, "text")))
    benchmark.pedantic(lambda: vocab.encode(tokenizer.tokenize(decode(data, "text"))), rounds=3)
    _note(benchmark, data, GOALS[tokenizer.name])


def _note(benchmark: Any, data: bytes, goal: float) -> None:
    if benchmark.stats is not None:  # None where benchmarks are switched off
        benchmark.extra_info["MB/s"] = len(data) / benchmark.stats.stats.median / 1e6
        benchmark.extra_info["goal"] = goal
