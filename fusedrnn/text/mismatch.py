"""Comparing the tokenizer and vocabulary of a checkpoint with those of a text."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab

_SHOWN = 5
_WIDEST = 60


class MismatchError(TextError):
    """A tokenizer or vocabulary that is not the expected one; the message names what differs.

    Attributes:
        indices: where the vocabularies differ.
    """

    def __init__(self, message: str, indices: list[int]) -> None:
        super().__init__(message)
        self.indices = indices


def check_same(
    tokenizer: Tokenizer, vocab: Vocab, got_tokenizer: Tokenizer, got_vocab: Vocab
) -> None:
    """MismatchError unless tokenizer and vocabulary cut a text into the same indices as those that
    are expected, which come first. How often a text has each entry does not matter."""
    expected, got = tokenizer.describe(), got_tokenizer.describe()
    names = [
        name for name in dict.fromkeys([*expected, *got]) if expected.get(name) != got.get(name)
    ]
    differing = [
        index for index, (one, other) in enumerate(zip_longest(vocab, got_vocab)) if one != other
    ]
    problems = [
        f"{name} expected {_short(expected.get(name))}, got {_short(got.get(name))}"
        for name in names
    ]
    problems += [
        f"entry {index} expected {_entry(vocab, index)}, got {_entry(got_vocab, index)}"
        for index in differing[:_SHOWN]
    ]
    if len(differing) > _SHOWN:
        problems.append(f"{len(differing) - _SHOWN:,} more entries differ")
    if problems:
        sizes = f"{len(vocab):,} entries expected, {len(got_vocab):,} got"
        what = "another tokenizer" if names else "another vocabulary"
        raise MismatchError(f"{what} ({sizes}): {'; '.join(problems)}", differing)


def _entry(vocab: Vocab, index: int) -> str:
    return repr(vocab.token(index)) if index < len(vocab) else "none"


def _short(value: Any) -> str:
    shown = "none" if value is None else repr(value)
    return shown if len(shown) <= _WIDEST else f"{shown[:_WIDEST]}... ({len(shown):,} characters)"
