"""From a text to the input of a model: token ids, numbers, or words with their characters.

A reader is learnt from the training part (``learn``), turns each text into an item once (`encode`)
and items into a padded batch (`batch`). It is described completely by JSON (`describe`), which
travels inside the checkpoint, and rebuilt from it (`from_description`).

``T`` steps, ``B`` batch, ``N`` distinct words of a batch, ``C`` characters of the longest of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer, make_tokenizer
from fusedrnn.text.tokenize import from_description as make_described
from fusedrnn.text.vocab import Vocab

TOKENS = ("word", "char", "number")

_EDGE = 12  # characters that are read at each end of a long word


class Words(NamedTuple):
    """Sentences as the model reads them.

    Attributes:
        ids: int64 ``[T, B]``, the word in small letters; 0 unknown or padding.
        places: int64 ``[T, B]``, the column of ``chars`` that spells the word.
        chars: int64 ``[C, N]``, characters; 0 unknown or padding.
        lengths: int64 ``[N]``, characters of each, at least 1.
    """

    ids: Tensor
    places: Tensor
    chars: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str) -> Words:
        return Words(*(each.to(device) for each in self))


class Reader(ABC):
    """What the readers share. ``len(item)`` is the number of steps of an item."""

    @abstractmethod
    def encode(self, text: Any) -> Any:
        """The item of one text. Raises LabelError where it has no step."""

    @abstractmethod
    def batch(self, items: Sequence[Any], generator: torch.Generator | None = None) -> Any:
        """Items side by side, padded to the longest: a Tensor ``[T, B]`` or ``[T, B, I]``, or `Words`.

        ``generator`` is given in training, for readers that leave something to chance.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything about this reader, in JSON's own types."""


class TextReader(Reader):
    """Texts as token ids ``[T]``; tokens that training did not show become unknown.

    Args:
        tokenizer: cuts the text.
        vocab: of the training part.
    """

    def __init__(self, tokenizer: Tokenizer, vocab: Vocab) -> None:
        self.tokenizer, self.vocab = tokenizer, vocab

    @classmethod
    def learn(
        cls, texts: Iterable[str], tokens: str, filter: str = "none", min_freq: int = 1
    ) -> TextReader:
        tokenizer = make_tokenizer(tokens, filter)
        cut = (token for text in texts for token in tokenizer.tokenize(text))
        return cls(tokenizer, Vocab(cut, min_freq=min_freq))

    def encode(self, text: str) -> Tensor:
        ids = self.vocab.encode(self.tokenizer.tokenize(text))
        if len(ids) == 0:
            raise LabelError(f"expected a text with {self.tokenizer.unit} in it, got none")
        return ids

    def batch(self, items: Sequence[Tensor], generator: torch.Generator | None = None) -> Tensor:
        return pad_sequence(list(items))

    def describe(self) -> dict[str, Any]:
        about = {"tokenizer": self.tokenizer.describe(), "vocab": self.vocab.to_dict()}
        return {"kind": "text", **about}


class NumberReader(Reader):
    """Series of numbers between white space as features ``[T, 1]``.

    Args:
        mean, spread: of the numbers of the training part; a feature is ``(x - mean) / spread``.
    """

    def __init__(self, mean: float, spread: float) -> None:
        self.mean, self.spread = mean, spread

    @classmethod
    def learn(cls, texts: Iterable[str]) -> NumberReader:
        values = torch.cat([_numbers(text) for text in texts])
        return cls(values.mean().item(), values.std(correction=0).item() or 1.0)

    def encode(self, text: str) -> Tensor:
        return ((_numbers(text) - self.mean) / self.spread).float().unsqueeze(1)

    def batch(self, items: Sequence[Tensor], generator: torch.Generator | None = None) -> Tensor:
        return pad_sequence(list(items))

    def describe(self) -> dict[str, Any]:
        return {"kind": "number", "mean": self.mean, "spread": self.spread}


class WordReader(Reader):
    """Sentences as words in small letters and the characters that spell them.

    Words that training did not show share one embedding and are told apart by their characters; in
    training a word seen n times is taken for unknown with probability 0.25 / (0.25 + n)
    (Kiperwasser & Goldberg, TACL 4 (2016), section 6). Of words longer than 24 characters the first
    and the last 12 are read.

    Args:
        words: words of the training part in small letters.
        chars: their characters as they stand.
    """

    def __init__(self, words: Vocab, chars: Vocab) -> None:
        self.words, self.chars = words, chars
        counts = torch.tensor(words.counts, dtype=torch.float64)
        self._unknown_rate = 0.25 / (0.25 + counts)
        self._spelt: dict[str, Tensor] = {}

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[str]]) -> WordReader:
        words = [word for sentence in sentences for word in sentence]
        return cls(Vocab(word.lower() for word in words), Vocab(c for word in words for c in word))

    def encode(self, text: Sequence[str]) -> tuple[str, ...]:
        if not text:
            raise LabelError("expected a sentence with words, got none")
        return tuple(text)

    def batch(
        self, items: Sequence[Sequence[str]], generator: torch.Generator | None = None
    ) -> Words:
        ids = pad_sequence([self.words.encode(word.lower() for word in item) for item in items])
        if generator is not None:
            chance = torch.rand(ids.shape, generator=generator, dtype=torch.float64)
            ids = ids.masked_fill(chance < self._unknown_rate[ids], 0)
        column = {
            word: i for i, word in enumerate(dict.fromkeys(w for item in items for w in item))
        }
        places = pad_sequence([torch.tensor([column[word] for word in item]) for item in items])
        spelt = [self._spell(word) for word in column]
        return Words(ids, places, pad_sequence(spelt), torch.tensor([len(each) for each in spelt]))

    def _spell(self, word: str) -> Tensor:
        if word not in self._spelt:
            read = word if len(word) <= 2 * _EDGE else word[:_EDGE] + word[-_EDGE:]
            self._spelt[word] = self.chars.encode(read)
        return self._spelt[word]

    def describe(self) -> dict[str, Any]:
        return {"kind": "words", "words": self.words.to_dict(), "chars": self.chars.to_dict()}


def from_description(data: Mapping[str, Any]) -> Reader:
    """The reader that `Reader.describe` described. Raises LabelError for anything else."""
    try:
        if data["kind"] == "text":
            return TextReader(make_described(data["tokenizer"]), Vocab.from_dict(data["vocab"]))
        if data["kind"] == "number":
            return NumberReader(float(data["mean"]), float(data["spread"]))
        if data["kind"] == "words":
            return WordReader(Vocab.from_dict(data["words"]), Vocab.from_dict(data["chars"]))
    except (KeyError, TypeError, TextError, ValueError) as error:
        raise LabelError(f"expected the description of a reader, got: {error}") from error
    raise LabelError(f"reader: expected text, number or words, got {data['kind']!r}")


def _numbers(text: str) -> Tensor:
    """The numbers of a text, float64 ``[T]``, at least one, all finite."""
    values = []
    for place, cell in enumerate(text.split(), 1):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise LabelError(f"expected finite numbers, got {cell!r} as number {place}")
        values.append(value)
    if not values:
        raise LabelError("expected numbers, got none")
    return torch.tensor(values, dtype=torch.float64)
