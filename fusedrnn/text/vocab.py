"""Vocabulary: which token has which index.

Index 0 is the unknown token, then come the reserved tokens in the order given, then every other
token by falling frequency; tokens of equal frequency stay in the order in which the text showed
them first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusedrnn.text.errors import TextError, UnknownTokenError

UNKNOWN = "<unk>"
UNKNOWN_POLICIES = ("error", "unk", "skip")
_FORMAT = "fusedrnn vocabulary"
_VERSION = 1


class Vocab:
    """A two-way table between tokens (strings) and indices.

    Args:
        tokens: the tokens of a text in order; a plain string counts as its characters.
        min_freq: tokens seen fewer times than this are left out (they become unknown).
        reserved: tokens that get the indices 1, 2, ... whether or not the text has them.
        max_size: the most entries, ``"<unk>"`` and reserved tokens among them; the rarest are left
            out. None for no limit.

    Raises:
        TextError: min_freq below 1, max_size without room for the reserved tokens, or a reserved
            token given twice or equal to ``"<unk>"``.
    """

    def __init__(
        self,
        tokens: Iterable[str] = (),
        *,
        min_freq: int = 1,
        reserved: Sequence[str] = (),
        max_size: int | None = None,
    ) -> None:
        self._build(Counter(tokens), min_freq, reserved, max_size)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        min_freq: int = 1,
        reserved: Sequence[str] = (),
        max_size: int | None = None,
    ) -> Vocab:
        """The vocabulary of a text whose tokens were counted, in the order first seen."""
        vocab = cls.__new__(cls)
        vocab._build(Counter(counts), min_freq, reserved, max_size)
        return vocab

    @classmethod
    def fixed(cls, entries: Sequence[str], counts: Mapping[str, int], reserved: int = 0) -> Vocab:
        """The vocabulary of exactly these entries in this order, ``"<unk>"`` first and then the
        ``reserved`` ones, with how often a text has each; what else it has is unknown."""
        if not entries or entries[0] != UNKNOWN:
            raise TextError(f"entries: expected {UNKNOWN!r} first, got {list(entries[:1])}")
        vocab = cls.__new__(cls)
        known = [0, *(counts.get(token, 0) for token in entries[1:])]
        known[0] = sum(counts.values()) - sum(known)
        vocab._set(list(entries), known, reserved)
        return vocab

    def extended(self, tokens: Sequence[str]) -> Vocab:
        """This vocabulary with further tokens at its end, each counted 0 times; the indices of the
        others stay. Raises TextError for a token that is already there or given twice."""
        vocab = Vocab.__new__(Vocab)
        vocab._set(self._tokens + list(tokens), self._counts + [0] * len(tokens), self._reserved)
        return vocab

    def _build(
        self, seen: Counter[str], min_freq: int, reserved: Sequence[str], max_size: int | None
    ) -> None:
        if min_freq < 1:
            raise TextError(f"min_freq: expected a whole number of at least 1, got {min_freq}")
        special = [UNKNOWN, *reserved]
        if max_size is not None and max_size < len(special):
            raise TextError(f"max_size: expected at least {len(special)}, got {max_size}")
        total = seen.total()
        counts = [0] + [seen.pop(token, 0) for token in reserved]
        seen.pop(UNKNOWN, None)
        # most_common sorts stably, so equal counts keep the order of first appearance.
        kept = [(token, count) for token, count in seen.most_common() if count >= min_freq]
        if max_size is not None:
            kept = kept[: max_size - len(special)]
        counts += [count for _, count in kept]
        counts[0] = total - sum(counts)
        self._set(special + [token for token, _ in kept], counts, len(reserved))

    def _set(self, tokens: list[str], counts: list[int], reserved: int) -> None:
        index = {token: i for i, token in enumerate(tokens)}
        if len(index) != len(tokens):
            twice = next(token for token, count in Counter(tokens).items() if count > 1)
            raise TextError(f"expected every token once, got {twice!r} more than once")
        self._tokens, self._counts, self._reserved, self._index = tokens, counts, reserved, index

    # --- look up ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._index

    def __iter__(self) -> Iterator[str]:
        """The tokens in the order of their indices."""
        return iter(self._tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocab({len(self)} entries, {len(self.reserved)} reserved)"

    @property
    def reserved(self) -> list[str]:
        """The reserved tokens, in index order from 1."""
        return self._tokens[1 : 1 + self._reserved]

    @property
    def counts(self) -> list[int]:
        """How often each entry occurs in the text that the vocabulary was built from, by index.

        Entry 0 holds every token that was left out, so the sum is the length of that text.
        """
        return list(self._counts)

    def index(self, token: str) -> int:
        """The index of ``token``; 0 where it is unknown."""
        return self._index.get(token, 0)

    def token(self, index: int) -> str:
        """The token at ``index``. Raises IndexError outside ``[0, len(self))``."""
        if not 0 <= index < len(self):
            raise IndexError(f"token index: expected 0 to {len(self) - 1}, got {index}")
        return self._tokens[index]

    def encode(self, tokens: Iterable[str], *, unknown: str = "unk") -> Tensor:
        """Indices of ``tokens`` as an int64 tensor ``[number of tokens]``.

        Args:
            unknown: ``"unk"`` gives unknown tokens the index 0, ``"skip"`` leaves them out,
                ``"error"`` raises.

        Raises:
            UnknownTokenError: with ``unknown="error"``, naming the unknown tokens.
        """
        if unknown not in UNKNOWN_POLICIES:
            raise TextError(
                f"unknown: expected one of {', '.join(UNKNOWN_POLICIES)}, got {unknown!r}"
            )
        if unknown != "unk":
            tokens = list(tokens)
            missing = [token for token in tokens if token not in self._index]
            if missing and unknown == "error":
                raise UnknownTokenError(missing)
            if missing:
                tokens = [token for token in tokens if token in self._index]
        look_up = self._index.get
        return torch.tensor([look_up(token, 0) for token in tokens], dtype=torch.int64)

    def decode(self, indices: Iterable[int] | Tensor) -> list[str]:
        """Tokens of ``indices`` (a sequence, or an integer tensor of one dimension)."""
        values = indices.tolist() if isinstance(indices, Tensor) else indices
        return [self.token(index) for index in values]

    # --- save and load ---------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything, in JSON's own types; `from_dict` gives back an equal vocabulary."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "reserved": self._reserved,
            "tokens": list(self._tokens),
            "counts": list(self._counts),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Vocab:
        """The vocabulary that `to_dict` described. Raises TextError for anything else."""
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            raise TextError(f"expected a description with format {_FORMAT!r}, got something else")
        if data.get("version") != _VERSION:
            raise TextError(f"vocabulary version: expected {_VERSION}, got {data.get('version')!r}")
        tokens: Any = data.get("tokens")
        counts: Any = data.get("counts")
        reserved = data.get("reserved")
        if not _list_of(tokens, str) or not _list_of(counts, int) or len(tokens) != len(counts):
            raise TextError("vocabulary: expected 'tokens' and 'counts', lists of equal length")
        if not tokens or tokens[0] != UNKNOWN or min(counts) < 0:
            raise TextError(f"vocabulary: expected {UNKNOWN!r} at index 0 and no negative count")
        if not isinstance(reserved, int) or not 0 <= reserved < len(tokens):
            raise TextError(f"vocabulary: expected a number of reserved tokens, got {reserved!r}")
        vocab = cls()
        vocab._set(list(tokens), list(counts), reserved)
        return vocab

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary as JSON (plain ASCII, so any token survives exactly)."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=0) + "\n", encoding="ascii")

    @classmethod
    def load(cls, path: str | Path) -> Vocab:
        """Reads what `save` wrote. Raises OSError or TextError; runs no code from the file."""
        try:
            data = json.loads(Path(path).read_text(encoding="ascii"))
        except ValueError as error:
            raise TextError(f"{path}: expected a vocabulary as JSON, got: {error}") from error
        return cls.from_dict(data)


def _list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)
