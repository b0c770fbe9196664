"""One language's side of a translation: sentences to token indices and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from fusedrnn.errors import UserError
from fusedrnn.tasks.translate.pairs import prepare
from fusedrnn.text.bpe import BPETokenizer
from fusedrnn.text.tokenize import from_description
from fusedrnn.text.vocab import Vocab

UNKNOWN, PADDING, START, END = range(4)
_MARKS = ("<pad>", "<bos>", "<eos>")


class CodecError(UserError, ValueError):
    """Settings or a description that make no codec."""


class Units(Protocol):
    """How sentences fall into tokens."""

    def text(self, sentence: str) -> str:
        """The sentence in the form that is translated and judged: what `join` can give back."""

    def tokenize(self, text: str) -> Sequence[str]: ...

    def join(self, tokens: Sequence[str]) -> str: ...

    def inventory(self) -> list[str]:
        """Tokens that a vocabulary has to have, whether or not the text shows them."""

    def describe(self) -> dict[str, Any]:
        """What `_units` rebuilds it from, in JSON's own types."""


class Words:
    """Prepared sentences (`prepare`), cut at spaces."""

    def text(self, sentence: str) -> str:
        return " ".join(prepare(sentence).split())

    def tokenize(self, text: str) -> Sequence[str]:
        return text.split()

    def join(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)

    def inventory(self) -> list[str]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"tokens": "word"}


class Characters:
    """Sentences as they are, one token per character."""

    def text(self, sentence: str) -> str:
        return sentence

    def tokenize(self, text: str) -> Sequence[str]:
        return list(text)

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(tokens)

    def inventory(self) -> list[str]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"tokens": "char"}


class Pieces(Words):
    """Prepared sentences in pieces of words, by byte-pair encoding.

    Args:
        tokenizer: trained on prepared sentences, each with a space before it, so that a word has
            the same pieces wherever it stands.
    """

    def __init__(self, tokenizer: BPETokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> Pieces:
        """Learns at most ``size`` pieces from prepared sentences.

        Raises:
            TextError: without `tokenizers` (``pip install 'fusedrnn[bpe]'``), or a size below 257.
        """
        return cls(BPETokenizer(size=size).trained(f" {text}" for text in texts))

    def tokenize(self, text: str) -> Sequence[str]:
        return self._tokenizer.tokenize(f" {text}")

    def join(self, tokens: Sequence[str]) -> str:
        return self._tokenizer.join(tokens).strip()

    def inventory(self) -> list[str]:
        return self._tokenizer.entries() or []

    def describe(self) -> dict[str, Any]:
        return {"tokens": "bpe", "bpe": self._tokenizer.describe()}


class Codec:
    """Tokens and their vocabulary.

    The first four indices are `UNKNOWN`, `PADDING`, `START` and `END`.

    Attributes:
        vocab: built from the training sentences alone.
    """

    def __init__(self, units: Units, vocab: Vocab) -> None:
        if vocab.reserved != list(_MARKS):
            raise CodecError(f"vocab: expected the reserved {_MARKS}, got {vocab.reserved}")
        self._units = units
        self.vocab = vocab

    @classmethod
    def build(
        cls, sentences: Sequence[str], tokens: str = "word", *, min_freq: int = 1, size: int = 4000
    ) -> Codec:
        """The codec of these sentences.

        Args:
            tokens: ``"word"``, ``"char"`` or ``"bpe"``.
            min_freq: words or characters seen fewer times are unknown; of byte-pair encoding all
                pieces are known, so that any sentence can be read.
            size: the most pieces that byte-pair encoding learns.

        Raises:
            CodecError: another name; TextError: see `Pieces`.
        """
        bpe = tokens == "bpe"
        texts = map(Words().text, sentences)
        units = Pieces.train(texts, size) if bpe else _units({"tokens": tokens})
        tokenized = (units.tokenize(units.text(sentence)) for sentence in sentences)
        every = chain(chain.from_iterable(tokenized), units.inventory())
        return cls(units, Vocab(every, min_freq=1 if bpe else min_freq, reserved=_MARKS))

    def __len__(self) -> int:
        return len(self.vocab)

    def text(self, sentence: str) -> str:
        """The sentence as it is translated and judged: prepared, unless it goes by characters."""
        return self._units.text(sentence)

    def encode(self, sentence: str, max_length: int | None = None) -> list[int]:
        """Indices of the sentence's tokens and the end mark, cut to ``max_length``."""
        tokens = self._units.tokenize(self.text(sentence))
        indices = [self.vocab.index(token) for token in tokens]
        # A token spelled like a mark is not that mark.
        return [*(i if i > END else UNKNOWN for i in indices), END][:max_length]

    def decode(self, indices: Iterable[int]) -> str:
        """The sentence of these tokens."""
        return self._units.join(self.vocab.decode(indices))

    def labels(self, indices: Iterable[int]) -> list[str]:
        """Each token by itself, to be shown."""
        tokens = self.vocab.decode(indices)
        return [token if token in _MARKS else self._units.join([token]) for token in tokens]

    def unknown(self, sentence: str) -> list[str]:
        """The sentence's tokens that the vocabulary does not have, in order."""
        tokens = self._units.tokenize(self.text(sentence))
        return [token for token in tokens if self.vocab.index(token) <= END]

    def describe(self) -> dict[str, Any]:
        """Everything, in JSON's own types; `from_description` gives back an equal codec."""
        return {**self._units.describe(), "vocab": self.vocab.to_dict()}

    @classmethod
    def from_description(cls, data: Mapping[str, Any]) -> Codec:
        """The codec that `describe` described. Raises ValueError for anything else."""
        if not isinstance(data, Mapping) or "vocab" not in data:
            raise CodecError("expected a codec's tokens and vocabulary, got something else")
        return cls(_units(data), Vocab.from_dict(data["vocab"]))


TOKENS = ("word", "char", "bpe")


def _units(data: Mapping[str, Any]) -> Units:
    name = data.get("tokens")
    if name == "bpe":
        tokenizer = from_description(data.get("bpe", {}))
        if not isinstance(tokenizer, BPETokenizer):
            raise CodecError(f"bpe: expected a tokenizer of that name, got {tokenizer!r}")
        return Pieces(tokenizer)
    if name not in TOKENS:
        raise CodecError(f"tokens: expected one of {', '.join(TOKENS)}, got {name!r}")
    return Words() if name == "word" else Characters()
