"""How a text becomes a corpus: every setting that shapes the result, checked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusedrnn.text.decode import check_encoding
from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import UNKNOWN, UNKNOWN_POLICIES, Vocab


@dataclass(frozen=True)
class Recipe:
    """The settings of a corpus.

    Args:
        max_tokens: only the first so many tokens are used; None for all.
        valid_fraction: the share of the tokens, taken from the end, that is held out; in ``[0,
            1)``.
        min_freq, max_vocab: rarer tokens are left out of the vocabulary, see `Vocab`.
        special: tokens that get the indices 1, 2, ... whether or not the text has them.
        unknown: what becomes of tokens that the vocabulary leaves out: ``"unk"`` (index 0),
            ``"skip"`` or ``"error"``.
        encoding, encoding_errors: see `fusedrnn.text.decode.decode`.

    Raises:
        TextError: a setting out of range.
    """

    tokenizer: Tokenizer
    max_tokens: int | None = None
    valid_fraction: float = 0.0
    min_freq: int = 1
    max_vocab: int | None = None
    special: Sequence[str] = ()
    unknown: str = "unk"
    encoding: str = "utf-8"
    encoding_errors: str = "error"

    def __post_init__(self) -> None:
        if not 0.0 <= self.valid_fraction < 1.0:
            raise TextError(
                f"valid_fraction: expected at least 0 and below 1, got {self.valid_fraction}"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise TextError(
                f"max_tokens: expected a whole number of at least 1, got {self.max_tokens}"
            )
        if self.unknown not in UNKNOWN_POLICIES:
            raise TextError(
                f"unknown: expected one of {', '.join(UNKNOWN_POLICIES)}, got {self.unknown!r}"
            )
        check_encoding(self.encoding, self.encoding_errors)
        self.vocab({})  # refuses what the vocabulary refuses before anything is read

    def split(self, tokens: int) -> int:
        """How many of so many tokens are trained on."""
        return tokens - int(tokens * self.valid_fraction)

    def vocab(self, counts: Mapping[str, int]) -> Vocab:
        """The vocabulary of a training part whose tokens were counted."""
        entries = self.entries()
        if entries is not None:
            return Vocab.fixed(entries, counts, len(self.special))
        return Vocab.from_counts(
            counts, min_freq=self.min_freq, reserved=self.special, max_size=self.max_vocab
        )

    def entries(self) -> list[str] | None:
        """All entries, where the tokenizer and not the text decides them."""
        entries = self.tokenizer.entries()
        if entries is None:
            return None
        special = set(self.special)
        return [UNKNOWN, *self.special, *(entry for entry in entries[1:] if entry not in special)]

    def digest(self, contents: Sequence[str]) -> str:
        """A number for this recipe and texts with these hashes: equal for equal corpora."""
        about: dict[str, Any] = {
            "format": 1,
            "contents": list(contents),
            "tokenizer": self.tokenizer.describe(),
            "max_tokens": self.max_tokens,
            "valid_fraction": self.valid_fraction,
            "min_freq": self.min_freq,
            "max_vocab": self.max_vocab,
            "special": list(self.special),
            "unknown": self.unknown,
            "encoding": self.encoding,
            "encoding_errors": self.encoding_errors,
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
