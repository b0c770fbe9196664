"""Passes over the documents of a corpus, and the first of them: counting its tokens.

Both passes (`fusedrnn.text.encode_pass` is the second) go through the same `scan`, can go on from any
place that it calls resumable, and keep what they know in a state that turns into JSON.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from fusedrnn.text.errors import TextError
from fusedrnn.text.plain_readers import NO_LIMIT, Ids
from fusedrnn.text.readers import Reader, make_reader
from fusedrnn.text.recipe import Recipe
from fusedrnn.text.sources import Source

Place = tuple[int, int]  # number of the document, byte in it
Save = Callable[[Callable[[], dict[str, Any]]], None]  # takes what makes the state's JSON


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def as_place(data: Any) -> Place:
    """The place that this list from JSON describes. Raises TextError for anything else."""
    if not isinstance(data, list) or len(data) != 2 or not all(map(is_count, data)):
        raise TextError(f"place: expected the numbers of a document and a byte, got {data!r}")
    return data[0], data[1]


@dataclass(frozen=True)
class Chunk:
    """What one piece of a document gave: its indices, and where the reader is after it."""

    ids: Ids
    tokens: int
    place: Place
    resumable: bool


def scan(
    sources: Sequence[Source],
    reader: Reader,
    *,
    begin: Place = (0, 0),
    cuts: Sequence[int] = (),
    break_at: Place | None = None,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Iterator[Chunk]:
    """All tokens from a place on.

    Args:
        cuts: numbers of tokens (from ``begin``) at which a chunk ends, rising; reading stops at the
            last.
        break_at: a place at which a chunk ends.
        on_bytes: told of every piece.
    """
    left = [cut for cut in cuts if cut > 0]
    for number in range(begin[0], len(sources)):
        offset = begin[1] if number == begin[0] else 0
        reader.begin(sources[number].name, offset)
        stop = break_at[1] if break_at is not None and break_at[0] == number else None
        for piece in _broken(sources[number].pieces(offset), offset, stop):
            offset += len(piece)
            on_bytes(len(piece))
            yield from _drain(reader, left, (number, offset), piece)
            if cuts and not left:
                return
        yield from _drain(reader, left, (number + 1, 0), None)
        if cuts and not left:
            return


def _broken(pieces: Iterator[bytes], offset: int, stop: int | None) -> Iterator[bytes]:
    for piece in pieces:
        if stop is not None and offset < stop < offset + len(piece):
            yield piece[: stop - offset]
            yield piece[stop - offset :]
        else:
            yield piece
        offset += len(piece)


def _drain(reader: Reader, left: list[int], place: Place, piece: bytes | None) -> Iterator[Chunk]:
    """The chunks of a piece (None: of the end of a document), one more for every cut in it."""
    more = True
    while more:
        limit = left[0] - reader.tokens_read if left else NO_LIMIT
        ids = reader.finish(limit) if piece is None else reader.feed(piece, limit)
        more = bool(left) and reader.tokens_read == left[0]
        if more:
            left.pop(0)
        yield Chunk(ids, reader.tokens_read, place, not more and reader.resumable)
        if more and not left:
            return
        piece = piece if piece is None else b""


@dataclass
class Counting:
    """How far the counting is.

    Attributes:
        tokens, counts: every token so far, in the order first seen, and how often it was.
        read: number of tokens so far.
        place: where to go on.
        marks: (read, document, byte) of places met on the way, to come back to.
        broken_at: tokens before ``break_at``, where that was asked for.
    """

    tokens: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    read: int = 0
    place: Place = (0, 0)
    marks: list[tuple[int, int, int]] = field(default_factory=list)
    broken_at: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Counting:
        """What `to_json` gave. Raises TextError, TypeError or KeyError for anything else."""
        state = cls(**data)
        state.place = as_place(data["place"])
        state.marks = [(read, *as_place(place)) for read, *place in state.marks]
        numbers = [*state.counts, state.read, *(read for read, *_ in state.marks)]
        numbers += [] if state.broken_at is None else [state.broken_at]
        tokens = isinstance(state.tokens, list) and all(isinstance(t, str) for t in state.tokens)
        if not tokens or not all(map(is_count, numbers)) or len(state.counts) != len(state.tokens):
            raise TextError("counting: expected a count for every token, got something else")
        return state


def count(
    sources: Sequence[Source],
    recipe: Recipe,
    state: Counting,
    *,
    break_at: Place | None = None,
    on_bytes: Callable[[int], None] = lambda count: None,
    save: Save = lambda to_json: None,
) -> Counting:
    """Counts every token from ``state`` on; calls ``save`` at places from which it could go on."""
    reader = _learner(recipe, state.tokens)
    counts = np.array(state.counts, np.int64)
    base = state.read
    cuts = [] if recipe.max_tokens is None else [recipe.max_tokens - base]
    if cuts == [0]:
        return state
    steps = scan(
        sources, reader, begin=state.place, cuts=cuts, break_at=break_at, on_bytes=on_bytes
    )
    for chunk in steps:
        counts = _add(counts, chunk.ids, 1)
        state.read = base + chunk.tokens
        if chunk.place == break_at:
            state.broken_at = state.read
        if chunk.resumable:
            state.place = chunk.place
            state.marks.append((state.read, *chunk.place))
            save(partial(_json_with, state, reader, counts))
    return _with(state, reader, counts)


def _json_with(state: Counting, reader: Reader, counts: Any) -> dict[str, Any]:
    return _with(state, reader, counts).to_json()


def _with(state: Counting, reader: Reader, counts: Any) -> Counting:
    tokens = reader.tokens()
    whole = _add(counts, np.zeros(0, np.uint32), 1, len(tokens))
    return replace(state, tokens=tokens, counts=whole.tolist())


def _learner(recipe: Recipe, tokens: Sequence[str]) -> Reader:
    return make_reader(
        recipe.tokenizer,
        tokens or recipe.entries() or [],
        learn=True,
        encoding=recipe.encoding,
        errors=recipe.encoding_errors,
    )


def _add(counts: Any, ids: Ids, sign: int, least: int = 0) -> Any:
    more = np.bincount(ids, minlength=max(len(counts), least))
    more *= sign
    more[: len(counts)] += counts
    return more


def training_counts(
    sources: Sequence[Source], recipe: Recipe, state: Counting, train: int
) -> dict[str, int]:
    """How often the first ``train`` tokens have each token, in the order first seen.

    The end of the text is read once more and taken away from what was counted.
    """
    counts = np.array(state.counts, np.int64)
    if train < state.read:
        found = bisect.bisect_right(state.marks, (train, len(sources), 0)) - 1
        read, *place = state.marks[found] if found >= 0 else (0, 0, 0)
        reader = _learner(recipe, state.tokens)
        cuts = [train - read, state.read - read]
        for chunk in scan(sources, reader, begin=(place[0], place[1]), cuts=cuts):
            if chunk.tokens > cuts[0]:
                counts = _add(counts, chunk.ids, -1)
    pairs = zip(state.tokens, counts.tolist(), strict=True)
    return {token: count for token, count in pairs if count}
