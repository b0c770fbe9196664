"""Readers in plain Python: bytes as they are, and any tokenizer by its own definition."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.text.decode import check_encoding, decode
from fusedrnn.text.errors import UnknownTokenError
from fusedrnn.text.tokenize import Tokenizer, letters_only

NO_LIMIT = 2**64 - 1
Ids = NDArray[Any]

WIDTHS: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def width_for(entries: int) -> int:
    """Bytes of the smallest unsigned type that holds the indices of so many entries."""
    return 1 if entries <= 1 << 8 else 2 if entries <= 1 << 16 else 4


class ByteReader:
    """The bytes themselves; ``first`` is the index of byte 0."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = list(tokens)
        self._first = self._tokens.index("\x00")
        self._type = WIDTHS[width_for(len(tokens))]
        self._held = b""
        self._in_word = False
        self.tokens_read = self.tokens_unknown = self.characters_read = self.words_read = 0

    def begin(self, name: str, position: int = 0) -> None:
        self._in_word = False

    def feed(self, data: bytes, limit: int = NO_LIMIT) -> Ids:
        data = self._held + data
        data, self._held = data[:limit], data[limit:]
        values = np.frombuffer(data, np.uint8)
        self.tokens_read += len(data)
        self.characters_read += int(((values & 0xC0) != 0x80).sum())
        inside = _OF_WORDS[values]
        before = np.concatenate([[self._in_word], inside[:-1]])
        self.words_read += int((inside & ~before).sum())
        self._in_word = bool(inside[-1]) if len(inside) else self._in_word
        ids: Ids = values.astype(self._type) + self._type(self._first)
        return ids

    def finish(self, limit: int = NO_LIMIT) -> Ids:
        ids = self.feed(b"", limit)
        self._in_word = self._in_word and self.waiting
        return ids

    @property
    def waiting(self) -> bool:
        return bool(self._held)

    @property
    def resumable(self) -> bool:
        return not self._held and not self._in_word

    def tokens(self) -> list[str]:
        return self._tokens


_OF_WORDS = np.array([not chr(byte).isspace() or byte >= 128 for byte in range(256)])


class PlainReader:
    """Any tokenizer, by its own `Tokenizer.tokenize`: line by line where the tokenizer promises
    that lines are cut one by one (``tokenize_lines``), else a document at a time, in memory.

    Characters and words are counted when the last token of a line (or document) is read.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tokens: Sequence[str],
        *,
        learn: bool,
        unknown: str,
        encoding: str,
        errors: str,
    ) -> None:
        self._tokenizer, self._learn, self._unknown = tokenizer, learn, unknown
        self._encoding, self._errors = encoding, errors
        self._lines = getattr(tokenizer, "tokenize_lines", self._one_line)
        self._by_lines = (
            self._lines != self._one_line and check_encoding(encoding, errors) == "utf-8"
        )
        self._index = {token: index for index, token in enumerate(tokens)}
        self._type = WIDTHS[4 if learn else width_for(len(tokens))]
        self._bytes: list[bytes] = []
        self._position = 0
        self._queue: list[str] = []
        self._taken = 0
        self._ends: deque[tuple[int, int, int]] = deque()  # of lines: tokens, characters, words
        self._name = ""
        self.tokens_read = self.tokens_unknown = self.characters_read = self.words_read = 0

    def begin(self, name: str, position: int = 0) -> None:
        self._name, self._position = name, position

    def feed(self, data: bytes, limit: int = NO_LIMIT) -> Ids:
        cut = data.rfind(b"\n") + 1 if self._by_lines else 0
        if cut:
            self._cut(b"".join([*self._bytes, data[:cut]]))
            self._bytes, data = [], data[cut:]
        if data:
            self._bytes.append(data)
        return self._take(limit)

    def finish(self, limit: int = NO_LIMIT) -> Ids:
        if self._bytes:
            self._cut(b"".join(self._bytes))
            self._bytes = []
        return self._take(limit)

    def _cut(self, data: bytes) -> None:
        text = decode(data, self._name, self._encoding, self._errors, self._position)
        self._position += len(data)
        for line, tokens in self._lines(text):
            self._queue += tokens
            self._ends.append((len(self._queue), len(line), len(line.split())))

    def _take(self, limit: int) -> Ids:
        tokens = self._queue[self._taken : self._taken + limit]
        self._taken += len(tokens)
        self.tokens_read += len(tokens)
        while self._ends and self._ends[0][0] <= self._taken:
            _, characters, words = self._ends.popleft()
            self.characters_read += characters
            self.words_read += words
        if self._taken == len(self._queue):
            self._queue, self._taken = [], 0
        return self._look_up(tokens)

    def _one_line(self, text: str) -> list[tuple[str, Sequence[str]]]:
        filtered = letters_only(text) if self._tokenizer.filter == "letters" else text
        return [(filtered, self._tokenizer.tokenize(text))]

    def _look_up(self, tokens: Sequence[str]) -> Ids:
        if self._learn:
            for token in tokens:
                self._index.setdefault(token, len(self._index))
        missing = [token for token in tokens if token not in self._index]
        self.tokens_unknown += len(missing)
        if missing and self._unknown == "error":
            raise UnknownTokenError(missing)
        if missing and self._unknown == "skip":
            tokens = [token for token in tokens if token in self._index]
        return np.fromiter((self._index.get(token, 0) for token in tokens), self._type, len(tokens))

    @property
    def waiting(self) -> bool:
        return self._taken < len(self._queue)

    @property
    def resumable(self) -> bool:
        return not self._bytes and not self._queue

    def tokens(self) -> list[str]:
        return list(self._index)
