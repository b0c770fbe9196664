"""Corpora: reading a text, counting it, and turning it into indices for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file; a byte-order mark is dropped and every line end becomes ``"\\n"``.

    Raises:
        TextError: the file is not UTF-8 (the message names the first bad byte), or is empty.
        OSError: the file is missing, a directory, or cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path}: expected UTF-8 text, got the byte 0x{error.object[error.start]:02x} at "
            f"position {error.start}, which is not"
        ) from error
    if not text:
        raise TextError(f"{path}: expected a text, got an empty file")
    return text


def python_docs_text() -> str:
    """English that every CPython carries: the help topics of `pydoc`, about 465,000 characters.

    The exact text differs between versions of Python.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise TextError(
            "this Python comes without pydoc_data.topics, the text used where none is named; "
            "name a text file"
        ) from error
    return "\n".join(topics.values())


def ngram_counts(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``n`` adjacent tokens occurs; runs go on across the ends of lines.

    ``ngram_counts("abab", 2)[("a", "b")]`` is 2. Raises TextError for n below 1.
    """
    if n < 1:
        raise TextError(f"n: expected a whole number of at least 1, got {n}")
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


@dataclass(frozen=True)
class Corpus:
    """A text, ready for training.

    Attributes:
        tokenizer: how the text was cut.
        vocab: built from the training part alone.
        train: int64 indices ``[training tokens]``.
        valid: int64 indices ``[held-out tokens]``, the end of the text; may be empty.
    """

    tokenizer: Tokenizer
    vocab: Vocab
    train: Tensor
    valid: Tensor


def build_corpus(
    text: str,
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    valid_fraction: float = 0.0,
    min_freq: int = 1,
) -> Corpus:
    """Cuts, splits and encodes a text.

    Args:
        max_tokens: only the first so many tokens are used; None for all.
        valid_fraction: the share of the tokens, taken from the end, that is held out; in ``[0,
            1)``.
        min_freq: see `Vocab`.

    Raises:
        TextError: a fraction out of range, or no token left to train on.
    """
    if not 0.0 <= valid_fraction < 1.0:
        raise TextError(f"valid_fraction: expected at least 0 and below 1, got {valid_fraction}")
    if max_tokens is not None and max_tokens < 1:
        raise TextError(f"max_tokens: expected a whole number of at least 1, got {max_tokens}")
    tokens = tokenizer.tokenize(text)[:max_tokens]
    train = len(tokens) - int(len(tokens) * valid_fraction)
    if train == 0:
        raise TextError(
            f"expected a text with {tokenizer.unit} in it, got none (filter {tokenizer.filter!r})"
        )
    vocab = Vocab(tokens[:train], min_freq=min_freq)
    return Corpus(tokenizer, vocab, vocab.encode(tokens[:train]), vocab.encode(tokens[train:]))
