"""Corpora: a text, cut, split and encoded for training.

A small text is held in memory; one that is not is read in two passes and mapped into memory from a
file of the cache. Both give the same indices.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusedrnn.text.bpe import BPETokenizer
from fusedrnn.text.cache import read_json, write_json
from fusedrnn.text.decode import decode
from fusedrnn.text.encode_pass import Encoding, Sizes, encode
from fusedrnn.text.encoded import EncodedText
from fusedrnn.text.errors import TextError
from fusedrnn.text.passes import Counting, Place, as_place, count
from fusedrnn.text.prepare import prepare
from fusedrnn.text.recipe import Recipe
from fusedrnn.text.sources import Source, content_hash, expand
from fusedrnn.text.store import Bar, Store, check_unchanged, hash_of, vocabulary
from fusedrnn.text.tokenize import Tokenizer, from_description
from fusedrnn.text.vocab import Vocab

# Bytes of a text from which on its indices go to a file; packed bytes count more.
IN_MEMORY = 64 << 20
_PACKED = 8


def read_text(path: str | Path, encoding: str = "utf-8", errors: str = "error") -> str:
    """The text of a file; a byte-order mark is dropped and every line end becomes ``"\\n"``.

    Args:
        encoding, errors: see `fusedrnn.text.decode.decode`.

    Raises:
        TextError: the file is not in that encoding (the message names the first bad byte), or is
            empty.
        OSError: the file is missing, a directory, or cannot be read.
    """
    text = decode(Path(path).read_bytes(), str(path), encoding, errors)
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


def _first_document() -> Tensor:
    return torch.zeros(1, dtype=torch.int64)


@dataclass(frozen=True)
class Corpus:
    """A text, ready for training.

    Attributes:
        tokenizer: how the text was cut.
        vocab: built from the training part alone.
        train: indices ``[training tokens]``: int64, or mapped from a file and of the smallest
            unsigned type (uint8, uint16, uint32); `Windows` reads both.
        valid: indices ``[held-out tokens]``, the end of the text; may be empty.
        documents: int64, positions in ``train`` where a document begins, rising from 0.
        valid_documents: the same of ``valid``, where 0 is among them as well.
        train_sizes, valid_sizes: how many tokens, characters and words they were read from.
        digest: a hash of the text and of every setting that shaped the corpus.
    """

    tokenizer: Tokenizer
    vocab: Vocab
    train: Tensor
    valid: Tensor
    documents: Tensor = field(default_factory=_first_document)
    valid_documents: Tensor = field(default_factory=_first_document)
    train_sizes: Sizes = field(default_factory=Sizes)
    valid_sizes: Sizes = field(default_factory=Sizes)
    digest: str = ""

    @property
    def judged(self) -> Sizes:
        """The sizes of the part that models are judged on: what is held out, or all of it where
        nothing is."""
        return self.valid_sizes if len(self.valid) > 1 else self.train_sizes

    def with_valid(self, text: EncodedText) -> Corpus:
        """This corpus with another held-out part."""
        digest = hashlib.sha256(self.digest.encode() + text.ids.numpy().tobytes()).hexdigest()
        return replace(
            self,
            valid=text.ids,
            valid_documents=text.documents,
            valid_sizes=text.sizes,
            digest=digest,
        )


def build_corpus(
    text: str,
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    valid_fraction: float = 0.0,
    min_freq: int = 1,
    max_vocab: int | None = None,
    special: Sequence[str] = (),
    unknown: str = "unk",
) -> Corpus:
    """Cuts, splits and encodes a text that is at hand. See `Recipe` for the arguments.

    Sizes are those of the texts that the tokens join to.

    Raises:
        TextError: a setting out of range, or no token left to train on.
        UnknownTokenError: with ``unknown="error"``, tokens that the vocabulary does not hold.
    """
    if isinstance(tokenizer, BPETokenizer):
        tokenizer = tokenizer.trained(
            [text[: len(text) - int(len(text) * valid_fraction)]], special
        )
    recipe = Recipe(
        tokenizer, max_tokens, valid_fraction, min_freq, max_vocab, tuple(special), unknown
    )
    tokens = tokenizer.tokenize(text)[:max_tokens]
    train = recipe.split(len(tokens))
    if train == 0:
        raise TextError(
            f"expected a text with {tokenizer.unit} in it, got none (filter {tokenizer.filter!r})"
        )
    vocab = recipe.vocab(Counter(tokens[:train]))
    ids, sizes = [], []
    for part in (tokens[:train], tokens[train:]):
        ids.append(vocab.encode(part, unknown=unknown))
        joined = tokenizer.join(part)
        unknowns = sum(token not in vocab for token in part)
        skipped = len(part) - len(ids[-1])
        sizes.append(Sizes(len(ids[-1]), unknowns, len(joined), len(joined.split()), skipped))
    return Corpus(
        tokenizer,
        vocab,
        ids[0],
        ids[1],
        train_sizes=sizes[0],
        valid_sizes=sizes[1],
        digest=recipe.digest([hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()]),
    )


def load_corpus(
    texts: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    valid_fraction: float = 0.0,
    min_freq: int = 1,
    max_vocab: int | None = None,
    special: Sequence[str] = (),
    unknown: str = "unk",
    encoding: str = "utf-8",
    encoding_errors: str = "error",
    cached: bool | None = None,
    progress: bool = False,
) -> Corpus:
    """The corpus of texts of any size.

    Args:
        texts: one or several of what `fusedrnn.text.sources.expand` takes: files (also .gz and
            .zst), patterns, ``-``, named corpora. Each file is a document; they follow each other.
        max_tokens, valid_fraction, min_freq, max_vocab, special, unknown, encoding,
            encoding_errors: see `Recipe`.
        cached: True writes the indices to a file of the cache and maps it into memory, False holds
            them in memory; None does what suits the size.
        progress: whether bars on standard error show how far the passes over a large text are.

    Raises:
        TextError: a setting or a text that does not serve; the message says which.
        UnknownTokenError: with ``unknown="error"``, tokens that the vocabulary does not hold.
        OSError: a file that cannot be read, or no room for the indices.
    """
    sources = expand([texts] if isinstance(texts, (str, Path)) else texts)
    recipe = Recipe(
        tokenizer, max_tokens, valid_fraction, min_freq, max_vocab, tuple(special), unknown,
        encoding, encoding_errors,
    )  # fmt: skip
    stored = sum(source.size() * (_PACKED if source.compression else 1) for source in sources)
    cached = stored > IN_MEMORY if cached is None else cached
    bar = Bar("hashing", sum(source.size() for source in sources), progress and cached)
    hashes = [(hash_of if cached else content_hash)(source, bar) for source in sources]
    bar.close()
    size = sum(each for _, each in hashes)
    if size == 0:
        raise TextError(f"{sources[0].name}: expected a text, got an empty file")
    digest = recipe.digest([sha for sha, _ in hashes])
    lengths = [each for _, each in hashes]
    if cached:
        return _from_store(Store(digest, sources, size, progress), sources, recipe, lengths, digest)
    recipe, break_at = prepare(sources, recipe, lengths)
    state = count(sources, recipe, Counting(), break_at=break_at)
    train, vocab = vocabulary(sources, recipe, state)
    pieces: list[Any] = []
    encoded = encode(sources, recipe, vocab, Encoding(), train=train, write=pieces.append)
    check_unchanged(encoded, state.read)
    ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64))
    return _corpus(recipe.tokenizer, vocab, ids, encoded, digest)


def _from_store(
    store: Store, sources: Sequence[Source], recipe: Recipe, lengths: Sequence[int], digest: str
) -> Corpus:
    about = store.about()
    if about is None:
        with store.lock():
            # Another process may have made it while this one waited.
            about = store.about() or store.make(*_prepared(store, sources, recipe, lengths))
    return _corpus(about.tokenizer, about.vocab, store.ids(about), about.state, digest)


def _prepared(
    store: Store, sources: Sequence[Source], recipe: Recipe, lengths: Sequence[int]
) -> tuple[Recipe, Place | None]:
    """What `prepare` gives, kept for an attempt that is broken off and goes on later."""
    note = store.folder / "prepared.json"
    known = read_json(note, _as_prepared)
    if known is not None:
        return replace(recipe, tokenizer=known[0]), known[1]
    recipe, place = prepare(sources, recipe, lengths)
    write_json(note, {"tokenizer": recipe.tokenizer.describe(), "end": place})
    return recipe, place


def _as_prepared(data: Any) -> tuple[Tokenizer, Place | None]:
    end = data["end"]
    return from_description(data["tokenizer"]), None if end is None else as_place(end)


def _corpus(
    tokenizer: Tokenizer, vocab: Vocab, ids: Tensor, state: Encoding, digest: str
) -> Corpus:
    """The two parts of what was encoded, with their documents."""
    assert state.train is not None
    cut = state.train.tokens
    documents = torch.tensor(state.documents, dtype=torch.int64)
    later = documents[documents > cut] - cut
    return Corpus(
        tokenizer,
        vocab,
        ids[:cut],
        ids[cut:],
        documents[documents < cut] if cut else _first_document(),
        torch.cat([_first_document(), later]),
        state.train,
        state.sizes - state.train,
        digest,
    )
