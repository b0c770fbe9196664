"""One language's side of a translation: sentences to token indices and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from fusedrnn.errors import UserError
from fusedrnn.tasks.translate.pairs import prepare
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
    """Prepared sentences in pieces of words, by byte-pair encoding (Sennrich et al.,
    arXiv:1508.07909).

    Args:
        model: a trained tokenizer of Hugging Face's `tokenizers`, as its own JSON.

    Raises:
        CodecError: without the package (``pip install 'fusedrnn[bpe]'``), or another text.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        try:
            self._tokenizer = _tokenizers().Tokenizer.from_str(model)
        except CodecError:
            raise
        except Exception as error:  # the package raises no class of its own
            raise CodecError(f"bpe: expected a trained tokenizer, got: {error}") from error

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> Pieces:
        """Learns at most ``size`` pieces from prepared sentences; a word's first piece begins with
        ``"▁"``."""
        package = _tokenizers()
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = package.pre_tokenizers.Metaspace()
        trainer = package.trainers.BpeTrainer(vocab_size=size, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def tokenize(self, text: str) -> Sequence[str]:
        tokens: list[str] = self._tokenizer.encode(text).tokens
        return tokens

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(tokens).replace("▁", " ").strip()

    def inventory(self) -> list[str]:
        return sorted(self._tokenizer.get_vocab())  # new words fall into pieces that old ones hid

    def describe(self) -> dict[str, Any]:
        return {"tokens": "bpe", "bpe": self._model}


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise CodecError(
            "no byte-pair encoding: it needs tokenizers (pip install 'fusedrnn[bpe]')"
        ) from error
    return tokenizers


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
            min_freq: tokens seen fewer times are unknown.
            size: the most pieces that byte-pair encoding learns.

        Raises:
            CodecError: another name; see `Pieces` too.
        """
        bpe = tokens == "bpe"
        texts = map(Words().text, sentences)
        units = Pieces.train(texts, size) if bpe else _units({"tokens": tokens})
        tokenized = (units.tokenize(units.text(sentence)) for sentence in sentences)
        every = chain(chain.from_iterable(tokenized), units.inventory())
        return cls(units, Vocab(every, min_freq=min_freq, reserved=_MARKS))

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
        return Pieces(str(data.get("bpe")))
    if name not in TOKENS:
        raise CodecError(f"tokens: expected one of {', '.join(TOKENS)}, got {name!r}")
    return Words() if name == "word" else Characters()
