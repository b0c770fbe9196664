"""Tokenizers: from a text to its tokens and back.

A tokenizer is described completely by a few JSON values (`describe`), which travel inside every
checkpoint, and is rebuilt from them (`from_description`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from fusedrnn.text.errors import TextError

FILTERS = ("none", "letters")

_NON_LETTERS = re.compile("[^A-Za-z]+")


def letters_only(text: str) -> str:
    """Each line with every run of other characters than A-Z and a-z turned into one space,
    stripped, in lower case (the cleaning of Zhang et al., *Dive into Deep Learning*, section 9.2).
    Lines stay lines.
    """
    return "\n".join(_NON_LETTERS.sub(" ", line).strip().lower() for line in text.split("\n"))


class Tokenizer:
    """What the tokenizers share. A subclass gives ``name``, `_split` and `join`.

    Args:
        filter: ``"none"`` takes the text as it is; ``"letters"`` passes it through `letters_only`
            first.
    """

    name: ClassVar[str]
    unit: ClassVar[str]

    def __init__(self, filter: str = "none") -> None:
        if filter not in FILTERS:
            raise TextError(f"filter: expected one of {', '.join(FILTERS)}, got {filter!r}")
        self.filter = filter

    def tokenize(self, text: str) -> Sequence[str]:
        """The tokens of a text (for characters, a string: the sequence of its characters)."""
        return self._split(letters_only(text) if self.filter == "letters" else text)

    def tokenize_prompt(self, text: str) -> Sequence[str]:
        """The tokens of a prompt: nothing is removed, so that nothing is ignored silently.

        With the letters filter, capitals become small as they did in training; other characters
        that the filter takes out of a text stay, and are for the vocabulary to refuse.
        """
        return self._split(text.lower() if self.filter == "letters" else text)

    def join(self, tokens: Iterable[str]) -> str:
        """The text that these tokens make."""
        raise NotImplementedError

    def _split(self, text: str) -> Sequence[str]:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Everything about this tokenizer, in JSON's own types."""
        return {"name": self.name, "filter": self.filter}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.describe() == other.describe()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(filter={self.filter!r})"


class CharTokenizer(Tokenizer):
    """One token per character (Unicode code point). With the letters filter, lines follow each
    other without a separator, as in the literature; without it, line ends are characters like any
    other."""

    name = "char"
    unit = "characters"

    def _split(self, text: str) -> Sequence[str]:
        return text.replace("\n", "") if self.filter == "letters" else text

    def join(self, tokens: Iterable[str]) -> str:
        return "".join(tokens)


class WordTokenizer(Tokenizer):
    """One token per run of characters without white space; line ends separate words and are not
    kept."""

    name = "word"
    unit = "words"

    def _split(self, text: str) -> Sequence[str]:
        return text.split()

    def join(self, tokens: Iterable[str]) -> str:
        return " ".join(tokens)


TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.name: kind for kind in (CharTokenizer, WordTokenizer)
}


def make_tokenizer(name: str, filter: str = "none") -> Tokenizer:
    """The tokenizer called ``name`` (a key of `TOKENIZERS`). Raises TextError for another name."""
    if name not in TOKENIZERS:
        raise TextError(f"tokens: expected one of {', '.join(TOKENIZERS)}, got {name!r}")
    return TOKENIZERS[name](filter)


def from_description(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `Tokenizer.describe` described. Raises TextError for anything else."""
    if not isinstance(data, Mapping) or set(data) != {"name", "filter"}:
        raise TextError(f"expected a tokenizer's name and filter, got {data!r}")
    if not all(isinstance(value, str) for value in data.values()):
        raise TextError(f"expected a tokenizer's name and filter, got {data!r}")
    return make_tokenizer(data["name"], data["filter"])
