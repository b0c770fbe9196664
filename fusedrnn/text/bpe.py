"""Byte-pair encoding (Sennrich et al. 2016) through Hugging Face's `tokenizers`, the extra ``bpe``.

A tokenizer is trained on the training part of a text or loaded from its JSON file; its whole JSON
is its description, so that it travels inside checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fusedrnn.text.errors import TextError
from fusedrnn.text.tokenize import TOKENIZERS, Tokenizer, letters_only, to_utf8
from fusedrnn.text.vocab import UNKNOWN

DEFAULT_SIZE = 4096
_BYTES = 256


class BPETokenizer(Tokenizer):
    """Sub-words, line by line: the tokens of a text are those of its lines, each with its line end.

    Args:
        json: the whole tokenizer as `tokenizers` writes it. Without it the tokenizer is still to be
            trained (`trained`): `build_corpus` and `load_corpus` do that.
        size: entries of the vocabulary of a tokenizer that is still to be trained.

    Raises:
        TextError: without `tokenizers`; JSON that is none of its BPE tokenizers, or one that would
            lose what it does not know; a size without room for the 256 bytes and ``"<unk>"``.
    """

    name = "bpe"
    unit = "tokens"

    def __init__(
        self, filter: str = "none", json: str = "", size: int | str = DEFAULT_SIZE
    ) -> None:
        super().__init__(filter)
        self.size = int(size)
        self._json = json
        self._tokenizers = _import()
        if json:
            self._load(json)
        elif self.size <= _BYTES:
            raise TextError(f"bpe size: expected at least {_BYTES + 1} entries, got {size}")

    def _load(self, text: str) -> None:
        try:
            about = json.loads(text)
            self._encoder = self._tokenizers.Tokenizer.from_str(text)
            model = about["model"]
            kind, unknown = model["type"], model.get("unk_token")
        except Exception as error:  # the bindings raise bare Exceptions
            raise TextError(f"expected a tokenizer of tokenizers as JSON, got: {error}") from error
        if kind != "BPE":
            raise TextError(f"expected a BPE tokenizer, got one of type {kind}")
        if not (unknown or model.get("byte_fallback") or "ByteLevel" in _kinds(about)):
            raise TextError(
                "expected a BPE tokenizer over bytes or with an unknown token, got one that would "
                "leave out what it does not know"
            )
        entries = self._encoder.get_vocab(with_added_tokens=True)
        # By index; the tokenizer's own unknown token goes by the name that it has here.
        self._tokens = {
            index: UNKNOWN if token == unknown else token
            for token, index in sorted(entries.items(), key=lambda entry: entry[1])
        }
        self.size = len(self._tokens)

    @classmethod
    def load(cls, path: str | Path, filter: str = "none") -> BPETokenizer:
        """The tokenizer in a ``tokenizer.json`` file."""
        try:
            return cls(filter, Path(path).read_text(encoding="utf-8"))
        except (TextError, UnicodeDecodeError) as error:
            raise TextError(f"{path}: {error}") from error

    @property
    def is_trained(self) -> bool:
        return bool(self._json)

    def trained(self, texts: Iterable[str], special: Sequence[str] = ()) -> BPETokenizer:
        """This tokenizer if it is trained, else a new one trained on the lines of ``texts``.

        Args:
            special: tokens that are cut out of a text whole.

        Raises:
            TextError: half of a surrogate pair, which UTF-8 cannot spell.
        """
        if self.is_trained:
            return self
        for token in special:
            to_utf8(token)
        parts = self._tokenizers
        encoder = parts.Tokenizer(parts.models.BPE())
        encoder.pre_tokenizer = parts.pre_tokenizers.ByteLevel(add_prefix_space=False)
        encoder.decoder = parts.decoders.ByteLevel()
        trainer = parts.trainers.BpeTrainer(
            vocab_size=self.size,
            special_tokens=[UNKNOWN, *special],
            initial_alphabet=parts.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        filtered = map(letters_only, texts) if self.filter == "letters" else texts
        encoder.train_from_iterator((line for text in filtered for line in _lines(text)), trainer)
        return BPETokenizer(self.filter, encoder.to_str())

    def _split(self, text: str) -> Sequence[str]:
        return [token for _, tokens in self._cut(text) for token in tokens]

    def tokenize_lines(self, text: str) -> list[tuple[str, list[str]]]:
        """The lines of a text, filtered, each with its tokens."""
        return self._cut(letters_only(text) if self.filter == "letters" else text)

    def _cut(self, text: str) -> list[tuple[str, list[str]]]:
        if not self.is_trained:
            raise TextError(
                "bpe: expected a trained tokenizer, got one that is still to be trained"
            )
        lines = list(_lines(text))
        batch = self._encoder.encode_batch_fast(lines, add_special_tokens=False)
        token = self._tokens.__getitem__
        return [(line, list(map(token, cut.ids))) for line, cut in zip(lines, batch, strict=True)]

    def join(self, tokens: Iterable[str]) -> str:
        """The text; what is not UTF-8 becomes U+FFFD."""
        decoder = self._encoder.decoder
        text: str = decoder.decode(list(tokens)) if decoder is not None else "".join(tokens)
        return text

    def entries(self) -> list[str] | None:
        """All tokens; before training only that there is ``"<unk>"``."""
        if not self.is_trained:
            return [UNKNOWN]
        return [UNKNOWN, *(token for token in self._tokens.values() if token != UNKNOWN)]

    def describe(self) -> dict[str, Any]:
        own = {"json": self._json} if self.is_trained else {"size": str(self.size)}
        return super().describe() | own


TOKENIZERS[BPETokenizer.name] = BPETokenizer


def _lines(text: str) -> Iterator[str]:
    """The lines with their ends. Raises TextError for what the library would answer with a
    TypeError."""
    to_utf8(text)
    *whole, last = text.split("\n")
    yield from (line + "\n" for line in whole)
    if last:
        yield last


def _kinds(about: dict[str, Any]) -> set[str]:
    """The types of the pre-tokenizers."""
    first = about.get("pre_tokenizer") or {}
    return {each.get("type") for each in (first, *first.get("pretokenizers", []))}


def _import() -> Any:
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: F401
    except ImportError as error:
        raise TextError(
            "bpe tokens need tokenizers (pip install 'fusedrnn[bpe]'), got none"
        ) from error
    return tokenizers
