"""Encoded texts on disk: made once, resumable after a kill, then mapped into memory.

A corpus is a folder of the cache, named by the hash of its recipe and of its text:

    ids.bin         the indices, of the smallest unsigned type
    about.json      sizes, documents, tokenizer and vocabulary; written last, so that it says "whole"
    prepared.json, counting.json, counted.json, encoding.json     how far a broken-off attempt came
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fusedrnn.text.cache import cache_folder, locked, read_json, write_json
from fusedrnn.text.encode_pass import Encoding, Sizes, encode
from fusedrnn.text.errors import TextError
from fusedrnn.text.passes import Counting, count, is_count, training_counts
from fusedrnn.text.plain_readers import Ids, width_for
from fusedrnn.text.recipe import Recipe
from fusedrnn.text.sources import Source, content_hash
from fusedrnn.text.tokenize import Tokenizer, from_description
from fusedrnn.text.vocab import Vocab

SAVE_EVERY_S = 10.0
_DTYPES = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}


class Bar:
    """A progress bar over the bytes of one pass, on standard error; silent where not wanted."""

    def __init__(self, what: str, total: int, shown: bool) -> None:
        self._bar = tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not shown)

    def __call__(self, count: int) -> None:
        self._bar.update(count)

    def close(self) -> None:
        self._bar.close()


def hash_of(source: Source, on_bytes: Callable[[int], None]) -> tuple[str, int]:
    """SHA-256 and length of a source, unpacked; remembered for a file until the file changes."""
    if source.path is None:
        return content_hash(source, on_bytes)
    facts = source.path.stat()
    stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_dev]
    key = hashlib.sha256(os.fsencode(source.path.resolve())).hexdigest()
    note = cache_folder() / "hashes" / f"{key}.json"
    known = read_json(note, _as_hash)
    if known is not None and known[0] == stamp:
        on_bytes(facts.st_size)
        return known[1:]
    digest, size = content_hash(source, on_bytes)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_json(note, {"stamp": stamp, "sha256": digest, "size": size})
    return digest, size


def _as_hash(data: Any) -> tuple[Any, str, int]:
    if not isinstance(data["sha256"], str) or not is_count(data["size"]):
        raise TextError(f"hash: expected a text and a number, got {data!r}")
    return data["stamp"], data["sha256"], data["size"]


@dataclass(frozen=True)
class Counted:
    """What the first pass found: the vocabulary, the number of tokens, of them trained on."""

    vocab: Vocab
    read: int
    train: int

    def to_json(self) -> dict[str, Any]:
        return {"vocab": self.vocab.to_dict(), "read": self.read, "train": self.train}

    @classmethod
    def from_json(cls, data: Any) -> Counted:
        """What `to_json` gave. Raises TextError, TypeError or KeyError for anything else."""
        if not is_count(data["read"]) or not is_count(data["train"]):
            raise TextError("counted: expected numbers of tokens, got something else")
        return cls(Vocab.from_dict(data["vocab"]), data["read"], data["train"])


@dataclass(frozen=True)
class About:
    """What there is to know of a whole corpus, besides its indices."""

    tokenizer: Tokenizer
    vocab: Vocab
    state: Encoding

    @property
    def width(self) -> int:
        """Bytes of an index."""
        return width_for(len(self.vocab))

    def to_json(self) -> dict[str, Any]:
        return {
            **self.state.to_json(),
            "vocab": self.vocab.to_dict(),
            "tokenizer": self.tokenizer.describe(),
            "width": self.width,
        }

    @classmethod
    def from_json(cls, data: Any) -> About:
        """What `to_json` gave. Raises TextError, TypeError or KeyError for anything else."""
        state = Encoding.from_json({name: data[name] for name in vars(Encoding())})
        about = cls(from_description(data["tokenizer"]), Vocab.from_dict(data["vocab"]), state)
        if state.train is None or data["width"] != about.width:
            raise TextError("about: expected a whole corpus, got something else")
        return about


class Store:
    """The folder of one encoded text.

    Args:
        digest: of the recipe and the text.
        shown: whether passes draw a bar.
    """

    def __init__(self, digest: str, sources: Sequence[Source], size: int, shown: bool) -> None:
        self.folder = cache_folder() / "corpora" / digest[:40]
        self._ids, self._about = self.folder / "ids.bin", self.folder / "about.json"
        self._sources, self._size, self._shown = sources, size, shown
        self._saved = time.monotonic()

    def about(self) -> About | None:
        """What there is to know of a whole corpus; None where it is not here, or not whole."""
        about = read_json(self._about, About.from_json)
        if about is None or not self._ids.exists():
            return None
        wanted = about.state.sizes.tokens * about.width
        return about if self._ids.stat().st_size == wanted else None

    def make(self, recipe: Recipe, break_at: tuple[int, int] | None) -> About:
        """Makes the corpus, or goes on making it."""
        counted = read_json(self.folder / "counted.json", Counted.from_json)
        if counted is None:
            counted = self._count(recipe, break_at)
            write_json(self.folder / "counted.json", counted.to_json())
            (self.folder / "counting.json").unlink(missing_ok=True)
        state = self._encode(recipe, counted.vocab, counted.train)
        check_unchanged(state, counted.read)
        about = About(recipe.tokenizer, counted.vocab, state)
        write_json(self._about, about.to_json())
        for name in ("prepared.json", "counted.json", "encoding.json"):
            (self.folder / name).unlink(missing_ok=True)
        return about

    def _count(self, recipe: Recipe, break_at: tuple[int, int] | None) -> Counted:
        path = self.folder / "counting.json"
        state = read_json(path, Counting.from_json) or Counting()
        bar = Bar("counting", self._size, self._shown)
        bar(self._bytes_before(state.place))
        save = self._saver(path, lambda: None)
        state = count(self._sources, recipe, state, break_at=break_at, on_bytes=bar, save=save)
        bar.close()
        train, vocab = vocabulary(self._sources, recipe, state)
        return Counted(vocab, state.read, train)

    def _encode(self, recipe: Recipe, vocab: Vocab, train: int) -> Encoding:
        path, width = self.folder / "encoding.json", width_for(len(vocab))
        state = read_json(path, Encoding.from_json) or Encoding()
        written = state.sizes.tokens * width
        if not self._ids.exists() or self._ids.stat().st_size < written:  # less than was promised
            state, written = Encoding(), 0
        if not written:  # a file of its own: whoever has mapped the one before keeps that
            self._ids.unlink(missing_ok=True)
        bar = Bar("encoding", self._size, self._shown)
        bar(self._bytes_before(state.place))
        with self._ids.open("r+b" if written else "w+b") as file:
            file.truncate(written)  # what was written after the state was saved is written again
            file.seek(0, os.SEEK_END)

            def flush() -> None:
                file.flush()
                os.fsync(file.fileno())

            def write(ids: Ids) -> None:
                file.write(ids.tobytes())

            save = self._saver(path, flush)
            state = encode(
                self._sources, recipe, vocab, state,
                train=train, write=write, on_bytes=bar, save=save,
            )  # fmt: skip
            flush()
        bar.close()
        return state

    def _bytes_before(self, place: tuple[int, int]) -> int:
        return sum(source.size() for source in self._sources[: place[0]]) + place[1]

    def _saver(self, path: Path, flush: Callable[[], None]) -> Callable[..., None]:
        def save(to_json: Callable[[], dict[str, Any]]) -> None:
            if time.monotonic() - self._saved >= SAVE_EVERY_S:
                flush()
                write_json(path, to_json())
                self._saved = time.monotonic()

        return save

    def ids(self, about: About) -> Tensor:
        """The indices, mapped into memory."""
        tokens = about.state.sizes.tokens
        dtype = _DTYPES[about.width]
        if not tokens:
            return torch.zeros(0, dtype=dtype)
        return torch.from_file(str(self._ids), shared=False, size=tokens, dtype=dtype)

    def lock(self) -> Any:
        """Keeps other processes out while the corpus is made."""
        return locked(self.folder)


def vocabulary(sources: Sequence[Source], recipe: Recipe, state: Counting) -> tuple[int, Vocab]:
    """How many tokens are trained on, and the vocabulary that they make.

    Raises:
        TextError: none to train on.
    """
    train = recipe.split(state.read) if state.broken_at is None else state.broken_at
    if train == 0:
        unit, filter = recipe.tokenizer.unit, recipe.tokenizer.filter
        raise TextError(f"expected a text with {unit} in it, got none (filter {filter!r})")
    return train, recipe.vocab(training_counts(sources, recipe, state, train))


def check_unchanged(state: Encoding, read: int) -> None:
    """TextError where the second pass did not find the tokens that the first one counted."""
    if state.read != read:
        raise TextError(
            f"expected the {read:,} tokens that were counted, got {state.read:,}: the text changed "
            "while it was read"
        )
    if state.train is None or state.train.tokens == state.sizes.tokens:
        state.train = Sizes(**vars(state.sizes))
