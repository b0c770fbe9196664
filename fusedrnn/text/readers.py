"""Readers: the bytes of documents to token indices, piece by piece.

All readers count what they read, and stop at a given number of tokens where asked, so that a text
is cut exactly where its tokens say, however its bytes arrive. With ``learn``, tokens that are new
get the next indices; that is how a vocabulary is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fusedrnn import _C
from fusedrnn.text.decode import Transcoder, bad_byte, check_encoding
from fusedrnn.text.errors import UnknownTokenError
from fusedrnn.text.plain_readers import (
    NO_LIMIT,
    WIDTHS,
    ByteReader,
    Ids,
    PlainReader,
    width_for,
)
from fusedrnn.text.tokenize import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
)


class Reader(Protocol):
    """What turns documents into indices.

    Attributes:
        tokens_read: tokens so far, those that were skipped among them.
        tokens_unknown: of them, those that the vocabulary does not hold.
        characters_read, words_read: of the filtered text so far; words are runs without white
            space.
        waiting: whether the limit kept something back at the end of a document.
        resumable: whether a new reader could go on from here.
    """

    @property
    def tokens_read(self) -> int: ...
    @property
    def tokens_unknown(self) -> int: ...
    @property
    def characters_read(self) -> int: ...
    @property
    def words_read(self) -> int: ...
    @property
    def waiting(self) -> bool: ...
    @property
    def resumable(self) -> bool: ...

    def begin(self, name: str, position: int = 0) -> None:
        """The next bytes are of the document called ``name``, from that byte of it on."""

    def feed(self, data: bytes, limit: int = NO_LIMIT) -> Ids:
        """Indices of the tokens that these bytes complete, ``limit`` at most."""

    def finish(self, limit: int = NO_LIMIT) -> Ids:
        """Ends the document; to be called again while `waiting`."""

    def tokens(self) -> list[str]:
        """The tokens by index."""


class NativeReader:
    """Characters and words, natively; the plain definition is `decode`, then `Tokenizer.tokenize`,
    then `Vocab.encode`."""

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
        self._encoding = check_encoding(encoding, errors)
        self._transcode = None if self._encoding == "utf-8" else Transcoder(self._encoding, errors)
        self._width = 4 if learn else width_for(len(tokens))
        self._encoder = _C.Encoder(
            "word" if isinstance(tokenizer, WordTokenizer) else "char",
            [token.encode("utf-8", "surrogatepass") for token in tokens],
            letters=tokenizer.filter == "letters",
            errors=errors,
            unknown=unknown,
            line_end=getattr(tokenizer, "line_end", ""),
            learn=learn,
            width=self._width,
        )
        self._name, self._head, self._finishing = "", b"", False

    def begin(self, name: str, position: int = 0) -> None:
        self._name, self._head, self._finishing = name, b"", False
        self._encoder.begin_inside(position)

    def feed(self, data: bytes, limit: int = NO_LIMIT) -> Ids:
        self._head = self._head or data[:4]
        if self._transcode is not None:
            data = self._transcode(data, self._name)
        return self._checked(self._encoder.feed(data, limit))

    def finish(self, limit: int = NO_LIMIT) -> Ids:
        last = b""
        if self._transcode is not None and not self._finishing:
            before = self.tokens_read
            last = self._encoder.feed(self._transcode(b"", self._name, last=True), limit)
            limit -= self.tokens_read - before
        self._finishing = True
        return self._checked(last + self._encoder.finish(limit))

    def _checked(self, ids: bytes) -> Ids:
        invalid = self._encoder.invalid()
        if invalid is not None:
            raise bad_byte(self._name, "utf-8", invalid[1], invalid[0], self._head)
        unknown = self._encoder.unknown()
        if unknown:
            raise UnknownTokenError(unknown)
        return np.frombuffer(ids, WIDTHS[self._width])

    def tokens(self) -> list[str]:
        return self._encoder.tokens()

    @property
    def tokens_read(self) -> int:
        return self._encoder.tokens_read

    @property
    def tokens_unknown(self) -> int:
        return self._encoder.tokens_unknown

    @property
    def characters_read(self) -> int:
        return self._encoder.characters_read

    @property
    def words_read(self) -> int:
        return self._encoder.words_read

    @property
    def waiting(self) -> bool:
        return self._encoder.waiting

    @property
    def resumable(self) -> bool:
        return self._transcode is None and self._encoder.resumable


def make_reader(
    tokenizer: Tokenizer,
    tokens: Sequence[str],
    *,
    learn: bool = False,
    unknown: str = "unk",
    encoding: str = "utf-8",
    errors: str = "error",
) -> Reader:
    """The fastest reader for a tokenizer.

    Args:
        tokens: what has the indices 0, 1, ...
        learn: new tokens get the next indices (uint32); else indices are of the smallest unsigned
            type.
        unknown, encoding, errors: see `Vocab.encode` and `fusedrnn.text.decode.decode`.
    """
    kind = type(tokenizer)
    if kind is ByteTokenizer and tokenizer.filter == "none":
        return ByteReader(tokens)
    native = kind in (ByteTokenizer, CharTokenizer, WordTokenizer)
    make = NativeReader if native else PlainReader
    return make(tokenizer, tokens, learn=learn, unknown=unknown, encoding=encoding, errors=errors)
