"""The second pass over the documents of a corpus: writing the indices of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fusedrnn.text.errors import TextError
from fusedrnn.text.passes import Place, Save, as_place, is_count, scan
from fusedrnn.text.plain_readers import NO_LIMIT, Ids
from fusedrnn.text.readers import make_reader
from fusedrnn.text.recipe import Recipe
from fusedrnn.text.sources import Source
from fusedrnn.text.vocab import Vocab


@dataclass
class Sizes:
    """A stretch of text: its tokens as they were written, how many were unknown, the characters and
    words (runs without white space) of the text that they were read from, and how many of the
    unknown tokens were left out of the tokens, though not of the characters and words."""

    tokens: int = 0
    unknown: int = 0
    characters: int = 0
    words: int = 0
    skipped: int = 0

    @property
    def kept(self) -> Sizes:
        """These sizes without the characters and words (0) where tokens were left out: what the
        other tokens were read from was not counted apart."""
        return replace(self, characters=0, words=0) if self.skipped else self

    @classmethod
    def from_json(cls, data: Any) -> Sizes:
        """The sizes whose ``vars`` these are. Raises TextError for anything else."""
        if set(data) != set(vars(cls())) or not all(map(is_count, data.values())):
            raise TextError(f"sizes: expected {', '.join(vars(cls()))}, got {data!r}")
        return cls(**data)

    def __sub__(self, other: Sizes) -> Sizes:
        return Sizes(
            *(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


@dataclass
class Encoding:
    """How far the encoding is: tokens read, sizes of all that was written and of its training part,
    the first tokens of the documents, and where to go on."""

    read: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    train: Sizes | None = None
    documents: list[int] = field(default_factory=list)
    last_document: int = -1
    place: Place = (0, 0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Encoding:
        """What `to_json` gave. Raises TextError, TypeError or KeyError for anything else."""
        state = cls(**data)
        state.place = as_place(data["place"])
        state.sizes = Sizes.from_json(data["sizes"])
        state.train = None if data["train"] is None else Sizes.from_json(data["train"])
        if not all(map(is_count, [state.read, state.last_document + 1, *state.documents])):
            raise TextError("encoding: expected whole numbers, got something else")
        return state


def encode(
    sources: Sequence[Source],
    recipe: Recipe,
    vocab: Vocab,
    state: Encoding,
    *,
    train: int,
    write: Callable[[Ids], None],
    on_bytes: Callable[[int], None] = lambda count: None,
    save: Save = lambda to_json: None,
) -> Encoding:
    """Writes the indices of all tokens from ``state`` on; ``train`` of all tokens are trained on."""
    reader = make_reader(
        recipe.tokenizer,
        list(vocab),
        unknown=recipe.unknown,
        encoding=recipe.encoding,
        errors=recipe.encoding_errors,
    )
    read, before = state.read, state.sizes
    cuts = [train - read] if train > read else []
    if recipe.max_tokens is not None and recipe.max_tokens > max(read, train):
        cuts.append(recipe.max_tokens - read)
    elif recipe.max_tokens is None:
        cuts.append(NO_LIMIT)
    for chunk in scan(sources, reader, begin=state.place, cuts=cuts, on_bytes=on_bytes):
        # The last chunk of a document carries the place where the next one begins.
        document = chunk.place[0] - (chunk.place[1] == 0)
        if len(chunk.ids) and document != state.last_document:
            state.documents.append(state.sizes.tokens)
            state.last_document = document
        write(chunk.ids)
        state.read = read + chunk.tokens
        unknown = reader.tokens_unknown
        sizes = Sizes(0, unknown, reader.characters_read, reader.words_read)
        sizes.skipped = unknown if recipe.unknown == "skip" else 0
        sizes.tokens = state.sizes.tokens - before.tokens + len(chunk.ids)
        state.sizes = before + sizes
        if state.read == train and state.train is None:
            state.train = state.sizes
        if chunk.resumable:
            state.place = chunk.place
            save(state.to_json)
    return state
