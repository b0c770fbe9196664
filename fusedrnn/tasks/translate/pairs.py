"""Files of sentence pairs: one pair a line, its columns apart by tabs."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fusedrnn.errors import UserError, at

Pair = tuple[str, str]

_WIDE_SPACES = re.compile("[\u00a0\u202f\u2009]")
_MARKS = re.compile("(?<=[^ ])(?=[,.!?])")


class PairsError(UserError, ValueError):
    """A file of sentence pairs that does not serve; the message names its line and column."""


def read_pairs(path: str | Path, *, limit: int | None = None, swap: bool = False) -> list[Pair]:
    """The sentence pairs of a UTF-8 file, in order, each sentence stripped.

    A line holds a sentence, a tab and its translation. Further columns are not used (newer files of
    manythings.org carry the authors there), but every line must have as many as the first. A
    byte-order mark and Windows line ends are accepted.

    Args:
        limit: only the first so many pairs; None for all. Lines behind them are not looked at.
        swap: translate from the second column into the first.

    Raises:
        PairsError: a line with no tab, an empty sentence, unequal numbers of columns, bytes that
            are not UTF-8, or a file without a pair.
        OSError: the file cannot be read.
    """
    lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise PairsError(f"{path}: expected sentence pairs, got an empty file")
    pairs = []
    columns = 0
    for number, line in enumerate(lines[:limit], start=1):
        cells = _cells(line, path, number)
        columns = columns or len(cells)
        if len(cells) != columns:
            raise PairsError(
                f"{at(path, number)}: expected {columns} columns, as in line 1, got {len(cells)}"
            )
        pairs.append((cells[1], cells[0]) if swap else (cells[0], cells[1]))
    return pairs


def _cells(line: bytes, path: str | Path, number: int) -> list[str]:
    try:
        cells = line.decode("utf-8").rstrip("\r").split("\t")
    except UnicodeDecodeError as error:
        column = line.count(b"\t", 0, error.start) + 1
        raise PairsError(
            f"{at(path, number, column)}: expected UTF-8 text, got the byte "
            f"0x{line[error.start]:02x}, which is not"
        ) from error
    if len(cells) < 2:
        raise PairsError(
            f"{at(path, number)}: expected two columns with a tab between them, got {_shown(cells[0])}"
        )
    for column, cell in enumerate(cells[:2], start=1):
        if not cell.strip():
            raise PairsError(f"{at(path, number, column)}: expected a sentence, got an empty cell")
    return [cell.strip() for cell in cells]


def _shown(text: str) -> str:
    if not text.strip():
        return "an empty line"
    return "one: " + repr(text if len(text) <= 40 else text[:39] + "…")


def prepare(sentence: str) -> str:
    """A sentence in small letters, with a space before each of ``,.!?`` that has none.

    Wide and non-breaking spaces become plain ones (Zhang et al., *Dive into Deep Learning*, section
    10.5), so that ``"Va\\u202f!"`` gives ``"va !"``.
    """
    return _MARKS.sub(" ", _WIDE_SPACES.sub(" ", sentence).lower())


def split_pairs(
    pairs: Sequence[Pair], valid_fraction: float, seed: int = 0
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and pairs to hold out, both in the order given.

    All pairs with the same (prepared) source go to the same side, so that no held-out sentence has
    been seen with another translation.

    Args:
        valid_fraction: the least share of the pairs to hold out, in ``[0, 1)``; 0 for none.

    Raises:
        PairsError: a fraction out of range, or nothing left to train on.
    """
    if not 0.0 <= valid_fraction < 1.0:
        raise PairsError(f"valid_fraction: expected at least 0 and below 1, got {valid_fraction}")
    sources = [prepare(source) for source, _ in pairs]
    distinct = list(dict.fromkeys(sources))
    random.Random(seed).shuffle(distinct)
    sizes = Counter(sources)
    held: set[str] = set()
    count = 0
    for source in distinct:
        if count >= valid_fraction * len(pairs):
            break
        held.add(source)
        count += sizes[source]
    train = [pair for pair, source in zip(pairs, sources, strict=True) if source not in held]
    if not train:
        raise PairsError(
            f"expected sentences to train on beside the held-out ones, got {len(distinct)} "
            f"different ones with a held-out share of {valid_fraction}"
        )
    return train, [pair for pair, source in zip(pairs, sources, strict=True) if source in held]
