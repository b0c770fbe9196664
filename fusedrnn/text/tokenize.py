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


def to_utf8(text: str, errors: str = "strict") -> bytes:
    """The text in UTF-8. Raises TextError, which names the first character that UTF-8 cannot spell:
    half of a surrogate pair, such as Python makes of a byte of a command line that is not UTF-8.

    Args:
        errors: as `str.encode` takes it.
    """
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise TextError(
            f"expected text that UTF-8 can spell, got {text[error.start]!r} at position {error.start}"
        ) from error


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

    def entries(self) -> list[str] | None:
        """All tokens that there can be, ``"<unk>"`` first, whatever the text; None for a tokenizer
        whose vocabulary comes from the text."""
        return None

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
    """One token per run of characters without white space.

    Args:
        line_end: a token that stands for every line end, such as the ``"<eos>"`` of the Penn
            Treebank; without it line ends separate words and are not kept.
    """

    name = "word"
    unit = "words"

    def __init__(self, filter: str = "none", line_end: str = "") -> None:
        super().__init__(filter)
        if line_end and line_end.split() != [line_end]:
            raise TextError(f"line_end: expected a token without white space, got {line_end!r}")
        self.line_end = line_end

    def _split(self, text: str) -> Sequence[str]:
        return (text.replace("\n", f" {self.line_end} ") if self.line_end else text).split()

    def join(self, tokens: Iterable[str]) -> str:
        text = " ".join("\n" if token == self.line_end else token for token in tokens)
        return text.replace(" \n", "\n").replace("\n ", "\n") if self.line_end else text

    def describe(self) -> dict[str, Any]:
        about = super().describe()
        return about | {"line_end": self.line_end} if self.line_end else about


class ByteTokenizer(Tokenizer):
    """One token per byte of the text in UTF-8; no byte is ever unknown.

    A token is the character whose code point is the byte, so that tokens are strings here, too.
    Files are taken as they are: no encoding is assumed and no line end is changed. With the letters
    filter, lines follow each other without a separator.
    """

    name = "byte"
    unit = "bytes"

    def entries(self) -> list[str]:
        return ["<unk>", *map(chr, range(256))]

    def _split(self, text: str) -> Sequence[str]:
        text = text.replace("\n", "") if self.filter == "letters" else text
        return to_utf8(text, "surrogateescape").decode("latin-1")

    def join(self, tokens: Iterable[str]) -> str:
        """The text; what is not UTF-8 becomes U+FFFD."""
        data = b"".join(
            # The letters of Latin-1 stand for bytes, all else is a special token.
            token.encode("latin-1" if len(token) == 1 and token <= "\xff" else "utf-8")
            for token in tokens
        )
        return data.decode("utf-8", "replace")


TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.name: kind for kind in (ByteTokenizer, CharTokenizer, WordTokenizer)
}


def make_tokenizer(name: str, filter: str = "none", **options: Any) -> Tokenizer:
    """The tokenizer called ``name`` (a key of `TOKENIZERS`) with its own options.

    Raises:
        TextError: another name, or options that the tokenizer does not have.
    """
    if name not in TOKENIZERS:
        raise TextError(f"tokens: expected one of {', '.join(TOKENIZERS)}, got {name!r}")
    try:
        return TOKENIZERS[name](filter, **options)
    except TypeError as error:
        raise TextError(f"tokens {name}: {error}") from error


def from_description(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `Tokenizer.describe` described. Raises TextError for anything else."""
    if not isinstance(data, Mapping) or not {"name", "filter"} <= set(data):
        raise TextError(f"expected a tokenizer's name and filter, got {_short(data)}")
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in data.items()):
        raise TextError(f"expected a tokenizer's name and filter, got {_short(data)}")
    return make_tokenizer(**data)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else shown[:200] + "..."
