"""Texts in a vocabulary that was there before them, such as a checkpoint's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusedrnn.text.encode_pass import Encoding, Sizes, encode
from fusedrnn.text.errors import TextError
from fusedrnn.text.recipe import Recipe
from fusedrnn.text.sources import expand
from fusedrnn.text.tokenize import Tokenizer
from fusedrnn.text.vocab import Vocab


@dataclass(frozen=True)
class EncodedText:
    """A text in a vocabulary that was there before it.

    Attributes:
        ids: int64 indices ``[tokens]``.
        documents: int64, positions in ``ids`` where a document begins, rising from 0.
        sizes: tokens, how many were unknown, characters and words, tokens left out.
    """

    ids: Tensor
    documents: Tensor
    sizes: Sizes


def encode_texts(
    texts: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    vocab: Vocab,
    *,
    unknown: str = "unk",
    encoding: str = "utf-8",
    encoding_errors: str = "error",
) -> EncodedText:
    """Encodes texts for a model that is trained already. See `fusedrnn.text.load_corpus` for the arguments.

    Raises:
        TextError: a text without a token, or not in that encoding.
        UnknownTokenError: with ``unknown="error"``, tokens that the vocabulary does not hold.
        OSError: a file that cannot be read.
    """
    sources = expand([texts] if isinstance(texts, (str, Path)) else texts)
    recipe = Recipe(tokenizer, unknown=unknown, encoding=encoding, encoding_errors=encoding_errors)
    pieces: list[Any] = []
    state = encode(sources, recipe, vocab, Encoding(), train=0, write=pieces.append)
    if state.sizes.tokens == 0:
        raise TextError(f"{sources[0].name}: expected a text with {tokenizer.unit}, got none")
    ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64))
    return EncodedText(ids, torch.tensor(state.documents, dtype=torch.int64), state.sizes)
